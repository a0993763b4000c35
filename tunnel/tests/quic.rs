//! End to end: tunnels on loopback, quinn inside them, real sockets.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::future::poll_fn;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use antipode_tunnel::device::{Device, Scratch};
use antipode_tunnel::metrics::{Direction, DropReason, HandshakeOutcome};
use antipode_tunnel::{
    Class, Metrics, PeerConfig, PrivateKey, SocketError, TRUNK_PORT, Tasks, Tunnel, TunnelConfig,
};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};

mod certified;

use certified::Certified;

/// A tunnel on a free loopback port, and what a test asks of it.
struct Host {
    tunnel: Tunnel,
    tasks: Tasks,
    metrics: Metrics,
}

fn host() -> Host {
    let (tasks, metrics) = (Tasks::default(), Metrics::default());
    let config = TunnelConfig::new(PrivateKey::generate(), SocketAddr::from(([127, 0, 0, 1], 0)));
    let tunnel = Tunnel::bind(config, &tasks, metrics.clone()).unwrap();
    Host { tunnel, tasks, metrics }
}

fn pair() -> (Host, Host) {
    let (node, core) = (host(), host());
    node.tunnel.set_peers(vec![peer(&core, true)]);
    core.tunnel.set_peers(vec![peer(&node, false)]);
    (node, core)
}

fn peer(host: &Host, known: bool) -> PeerConfig {
    PeerConfig {
        endpoint: known.then(|| host.tunnel.local_addr()),
        keepalive: known.then_some(Duration::from_secs(25)),
        ..PeerConfig::new(host.tunnel.public_key())
    }
}

/// quinn on a tunnel's socket; `certified` makes it a server.
fn endpoint(tunnel: &Tunnel, port: u16, certified: &Certified) -> Endpoint {
    let socket = tunnel.udp_socket(port, Class::Chat).unwrap();
    let server = (port != 0).then(|| certified.server());
    let config = EndpointConfig::default();
    let mut endpoint =
        Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime)).unwrap();
    endpoint.set_default_client_config(certified.client());
    endpoint
}

