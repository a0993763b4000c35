//! Links measured end to end: two tunnels, real sockets, and between them a relay that delays and
//! loses in each direction what the test wants.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::{SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::Duration;

use antipode_tunnel::metrics::ProbeOutcome;
use antipode_tunnel::shield::ShieldConfig;
use antipode_tunnel::{
    Class, Metrics, PeerConfig, PeerState, PrivateKey, Quality, Tasks, Tunnel, TunnelConfig,
};
use quinn::udp::Transmit;
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, interval, sleep, sleep_until};

const PORT: u16 = 7;
const DELAY: Duration = Duration::from_millis(20);

/// Whether the datagram with this number, at this time since the start, gets through.
type Rule = fn(number: u64, at: Duration, datagram: &[u8]) -> bool;

struct Host {
    tunnel: Tunnel,
    tasks: Tasks,
    metrics: Metrics,
}

impl Host {
    fn new() -> Self {
        let (tasks, metrics) = (Tasks::default(), Metrics::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let shield = ShieldConfig { enabled: false, ..ShieldConfig::default() };
        let config = TunnelConfig { shield, ..TunnelConfig::new(PrivateKey::generate(), any) };
        let tunnel = Tunnel::bind(config, &tasks, metrics.clone()).unwrap();
        Self { tunnel, tasks, metrics }
    }

    fn state(&self) -> PeerState {
        self.tunnel.peers().remove(0)
    }

    fn quality(&self) -> Quality {
        self.state().quality
    }

    fn count(&self, outcome: ProbeOutcome) -> u64 {
        self.metrics.links.probe_count(outcome)
    }
}

/// Sends what comes on `from` on to `to`, [`DELAY`] later, if `rule` lets it.
fn one_way(tasks: &Tasks, from: &Arc<UdpSocket>, by: &Arc<UdpSocket>, to: SocketAddr, rule: Rule) {
    let (sender, mut waiting) = mpsc::unbounded_channel::<(Instant, Vec<u8>)>();
    let (from, by, start) = (Arc::clone(from), Arc::clone(by), Instant::now());
    tasks.tracker.spawn(async move {
        let (mut buffer, mut number) = (vec![0; 65_535], 0);
        loop {
            let Ok((len, _)) = from.recv_from(&mut buffer).await else { continue };
            number += 1;
            if rule(number, start.elapsed(), &buffer[..len]) {
                let _ = sender.send((Instant::now() + DELAY, buffer[..len].to_vec()));
            }
        }
    });
    tasks.tracker.spawn(async move {
        while let Some((due, datagram)) = waiting.recv().await {
            sleep_until(due).await;
            let _ = by.send_to(&datagram, to).await;
        }
    });
}

/// A node that reaches a core through a relay.
async fn pair(up: Rule, down: Rule) -> (Host, Host) {
    let (node, core) = (Host::new(), Host::new());
    let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let relay = outside.local_addr().unwrap();
    let (node_at, core_at) = (node.tunnel.local_addr(), core.tunnel.local_addr());
    one_way(&node.tasks, &outside, &inside, core_at, up);
    one_way(&node.tasks, &inside, &outside, node_at, down);
    node.tunnel.set_peers(vec![PeerConfig {
        endpoint: Some(relay),
        keepalive: Some(Duration::from_secs(25)),
        ..PeerConfig::new(core.tunnel.public_key())
    }]);
    core.tunnel.set_peers(vec![PeerConfig::new(node.tunnel.public_key())]);
    for _ in 0..200 {
        if node.state().handshake_age.is_some() && core.state().handshake_age.is_some() {
            return (node, core);
        }
        sleep(Duration::from_millis(50)).await;
    }
    panic!("no handshake: {:?}", node.state());
}

/// 1,000 datagrams a second each way for `seconds`.
async fn flow(node: &Host, core: &Host, seconds: u64) {
    let ends = [(node, core), (core, node)].map(|(from, to)| {
        let socket = from.tunnel.udp_socket(PORT, Class::Chat).unwrap();
        (socket, SocketAddrV6::new(to.tunnel.address(), PORT, 0, 0))
    });
    let mut ticks = interval(Duration::from_millis(1));
    for _ in 0..seconds * 1000 {
        ticks.tick().await;
        for (socket, destination) in &ends {
            let destination = SocketAddr::V6(*destination);
            let contents = &[7; 100];
            let transmit =
                Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
            let _ = socket.try_send(&transmit);
        }
    }
}

fn near(what: &str, found: f32, expected: f32, by: f32) {
    assert!((found - expected).abs() <= by, "{what}: {found} is not {expected}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_know_the_loss_of_both_directions() {
    // Every 20th datagram up is lost, and every 50th down.
    let (node, core) = pair(|number, _, _| number % 20 != 0, |number, _, _| number % 50 != 0).await;
    flow(&node, &core, 5).await;
    let (at_node, at_core) = (node.quality(), core.quality());
    for (what, quality) in [("node", at_node), ("core", at_core)] {
        assert!(quality.is_measured, "{what}: {quality:?}");
        let millis = quality.rtt_min.as_millis();
        assert!((40..60).contains(&millis), "{what}: {quality:?}");
        near(what, quality.packets_out_per_s, 1000.0, 150.0);
    }
    near("out of the node", at_node.loss_out, 0.05, 0.008);
    near("into the node", at_node.loss_in, 0.02, 0.008);
    near("out of the core", at_core.loss_out, 0.02, 0.008);
    near("into the core", at_core.loss_in, 0.05, 0.008);
    assert_eq!(node.count(ProbeOutcome::Forged) + core.count(ProbeOutcome::Repeated), 0);
    node.tasks.stop.cancel();
    core.tasks.stop.cancel();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sender_is_told_how_long_bursts_last() {
    let up: Rule = |_, at, datagram| datagram[0] != 4 || at.as_millis() % 250 >= 12;
    let (node, core) = pair(up, |_, _, _| true).await;
    flow(&node, &core, 5).await;
    let quality = node.quality();
    let burst = quality.burst_out.as_secs_f32() * 1000.0;
    near("burst out", burst, 13.0, 5.0);
    near("loss out", quality.loss_out, 0.048, 0.012);
    assert_eq!(quality.burst_in, Duration::ZERO, "{quality:?}");
    near("burst in", core.quality().burst_in.as_secs_f32() * 1000.0, burst, 3.0);
    node.tasks.stop.cancel();
    core.tasks.stop.cancel();
}

/// A WireGuard that we did not write drops probes: the tunnel works, and nothing is measured.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_no_probes_is_a_peer() {
    let no_probes: Rule = |_, _, datagram| datagram[0] <= 4;
    let (node, core) = pair(no_probes, no_probes).await;
    flow(&node, &core, 2).await;
    let state = node.state();
    assert!(!state.quality.is_measured && state.silence.unwrap() < Duration::from_secs(1));
    assert!(state.sent > 1_900 && state.arrived > 1_900, "{state:?}");
    assert_eq!(node.count(ProbeOutcome::Returned), 0);
    node.tasks.stop.cancel();
    core.tasks.stop.cancel();
}

/// Nobody else can make the core answer, nor have it believe anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_gets_no_answer() {
    let (node, core) = pair(|_, _, _| true, |_, _, _| true).await;
    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for kind in [0xa1, 0xa2] {
        for len in [1, 2, 12, 75, 76, 1312] {
            let mut datagram = vec![0; len];
            datagram[0] = kind;
            if let Some(version) = datagram.get_mut(1) {
                *version = 1;
            }
            stranger.send_to(&datagram, core.tunnel.local_addr()).await.unwrap();
        }
    }
    let mut answer = [0; 100];
    let answer = stranger.recv_from(&mut answer);
    assert!(tokio::time::timeout(Duration::from_millis(500), answer).await.is_err());
    assert_eq!(core.count(ProbeOutcome::Forged), 12);
    assert!(core.count(ProbeOutcome::Answered) > 0, "the node's are answered");
    node.tasks.stop.cancel();
    core.tasks.stop.cancel();
}
