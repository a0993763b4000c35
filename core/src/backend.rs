//! The user's own servers: which of them are well, and which one takes a session.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use antipode_proto::trunk::v1::RequestHead;
use antipode_runtime::shutdown::Shutdown;
use http::HeaderValue;
use parking_lot::Mutex;
use tracing::{info, warn};

pub(crate) mod address;
pub(crate) mod choice;
pub(crate) mod connect;
pub(crate) mod health;
mod probe;
pub(crate) mod sources;
pub(crate) mod sticky;
pub(crate) mod stream;
mod tls;

pub use address::{Address, Security};
pub use tls::TlsError;

use crate::bridge::http::{HttpClient, http_client};
use crate::config::{Check, Config, StickyMode, StickyTable};
use crate::metrics::{BackendLabel, Metrics};
use choice::{Candidate, Choice, Reason, Tie};
use connect::{ConnectError, Connector, ConnectorSettings};
use health::{Changed, Health, State, Thresholds};
use sources::Sources;
use stream::BackendStream;

/// All backends of a core.
#[derive(Debug)]
pub(crate) struct Backends {
    all: Vec<Arc<Backend>>,
    sticky: StickyTable,
    turn: AtomicUsize,
    metrics: Metrics,
}

/// One backend.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) id: String,
    /// What it gets as `Host` in place of the client's.
    pub(crate) host: Option<HeaderValue>,
    pub(crate) client: HttpClient,
    connector: Connector,
    sessions: AtomicUsize,
    health: Mutex<Health>,
    metrics: Metrics,
}

/// A backend that a session was given; counts as one of its sessions while it lives.
#[derive(Debug)]
pub(crate) struct Assigned {
    pub(crate) backend: Arc<Backend>,
    pub(crate) index: usize,
    /// To be added to the answer, so that the client comes back to this backend.
    pub(crate) set_cookie: Option<HeaderValue>,
}

impl Backends {
    pub(crate) fn new(
        config: &Config,
        metrics: &Metrics,
        shutdown: &Shutdown,
    ) -> Result<Self, TlsError> {
        let sources = Arc::new(Sources::new(config.source_addresses.clone()));
        let thresholds = Thresholds { up: config.health.up, down: config.health.down };
        let health = match config.health.check {
            Check::None => Health::unchecked(thresholds),
            Check::Connect | Check::Http => Health::new(thresholds),
        };
        let mut all = Vec::new();
        for table in &config.backends {
            let tls = match &table.url {
                Address::Tcp { host, security: Security::Tls, .. } => {
                    let name = tls::server_name(table.server_name.as_ref().unwrap_or(host))?;
                    Some((tls::client_config(table.ca_file.as_deref())?, name))
                }
                Address::Tcp { .. } | Address::Unix(_) => None,
            };
            let connector = Connector::new(ConnectorSettings {
                id: table.id(),
                metrics: metrics.clone(),
                address: table.url.clone(),
                tls,
                sources: Arc::clone(&sources),
                connects_max: config.limits.connects_max.get(),
                connect_timeout: config.timeouts.connect,
            });
            let backend = Backend {
                id: table.id(),
                host: table.host.as_deref().and_then(|host| host.parse().ok()),
                client: http_client(&connector, config, shutdown),
                connector,
                sessions: AtomicUsize::new(0),
                health: Mutex::new(health),
                metrics: metrics.clone(),
            };
            info!(backend = backend.id, address = %table.url, "backend");
            backend.tell_state(health.state());
            all.push(Arc::new(backend));
        }
        warn_of_few_ports(config, &sources);
        Ok(Self {
            all,
            sticky: config.sticky.clone(),
            turn: AtomicUsize::new(0),
            metrics: metrics.clone(),
        })
    }

    /// Starts the health checks.
    pub(crate) fn start_checks(&self, config: &Config, shutdown: &Shutdown) {
        if config.health.check == Check::None {
            return;
        }
        for backend in &self.all {
            let task = probe::run(Arc::clone(backend), config.health.clone());
            shutdown.spawn_service(task);
        }
    }