fn trunk_of(host: &Host) -> SocketAddr {
    SocketAddr::new(host.tunnel.address().into(), TRUNK_PORT)
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| u8::try_from(at * 31 % 251).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_each_way() {
    const LEN: usize = 10 << 20;
    let (node, core) = pair();
    let certified = Certified::new();
    let server = endpoint(&core.tunnel, TRUNK_PORT, &certified);
    let client = endpoint(&node.tunnel, 0, &certified);

    let (arrived, echoed) = tokio::join!(
        async {
            let connection = server.accept().await.unwrap().await.unwrap();
            assert_eq!(connection.remote_address().ip(), node.tunnel.address());
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            let arrived = recv.read_to_end(LEN).await.unwrap();
            send.write_all(&arrived).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
            arrived
        },
        async {
            let connection = client.connect(trunk_of(&core), "core").unwrap().await.unwrap();
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            send.write_all(&pattern(LEN)).await.unwrap();
            send.finish().unwrap();
            let echoed = recv.read_to_end(LEN).await.unwrap();
            let mtu = connection.stats().path.current_mtu;
            assert!((1232..=1372).contains(&mtu), "{mtu}");
            connection.close(0u8.into(), b"");
            echoed
        }
    );
    assert!(arrived == pattern(LEN) && echoed == arrived, "content changed on the way");

    let (packets, bytes) = core.metrics.carried_count(Direction::In);
    assert!(packets > 7_000 && bytes > 10 << 20, "{packets} packets, {bytes} bytes");
    assert_eq!(node.metrics.handshake_count(HandshakeOutcome::Initiated), 1);
    for reason in DropReason::ALL {
        assert_eq!(core.metrics.dropped_count(reason), 0, "{reason:?}");
    }
    let state = &node.tunnel.peers()[0];
    assert_eq!(state.endpoint, Some(core.tunnel.local_addr()));
    assert!(state.handshake_age.is_some() && state.silence.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_peers_on_one_socket() {
    let core = host();
    let nodes: Vec<Host> = (0..50).map(|_| host()).collect();
    core.tunnel.set_peers(nodes.iter().map(|node| peer(node, false)).collect());
    let certified = Arc::new(Certified::new());
    let server = endpoint(&core.tunnel, TRUNK_PORT, &certified);
    let accepting = tokio::task::JoinSet::from_iter((0..50).map(|_| {
        let server = server.clone();
        async move {
            let connection = server.accept().await.unwrap().await.unwrap();
            let (mut send, mut recv) = connection.accept_bi().await.unwrap();
            let arrived = recv.read_to_end(100_000).await.unwrap();
            send.write_all(&arrived).await.unwrap();
            send.finish().unwrap();
            connection.closed().await;
        }
    }));
    let trunk = trunk_of(&core);
    let talking = tokio::task::JoinSet::from_iter(nodes.iter().map(|node| {
        node.tunnel.set_peers(vec![peer(&core, true)]);
        let client = endpoint(&node.tunnel, 0, &certified);
        let address = node.tunnel.address();
        async move {
            let connection = client.connect(trunk, "core").unwrap().await.unwrap();
            let (mut send, mut recv) = connection.open_bi().await.unwrap();
            let said = address.to_string().repeat(1000);
            send.write_all(said.as_bytes()).await.unwrap();
            send.finish().unwrap();
            assert_eq!(recv.read_to_end(100_000).await.unwrap(), said.as_bytes());
            connection.close(0u8.into(), b"");
            client.wait_idle().await;
        }
    }));
    talking.join_all().await;
    accepting.join_all().await;
    let states = core.tunnel.peers();
    assert_eq!(states.len(), 50);
    assert!(states.iter().all(|state| state.handshake_age.is_some()));
    assert_eq!(core.metrics.handshake_count(HandshakeOutcome::CookieSent), 0);
}

#[tokio::test]
async fn a_removed_peers_connection_ends_and_a_stopped_tunnel_ends_all() {
    let (node, core) = pair();
    let certified = Certified::new();
    let server = endpoint(&core.tunnel, TRUNK_PORT, &certified);
    let client = endpoint(&node.tunnel, 0, &certified);
    let (connecting, accepted) = (client.connect(trunk_of(&core), "core").unwrap(), async {
        server.accept().await.unwrap().await
    });
    let (up, down) = tokio::join!(connecting, accepted);
    let (_up, down) = (up.unwrap(), down.unwrap());

    core.tunnel.set_peers(Vec::new());
    let (mut send, _recv) = down.open_bi().await.unwrap();
    send.write_all(b"to nobody").await.unwrap();
    until(|| core.metrics.dropped_count(DropReason::NoPeer) > 0).await;

    core.tasks.stop.cancel();
    core.tasks.tracker.close();
    core.tasks.tracker.wait().await;
    assert!(down.closed().await.to_string().contains("driver"), "quinn ends with its socket");
    assert!(matches!(core.tunnel.udp_socket(0, Class::Chat), Err(SocketError::Stopped)));
}

#[tokio::test]
async fn ports_inside_are_exclusive_and_come_back() {
    let Host { tunnel, .. } = host();
    let socket = tunnel.udp_socket(TRUNK_PORT, Class::Chat).unwrap();
    let refused = tunnel.udp_socket(TRUNK_PORT, Class::Chat).unwrap_err();
    assert!(matches!(refused, SocketError::PortInUse(TRUNK_PORT)), "{refused}");
    assert_eq!(socket.local_addr().unwrap(), SocketAddr::new(tunnel.address().into(), TRUNK_PORT));
    drop(socket);
    let again = tunnel.udp_socket(TRUNK_PORT, Class::Chat).unwrap();
    let (one, two) =
        (tunnel.udp_socket(0, Class::Chat).unwrap(), tunnel.udp_socket(0, Class::Chat).unwrap());
    assert_ne!(one.local_addr().unwrap(), two.local_addr().unwrap());
    assert!(one.local_addr().unwrap().port() >= 49_152);
    assert!(!again.may_fragment() && again.max_receive_segments() > 1);
}

/// Packets for nobody go nowhere and are counted, by the end that sees it.
#[tokio::test]
async fn what_nobody_takes_is_counted() {
    let (node, core) = pair();
    let socket = node.tunnel.udp_socket(0, Class::Chat).unwrap();
    // tokio learns that a new socket takes datagrams when it first asks.
    let mut writable = socket.clone().create_io_poller();
    poll_fn(|cx| writable.as_mut().poll_writable(cx)).await.unwrap();
    let send = |to: SocketAddr, contents: &[u8]| {
        let transmit = quinn::udp::Transmit {
            destination: to,
            ecn: None,
            contents,
            segment_size: None,
            src_ip: None,
        };
        socket.try_send(&transmit).unwrap();
    };
    send(trunk_of(&core), b"no socket there");
    until(|| core.metrics.dropped_count(DropReason::NoSocket) == 1).await;
    send(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 1), b"no such peer");
    send(SocketAddr::from(([127, 0, 0, 1], 1)), b"no such family");
    assert_eq!(node.metrics.dropped_count(DropReason::NoPeer), 2);
    send(trunk_of(&core), &[0; 1373]);
    assert_eq!(node.metrics.dropped_count(DropReason::TooBig), 1);

    let full = core.tunnel.udp_socket(TRUNK_PORT, Class::Chat).unwrap();
    for _ in 0..40 {
        for _ in 0..100 {
            send(trunk_of(&core), &[0; 1372]);
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    until(|| core.metrics.dropped_count(DropReason::QueueFull) > 0).await;
    drop(full);

    let mut elsewhere = peer(&core, true);
    elsewhere.allowed_ips = vec!["::/0".parse().unwrap()];
    node.tunnel.set_peers(vec![elsewhere]);
    send(SocketAddr::new(Ipv6Addr::LOCALHOST.into(), 1), b"not the core's address");
    until(|| core.metrics.dropped_count(DropReason::WrongDestination) == 1).await;
}

/// What a listener on the wire sees: lengths in steps of 16 only. The far end is a device on a
/// plain socket, which cuts the padding off again.
#[tokio::test]
async fn data_is_padded_on_the_wire_and_whole_inside() {
    let near = host();
    let wire = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let key = PrivateKey::generate();
    let now = tokio::time::Instant::now().into_std();
    let far = Device::new(key.clone(), Duration::from_secs(15), Metrics::default(), now);
    far.set_peers(vec![peer(&near, false)], now);
    let endpoint = Some(wire.local_addr().unwrap());
    near.tunnel.set_peers(vec![PeerConfig { endpoint, ..PeerConfig::new(key.public_key()) }]);

    let socket = near.tunnel.udp_socket(0, Class::Chat).unwrap();
    let mut writable = socket.clone().create_io_poller();
    poll_fn(|cx| writable.as_mut().poll_writable(cx)).await.unwrap();
    for len in 1..40 {
        let transmit = quinn::udp::Transmit {
            destination: SocketAddr::new(key.public_key().address().into(), 7),
            ecn: None,
            contents: &vec![9; len],
            segment_size: None,
            src_ip: None,
        };
        socket.try_send(&transmit).unwrap();
    }
    let (mut buffer, mut scratch, mut replies) = (vec![0; 2000], Scratch::default(), Vec::new());
    let mut inner = Vec::new();
    while inner.len() < 39 {
        let (len, from) = wire.recv_from(&mut buffer).await.unwrap();
        let datagram = &buffer[..len];
        if datagram[0] == 4 {
            assert_eq!(len % 16, 0, "{len}");
        }
        inner.extend(
            far.open(from.into(), datagram, now, &mut scratch, &mut replies).map(<[u8]>::len),
        );
        for reply in replies.drain(..) {
            wire.send_to(&reply.bytes, reply.to.remote().unwrap()).await.unwrap();
        }
    }
    assert_eq!(inner, (49..88).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_taken_port_says_what_to_do() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let config = TunnelConfig::new(PrivateKey::generate(), taken.local_addr().unwrap());
    let error = Tunnel::bind(config, &Tasks::default(), Metrics::default()).unwrap_err();
    assert!(error.to_string().contains("ss -ulpn"), "{error}");
    let foreign = TunnelConfig::new(PrivateKey::generate(), "192.0.2.1:0".parse().unwrap());
    let error = Tunnel::bind(foreign, &Tasks::default(), Metrics::default()).unwrap_err();
    assert!(error.to_string().contains("ip address"), "{error}");
}

#[tokio::test]
async fn one_socket_serves_both_families() {
    let (core, node, old) = (wildcard(), host(), host());
    let port = core.tunnel.local_addr().port();
    core.tunnel.set_peers(vec![peer(&node, false), peer(&old, true)]);
    let mut by_v4 = peer(&core, true);
    by_v4.endpoint = Some(SocketAddr::from(([127, 0, 0, 1], port)));
    node.tunnel.set_peers(vec![by_v4]);
    old.tunnel.set_peers(vec![peer(&core, false)]);
    until(|| core.tunnel.peers().iter().all(|state| state.handshake_age.is_some())).await;
    let ends: Vec<_> = core.tunnel.peers().iter().map(|state| state.endpoint.unwrap()).collect();
    assert!(ends.iter().all(SocketAddr::is_ipv4), "mapped addresses do not leak: {ends:?}");
}

fn wildcard() -> Host {
    let (tasks, metrics) = (Tasks::default(), Metrics::default());
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), 0);
    let config = TunnelConfig::new(PrivateKey::generate(), any);
    let tunnel = Tunnel::bind(config, &tasks, metrics.clone()).unwrap();
    Host { tunnel, tasks, metrics }
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 5 s");
}
