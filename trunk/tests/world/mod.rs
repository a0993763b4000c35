//! A core and a node on loopback, with certificates of an authority made for the test.
#![allow(clippy::unwrap_used, reason = "a test stops where its world cannot be made")]
#![allow(dead_code, reason = "each test binary uses its share of this module")]

use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1::Carrier;
use antipode_proto::trunk::v1::{Cause, Chunk, End, RequestHead};
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::accept::Listen;
use antipode_trunk::{
    AcceptConfig, Body, Budget, CoreTarget, Incoming, Metrics, NodeIdentity, SessionConfig,
    SessionPort, Sockets, TrunkServer, Trunks, TrunksConfig,
};
use antipode_tunnel::{Class, TrunkTuning};
use bytes::Bytes;
use quinn::{AsyncUdpSocket, Runtime, TokioRuntime};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// What a node opens for chat, unless a test asks for more.
const LANES: u32 = 8;

/// What a node opens for bulk.
pub(crate) const BULK_LANES: u32 = 4;

/// What a core takes.
pub(crate) const SESSIONS_MAX: usize = 200;

/// The authority that both ends trust.
pub(crate) struct World {
    issuer: Issuer<'static, KeyPair>,
    roots: Arc<RootCertStore>,
}

impl World {
    pub(crate) fn new() -> Self {
        antipode_runtime::crypto::install();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = params.self_signed(&key).unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        Self { issuer: Issuer::new(params, key), roots: Arc::new(roots) }
    }

    fn member(&self, id: &str) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec![format!("{id}.member.antipode")]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (vec![certificate.der().clone()], key.serialize_der().try_into().unwrap())
    }
}

/// A core that accepts on both carriers.
pub(crate) struct Core {
    pub(crate) server: TrunkServer,
    pub(crate) accepted: mpsc::Receiver<Incoming>,
    pub(crate) quic: SocketAddr,
    pub(crate) tcp: SocketAddr,
    pub(crate) shutdown: Shutdown,
    /// Of the tunnel that it is in, if it is in one.
    pub(crate) tunnel: Option<Shutdown>,
}

impl Core {
    pub(crate) async fn start(world: &World, run: [u8; 16]) -> Self {
        let (socket, bulk, quic) = udp_pair();
        Self::start_with(world, run, socket, Some(bulk), quic).await
    }

    /// On a socket of the test's own choice.
    pub(crate) async fn start_on(
        world: &World,
        run: [u8; 16],
        socket: Arc<dyn AsyncUdpSocket>,
        quic: SocketAddr,
    ) -> Self {
        Self::start_with(world, run, socket, None, quic).await
    }

    /// With a socket for lanes for bulk, or without.
    pub(crate) async fn start_with(
        world: &World,
        run: [u8; 16],
        socket: Arc<dyn AsyncUdpSocket>,
        bulk: Option<Arc<dyn AsyncUdpSocket>>,
        quic: SocketAddr,
    ) -> Self {
        let (chain, key) = world.member("core-1");
        let verifier = WebPkiClientVerifier::builder(Arc::clone(&world.roots)).build().unwrap();
        let mut tls = ServerConfig::builder()
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![b"antipode-trunk/1".to_vec()];
        let config = AcceptConfig {
            tls: Arc::new(tls),
            tuning: TrunkTuning::default(),
            session: SessionConfig::default(),
            budget: Budget::unlimited(),
            sessions_max: SESSIONS_MAX,
            run,
            software: "test".into(),
        };
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let tcp = listener.local_addr().unwrap();
        let listen = vec![Listen::Quic(socket, Class::Chat), Listen::Tcp(listener)];
        let bulk = bulk.map(|socket| Listen::Quic(socket, Class::Bulk));
        let listen = listen.into_iter().chain(bulk).collect();
        let shutdown = Shutdown::default();
        let (server, accepted) =
            TrunkServer::start(config, listen, &shutdown, Metrics::default()).unwrap();
        Self { server, accepted, quic, tcp, shutdown, tunnel: None }
    }

    /// Everything of it ends, here and now.
    pub(crate) fn stop(&self) {
        self.shutdown.stop_now();
        self.tunnel.iter().for_each(Shutdown::stop_now);
    }

    /// On loopback every node has the same address: the last one named counts.
    pub(crate) fn admit(&self, nodes: &[&str]) {
        let identity = |name: &&str| NodeIdentity {
            member_id: (*name).to_owned(),
            name: (*name).to_owned(),
            region: "test".into(),
            address: Ipv6Addr::LOCALHOST,
        };
        self.server.set_nodes(nodes.iter().map(identity).collect());
    }

    pub(crate) fn target(&self, carrier: Carrier) -> CoreTarget {
        let address = if carrier == Carrier::Tcp { self.tcp } else { self.quic };
        self.target_at(carrier, address)
    }

    pub(crate) fn target_at(&self, carrier: Carrier, address: SocketAddr) -> CoreTarget {
        CoreTarget {
            member_id: "core-1".into(),
            name: "core-1".into(),
            address: Ipv6Addr::LOCALHOST,
            port: address.port(),
            carrier,
        }
    }
}

pub(crate) struct Node {
    pub(crate) trunks: Trunks,
    pub(crate) metrics: Metrics,
    _shutdown: Shutdown,
}

impl Node {
    pub(crate) fn start(world: &World, run: [u8; 16]) -> Self {
        Self::start_with(world, run, Sockets { chat: udp().0, bulk: Some(udp().0) })
    }

    pub(crate) fn start_on(world: &World, run: [u8; 16], chat: Arc<dyn AsyncUdpSocket>) -> Self {
        Self::start_with(world, run, Sockets { chat, bulk: None })
    }

