//! Where lanes come in: QUIC on the tunnel's socket, or TCP on the interface's address. Either way
//! the address inside the tunnel, which WireGuard vouches for, says which node it is.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::clock;
use antipode_runtime::member::tls::member_id_of;
use antipode_runtime::shutdown::Shutdown;
use antipode_tunnel::{Class, TrunkTuning};
use quinn::crypto::rustls::QuicServerConfig;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime};
use rustls::pki_types::CertificateDer;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::interval;
use tracing::{debug, info, warn};

use super::{AcceptConfig, Register};
pub use crate::carrier::StartError;
use crate::carrier::{AcceptedLane, LanePeer, fit_send_window};
use crate::heard::Heard;
use crate::lane::KEEP_ALIVE;
use crate::peer::NodeIdentity;
use crate::quic_counts::Counted;

type Roster = watch::Receiver<BTreeMap<Ipv6Addr, NodeIdentity>>;

/// QUIC's application error for a peer that has no business here.
const NOT_ON_ROSTER: u32 = 1;
/// QUIC's application error for a core that has drained and stops.
const STOPS: u32 = 2;

/// How often a QUIC connection is asked whether something came: what keeps it alive shows nowhere
/// else.
const HEARING_INTERVAL: Duration = Duration::from_millis(250);

/// A place where lanes are accepted.
#[derive(Debug)]
pub enum Listen {
    /// QUIC on a UDP socket with an address inside the tunnel. Lanes for bulk come in on the port
    /// after that of the lanes for chat.
    Quic(Arc<dyn AsyncUdpSocket>, Class),
    /// Plain HTTP/2 on a TCP listener with an address inside the tunnel.
    Tcp(TcpListener),
}

impl Listen {
    /// How long a lane may be silent before the core asks for it. QUIC asks for all of its lanes
    /// twice a second.
    pub(super) const fn keep_alive(&self) -> Option<Duration> {
        match self {
            Self::Quic(..) => None,
            Self::Tcp(_) => Some(KEEP_ALIVE),
        }
    }
}

pub(super) fn start(
    listen: Listen,
    config: &AcceptConfig,
    roster: &Roster,
    lanes: &mpsc::Sender<AcceptedLane>,
    register: &Arc<Register>,
    shutdown: &Shutdown,
) -> Result<(), StartError> {
    let (roster, lanes) = (roster.clone(), lanes.clone());
    match listen {
        Listen::Quic(socket, class) => {
            let gate = Gate::new(config, class, Arc::clone(register))?;
            let endpoint = endpoint(socket, &gate)?;
            register.lets_in(class);
            let (each, stopping) = (shutdown.clone(), endpoint.clone());
            // Else nodes would wait for the idle timeout before they dial whoever comes next.
            let register = Arc::clone(register);
            register.endpoints.lock().push(endpoint.clone());
            shutdown.spawn_last(async move {
                register.spoken_out().await;
                stopping.close(STOPS.into(), b"the core stops");
                stopping.wait_idle().await;
            });
            shutdown.spawn_service(async move {
                while let Some(incoming) = endpoint.accept().await {
                    let (roster, lanes) = (roster.clone(), lanes.clone());
                    let gate = Arc::clone(&gate);
                    each.spawn_service(serve_quic(incoming, gate, roster, lanes));
                }
            });
        }
        Listen::Tcp(listener) => {
            shutdown.spawn_service(serve_tcp(listener, roster, lanes));
        }
    }
    Ok(())
}

/// How connections for lanes of one class are taken.
struct Gate {
    server: quinn::ServerConfig,
    tuning: TrunkTuning,
    class: Class,
    register: Arc<Register>,
}

impl Gate {
    fn new(
        config: &AcceptConfig,
        class: Class,
        register: Arc<Register>,
    ) -> Result<Arc<Self>, StartError> {
        let tls = QuicServerConfig::try_from(Arc::clone(&config.tls)).map_err(StartError::Tls)?;
        let server = quinn::ServerConfig::with_crypto(Arc::new(tls));
        Ok(Arc::new(Self { server, tuning: config.tuning, class, register }))
    }

