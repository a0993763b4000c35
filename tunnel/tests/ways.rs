//! Several ways to one peer, over real sockets: relays stand for the ways, and are cut.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]
#![allow(clippy::disallowed_methods, reason = "a test's network has no shutdown")]

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antipode_tunnel::{
    Candidate, Class, Metrics, PeerConfig, PeerState, PrivateKey, PublicKey, Tasks, Tunnel,
    TunnelConfig, Way,
};
use quinn::AsyncUdpSocket;
use quinn::udp::{RecvMeta, Transmit};
use tokio::net::UdpSocket;
use tokio::time::Instant;

/// A way: what comes to its address goes on to the far end, and what that answers comes back.
struct Relay {
    address: SocketAddr,
    is_cut: Arc<AtomicBool>,
}

impl Relay {
    async fn to(far: SocketAddr) -> Self {
        let near = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
        let address = near.local_addr().unwrap();
        let is_cut = Arc::new(AtomicBool::new(false));
        let cut = Arc::clone(&is_cut);
        tokio::spawn(async move {
            // A socket for each port that calls, as behind a NAT.
            let mut flows: Vec<(SocketAddr, Arc<UdpSocket>)> = Vec::new();
            let mut bytes = vec![0; 2048];
            loop {
                let Ok((len, from)) = near.recv_from(&mut bytes).await else { continue };
                if cut.load(Ordering::Relaxed) {
                    continue;
                }
                if !flows.iter().any(|(other, _)| *other == from) {
                    let flow = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
                    flow.connect(far).await.unwrap();
                    let (near, cut) = (Arc::clone(&near), Arc::clone(&cut));
                    flows.push((from, Arc::clone(&flow)));
                    tokio::spawn(async move {
                        let mut bytes = vec![0; 2048];
                        loop {
                            let Ok(len) = flow.recv(&mut bytes).await else { continue };
                            if !cut.load(Ordering::Relaxed) {
                                let _ = near.send_to(&bytes[..len], from).await;
                            }
                        }
                    });
                }
                let flow = flows.iter().find(|(other, _)| *other == from);
                let _ = flow.unwrap().1.send(&bytes[..len]).await;
            }
        });
        Self { address, is_cut }
    }

    fn cut(&self, is_cut: bool) {
        self.is_cut.store(is_cut, Ordering::Relaxed);
    }
}

struct Pair {
    tasks: Tasks,
    core: Tunnel,
    node: Tunnel,
}

impl Pair {
    fn new() -> Self {
        let tasks = Tasks::default();
        let tunnel = || {
            let listen = "127.0.0.1:0".parse().unwrap();
            let config = TunnelConfig::new(PrivateKey::generate(), listen);
            Tunnel::bind(config, &tasks, Metrics::default()).unwrap()
        };
        let (core, node) = (tunnel(), tunnel());
        core.set_peers(vec![PeerConfig::new(node.public_key())]);
        let keepalive = Some(Duration::from_secs(1));
        node.set_peers(vec![PeerConfig { keepalive, ..PeerConfig::new(core.public_key()) }]);
        Self { tasks, core, node }
    }

    fn core_key(&self) -> PublicKey {
        self.core.public_key()
    }

    fn set(&self, ways: &[SocketAddr]) {
        let candidates = ways.iter().copied().map(Candidate::Udp).collect();
        self.node.set_candidates(&self.core_key(), candidates);
    }

