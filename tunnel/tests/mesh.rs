//! A node, a neighbour and a core over real sockets: the node's datagrams go through the neighbour
//! while that is better, and nobody has to tell it when.
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antipode_tunnel::forward::FORWARD_BYTES_PER_SECOND;
use antipode_tunnel::{
    Candidate, ForwarderConfig, Metrics, PeerConfig, PrivateKey, PublicKey, Tasks, Tunnel,
    TunnelConfig, Way,
};
use tokio::net::UdpSocket;
use tokio::time::Instant;
use tokio::time::sleep;

/// No delay at all: nothing passes.
const CUT: u64 = u64::MAX;

/// A stretch of the internet: what comes to its address arrives at the far end later, and back.
struct Stretch {
    address: SocketAddr,
    delay_ms: Arc<AtomicU64>,
}

impl Stretch {
    async fn to(far: SocketAddr, delay_ms: u64) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = near.local_addr().unwrap();
        let delay_ms = Arc::new(AtomicU64::new(delay_ms));
        let delay = Arc::clone(&delay_ms);
        #[allow(clippy::disallowed_methods, reason = "a test's network has no shutdown")]
        tokio::spawn(async move {
            // A socket for each port that calls, as behind a NAT.
            let mut flows: Vec<(SocketAddr, Arc<UdpSocket>)> = Vec::new();
            let mut bytes = vec![0; 2048];
            loop {
                let Ok((len, from)) = near.recv_from(&mut bytes).await else { continue };
                if !flows.iter().any(|(other, _)| *other == from) {
                    let flow = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    flow.connect(far).await.unwrap();
                    flows.push((from, Arc::clone(&flow)));
                    tokio::spawn(back(flow, Arc::clone(&near), from, Arc::clone(&delay)));
                }
                let flow = Arc::clone(&flows.iter().find(|(other, _)| *other == from).unwrap().1);
                let (payload, delay) = (bytes[..len].to_vec(), Arc::clone(&delay));
                tokio::spawn(async move {
                    if pass(&delay).await {
                        let _ = flow.send(&payload).await;
                    }
                });
            }
        });
        Self { address, delay_ms }
    }

    fn set(&self, delay_ms: u64) {
        self.delay_ms.store(delay_ms, Ordering::Relaxed);
    }
}

async fn back(flow: Arc<UdpSocket>, near: Arc<UdpSocket>, to: SocketAddr, delay: Arc<AtomicU64>) {
    let mut bytes = vec![0; 2048];
    loop {
        let Ok(len) = flow.recv(&mut bytes).await else { continue };
        let (payload, near, delay) = (bytes[..len].to_vec(), Arc::clone(&near), Arc::clone(&delay));
        #[allow(clippy::disallowed_methods, reason = "a test's network has no shutdown")]
        tokio::spawn(async move {
            if pass(&delay).await {
                let _ = near.send_to(&payload, to).await;
            }
        });
    }
}

async fn pass(delay: &AtomicU64) -> bool {
    match delay.load(Ordering::Relaxed) {
        CUT => false,
        ms => {
            sleep(Duration::from_millis(ms)).await;
            true
        }
    }
}

struct Trio {
    tasks: Tasks,
    node: Tunnel,
    neighbour: Tunnel,
    core: Tunnel,
    /// From the node to the core.
    direct: Stretch,
    /// From the neighbour to the core.
    detour: Stretch,
}

impl Trio {
    async fn new(direct_ms: u64, detour_ms: u64) -> Self {
        let tasks = Tasks::default();
        let tunnel = || {
            let listen = "127.0.0.1:0".parse().unwrap();
            let config = TunnelConfig::new(PrivateKey::generate(), listen);
            Tunnel::bind(config, &tasks, Metrics::default()).unwrap()
        };
        let (node, neighbour, core) = (tunnel(), tunnel(), tunnel());
        let direct = Stretch::to(core.local_addr(), direct_ms).await;
        let detour = Stretch::to(core.local_addr(), detour_ms).await;
        let known = [&node, &neighbour].map(|tunnel| PeerConfig::new(tunnel.public_key()));
        core.set_peers(known.to_vec());
        let keepalive = Some(Duration::from_secs(1));
        for (tunnel, way) in [(&node, &direct), (&neighbour, &detour)] {
            tunnel.set_peers(vec![PeerConfig { keepalive, ..PeerConfig::new(core.public_key()) }]);
            tunnel.set_candidates(&core.public_key(), vec![Candidate::Udp(way.address)]);
        }
        neighbour.set_forwarded(&[node.public_key()], FORWARD_BYTES_PER_SECOND);
        let addresses = vec![neighbour.local_addr()];
        node.set_forwarders(vec![ForwarderConfig {
            public_key: neighbour.public_key(),
            addresses,
        }]);
        Self { tasks, node, neighbour, core, direct, detour }
    }

    fn way(&self) -> Option<Way> {
        self.node.peers().remove(0).way
    }

    /// Whom the node's datagrams go through.
    fn via(&self) -> Option<PublicKey> {
        self.way().and_then(|way| self.node.forwarder_of(way))
    }

    fn goes_through(&self) -> bool {
        self.via() == Some(self.neighbour.public_key())
    }

    fn has_keys(&self) -> bool {
        self.node.peers().remove(0).handshake_age.is_some()
    }

    /// Data from the node that has reached the core.
    fn arrived(&self) -> u64 {
        let peers = self.core.peers();
        peers.iter().find(|peer| peer.public_key == self.node.public_key()).unwrap().arrived
    }
}

impl Drop for Trio {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

async fn until(what: &str, within: Duration, done: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < within, "{what} took longer than {within:?}");
        sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[tokio::test]
async fn a_clearly_better_way_through_a_neighbour_is_taken_and_left_when_the_direct_one_heals() {
    let trio = Trio::new(100, 20).await;
    until("a handshake", seconds(5), || trio.has_keys()).await;
    let took = until("the detour", seconds(30), || trio.goes_through()).await;
    assert!(took > seconds(5), "not at the first sight of it: {took:?}");
    let quality = || trio.node.peers().remove(0).quality;
    until("the better round trip", seconds(5), || quality().rtt < Duration::from_millis(100)).await;
    let before = trio.arrived();
    until("data by the detour", seconds(5), || trio.arrived() > before).await;

    trio.direct.set(15);
    until("coming back", seconds(30), || trio.via().is_none()).await;
    sleep(seconds(3)).await;
    assert_eq!(trio.via(), None, "it stays there");
}

#[tokio::test]
async fn a_dead_direct_way_is_left_for_the_neighbours_at_once() {
    let trio = Trio::new(20, 60).await;
    until("a handshake", seconds(5), || trio.has_keys()).await;
    sleep(seconds(5)).await;
    assert_eq!(trio.via(), None, "the direct way is better");
    trio.direct.set(CUT);
    until("the detour", seconds(3), || trio.goes_through()).await;
    let before = trio.arrived();
    until("data by the detour", seconds(3), || trio.arrived() > before).await;
    trio.direct.set(20);
    until("coming back", seconds(30), || trio.via().is_none()).await;
}

#[tokio::test]
async fn a_node_without_a_direct_way_begins_through_its_neighbour() {
    let trio = Trio::new(CUT, 20).await;
    until("a handshake by the detour", seconds(10), || trio.has_keys()).await;
    assert!(trio.goes_through());
    trio.detour.set(40);
    let before = trio.arrived();
    until("data by the detour", seconds(3), || trio.arrived() > before).await;
}