    /// With what a trunk to this node would be served.
    fn server(&self, node: &NodeIdentity) -> Arc<quinn::ServerConfig> {
        let mut server = self.server.clone();
        let demand = self.register.demand(&node.member_id);
        demand.handle_way(self.register.way_to.ask(node.address));
        server.transport_config(demand.transport(self.tuning, self.class));
        Arc::new(server)
    }
}

fn endpoint(socket: Arc<dyn AsyncUdpSocket>, gate: &Gate) -> Result<Endpoint, StartError> {
    let (runtime, server) = (Arc::new(TokioRuntime), gate.server.clone());
    Endpoint::new_with_abstract_socket(EndpointConfig::default(), Some(server), socket, runtime)
        .map_err(StartError::Socket)
}

async fn serve_quic(
    incoming: quinn::Incoming,
    gate: Arc<Gate>,
    mut roster: Roster,
    lanes: mpsc::Sender<AcceptedLane>,
) {
    let address = incoming.remote_address();
    let expected = on_roster(&roster, address);
    // A stranger's handshake is finished too: it hears why it is refused.
    let accepted = match &expected {
        Some(node) => incoming.accept_with(gate.server(node)),
        None => incoming.accept(),
    };
    let connected = match accepted {
        Ok(connecting) => connecting.await,
        Err(error) => Err(error),
    };
    let connection = match connected {
        Ok(connection) => connection,
        Err(error) => return debug!(peer = %address, %error, "trunk handshake ended"),
    };
    let certified = certified_member(&connection);
    let Some(node) =
        on_roster(&roster, address).filter(|node| certified.as_ref() == Some(&node.member_id))
    else {
        warn!(peer = %address, member = ?certified, "trunk refused: not on the roster");
        return connection.close(NOT_ON_ROSTER.into(), b"not on the roster");
    };
    info!(node = %node.name, peer = %address, class = ?gate.class, "node connected");
    let heard = Arc::new(Heard::new(clock::now()));
    let mut look = interval(HEARING_INTERVAL);
    let (mut received, mut counted) = (0, Counted::default());
    loop {
        let stream = tokio::select! {
            stream = connection.accept_bi() => stream,
            _ = look.tick() => {
                fit_send_window(&connection, gate.tuning.send_window_bytes);
                let now_received = connection.stats().udp_rx.datagrams;
                if std::mem::replace(&mut received, now_received) != now_received {
                    heard.note(clock::now());
                }
                // Bulk is never sent again: how it fares says nothing of chat.
                if let (Class::Chat, Some(on_quic)) = (gate.class, gate.register.on_quic.get()) {
                    on_quic(node.address, counted.since(&connection));
                }
                continue;
            }
            changed = roster.changed() => {
                if changed.is_err() || on_roster(&roster, address).as_ref() != Some(&node) {
                    connection.close(NOT_ON_ROSTER.into(), b"taken off the roster");
                    return;
                }
                continue;
            }
        };
        let Ok(stream) = stream else {
            let reason = connection.close_reason().map(|reason| reason.to_string());
            return info!(node = %node.name, reason, "node disconnected");
        };
        let peer = LanePeer { node: node.clone(), heard: Arc::clone(&heard) };
        if lanes.send(AcceptedLane::quic(stream, peer)).await.is_err() {
            return;
        }
    }
}

async fn serve_tcp(listener: TcpListener, roster: Roster, lanes: mpsc::Sender<AcceptedLane>) {
    loop {
        let (stream, address) = match listener.accept().await {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of descriptors, mostly: trying again at once would only spin.
                warn!(%error, "cannot accept a lane");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let Some(node) = on_roster(&roster, address) else {
            warn!(peer = %address, "lane refused: not on the roster");
            continue;
        };
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "lane left before it began");
            continue;
        }
        if lanes.send(AcceptedLane::tcp(stream, node, clock::now())).await.is_err() {
            return;
        }
    }
}

fn on_roster(roster: &Roster, address: SocketAddr) -> Option<NodeIdentity> {
    match address.ip() {
        IpAddr::V6(address) => roster.borrow().get(&address).cloned(),
        IpAddr::V4(_) => None,
    }
}

fn certified_member(connection: &quinn::Connection) -> Option<String> {
    let identity = connection.peer_identity()?;
    let chain = identity.downcast::<Vec<CertificateDer<'static>>>().ok()?;
    member_id_of(chain.first()?)
}
