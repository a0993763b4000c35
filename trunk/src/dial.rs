//! The node's end: a trunk to each core, kept up for as long as the core is on the roster.

mod trunk;

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use antipode_proto::registry::v1::Carrier as CarrierKind;
use antipode_proto::session::Config as SessionConfig;
use antipode_proto::trunk::v1::{Cause, RequestHead};
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_tunnel::{TrunkTuning, transport_config};
use parking_lot::Mutex;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, TokioRuntime};
use tokio::sync::mpsc;
use tokio::time::interval;

pub use crate::carrier::StartError;
use crate::lane::SWEEP_INTERVAL;
use crate::metrics::Metrics;
use crate::peer::{Incoming, TrunkState};
use crate::port::SessionPort;
use crate::sessions::Sessions;
use trunk::Trunk;

/// Settings of a node's end.
#[derive(Clone, Debug)]
pub struct TrunksConfig {
    /// The node's certificate, and the authority that cores' certificates must come from.
    pub tls: Arc<rustls::ClientConfig>,
    /// QUIC's windows and timers.
    pub tuning: TrunkTuning,
    /// Limits of each session.
    pub session: SessionConfig,
    /// gRPC calls to each core. More lanes mean that one lost packet holds up fewer sessions.
    pub lanes: u32,
    /// 16 random bytes drawn when the process started.
    pub run: [u8; 16],
    /// Name and version, for the peer's log.
    pub software: String,
}

/// A core on the roster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoreTarget {
    /// The identity in its certificate.
    pub member_id: String,
    /// What the operator calls it.
    pub name: String,
    /// Its address inside the tunnel, which follows from its WireGuard key.
    pub address: Ipv6Addr,
    /// Where it accepts trunks.
    pub port: u16,
    /// What it accepts them on.
    pub carrier: CarrierKind,
}

/// Why a session can't be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The roster has no core.
    #[error("no core is registered")]
    NoCore,
    /// There are cores, and no lane to any of them.
    #[error("no trunk to a core is up")]
    TrunkDown,
}

/// The node's end of all trunks. Clones share it.
#[derive(Clone, Debug)]
pub struct Trunks {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    config: Option<TrunksConfig>,
    endpoint: Option<Endpoint>,
    shutdown: Shutdown,
    metrics: Metrics,
    trunks: Mutex<BTreeMap<String, Trunk>>,
}

impl Trunks {
    /// Gets ready to dial; [`Trunks::set_cores`] says whom. `socket` is the UDP socket inside the
    /// tunnel for QUIC; without one only cores with the TCP carrier can be reached.
    ///
    /// # Errors
    ///
    /// The TLS settings or the socket don't suit QUIC.
    pub fn start(
        config: TrunksConfig,
        socket: Option<Arc<dyn AsyncUdpSocket>>,
        shutdown: &Shutdown,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let endpoint = socket.map(|socket| endpoint(&config, socket)).transpose()?;
        let trunks = Self::with(Some(config), endpoint, shutdown.clone(), metrics);
        trunks.sweep();
        Ok(trunks)
    }

    /// Trunks without a network: what is opened comes out of the receiver, as at a core. For tests.
    #[must_use]
    pub fn in_memory() -> (Self, mpsc::Receiver<Incoming>) {
        let (sessions, accepted) = crate::testing::joined();
        let trunks = Self::with(None, None, Shutdown::default(), Metrics::default());
        let trunk = Trunk::in_memory(sessions);
        trunks.inner.trunks.lock().insert("in-memory".to_owned(), trunk);
        (trunks, accepted)
    }

    /// Names the cores to have a trunk with. The sessions of one that is missing end; one that
    /// moved is dialled at its new place and its sessions go on.
    pub fn set_cores(&self, cores: Vec<CoreTarget>) {
        let Some(config) = &self.inner.config else { return };
        let mut trunks = self.inner.trunks.lock();
        let mut older = std::mem::take(&mut *trunks);
        for target in cores {
            let kept = older.remove(&target.member_id);
            let trunk = match kept {
                Some(trunk) if trunk.target() == Some(&target) => trunk,
                Some(trunk) => {
                    trunk.moved(target.clone(), config, &self.inner.endpoint, &self.inner.shutdown)
                }
                None => {
                    let sessions = Sessions::new(
                        config.lanes,
                        config.session,
                        None,
                        self.inner.metrics.clone(),
                    );
                    Trunk::dial(
                        target.clone(),
                        sessions,
                        config,
                        &self.inner.endpoint,
                        &self.inner.shutdown,
                    )
                }
            };
            trunks.insert(target.member_id, trunk);
        }
        drop(trunks);
        older.into_values().for_each(|trunk| {
            trunk.end(Cause::SessionLost, "the core was taken off the roster");
        });
    }

    /// Opens a session at the core that has the fewest through this node.
    ///
    /// # Errors
    ///
    /// There is no core, or no trunk to one is up right now.
    pub fn open(&self, head: RequestHead) -> Result<SessionPort, OpenError> {
        let sessions = {
            let trunks = self.inner.trunks.lock();
            if trunks.is_empty() {
                return Err(OpenError::NoCore);
            }
            let up = trunks.values().filter(|trunk| trunk.sessions.lanes_up() > 0);
            up.min_by_key(|trunk| trunk.sessions.len()).map(|trunk| Arc::clone(&trunk.sessions))
        };
        sessions.and_then(|sessions| sessions.open(head)).ok_or(OpenError::TrunkDown)
    }

    /// Whether a session could be opened now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.trunks.lock().values().any(|trunk| trunk.sessions.lanes_up() > 0)
    }

    /// Every trunk, by core.
    #[must_use]
    pub fn states(&self) -> Vec<TrunkState> {
        let trunks = self.inner.trunks.lock();
        trunks.iter().map(|(member_id, trunk)| trunk.state(member_id)).collect()
    }

    fn with(
        config: Option<TrunksConfig>,
        endpoint: Option<Endpoint>,
        shutdown: Shutdown,
        metrics: Metrics,
    ) -> Self {
        let trunks = Mutex::default();
        Self { inner: Arc::new(Inner { config, endpoint, shutdown, metrics, trunks }) }
    }

    fn sweep(&self) {
        let inner = Arc::downgrade(&self.inner);
        self.inner.shutdown.spawn_service(async move {
            let mut tick = interval(SWEEP_INTERVAL);
            loop {
                tick.tick().await;
                let Some(inner) = inner.upgrade() else { return };
                let sessions: Vec<_> =
                    inner.trunks.lock().values().map(|trunk| Arc::clone(&trunk.sessions)).collect();
                let now = clock::now();
                sessions.iter().for_each(|sessions| sessions.handle_timeout(now));
            }
        });
    }
}

fn endpoint(
    config: &TrunksConfig,
    socket: Arc<dyn AsyncUdpSocket>,
) -> Result<Endpoint, StartError> {
    let tls = QuicClientConfig::try_from(Arc::clone(&config.tls)).map_err(StartError::Tls)?;
    let mut client = quinn::ClientConfig::new(Arc::new(tls));
    client.transport_config(Arc::new(transport_config(config.tuning)));
    let runtime = Arc::new(TokioRuntime);
    let mut endpoint =
        Endpoint::new_with_abstract_socket(EndpointConfig::default(), None, socket, runtime)
            .map_err(StartError::Socket)?;
    endpoint.set_default_client_config(client);
    Ok(endpoint)
}
