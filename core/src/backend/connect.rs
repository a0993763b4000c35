//! Opens sockets to one backend: resolves, takes a source address, speaks TLS, all within a time.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use antipode_runtime::clock;
use http::Uri;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use tokio::net::{UnixStream, lookup_host};
use tokio::sync::Semaphore;
use tokio_rustls::TlsConnector;

use crate::backend::address::Address;
use crate::backend::sources::Sources;
use crate::backend::stream::BackendStream;
use crate::metrics::Metrics;

/// How long a resolved name is used before it is asked for again.
const RESOLVED_TTL: Duration = Duration::from_secs(5);

/// Opens sockets to one backend.
#[derive(Clone)]
pub(crate) struct Connector {
    inner: Arc<Inner>,
}

struct Inner {
    id: String,
    metrics: Metrics,
    address: Address,
    tls: Option<(TlsConnector, ServerName<'static>)>,
    sources: Arc<Sources>,
    /// Connects under way; the rest wait their turn.
    in_flight: Semaphore,
    patience: Duration,
    resolved: Mutex<Option<(Instant, Vec<SocketAddr>)>>,
}

/// How a [`Connector`] connects.
pub(crate) struct ConnectorSettings {
    /// The backend's, for its counters.
    pub(crate) id: String,
    pub(crate) metrics: Metrics,
    pub(crate) address: Address,
    /// With the name that the certificate must bear.
    pub(crate) tls: Option<(Arc<rustls::ClientConfig>, ServerName<'static>)>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) connects_max: usize,
    /// For everything together, the wait for a turn included.
    pub(crate) connect_timeout: Duration,
}

/// The backend could not be reached; nothing was sent to it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("no address for the backend's name")]
    Resolve(#[source] io::Error),
    #[error("no socket to the backend")]
    Socket(#[source] io::Error),
    #[error("no TLS with the backend")]
    Tls(#[source] io::Error),
    #[error("no turn to connect: too many connects to this backend are under way")]
    Busy,
    #[error("the backend did not answer in time")]
    Timeout,
}

impl ConnectError {
    /// `outcome` of `antipode_core_backend_connects_total`.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Resolve(_) => "resolve",
            Self::Socket(_) => "socket",
            Self::Tls(_) => "tls",
            Self::Busy => "busy",
            Self::Timeout => "timeout",
        }
    }
}

impl Connector {
    pub(crate) fn new(settings: ConnectorSettings) -> Self {
        let tls = settings.tls.map(|(config, name)| (TlsConnector::from(config), name));
        let inner = Inner {
            id: settings.id,
            metrics: settings.metrics,
            address: settings.address,
            tls,
            sources: settings.sources,
            in_flight: Semaphore::new(settings.connects_max),
            patience: settings.connect_timeout,
            resolved: Mutex::new(None),
        };
        Self { inner: Arc::new(inner) }
    }

    pub(crate) fn address(&self) -> &Address {
        &self.inner.address
    }

    /// Opens one socket, ready for HTTP.
    pub(crate) async fn connect(&self) -> Result<BackendStream, ConnectError> {
        let outcome = self.open_in_turn().await;
        let label = outcome.as_ref().map_or_else(ConnectError::label, |_| "ok");
        self.inner.metrics.backend_connected(&self.inner.id, label);
        outcome
    }

    async fn open_in_turn(&self) -> Result<BackendStream, ConnectError> {
        let deadline = tokio::time::Instant::now() + self.inner.patience;
        let turn = tokio::time::timeout_at(deadline, self.inner.in_flight.acquire()).await;
        let Ok(turn) = turn else { return Err(ConnectError::Busy) };
        let _turn = turn.expect("the semaphore is never closed");
        let opened = tokio::time::timeout_at(deadline, self.open()).await;
        opened.unwrap_or(Err(ConnectError::Timeout))
    }

    async fn open(&self) -> Result<BackendStream, ConnectError> {
        let (host, port) = match &self.inner.address {
            Address::Unix(path) => {
                let stream = UnixStream::connect(path).await.map_err(ConnectError::Socket)?;
                return Ok(BackendStream::Unix(stream));
            }
            Address::Tcp { host, port, .. } => (host, *port),
        };
        let mut last_error = io::Error::from(io::ErrorKind::NotFound);
        for target in self.resolve(host, port).await? {
            match self.inner.sources.connect(target).await {
                Ok(stream) => {
                    let Some((tls, name)) = &self.inner.tls else {
                        return Ok(BackendStream::Tcp(stream));
                    };
                    let stream =
                        tls.connect(name.clone(), stream).await.map_err(ConnectError::Tls)?;
                    return Ok(BackendStream::Tls(Box::new(stream)));
                }
                Err(error) => last_error = error,
            }
        }
        Err(ConnectError::Socket(last_error))
    }

    /// The name's addresses; what was known before, where the resolver fails.
    async fn resolve(&self, host: &str, port: u16) -> Result<Vec<SocketAddr>, ConnectError> {
        if let Ok(ip) = host.parse() {
            return Ok(vec![SocketAddr::new(ip, port)]);
        }
        let now = clock::now();
        let known = self.inner.resolved.lock().clone();
        if let Some((at, addresses)) = &known
            && now.duration_since(*at) < RESOLVED_TTL
        {
            return Ok(addresses.clone());
        }
        match lookup_host((host, port)).await {
            Ok(found) => {
                let addresses: Vec<_> = found.collect();
                *self.inner.resolved.lock() = Some((now, addresses.clone()));
                Ok(addresses)
            }
            Err(error) => known.map(|(_, addresses)| addresses).ok_or(ConnectError::Resolve(error)),
        }
    }
}

/// hyper's pool asks for sockets this way; the address in the request says nothing new.
impl tower_service::Service<Uri> for Connector {
    type Response = TokioIo<BackendStream>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move { connector.connect().await.map(TokioIo::new) })
    }
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connector").field("address", &self.inner.address).finish_non_exhaustive()
    }
}
