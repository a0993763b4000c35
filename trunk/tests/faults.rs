//! Faults of the way between a node and a core, over real tunnels: how soon traffic flows again,
//! and that nothing is lost, doubled or out of order.
//!
//! Bounds are generous, for machines that are busy; what was measured is printed. The cuts of
//! minutes run with `ANTIPODE_CUTS_S=5,20,60,120`.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stderr, reason = "what was measured is worth a line")]

mod path;
mod traffic;
mod tunnels;
mod world;

use std::net::SocketAddr;
use std::time::Duration;

use antipode_proto::registry::v1::Carrier;
use antipode_proto::trunk::v1::{Cause, RequestHead};
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{CoreTarget, OpenError};
use antipode_tunnel::{Class, PeerConfig, PrivateKey, TRUNK_PORT, Tunnel};
use tokio::time::{Instant, sleep, timeout};

use path::{Cut, Path};
use traffic::Traffic;
use world::{Core, Cutter, Node, World, request};

const SESSIONS: usize = 6;
/// The path's round trip is twice this; `ANTIPODE_ONE_WAY_MS` sets another.
const ONE_WAY: Duration = Duration::from_millis(50);
/// What is asserted: one second plus a round trip is the aim, the rest is for a busy machine.
const BOUND: Duration = Duration::from_secs(3);

/// A node and a core, each with its tunnel, and the path between.
struct Lab {
    world: World,
    node_key: PrivateKey,
    core_key: PrivateKey,
    core: Core,
    node: Node,
    node_tunnel: Tunnel,
    path: Path,
    _shutdown: Shutdown,
}

impl Lab {
    async fn start() -> Self {
        let asked = std::env::var("ANTIPODE_ONE_WAY_MS").ok().and_then(|ms| ms.parse().ok());
        let one_way = asked.map_or(ONE_WAY, Duration::from_millis);
        let (world, shutdown) = (World::new(), Shutdown::default());
        let (node_key, core_key) = (PrivateKey::generate(), PrivateKey::generate());
        let (core, core_at) = core(&world, &core_key, &node_key, [1; 16]).await;
        let path = Path::start(core_at, one_way).await;

        let to_core = core_key.public_key();
        let node_tunnel = tunnels::of_node(&node_key, (to_core, path.address), &shutdown);
        let node = Node::start_on(&world, [2; 16], node_tunnel.udp_socket(0, Class::Chat).unwrap());
        tunnels::dial(&node, &node_tunnel, to_core).await;
        Self { world, node_key, core_key, core, node, node_tunnel, path, _shutdown: shutdown }
    }

    /// A new process in the core's place, which knows nothing. The old one is gone.
    async fn replace_core(&mut self) {
        let run = rand::random();
        let (core, core_at) = core(&self.world, &self.core_key, &self.node_key, run).await;
        self.path.redirect(core_at);
        self.core = core;
    }

