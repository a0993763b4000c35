//! Three tunnels on one machine: one reaches another only through the third.

use std::future::poll_fn;
use std::io::IoSliceMut;

use quinn::udp::{RecvMeta, Transmit};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use super::codec::{Header, wrap};
use super::*;
use crate::class::Class;
use crate::peer::PeerConfig;
use crate::tunnel::{Tunnel, TunnelConfig};

const TIME: Duration = Duration::from_secs(10);
const PORT: u16 = 7;

struct Host {
    tunnel: Tunnel,
    tasks: Tasks,
    metrics: Metrics,
    socket: Arc<dyn quinn::AsyncUdpSocket>,
}

impl Host {
    fn new() -> Self {
        let (tasks, metrics) = (Tasks::default(), Metrics::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = TunnelConfig::new(PrivateKey::generate(), any);
        let tunnel = Tunnel::bind(config, &tasks, metrics.clone()).unwrap();
        let socket = tunnel.udp_socket(PORT, Class::Chat).unwrap();
        Self { tunnel, tasks, metrics, socket }
    }

    fn key(&self) -> PublicKey {
        self.tunnel.public_key()
    }

    fn inner(&self) -> SocketAddr {
        SocketAddr::new(self.tunnel.address().into(), PORT)
    }

    /// Goes to `core` through `forwarder` and nowhere else.
    fn go_through(&self, forwarder: &Self, core: &Self) {
        self.tunnel.set_peers(vec![PeerConfig::new(core.key())]);
        let addresses = vec![forwarder.tunnel.local_addr()];
        self.tunnel
            .set_forwarders(vec![ForwarderConfig { public_key: forwarder.key(), addresses }]);
        let ways = self.tunnel.shared().mesh.ways_to(&core.key());
        let way = Way::Through(ways[0]);
        assert_eq!((ways.len(), self.tunnel.forwarder_of(way)), (1, Some(forwarder.key())));
        let peer = self.tunnel.shared().device.peer_for(core.tunnel.address().into()).unwrap();
        peer.link.lock().choose_way(way);
    }

    fn send(&self, to: &Self, contents: &[u8]) {
        let transmit = Transmit {
            destination: to.inner(),
            ecn: None,
            contents,
            segment_size: None,
            src_ip: None,
        };
        self.socket.try_send(&transmit).unwrap();
    }

    /// What arrived in the tunnel; `None` if nothing comes within `patience`.
    async fn receive(&self, patience: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        let mut buffer = vec![0; 2000];
        let mut meta = [RecvMeta::default()];
        let read =
            poll_fn(|cx| self.socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta));
        timeout(patience, read).await.ok()?.unwrap();
        Some((meta[0].addr, buffer[..meta[0].len].to_vec()))
    }

