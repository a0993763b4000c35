//! Sockets of clients: accepted, counted, and handed to a task each.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::listen::{ListenError, bind_tcp};
use antipode_runtime::shutdown::Failure;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tracing::{debug, info, warn};

use super::Front;
use super::client::{self, Arrived};
use super::pacing::Turn;
use super::transport::Transport;
use crate::config::Listen;
use crate::headers::forwarded::Scheme;
use crate::metrics::{HandshakeOutcome, Metrics};

/// The key that a busy port is reported with.
const KEY: &str = "listen.address";
/// How long nothing is accepted after the system had no file left for it.
const BREATH: Duration = Duration::from_millis(100);

/// A listener that is bound and not yet served.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    tls: Option<Arc<rustls::ServerConfig>>,
}

impl Listener {
    /// Binds one `[[listen]]`; `tls` serves those that ask for it.
    ///
    /// # Errors
    ///
    /// When the port is taken, not permitted, or not this machine's.
    pub async fn bind(
        listen: Listen,
        tls: &Arc<rustls::ServerConfig>,
    ) -> Result<Self, ListenError> {
        let socket = bind_tcp(KEY, listen.address).await?;
        let address =
            socket.local_addr().map_err(|source| ListenError::new(KEY, listen.address, source))?;
        let tls = listen.tls.then(|| Arc::clone(tls));
        Ok(Self { socket, address, tls })
    }

    /// Where clients can come in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Accepts clients until the node stops: while it drains, they are told where else to go.
    pub fn serve(self, front: &Arc<Front>, gates: &Arc<Gates>) {
        let (front, gates) = (Arc::clone(front), Arc::clone(gates));
        let scheme = if self.tls.is_some() { Scheme::Https } else { Scheme::Http };
        info!(address = %self.address, scheme = scheme.as_str(), "clients can come in");
        front.shutdown.clone().spawn_service(async move {
            let failure = self.accept_for_ever(&front, &gates).await;
            front.shutdown.fail(failure);
        });
    }

    async fn accept_for_ever(&self, front: &Arc<Front>, gates: &Arc<Gates>) -> Failure {
        let mut was_short = false;
        loop {
            let (tcp, peer) = match self.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) if is_of_one_client(&error) => continue,
                Err(error) if is_shortage(&error) => {
                    if !std::mem::replace(&mut was_short, true) {
                        warn!(%error, "no client can be accepted: allow more files (LimitNOFILE=)");
                    }
                    front.metrics.client_refused("files");
                    tokio::time::sleep(BREATH).await;
                    continue;
                }
                Err(error) => {
                    return Failure::Task { task: "a listener for clients", source: error.into() };
                }
            };
            was_short = false;
            let Some(place) = gates.admit(&front.metrics) else { continue };
            self.greet(front, gates, tcp, Arrived { peer, scheme: Scheme::Http, place });
        }
    }

    /// Gives the client its task: in clear text at once, in TLS after the handshake's own task, so
    /// that the handshake's large future is freed.
    fn greet(&self, front: &Arc<Front>, gates: &Arc<Gates>, tcp: TcpStream, arrived: Arrived) {
        // A message is one write: it must not wait for the acknowledgement of the one before.
        tcp.set_nodelay(true).ok();
        let stall_timeout = front.session.client_stall_timeout;
        let Some(tls) = self.tls.clone().map(TlsAcceptor::from) else {
            let transport = Transport::plain(tcp, stall_timeout);
            begin(front, client::serve(Arc::clone(front), transport, arrived));
            return;
        };
        let (front, handshakes) = (Arc::clone(front), Arc::clone(&gates.handshakes));
        begin(&front.clone(), async move {
            if front.pacing.turn(Turn::Handshake, &front.metrics).await.is_err() {
                return front.metrics.client_refused(Turn::Handshake.limit());
            }
            let Ok(handshake) = handshakes.try_acquire_owned() else {
                return front.metrics.client_refused("handshakes_max");
            };
            let accepted =
                tokio::time::timeout(front.limits.handshake_timeout, tls.accept(tcp)).await;
            drop(handshake);
            let outcome = match accepted {
                Ok(Ok(stream)) => {
                    let transport = Transport::tls(stream, stall_timeout);
                    let arrived = Arrived { scheme: Scheme::Https, ..arrived };
                    begin(&front, client::serve(Arc::clone(&front), transport, arrived));
                    HandshakeOutcome::Completed
                }
                Ok(Err(error)) => {
                    debug!(%error, net.peer = %arrived.peer, "no TLS with a client");
                    HandshakeOutcome::Failed
                }
                Err(_) => HandshakeOutcome::TimedOut,
            };
            front.metrics.handshake(outcome);
        });
    }
}

/// Starts a client's task. The drain waits for those who were here before it.
fn begin(front: &Front, task: impl Future<Output = ()> + Send + 'static) {
    if front.shutdown.is_draining() {
        front.shutdown.spawn_service(task);
    } else {
        front.shutdown.spawn(task);
    }
}

/// What limits sockets, over all listeners.
#[derive(Debug)]
pub struct Gates {
    clients: Arc<Semaphore>,
    handshakes: Arc<Semaphore>,
}

impl Gates {
    /// As the front's limits say.
    #[must_use]
    pub fn new(front: &Front) -> Self {
        let permits = |max: u32| {
            let max = usize::try_from(max).unwrap_or(Semaphore::MAX_PERMITS);
            Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)))
        };
        let limits = &front.limits;
        Self { clients: permits(limits.clients_max), handshakes: permits(limits.handshakes_max) }
    }

    fn admit(&self, metrics: &Metrics) -> Option<Place> {
        let Ok(permit) = Arc::clone(&self.clients).try_acquire_owned() else {
            metrics.client_refused("clients_max");
            return None;
        };
        metrics.clients.inc();
        Some(Place { _permit: permit, metrics: metrics.clone() })
    }
}

/// A client's place among `clients_max`, for as long as its socket is open.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: tokio::sync::OwnedSemaphorePermit,
    metrics: Metrics,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.metrics.clients.dec();
    }
}

/// The client was gone before it was accepted (accept(2)).
fn is_of_one_client(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted, TimedOut};
    matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted | TimedOut)
}

/// `EMFILE`, `ENFILE`, `ENOBUFS` and `ENOMEM` pass when clients leave.
fn is_shortage(error: &std::io::Error) -> bool {
    matches!(error.raw_os_error(), Some(24 | 23 | 105 | 12))
}