    fn way(&self) -> Option<SocketAddr> {
        self.node.peers()[0].way.and_then(Way::remote)
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

async fn until(what: &str, within: Duration, done: impl Fn() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < within, "{what} took longer than {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    start.elapsed()
}

fn has_keys(peer: &PeerState) -> bool {
    peer.handshake_age.is_some()
}

#[tokio::test]
async fn the_way_that_answers_is_taken_and_left_when_it_is_cut() {
    let pair = Pair::new();
    let far = pair.core.local_addr();
    let (one, other) = (Relay::to(far).await, Relay::to(far).await);
    other.cut(true);
    pair.set(&[other.address, one.address]);
    let node = || pair.node.peers().remove(0);
    until("a handshake", Duration::from_secs(2), || has_keys(&node())).await;
    assert_eq!(pair.way(), Some(one.address));
    let changed = || tokio::time::timeout(Duration::from_millis(50), pair.node.way_changed());
    assert!(changed().await.is_err(), "the first way is no change");

    other.cut(false);
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(pair.way(), Some(one.address), "there is no reason to move");
    one.cut(true);
    let moved = Duration::from_secs(3);
    until("leaving", moved, || pair.way() == Some(other.address)).await;
    assert_eq!(changed().await.unwrap(), pair.core.address());
    assert!(changed().await.is_err(), "it is told once");
    let ports = [pair.node.local_addr().port(), other.address.port()];
    until("the core follows", Duration::from_secs(1), || {
        let core = pair.core.peers().remove(0);
        core.endpoint.is_some_and(|endpoint| !ports.contains(&endpoint.port()))
            && core.silence.is_some_and(|silence| silence < Duration::from_secs(2))
    })
    .await;
    until("traffic", Duration::from_secs(2), || {
        node().quality.is_measured && pair.core.peers()[0].arrived > 0
    })
    .await;
}

#[tokio::test]
async fn when_nothing_answers_there_is_a_fresh_socket_and_a_question_for_addresses() {
    let pair = Pair::new();
    let (before, after) =
        (Relay::to(pair.core.local_addr()).await, Relay::to(pair.core.local_addr()).await);
    pair.set(&[before.address]);
    let node = || pair.node.peers().remove(0);
    until("a handshake", Duration::from_secs(2), || has_keys(&node())).await;
    let port = pair.node.local_addr().port();
    before.cut(true);
    let asked = tokio::time::timeout(Duration::from_secs(3), pair.node.unresolved()).await;
    assert_eq!(asked.unwrap(), pair.core_key());
    let moved = || pair.node.local_addr().port() != port;
    until("a fresh socket", Duration::from_millis(500), moved).await;
    pair.set(&[after.address]);
    until("the new address", Duration::from_secs(1), || pair.way() == Some(after.address)).await;
}

/// The socket is everybody's: a core that is dead gets a fresh one, and the others lose nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fresh_socket_for_one_core_costs_the_others_nothing() {
    let pair = Pair::new();
    let (healthy, dead) =
        (Relay::to(pair.core.local_addr()).await, Relay::to(pair.core.local_addr()).await);
    let other = PrivateKey::generate().public_key();
    let keepalive = Some(Duration::from_secs(1));
    let peers =
        [pair.core_key(), other].map(|key| PeerConfig { keepalive, ..PeerConfig::new(key) });
    pair.node.set_peers(peers.to_vec());
    pair.set(&[healthy.address]);
    let socket = |tunnel: &Tunnel| tunnel.udp_socket(9, Class::Bulk).unwrap();
    let (near, far) = (socket(&pair.node), socket(&pair.core));
    let address = |tunnel: &Tunnel| SocketAddr::new(tunnel.address().into(), 9);
    let (node_at, core_at) = (address(&pair.node), address(&pair.core));
    let has_way = || pair.node.ways(&pair.core_key()).iter().any(|way| way.in_use);
    until("a way", Duration::from_secs(5), has_way).await;
    send(&*near, core_at, 0);
    receive(&*far).await;

    let port = pair.node.local_addr().port();
    dead.cut(true);
    pair.node.set_candidates(&other, vec![Candidate::Udp(dead.address)]);
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut after = 0;
    for number in 1.. {
        assert!(Instant::now() < deadline, "no fresh socket");
        send(&*near, core_at, number);
        send(&*far, node_at, number);
        let (up, down) = tokio::join!(receive(&*far), receive(&*near));
        assert_eq!((up, down), (number, number));
        after += u32::from(pair.node.local_addr().port() != port);
        if after > 100 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn send(socket: &dyn AsyncUdpSocket, destination: SocketAddr, number: u32) {
    let contents = &number.to_le_bytes();
    let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
    socket.try_send(&transmit).unwrap();
}

async fn receive(socket: &dyn AsyncUdpSocket) -> u32 {
    let (mut bytes, mut meta) = ([0; 2048], [RecvMeta::default()]);
    let read =
        poll_fn(|task| socket.poll_recv(task, &mut [IoSliceMut::new(&mut bytes)], &mut meta));
    tokio::time::timeout(Duration::from_secs(5), read).await.expect("lost").unwrap();
    u32::from_le_bytes(bytes[..4].try_into().unwrap())
}

/// A socket whose port is known to others is kept.
#[tokio::test]
async fn a_port_that_was_asked_for_stays() {
    let tasks = Tasks::default();
    let free = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let listen = free.local_addr().unwrap();
    drop(free);
    let config = TunnelConfig::new(PrivateKey::generate(), listen);
    let node = Tunnel::bind(config, &tasks, Metrics::default()).unwrap();
    let core = PrivateKey::generate().public_key();
    node.set_peers(vec![PeerConfig::new(core)]);
    node.set_candidates(&core, vec![Candidate::Udp("127.0.0.1:9".parse().unwrap())]);
    let asked = tokio::time::timeout(Duration::from_secs(5), node.unresolved()).await;
    assert_eq!(asked.unwrap(), core);
    assert_eq!(node.local_addr(), listen);
    tasks.stop.cancel();
}

/// Initiations that come by two ways are one, and no clock that went back.
#[tokio::test]
async fn a_race_is_no_stale_handshake() {
    let pair = Pair::new();
    let far = pair.core.local_addr();
    let relays = [Relay::to(far).await, Relay::to(far).await, Relay::to(far).await];
    pair.set(&relays.each_ref().map(|relay| relay.address));
    let node = || pair.node.peers().remove(0);
    until("a handshake", Duration::from_secs(2), || has_keys(&node())).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(pair.core.peers()[0].stale_handshakes, 0);
}

/// Without candidates a peer is where it is configured to be.
#[tokio::test]
async fn a_peer_without_candidates_is_as_in_wireguard() {
    let pair = Pair::new();
    let (key, far) = (pair.core_key(), pair.core.local_addr());
    let keepalive = Some(Duration::from_secs(1));
    let config = PeerConfig { endpoint: Some(far), keepalive, ..PeerConfig::new(key) };
    pair.node.set_peers(vec![config]);
    let node = || pair.node.peers().remove(0);
    until("a handshake", Duration::from_secs(2), || has_keys(&node())).await;
    assert_eq!(pair.way(), Some(far));
    assert!(pair.node.ways(&key).is_empty());
}