    /// Chooses a backend for a request, leaving out those in `tried`; `None`: none is left.
    pub(crate) fn assign(&self, head: &RequestHead, tried: &[usize]) -> Option<Assigned> {
        let candidates: Vec<_> = self
            .all
            .iter()
            .enumerate()
            .map(|(index, backend)| Candidate {
                id: &backend.id,
                healthy: backend.health.lock().state() == State::Up,
                sessions: backend.sessions.load(Ordering::Relaxed),
                tried: tried.contains(&index),
            })
            .collect();
        let tie = sticky::tie_of(&self.sticky, head);
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let choice = choice::choose(&candidates, tie, turn)?;
        self.metrics.backend_chosen(choice);
        let mut assigned = Assigned::new(&self.all[choice.index], choice.index);
        assigned.set_cookie = self.cookie_for(choice, tie);
        Some(assigned)
    }

    /// The backend that a session was given in another process.
    pub(crate) fn assigned(&self, id: &str) -> Option<Assigned> {
        let index = self.all.iter().position(|backend| backend.id == id)?;
        Some(Assigned::new(&self.all[index], index))
    }

    /// Whether some backend is known to be well.
    pub(crate) fn any_healthy(&self) -> bool {
        self.all.iter().any(|backend| backend.health.lock().state() == State::Up)
    }

    fn cookie_for(&self, choice: Choice, tie: Tie<'_>) -> Option<HeaderValue> {
        let is_new = match tie {
            Tie::None => false,
            Tie::Named { .. } | Tie::Hashed { .. } => choice.reason != Reason::Cookie,
        };
        if self.sticky.mode != StickyMode::Cookie || !is_new {
            return None;
        }
        sticky::set_cookie(&self.sticky, &self.all[choice.index].id).parse().ok()
    }
}

impl Assigned {
    fn new(backend: &Arc<Backend>, index: usize) -> Self {
        backend.sessions.fetch_add(1, Ordering::Relaxed);
        backend.metrics.backend_sessions.get_or_create(&backend.label()).inc();
        Self { backend: Arc::clone(backend), index, set_cookie: None }
    }
}

impl Drop for Assigned {
    fn drop(&mut self) {
        self.backend.sessions.fetch_sub(1, Ordering::Relaxed);
        self.backend.metrics.backend_sessions.get_or_create(&self.backend.label()).dec();
    }
}

impl Backend {
    /// Opens a socket for a session.
    pub(crate) async fn connect(&self) -> Result<BackendStream, ConnectError> {
        let outcome = self.connector.connect().await;
        if let Err(error) = &outcome {
            self.saw_connect_error(error);
        }
        outcome
    }

    /// A session got no socket: that counts for the backend's health, unless it never had its turn.
    pub(crate) fn saw_connect_error(&self, error: &ConnectError) {
        match error {
            ConnectError::Busy => {}
            ConnectError::Resolve(_)
            | ConnectError::Socket(_)
            | ConnectError::Tls(_)
            | ConnectError::Timeout => self.handle_failure(error),
        }
    }

    fn handle_success(&self) {
        let changed = self.health.lock().handle_success();
        self.tell(changed, "answers");
    }

    fn handle_failure(&self, error: &(dyn std::error::Error + 'static)) {
        let changed = self.health.lock().handle_failure();
        self.tell(changed, &antipode_runtime::telemetry::chain(error));
    }

    fn tell(&self, changed: Option<Changed>, reason: &str) {
        let Some(Changed { from, to }) = changed else { return };
        self.tell_state(to);
        let (backend, from, to) = (&self.id, from.label(), to.label());
        match to {
            "up" => info!(backend, from, reason, "backend is up"),
            _ => warn!(backend, from, reason, "backend is {to}: see that it runs and listens"),
        }
    }

    fn tell_state(&self, state: State) {
        let up = i64::from(state == State::Up);
        self.metrics.backend_up.get_or_create(&self.label()).set(up);
    }

    fn label(&self) -> BackendLabel {
        BackendLabel { backend: self.id.clone() }
    }
}

/// Sessions beyond what the source addresses can open would fail one by one; say so before.
fn warn_of_few_ports(config: &Config, sources: &Sources) {
    let is_tcp = |table: &&crate::config::BackendTable| matches!(table.url, Address::Tcp { .. });
    let tcp = config.backends.iter().filter(is_tcp).count();
    if tcp < config.backends.len() {
        return;
    }
    let (capacity, sessions_max) = (tcp * sources.capacity(), config.limits.sessions_max.get());
    if sessions_max > capacity {
        warn!(
            sessions_max,
            capacity,
            "more sessions than sockets to the backends: add source_addresses, or a unix: backend"
        );
    }
}