    fn refused(&self, reason: Refused) -> u64 {
        self.metrics.forwarding.refused_count(reason)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

/// A node, a neighbour of its that forwards, and a core.
fn trio() -> (Host, Host, Host) {
    let (node, neighbour, core) = (Host::new(), Host::new(), Host::new());
    core.tunnel.set_peers(vec![PeerConfig::new(node.key()), PeerConfig::new(neighbour.key())]);
    let endpoint = Some(core.tunnel.local_addr());
    neighbour.tunnel.set_peers(vec![PeerConfig { endpoint, ..PeerConfig::new(core.key()) }]);
    neighbour.tunnel.set_forwarded(&[node.key()], FORWARD_BYTES_PER_SECOND);
    (node, neighbour, core)
}

#[tokio::test]
async fn a_node_reaches_a_core_through_its_neighbour_and_is_answered_there() {
    let (node, neighbour, core) = trio();
    node.go_through(&neighbour, &core);
    node.send(&core, b"question");
    let (from, text) = core.receive(TIME).await.unwrap();
    assert_eq!((from, &text[..]), (node.inner(), &b"question"[..]));
    core.send(&node, b"answer");
    let (from, text) = node.receive(TIME).await.unwrap();
    assert_eq!((from, &text[..]), (core.inner(), &b"answer"[..]));

    let states = core.tunnel.peers();
    let seen = states.iter().find(|state| state.public_key == node.key()).unwrap();
    let endpoint = seen.endpoint.unwrap();
    assert_ne!(endpoint, node.tunnel.local_addr(), "the core sees the neighbour's socket");
    assert_ne!(endpoint, neighbour.tunnel.local_addr(), "one of the flow's own");
    // An initiation, the packet, its answer and WireGuard's keep-alives.
    let [to_core, to_node] = neighbour.metrics.forwarding.forwarded_count();
    assert!(to_core >= 2 && to_node >= 2, "{to_core} {to_node}");
    assert_eq!(neighbour.metrics.forwarding.flows.get(), 1);
    assert_eq!(neighbour.metrics.carried_count(crate::metrics::Direction::In).0, 0, "blindly");
}

#[tokio::test]
async fn many_large_datagrams_pass_both_ways() {
    let (node, neighbour, core) = trio();
    node.go_through(&neighbour, &core);
    node.send(&core, b"hello");
    core.receive(TIME).await.unwrap();
    for (from, to) in [(&node, &core), (&core, &node)] {
        for n in 0..300u32 {
            let mut contents = vec![0; 1200];
            contents[..4].copy_from_slice(&n.to_le_bytes());
            from.send(to, &contents);
            let (_, bytes) = to.receive(TIME).await.unwrap();
            assert_eq!(bytes, contents);
        }
    }
}

/// Its own socket takes nothing: nobody drives the runtime that would say that it does.
#[tokio::test]
async fn what_is_not_sent_back_is_not_counted_as_sent() {
    let (node, neighbour, core) = trio();
    node.go_through(&neighbour, &core);
    node.send(&core, b"question");
    core.receive(TIME).await.unwrap();
    let idle = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let full = {
        let _idle = idle.enter();
        OuterSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap()
    };
    let before = neighbour.tunnel.shared().exits.replace_udp(full);
    let sent = neighbour.metrics.forwarding.forwarded_count()[1];
    core.send(&node, b"answer");
    let deadline = now() + TIME;
    while neighbour.refused(Refused::NotSent) == 0 {
        assert!(now() < deadline, "it was sent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(neighbour.metrics.forwarding.forwarded_count()[1], sent);
    drop(before);
    idle.shutdown_background();
}

#[tokio::test]
async fn nobody_else_can_use_the_forwarder() {
    let (node, neighbour, core) = trio();
    let stranger = Host::new();
    core.tunnel.set_peers(vec![PeerConfig::new(node.key()), PeerConfig::new(stranger.key())]);
    stranger.go_through(&neighbour, &core);
    stranger.send(&core, b"let me in");
    assert_eq!(core.receive(Duration::from_millis(300)).await, None);
    assert!(neighbour.refused(Refused::UnknownNeighbour) > 0);

    // A known name with the wrong key, and garbage.
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let own = PrivateKey::generate();
    let key = PathKey::new(&own, &neighbour.key()).unwrap();
    let (sender, core_id) = (KeyId::of(&node.key()), KeyId::of(&core.key()));
    let header = Header { kind: Kind::Forward, sender, counter: 1, core: core_id };
    let mut forged = Vec::new();
    wrap(header, &key, &[4; 100], &mut forged);
    socket.send_to(&forged, neighbour.tunnel.local_addr()).await.unwrap();
    for len in [1, 3, 43, 44] {
        socket.send_to(&forged[..len], neighbour.tunnel.local_addr()).await.unwrap();
    }
    let dropped = || neighbour.metrics.dropped_count(DropReason::Malformed);
    let deadline = now() + TIME;
    while neighbour.refused(Refused::NotAuthentic) == 0 || dropped() < 4 {
        assert!(now() < deadline, "{}", dropped());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(neighbour.metrics.forwarding.forwarded_count(), [0, 0]);
    assert_eq!(neighbour.metrics.forwarding.flows.get(), 0);
}

#[tokio::test]
async fn who_is_no_longer_forwarded_is_cut_off_at_once() {
    let (node, neighbour, core) = trio();
    node.go_through(&neighbour, &core);
    node.send(&core, b"one");
    core.receive(TIME).await.unwrap();
    neighbour.tunnel.set_forwarded(&[], FORWARD_BYTES_PER_SECOND);
    node.send(&core, b"two");
    assert_eq!(core.receive(Duration::from_millis(300)).await, None);
    core.send(&node, b"three");
    assert_eq!(node.receive(Duration::from_millis(300)).await, None);
    assert!(neighbour.refused(Refused::UnknownNeighbour) > 0);
    assert_eq!(neighbour.metrics.forwarding.flows.get(), 0);
}

/// The neighbour changes its address for the core: its flows follow.
#[tokio::test]
async fn a_core_that_moves_is_followed() {
    let (node, neighbour, core) = trio();
    node.go_through(&neighbour, &core);
    node.send(&core, b"one");
    core.receive(TIME).await.unwrap();
    // Something between that sends on to the core: its address for all that the neighbour knows.
    let between = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let endpoint = Some(between.local_addr().unwrap());
    let peer = PeerConfig { endpoint, ..PeerConfig::new(core.key()) };
    neighbour.tunnel.set_peers(vec![peer]);
    neighbour.tunnel.set_forwarded(&[node.key()], FORWARD_BYTES_PER_SECOND);
    node.send(&core, b"two");
    let mut bytes = [0; 2048];
    // Between probes of the neighbour's own.
    let len = loop {
        let len = timeout(TIME, between.recv(&mut bytes)).await.unwrap().unwrap();
        if bytes[0] == crate::link::KIND_DATA {
            break len;
        }
    };
    between.send_to(&bytes[..len], core.tunnel.local_addr()).await.unwrap();
    assert_eq!(core.receive(TIME).await.unwrap().1, b"two");
}
