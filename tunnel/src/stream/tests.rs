//! Streams between two tunnels on loopback.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod crowd;

use std::future::poll_fn;
use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicBool, Ordering};

use quinn::udp::{RecvMeta, Transmit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use self::authority::Authority;
use super::metrics::StreamEnd;
use super::*;
use crate::metrics::{DropReason, Metrics};
use crate::{Class, PeerConfig, PrivateKey, TunnelConfig};

#[path = "../../tests/authority/mod.rs"]
mod authority;

const TIME: Duration = Duration::from_secs(10);

struct Host {
    tunnel: Tunnel,
    tasks: Tasks,
    metrics: Metrics,
}

impl Host {
    fn new() -> Self {
        let (tasks, metrics) = (Tasks::default(), Metrics::default());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let config = TunnelConfig::new(PrivateKey::generate(), any);
        let tunnel = Tunnel::bind(config, &tasks, metrics.clone()).unwrap();
        Self { tunnel, tasks, metrics }
    }

    fn shared(&self) -> &Arc<Shared> {
        self.tunnel.shared()
    }

    fn attempts(&self, outcome: StreamOutcome) -> u64 {
        self.metrics.streams.attempts(outcome)
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

/// A core that takes streams, and a node that knows no address of its for UDP.
struct Pair {
    core: Host,
    node: Host,
    server: StreamServer,
    target: StreamTarget,
    tls: StreamTls,
    authority: Authority,
    is_member: Arc<AtomicBool>,
}

impl Pair {
    async fn new(streams_max: usize) -> Self {
        let (core, node, authority) = (Host::new(), Host::new(), Authority::new());
        core.tunnel.set_peers(vec![PeerConfig::new(node.tunnel.public_key())]);
        node.tunnel.set_peers(vec![PeerConfig::new(core.tunnel.public_key())]);
        let is_member = Arc::new(AtomicBool::new(true));
        let admitted = Arc::clone(&is_member);
        let listen = StreamListen {
            tls: authority.server(),
            streams_max: NonZeroUsize::new(streams_max).unwrap(),
            admit: Arc::new(move |_| admitted.load(Ordering::Relaxed).then(|| "node".to_owned())),
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = core.tunnel.listen_streams(listener, listen).unwrap();
        let endpoint = format!("localhost:{}", server.address().port());
        let (target, tls) = (StreamTarget { endpoint }, StreamTls(authority.client()));
        Self { core, node, server, target, tls, authority, is_member }
    }

    fn begin(&self) -> StreamId {
        self.node.shared().open_stream(self.target.clone(), self.tls.clone())
    }

    /// Opens a stream and waits until it carries.
    async fn open(&self) -> StreamId {
        let id = self.begin();
        until("the stream opens", || {
            self.node.shared().streams.state(id) == Some(StreamState::Open)
        })
        .await;
        id
    }

    fn streams_of_core(&self) -> i64 {
        self.core.metrics.streams.open.get()
    }
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert!(timeout(TIME, waiting).await.is_ok(), "{what}");
}

/// WireGuard's handshake and what is inside go over the stream, both ways, with no UDP at all.
#[tokio::test]
async fn a_tunnel_runs_over_a_stream() {
    let pair = Pair::new(4).await;
    let id = pair.open().await;
    choose(&pair.node, &pair.core, id);

    let (ours, theirs) = (
        pair.node.tunnel.udp_socket(7, Class::Chat).unwrap(),
        pair.core.tunnel.udp_socket(8, Class::Chat).unwrap(),
    );
    let core = SocketAddr::new(pair.core.tunnel.address().into(), 8);
    for round in 0..100_u8 {
        send(&*ours, core, &[round; 1000]);
        let (from, asked) = timeout(TIME, receive(&*theirs)).await.unwrap();
        assert_eq!(asked, [round; 1000]);
        send(&*theirs, from, &asked);
        assert_eq!(timeout(TIME, receive(&*ours)).await.unwrap(), (core, asked));
    }
    let state = &pair.core.tunnel.peers()[0];
    assert!(matches!(state.way, Some(Way::Stream(_))), "{:?}", state.way);
    assert_eq!(state.endpoint, None);
    assert!(state.arrived >= 100, "{}", state.arrived);
    assert_eq!((pair.node.metrics.streams.open.get(), pair.streams_of_core()), (1, 1));

    pair.node.shared().close_stream(id);
    until("both ends are gone", || {
        pair.node.shared().streams.state(id).is_none() && pair.streams_of_core() == 0
    })
    .await;
    assert_eq!(pair.node.metrics.streams.ends(StreamEnd::Closed), 1);
    assert_eq!(pair.core.metrics.streams.ends(StreamEnd::FarEnd), 1);
    send(&*ours, core, b"nowhere");
    assert_eq!(pair.node.metrics.dropped_count(DropReason::NoWay), 1);
}

/// As in a restart of the core: whoever waits for it is told that the stream has ended.
#[tokio::test]
async fn the_end_of_the_core_is_told() {
    let pair = Pair::new(4).await;
    let id = pair.open().await;
    let streams = &pair.node.shared().streams;
    pair.core.tasks.stop.cancel();
    until("the end is told", || streams.state(id).is_none()).await;

    let id = pair.begin();
    until("nobody listens", || streams.state(id).is_none()).await;
    let outcomes = [StreamOutcome::Unreachable, StreamOutcome::Tls, StreamOutcome::Upgrade];
    assert_eq!(outcomes.map(|outcome| pair.node.attempts(outcome)), [1, 0, 0]);
}

#[tokio::test]
async fn members_only_and_not_for_longer_than_they_are() {
    let pair = Pair::new(4).await;
    let other = StreamTls(Authority::new().client());
    let id = pair.node.shared().open_stream(pair.target.clone(), other);
    until("another authority's", || pair.node.shared().streams.state(id).is_none()).await;
    assert_eq!(pair.node.attempts(StreamOutcome::Tls), 1);
    until("the core counts it", || pair.core.attempts(StreamOutcome::Tls) == 1).await;

    let id = pair.open().await;
    pair.server.recheck();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(pair.node.shared().streams.state(id).is_some(), "a member stays");
    pair.is_member.store(false, Ordering::Relaxed);
    pair.server.recheck();
    until("it is closed", || pair.node.shared().streams.state(id).is_none()).await;

    let id = pair.begin();
    until("it is refused", || pair.node.shared().streams.state(id).is_none()).await;
    assert_eq!(pair.core.attempts(StreamOutcome::NotAMember), 1);
    assert_eq!(pair.streams_of_core(), 0);
}

#[tokio::test]
async fn a_member_has_few_streams_and_the_oldest_goes() {
    let pair = Pair::new(100).await;
    let first = pair.open().await;
    for _ in 0..server::STREAMS_PER_MEMBER_MAX - 1 {
        pair.open().await;
    }
    let last = pair.open().await;
    let state = |id| pair.node.shared().streams.state(id);
    until("the oldest is closed", || state(first).is_none()).await;
    assert_eq!(state(last), Some(StreamState::Open));
    assert_eq!(pair.core.attempts(StreamOutcome::Replaced), 1);
    until("four are left", || pair.streams_of_core() == 4).await;
}

#[tokio::test]
async fn streams_are_limited() {
    let pair = Pair::new(1).await;
    let first = pair.open().await;
    let second = pair.begin();
    let state = |id| pair.node.shared().streams.state(id);
    until("the second is refused", || state(second).is_none()).await;
    assert_eq!(pair.node.attempts(StreamOutcome::Upgrade), 1);
    assert_eq!(state(first), Some(StreamState::Open));
    assert_eq!((pair.core.attempts(StreamOutcome::Full), pair.streams_of_core()), (1, 1));
}

/// Who connects and says nothing, or says nothing after TLS, holds a place for five seconds.
#[tokio::test]
async fn handshakes_that_go_nowhere_end() {
    let pair = Pair::new(4).await;
    let mut silent = TcpStream::connect(pair.server.address()).await.unwrap();
    let tls = TlsConnector::from(pair.authority.client());
    let socket = TcpStream::connect(pair.server.address()).await.unwrap();
    let mut mute = tls.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    let closed = async {
        let mut byte = [0];
        (silent.read(&mut byte).await.unwrap_or(0), mute.read(&mut byte).await.unwrap_or(0))
    };
    assert_eq!(timeout(STREAM_HANDSHAKE_TIME_MAX * 2, closed).await.unwrap(), (0, 0));
    assert_eq!(pair.core.attempts(StreamOutcome::TimedOut), 2);
}

/// Paused time runs on as soon as nobody has anything to do.
#[tokio::test]
async fn a_stream_that_is_silent_is_closed() {
    let pair = Pair::new(4).await;
    let id = pair.open().await;
    tokio::time::pause();
    let streams = &pair.node.shared().streams;
    let silent = async {
        while streams.state(id).is_some() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    };
    let began = tokio::time::Instant::now();
    timeout(carry::STREAM_IDLE_MAX * 2, silent).await.unwrap();
    assert!(began.elapsed() >= carry::STREAM_IDLE_MAX - Duration::from_secs(1));
    let ends = |host: &Host| host.metrics.streams.ends(StreamEnd::Idle);
    assert!(ends(&pair.node) + ends(&pair.core) >= 1);
}

/// An address that swallows everything: the attempt ends, and is counted.
#[tokio::test]
async fn an_address_that_does_not_answer_is_given_up() {
    let pair = Pair::new(4).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = listener.local_addr().unwrap().to_string();
    let target = StreamTarget { endpoint };
    let id = pair.node.shared().open_stream(target, pair.tls.clone());
    assert_eq!(pair.node.shared().streams.state(id), Some(StreamState::Opening));
    until("it is given up", || pair.node.shared().streams.state(id).is_none()).await;
    assert_eq!(pair.node.attempts(StreamOutcome::TimedOut), 1);
}

/// Whoever comes by HTTP for something else is told so, and that is all.
#[tokio::test]
async fn other_requests_are_refused() {
    let pair = Pair::new(4).await;
    let tls = TlsConnector::from(pair.authority.client());
    let socket = TcpStream::connect(pair.server.address()).await.unwrap();
    let mut socket = tls.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    socket.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    timeout(TIME, socket.read_to_string(&mut answer)).await.unwrap().unwrap();
    assert!(answer.starts_with("HTTP/1.1 404 Not Found\r\n"), "{answer}");
    until("it is counted", || pair.core.attempts(StreamOutcome::Upgrade) == 1).await;
}

/// A far end that reads nothing fills a bounded queue, and then datagrams are dropped, not held.
#[tokio::test]
async fn a_stuck_stream_drops() {
    let pair = Pair::new(4).await;
    let tls = TlsConnector::from(pair.authority.client());
    let socket = TcpStream::connect(pair.server.address()).await.unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
    let mut socket = tls.connect("localhost".try_into().unwrap(), socket).await.unwrap();
    let key = antipode_websocket::handshake::request_key([7; 16]);
    socket.write_all(&upgrade::request("localhost", &key)).await.unwrap();
    let mut answer = [0; 64];
    socket.read_exact(&mut answer).await.unwrap();
    until("it is open", || pair.streams_of_core() == 1).await;

    let way = Way::Stream(StreamId(1));
    let full = || pair.core.metrics.dropped_count(DropReason::StreamFull);
    for _ in 0..20 {
        pair.core.shared().exits.transmit(way, &[0; 60_000], 1200).unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(full() > 100, "{}", full());
}

/// Sends by a stream from now on.
fn choose(host: &Host, to: &Host, id: StreamId) {
    let peer = host.shared().device.peer_for(to.tunnel.address().into()).unwrap();
    peer.link.lock().choose_way(Way::Stream(id));
}

fn send(socket: &dyn quinn::AsyncUdpSocket, destination: SocketAddr, contents: &[u8]) {
    let transmit = Transmit { destination, ecn: None, contents, segment_size: None, src_ip: None };
    socket.try_send(&transmit).unwrap();
}

async fn receive(socket: &dyn quinn::AsyncUdpSocket) -> (SocketAddr, Vec<u8>) {
    let mut buffer = vec![0; 2000];
    let mut meta = [RecvMeta::default()];
    poll_fn(|cx| socket.poll_recv(cx, &mut [IoSliceMut::new(&mut buffer)], &mut meta))
        .await
        .unwrap();
    (meta[0].addr, buffer[..meta[0].len].to_vec())
}