    /// Until a new session has reached the core.
    async fn opens_within(&mut self, patience: Duration) -> Duration {
        let start = Instant::now();
        let opened = async {
            loop {
                if let Ok(port) = self.node.trunks.open(request("/")) {
                    tokio::select! {
                        Some(_) = self.core.accepted.recv() => return,
                        _ = port.deliver() => {}
                    }
                }
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(patience, opened).await.expect("the trunk comes back");
        start.elapsed()
    }
}

async fn core(
    world: &World,
    key: &PrivateKey,
    node: &PrivateKey,
    run: [u8; 16],
) -> (Core, SocketAddr) {
    let shutdown = Shutdown::default();
    let tunnel = tunnels::of_core(key, node.public_key(), &shutdown);
    let socket = tunnel.udp_socket(TRUNK_PORT, Class::Chat).unwrap();
    let at = tunnels::trunk_of(key.public_key());
    let mut core = Core::start_on(world, run, socket, at).await;
    core.tunnel = Some(shutdown);
    tunnels::admit(&core, node.public_key());
    (core, tunnel.local_addr())
}

fn report(fault: &str, flows_again: Duration) {
    eprintln!("{fault}: flows again after {} ms", flows_again.as_millis());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_flows_again() {
    let asked = std::env::var("ANTIPODE_CUTS_S").unwrap_or_else(|_| "3,5".into());
    for cut_s in asked.split(',').map(|cut_s| cut_s.parse().expect("seconds")) {
        let mut lab = Lab::start().await;
        let traffic = Traffic::start(&lab.node, &mut lab.core, SESSIONS).await;
        sleep(Duration::from_secs(1)).await;
        lab.path.cut_both();
        sleep(Duration::from_secs(cut_s)).await;
        lab.path.mend();
        report(&format!("cut of {cut_s} s"), traffic.flows_within(BOUND).await);
        sleep(Duration::from_millis(500)).await;
        assert!(traffic.finish().await > 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_cut_one_way_flows_again() {
    for (name, cut) in [
        ("cut of 4 s, upwards only", Cut { up: true, down: false }),
        ("cut of 4 s, downwards only", Cut { up: false, down: true }),
    ] {
        let mut lab = Lab::start().await;
        let traffic = Traffic::start(&lab.node, &mut lab.core, SESSIONS).await;
        lab.path.cut(cut);
        sleep(Duration::from_secs(4)).await;
        lab.path.mend();
        report(name, traffic.flows_within(BOUND).await);
        traffic.finish().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebound_path_flows_on() {
    let mut lab = Lab::start().await;
    let traffic = Traffic::start(&lab.node, &mut lab.core, SESSIONS).await;
    for _ in 0..3 {
        lab.path.rebind();
        report("rebound", traffic.flows_within(BOUND).await);
        sleep(Duration::from_millis(500)).await;
    }
    traffic.finish().await;
    // Nobody speaks: then the keep-alive tells the core of the new port.
    lab.path.rebind();
    sleep(Duration::from_secs(2)).await;
    let opened = lab.opens_within(BOUND).await;
    report("rebound while idle", opened);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_change_in_the_middle() {
    let mut lab = Lab::start().await;
    let traffic = Traffic::start(&lab.node, &mut lab.core, SESSIONS).await;
    let mut longest = Duration::ZERO;
    for _ in 0..3 {
        // Not sooner: the tunnel would do nothing.
        sleep(Duration::from_millis(1500)).await;
        lab.node_tunnel.handshake(&lab.core_key.public_key());
        longest = longest.max(traffic.flows_within(BOUND).await);
    }
    sleep(Duration::from_millis(800)).await;
    let shaken = lab.node_tunnel.peers()[0].handshake_age.unwrap();
    assert!(shaken < Duration::from_secs(2), "the keys are new");
    report("new keys", longest);
    traffic.finish().await;
    assert_eq!(lab.node.metrics.redials.get(), 0, "no carrier was given up");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_lost_in_a_cut() {
    let mut lab = Lab::start().await;
    let traffic = Traffic::start(&lab.node, &mut lab.core, SESSIONS).await;
    lab.path.cut_both();
    // As after three minutes: the node has no keys any more, and the core would refuse the old.
    let peers = |endpoint| PeerConfig {
        endpoint: Some(endpoint),
        keepalive: Some(Duration::from_secs(10)),
        ..PeerConfig::new(lab.core_key.public_key())
    };
    lab.node_tunnel.set_peers(vec![]);
    lab.node_tunnel.set_peers(vec![peers(lab.path.address)]);
    sleep(Duration::from_secs(4)).await;
    lab.path.mend();
    report("cut of 4 s, keys expired", traffic.flows_within(BOUND).await);
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lossy_link_is_not_dialled_anew() {
    let mut lab = Lab::start().await;
    lab.path.lose_one_in(9);
    sleep(Duration::from_secs(4)).await;
    assert_eq!(lab.node.metrics.redials.get(), 0, "idle, and every ninth packet is lost");
    let traffic = Traffic::start(&lab.node, &mut lab.core, SESSIONS).await;
    sleep(Duration::from_secs(1)).await;
    lab.path.lose_one_in(0);
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_crashed_is_found_again() {
    for away in [Duration::ZERO, Duration::from_secs(3)] {
        let mut lab = Lab::start().await;
        let port = lab.node.trunks.open(request("/")).expect("the trunk is up");
        let _far = lab.core.accepted.recv().await.expect("the session arrives").port;
        // Whatever a dying process would say must not arrive.
        lab.path.cut_both();
        lab.core.stop();
        sleep(away).await;
        lab.replace_core().await;
        lab.path.mend();
        let opened = lab.opens_within(2 * BOUND).await;
        report(&format!("crash of the core, away for {} s", away.as_secs()), opened);
        let ended = timeout(BOUND, port.deliver()).await.expect("in time");
        assert_eq!(ended.expect_err("forgotten").cause, Cause::SessionLost);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_core_that_says_goodbye_is_dialled_at_once() {
    let mut lab = Lab::start().await;
    lab.core.shutdown.finish(Duration::from_secs(1)).await;
    lab.replace_core().await;
    report("goodbye of the core", lab.opens_within(BOUND).await);
}

/// The gateway says that the node's process is gone: the core believes it when the trunk is silent.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_is_believed_when_silent() {
    let mut lab = Lab::start().await;
    let _port = lab.node.trunks.open(request("/")).expect("the trunk is up");
    let far = lab.core.accepted.recv().await.expect("the session arrives").port;
    lab.core.server.handle_process_gone("node-1", &[2; 16]);
    let spoken = timeout(Duration::from_secs(3), far.deliver()).await;
    assert!(spoken.is_err(), "it is heard, whatever anybody says: {spoken:?}");

    lab.path.cut_both();
    sleep(Duration::from_secs(1)).await;
    lab.core.server.handle_process_gone("node-1", &[2; 16]);
    let start = Instant::now();
    let ended = timeout(BOUND, far.deliver()).await.expect("in time");
    assert_eq!(ended.expect_err("its client is gone").cause, Cause::ClientLost);
    report("node said to be gone 1 s into its silence", start.elapsed());
}

/// It was only cut off: the core has forgotten its sessions, and new ones are welcome.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_given_up_hears_so() {
    let mut lab = Lab::start().await;
    // Neither end has heard of this one's answer: it must not begin anew at the core.
    let port = lab.node.trunks.open(request("/once")).expect("the trunk is up");
    let far = lab.core.accepted.recv().await.expect("the session arrives").port;
    lab.path.cut_both();
    lab.core.server.handle_process_gone("node-1", &[2; 16]);
    assert!(timeout(BOUND, far.deliver()).await.expect("in time").is_err());
    lab.path.mend();
    let ended = timeout(BOUND, port.deliver()).await.expect("in time");
    assert_eq!(ended.expect_err("forgotten").cause, Cause::SessionLost);
    assert!(lab.core.accepted.try_recv().is_err(), "nothing is asked for twice");
    lab.opens_within(BOUND).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_core_gets_no_new_sessions() {
    let world = World::new();
    let mut silent = Core::start(&world, [1; 16]).await;
    let mut other = Core::start(&world, [3; 16]).await;
    let path = Path::start(silent.quic, Duration::ZERO).await;
    let node = Node::start(&world, [2; 16]);
    silent.admit(&["node-1"]);
    other.admit(&["node-1"]);
    node.trunks.set_cores(vec![
        silent.target_at(Carrier::Quic, path.address),
        CoreTarget { member_id: "core-2".into(), ..other.target(Carrier::Tcp) },
    ]);
    while !(node.trunks.is_up_to("core-1") && node.trunks.is_up_to("core-2")) {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(!node.trunks.is_up_to("core-3"));
    assert_eq!(node.trunks.open_at("core-3", request("/")).err(), Some(OpenError::NoCore));
    let mut ports = vec![node.trunks.open_at("core-2", request("/")).expect("the trunk is up")];
    other.accepted.recv().await.expect("the session arrives where it was sent");
    ports.push(node.trunks.open_at("core-1", request("/")).expect("the trunk is up"));
    silent.accepted.recv().await.expect("the session arrives where it was sent");

    path.cut_both();
    sleep(Duration::from_secs(2)).await;
    assert!(node.trunks.is_up_to("core-1"), "its lanes stand, for all that is known");
    for client in 0..16 {
        // Whosever clients they are.
        let client_ip = format!("203.0.113.{client}");
        let head = RequestHead { client_ip, ..request("/") };
        ports.push(node.trunks.open(head).expect("there is another core"));
        other.accepted.recv().await.expect("the session arrives at the core that is heard");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_dies_alone_flows_again() {
    let world = World::new();
    let mut core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    let cutter = Cutter::start(core.tcp).await;
    core.admit(&["node-1"]);
    node.dial(core.target_at(Carrier::Tcp, cutter.address));
    node.up().await;
    let traffic = Traffic::start(&node, &mut core, 24).await;
    for _ in 0..5 {
        cutter.cut_one();
        report("one lane lost", traffic.flows_within(BOUND).await);
        assert!(node.trunks.states()[0].lanes_up >= 7, "the others stay");
        sleep(Duration::from_millis(200)).await;
    }
    traffic.finish().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_tcp_lanes_are_replaced() {
    let world = World::new();
    let mut core = Core::start(&world, [1; 16]).await;
    let node = Node::start(&world, [2; 16]);
    let cutter = Cutter::start(core.tcp).await;
    core.admit(&["node-1"]);
    node.dial(core.target_at(Carrier::Tcp, cutter.address));
    node.up().await;
    sleep(Duration::from_secs(4)).await;
    assert_eq!(node.metrics.redials.get(), 0, "idle is not silent");
    let traffic = Traffic::start(&node, &mut core, SESSIONS).await;
    cutter.stall_all();
    sleep(Duration::from_millis(50)).await;
    report("all TCP lanes stall", traffic.flows_within(2 * BOUND).await);
    assert_eq!(node.metrics.carriers_replaced.get(), 1);
    traffic.finish().await;
}
