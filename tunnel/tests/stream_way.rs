//! UDP that is blocked: datagrams go over a stream, and back when it works again.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod authority;

use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use antipode_tunnel::stream::metrics::{StreamEnd, StreamOutcome};
use antipode_tunnel::{
    Candidate, Metrics, PeerConfig, PeerState, PrivateKey, StreamListen, StreamServer,
    StreamTarget, StreamTls, Tasks, Tunnel, TunnelConfig, Way,
};
use authority::Authority;
use tokio::net::{TcpListener, UdpSocket};
use tokio_util::sync::CancellationToken;

/// A node and a core with UDP between them that can be blocked.
struct Lab {
    core: Tunnel,
    node: Tunnel,
    metrics: Metrics,
    server: StreamServer,
    udp: SocketAddr,
    is_blocked: Arc<AtomicBool>,
    tasks: Tasks,
}

impl Lab {
    async fn new() -> Self {
        let (tasks, metrics) = (Tasks::default(), Metrics::default());
        let tunnel = |metrics| {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let config = TunnelConfig::new(PrivateKey::generate(), any);
            Tunnel::bind(config, &tasks, metrics).unwrap()
        };
        let (core, node) = (tunnel(Metrics::default()), tunnel(metrics.clone()));
        let authority = Authority::new();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let listen = StreamListen {
            tls: authority.server(),
            streams_max: NonZeroUsize::MIN,
            admit: Arc::new(|_| Some("node".to_owned())),
        };
        let server = core.listen_streams(listener, listen).unwrap();
        core.set_peers(vec![PeerConfig::new(node.public_key())]);
        node.set_peers(vec![PeerConfig {
            keepalive: Some(Duration::from_secs(10)),
            stream_tls: Some(StreamTls(authority.client())),
            ..PeerConfig::new(core.public_key())
        }]);
        let is_blocked = Arc::new(AtomicBool::new(false));
        let udp = relay(core.local_addr(), &is_blocked, &tasks.stop).await;
        Self { core, node, metrics, server, udp, is_blocked, tasks }
    }

    /// Both ways to the core are made known.
    fn begin(&self) {
        let endpoint = format!("localhost:{}", self.server.address().port());
        let stream = Candidate::Stream(StreamTarget { endpoint });
        let candidates = vec![Candidate::Udp(self.udp), stream];
        self.node.set_candidates(&self.core.public_key(), candidates);
    }

    fn block(&self, is_blocked: bool) {
        self.is_blocked.store(is_blocked, Ordering::Relaxed);
    }

    fn of_core(&self) -> PeerState {
        self.node.peers().remove(0)
    }

    fn of_node(&self) -> PeerState {
        self.core.peers().remove(0)
    }

    fn both_by_stream(&self) -> bool {
        let is_stream = |peer: &PeerState| matches!(peer.way, Some(Way::Stream(_)));
        is_stream(&self.of_core()) && is_stream(&self.of_node())
    }

    fn both_by_udp(&self) -> bool {
        let is_udp = |peer: &PeerState| matches!(peer.way, Some(Way::Udp { .. }));
        is_udp(&self.of_core()) && is_udp(&self.of_node())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.tasks.stop.cancel();
    }
}

#[tokio::test]
async fn a_node_whose_udp_is_blocked_comes_by_a_stream() {
    let lab = Lab::new().await;
    lab.block(true);
    lab.begin();
    let has_keys = || lab.of_core().handshake_age.is_some();
    until("there is a tunnel", Duration::from_secs(5), || has_keys() && lab.both_by_stream()).await;
    assert_eq!(lab.metrics.streams.attempts(StreamOutcome::Opened), 1);

    lab.block(false);
    until("UDP is found", Duration::from_secs(10), || lab.both_by_udp()).await;
}

#[tokio::test]
async fn udp_that_stops_is_left_and_taken_again() {
    let lab = Lab::new().await;
    lab.begin();
    let keyed = || lab.of_core().handshake_age.is_some() && lab.both_by_udp();
    until("there is a tunnel", Duration::from_secs(5), keyed).await;
    assert_eq!(lab.metrics.streams.attempts(StreamOutcome::Opened), 0, "nobody needs one");

    lab.block(true);
    until("the stream carries", Duration::from_secs(5), || lab.both_by_stream()).await;
    lab.block(false);
    until("UDP is found", Duration::from_secs(10), || lab.both_by_udp()).await;
    let closed = || lab.metrics.streams.ends(StreamEnd::Closed) == 1;
    until("the stream is closed", Duration::from_secs(20), closed).await;
    assert!(lab.both_by_udp());
}

/// A stream that ends while UDP is blocked is opened anew, at once.
#[tokio::test]
async fn a_stream_that_is_lost_is_opened_again() {
    let lab = Lab::new().await;
    lab.block(true);
    lab.begin();
    until("the stream carries", Duration::from_secs(5), || lab.both_by_stream()).await;
    let first = lab.of_core().way;
    // As many as the core takes: what comes now has to wait until the old one has gone.
    lab.server.close_all();
    let again = || lab.both_by_stream() && lab.of_core().way != first;
    until("another one carries", Duration::from_secs(5), again).await;
}

async fn until(what: &str, within: Duration, holds: impl Fn() -> bool) {
    let began = tokio::time::Instant::now();
    while !holds() {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Hands datagrams on between whoever called last and `far`, unless blocked.
async fn relay(
    far: SocketAddr,
    is_blocked: &Arc<AtomicBool>,
    stop: &CancellationToken,
) -> SocketAddr {
    let near = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let onward = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    onward.connect(far).await.unwrap();
    let address = near.local_addr().unwrap();
    let (is_blocked, stop) = (Arc::clone(is_blocked), stop.clone());
    let relaying = async move {
        let (mut there, mut back) = ([0; 2048], [0; 2048]);
        let mut caller = None;
        loop {
            tokio::select! {
                came = near.recv_from(&mut there) => {
                    let Ok((len, from)) = came else { continue };
                    caller = Some(from);
                    if !is_blocked.load(Ordering::Relaxed) {
                        let _ = onward.send(&there[..len]).await;
                    }
                }
                came = onward.recv(&mut back) => {
                    let (Ok(len), Some(caller)) = (came, caller) else { continue };
                    if !is_blocked.load(Ordering::Relaxed) {
                        let _ = near.send_to(&back[..len], caller).await;
                    }
                }
            }
        }
    };
    #[allow(clippy::disallowed_methods, reason = "a test's network ends with its tunnels")]
    tokio::spawn(async move { stop.run_until_cancelled(relaying).await });
    address
}
