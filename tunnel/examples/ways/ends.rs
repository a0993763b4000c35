//! The ends of a transfer: a node, a core, and a neighbour that sends on.

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::time::Duration;

use antipode_tunnel::congestion::Flows;
use antipode_tunnel::{
    Candidate, Class, ForwarderConfig, Metrics, PeerConfig, PrivateKey, PublicKey, StreamListen,
    StreamTarget, StreamTls, TRUNK_PORT, Tasks, Tunnel, TunnelConfig,
};
use quinn::{Connection, Endpoint, EndpointConfig, TokioRuntime};
use rustls::pki_types::CertificateDer;
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::certified::{Certified, transport_of};
use crate::transfer::Carrier;

/// A chat message.
const ECHO_BYTES: usize = 128;
/// Until the way carries.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a core is: UDP, and streams.
pub(crate) type Addresses = (SocketAddr, SocketAddr);

/// What both ends know.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) certified: Arc<Certified>,
    pub(crate) node: PublicKey,
    pub(crate) core: PublicKey,
    pub(crate) stop: CancellationToken,
}

fn bind(own: PrivateKey, at: IpAddr, tasks: &Tasks, metrics: Metrics) -> Result<Tunnel, Failure> {
    Ok(Tunnel::bind(TunnelConfig::new(own, SocketAddr::new(at, 0)), tasks, metrics)?)
}

fn endpoint(tunnel: &Tunnel, server: Option<quinn::ServerConfig>) -> Result<Endpoint, Failure> {
    let port = if server.is_some() { TRUNK_PORT } else { 0 };
    let socket = tunnel.udp_socket(port, Class::Bulk)?;
    let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, runtime)?)
}

/// Answers the first stream with what it says, and counts what comes on the second.
pub(crate) async fn core(
    own: PrivateKey,
    at: IpAddr,
    shared: Shared,
    tell: Sender<Addresses>,
    arrived: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let tasks = Tasks { stop: shared.stop.clone(), ..Tasks::default() };
    let tunnel = bind(own, at, &tasks, Metrics::default())?;
    tunnel.set_peers(vec![PeerConfig::new(shared.node)]);
    let (certificates, key) = shared.certified.parts();
    let verifier = WebPkiClientVerifier::builder(Arc::new(shared.certified.roots())).build()?;
    let tls = rustls::ServerConfig::builder()
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates, key)?;
    let admit = Arc::new(|_: &CertificateDer<'static>| Some("node".to_owned()));
    let listen = StreamListen { tls: Arc::new(tls), streams_max: NonZeroUsize::MIN, admit };
    let listener = TcpListener::bind(SocketAddr::new(at, 0)).await?;
    let streams = tunnel.listen_streams(listener, listen)?;
    let transport = transport_of(Class::Bulk, &Flows::default());
    let accepting = endpoint(&tunnel, Some(shared.certified.server_over(transport)))?;
    tell.send((tunnel.local_addr(), streams.address()))?;

    let connection = accepting.accept().await.ok_or("no one came")?.await?;
    let (mut answers, mut questions) = connection.accept_bi().await?;
    let mut message = [0; ECHO_BYTES];
    while questions.read_exact(&mut message).await.is_ok() {
        answers.write_all(&message).await?;
    }
    let (_answers, mut bulk) = connection.accept_bi().await?;
    while let Ok(Some(chunk)) = bulk.read_chunk(usize::MAX, true).await {
        arrived.fetch_add(u64::try_from(chunk.bytes.len())?, Ordering::Relaxed);
    }
    Ok(())
}

/// How a node gets to its core.
pub(crate) struct Route {
    pub(crate) carrier: Carrier,
    pub(crate) core: Addresses,
    pub(crate) forwarder: Option<ForwarderConfig>,
}