    pub(crate) fn start_with(world: &World, run: [u8; 16], sockets: Sockets) -> Self {
        Self::start_lanes(world, run, sockets, LANES)
    }

    pub(crate) fn start_lanes(world: &World, run: [u8; 16], sockets: Sockets, lanes: u32) -> Self {
        let (chain, key) = world.member("node-1");
        let mut tls = ClientConfig::builder()
            .with_root_certificates(Arc::clone(&world.roots))
            .with_client_auth_cert(chain, key)
            .unwrap();
        tls.alpn_protocols = vec![b"antipode-trunk/1".to_vec()];
        let config = TrunksConfig {
            tls: Arc::new(tls),
            tuning: TrunkTuning::default(),
            session: SessionConfig::default(),
            budget: Budget::unlimited(),
            lanes,
            bulk_lanes: BULK_LANES,
            run,
            software: "test".into(),
        };
        let shutdown = Shutdown::default();
        let metrics = Metrics::default();
        let trunks = Trunks::start(config, Some(sockets), &shutdown, metrics.clone()).unwrap();
        Self { trunks, metrics, _shutdown: shutdown }
    }

    pub(crate) fn dial(&self, core: CoreTarget) {
        self.trunks.set_cores(vec![core]);
    }

    pub(crate) async fn up(&self) {
        self.until(|lanes| lanes == LANES).await;
    }

    pub(crate) async fn down(&self) {
        self.until(|lanes| lanes == 0).await;
    }

    pub(crate) async fn until(&self, enough: impl Fn(u32) -> bool) {
        let wait = async {
            while !self.trunks.states().iter().any(|trunk| enough(trunk.lanes_up)) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), wait).await.expect("the lanes follow");
    }
}

/// A TCP relay whose connections can be cut, or fall silent.
pub(crate) struct Cutter {
    pub(crate) address: SocketAddr,
    target: Arc<watch::Sender<SocketAddr>>,
    orders: mpsc::UnboundedSender<Order>,
    _task: JoinSet<()>,
}

/// What a [`Cutter`] does to connections that it has.
enum Order {
    CutOne,
    /// They stay open, and nothing crosses any more.
    StallAll,
}

impl Cutter {
    pub(crate) async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (target, at) = watch::channel(target);
        let (orders, given) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(relay(listener, at, given));
        Self { address, target: Arc::new(target), orders, _task: task }
    }

    pub(crate) fn cut_one(&self) {
        self.orders.send(Order::CutOne).unwrap();
    }

    pub(crate) fn stall_all(&self) {
        self.orders.send(Order::StallAll).unwrap();
    }

    pub(crate) fn cut(&self) {
        self.target.send_modify(|_| {});
    }

    pub(crate) fn redirect(&self, target: SocketAddr) {
        self.target.send_replace(target);
    }
}

async fn relay(
    listener: TcpListener,
    mut at: watch::Receiver<SocketAddr>,
    mut orders: mpsc::UnboundedReceiver<Order>,
) {
    let mut streams = JoinSet::new();
    let mut handles: Vec<AbortHandle> = Vec::new();
    let (mut stall, mut stalled) = watch::channel(());
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (mut near, _) = accepted.unwrap();
                let target = *at.borrow();
                let mut stalled = stalled.clone();
                handles.push(streams.spawn(async move {
                    let Ok(mut far) = TcpStream::connect(target).await else { return };
                    tokio::select! {
                        _ = copy_bidirectional(&mut near, &mut far) => {}
                        _ = stalled.changed() => std::future::pending().await,
                    }
                }));
            }
            Some(order) = orders.recv() => match order {
                Order::CutOne => {
                    handles.retain(|handle| !handle.is_finished());
                    if let Some(handle) = handles.pop() { handle.abort() }
                }
                Order::StallAll => {
                    stall.send_replace(());
                    (stall, stalled) = watch::channel(());
                }
            },
            changed = at.changed() => {
                if changed.is_err() { return; }
                streams.shutdown().await;
            }
        }
    }
}

pub(crate) fn udp() -> (Arc<dyn AsyncUdpSocket>, SocketAddr) {
    let socket = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    let address = socket.local_addr().unwrap();
    (TokioRuntime.wrap_udp_socket(socket).unwrap(), address)
}

/// Two sockets on neighbouring ports.
pub(crate) fn udp_pair() -> (Arc<dyn AsyncUdpSocket>, Arc<dyn AsyncUdpSocket>, SocketAddr) {
    loop {
        let (chat, address) = udp();
        let next = address.port().checked_add(1);
        let next = next.and_then(|port| UdpSocket::bind((Ipv6Addr::LOCALHOST, port)).ok());
        if let Some(bulk) = next {
            return (chat, TokioRuntime.wrap_udp_socket(bulk).unwrap(), address);
        }
    }
}

pub(crate) async fn next(port: &SessionPort) -> Body {
    let delivery = timeout(Duration::from_secs(10), port.deliver()).await;
    let delivery = delivery.unwrap_or_else(|_| panic!("nothing came: {port:?}"));
    let delivery = delivery.expect("the session lives");
    port.consumed(delivery.seq);
    delivery.body
}

pub(crate) fn request(target: &str) -> RequestHead {
    RequestHead { target: target.into(), ..RequestHead::default() }
}

pub(crate) fn chunk(payload: &[u8]) -> Body {
    Chunk { payload: Bytes::copy_from_slice(payload), ..Chunk::default() }.into()
}

pub(crate) fn end(cause: Cause) -> Body {
    End { cause: cause.into(), ..End::default() }.into()
}