/// Asks `echoes` times, tells how long each took, and sends until it is stopped.
pub(crate) async fn node(
    own: PrivateKey,
    at: IpAddr,
    shared: Shared,
    route: Route,
    echoes: usize,
    tell: Sender<Vec<Duration>>,
) -> Result<(), Failure> {
    let tasks = Tasks::default();
    let tunnel = bind(own, at, &tasks, Metrics::default())?;
    let (certificates, key) = shared.certified.parts();
    let tls = rustls::ClientConfig::builder()
        .with_root_certificates(shared.certified.roots())
        .with_client_auth_cert(certificates, key)?;
    tunnel.set_peers(vec![PeerConfig {
        keepalive: Some(Duration::from_secs(10)),
        stream_tls: Some(StreamTls(Arc::new(tls))),
        ..PeerConfig::new(shared.core)
    }]);
    // What goes to a socket that nobody reads goes nowhere: only the neighbour is left.
    let nowhere = std::net::UdpSocket::bind(SocketAddr::new(at, 0))?;
    let (udp, stream) = route.core;
    let candidate = match route.carrier {
        Carrier::Udp => Candidate::Udp(udp),
        Carrier::Stream => Candidate::Stream(StreamTarget { endpoint: stream.to_string() }),
        Carrier::Through => Candidate::Udp(nowhere.local_addr()?),
    };
    tunnel.set_forwarders(route.forwarder.into_iter().collect());
    tunnel.set_candidates(&shared.core, vec![candidate]);
    ready(&tunnel, route.carrier).await?;

    let mut dialing = endpoint(&tunnel, None)?;
    let transport = transport_of(Class::Bulk, &Flows::default());
    dialing.set_default_client_config(shared.certified.client_over(transport));
    let target = SocketAddr::new(shared.core.address().into(), TRUNK_PORT);
    let connection = dialing.connect(target, "core")?.await?;
    tell.send(round_trips(&connection, echoes).await?)?;
    let (mut bulk, _answers) = connection.open_bi().await?;
    let megabyte = bytes::Bytes::from(vec![0x5a; 1_000_000]);
    let send = async { while bulk.write_chunk(megabyte.clone()).await.is_ok() {} };
    shared.stop.run_until_cancelled(send).await;
    tasks.stop.cancel();
    Ok(())
}

/// Waits until there are keys, and datagrams take the way that is to be measured.
async fn ready(tunnel: &Tunnel, carrier: Carrier) -> Result<(), Failure> {
    let began = Instant::now();
    loop {
        let peer = tunnel.peers().remove(0);
        if peer.handshake_age.is_some() && peer.way.is_some_and(|way| way.kind() == carrier.kind())
        {
            return Ok(());
        }
        if began.elapsed() > PATIENCE {
            return Err(format!("no way {}: {peer:?}", carrier.kind()).into());
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn round_trips(connection: &Connection, number: usize) -> Result<Vec<Duration>, Failure> {
    let (mut questions, mut answers) = connection.open_bi().await?;
    let (mut message, mut took) = ([7; ECHO_BYTES], Vec::new());
    for _ in 0..number {
        let asked = Instant::now();
        questions.write_all(&message).await?;
        answers.read_exact(&mut message).await?;
        took.push(asked.elapsed());
    }
    questions.finish()?;
    took.sort_unstable();
    Ok(took)
}

/// Sends on for the node until it is stopped.
pub(crate) async fn neighbour(
    own: PrivateKey,
    shared: Shared,
    core: SocketAddr,
    metrics: Metrics,
    tell: Sender<SocketAddr>,
) -> Result<(), Failure> {
    let tasks = Tasks { stop: shared.stop.clone(), ..Tasks::default() };
    let tunnel = bind(own, core.ip(), &tasks, metrics)?;
    tunnel.set_peers(vec![PeerConfig { endpoint: Some(core), ..PeerConfig::new(shared.core) }]);
    tunnel.set_forwarded(&[shared.node], u64::from(u32::MAX));
    tell.send(tunnel.local_addr())?;
    shared.stop.cancelled().await;
    Ok(())
}
