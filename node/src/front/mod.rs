//! Where clients come in: sockets, TLS, HTTP, and what each request is.
//!
//! | file | idea |
//! |---|---|
//! | `listen` | sockets accepted, within the limits |
//! | `client` | one client: handshake, HTTP, and the hand-over to a WebSocket's task |
//! | `route` | what a request asks for |
//! | `open` | a session for it, or the refusal |
//! | `answer` | what the node answers by itself |
//! | `transport` | the socket, in clear text or TLS |

pub mod answer;
mod client;
pub mod listen;
mod open;
mod route;
#[cfg(test)]
mod tests;
pub mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{OpenError, Trunks};
use tracing::{info, warn};

use crate::config::{Config, FrontLimits, SessionLimits, Upgrade};
use crate::drain::Drain;
use crate::headers::trusted::TrustedProxies;
use crate::metrics::{Direction, Flow, Metrics};
use crate::session::admission::Admission;

/// The node answers here for itself: 200 while it takes sessions, 503 while it does not.
pub const HEALTH_PATH: &str = "/.well-known/antipode/health";

/// What all clients of a node share.
#[derive(Debug)]
pub struct Front {
    pub(crate) trunks: Trunks,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
    pub(crate) admission: Arc<Admission>,
    pub(crate) drain: Drain,
    pub(crate) limits: FrontLimits,
    pub(crate) session: Arc<SessionLimits>,
    pub(crate) upgrade: Upgrade,
    pub(crate) trusted: TrustedProxies,
    pub(crate) up: Flow,
    pub(crate) down: Flow,
    /// Whether the last session that was asked for found no core: told once, not per client.
    is_cut_off: AtomicBool,
}

impl Front {
    /// A front that hands its sessions to `trunks`.
    #[must_use]
    pub fn new(config: &Config, trunks: Trunks, metrics: Metrics, shutdown: &Shutdown) -> Self {
        let session = &config.session;
        Self {
            trunks,
            up: metrics.flow(Direction::Up),
            down: metrics.flow(Direction::Down),
            metrics,
            shutdown: shutdown.clone(),
            admission: Arc::new(Admission::new(session.sessions_max, session.sessions_per_ip_max)),
            drain: Drain::new(config.drain_grace),
            limits: config.front,
            session: Arc::new(*session),
            upgrade: config.upgrade.clone(),
            trusted: config.trusted_proxies.clone(),
            is_cut_off: AtomicBool::new(false),
        }
    }

    /// Who may have a session; the gateway can tighten it.
    #[must_use]
    pub fn admission(&self) -> &Arc<Admission> {
        &self.admission
    }

    /// Notes whether the core can be reached, and logs it when that changes.
    pub(crate) fn note_core(&self, opened: Result<(), OpenError>) {
        let is_cut_off = opened.is_err();
        if self.is_cut_off.swap(is_cut_off, Ordering::Relaxed) == is_cut_off {
            return;
        }
        match opened {
            Ok(()) => info!("sessions reach a core again"),
            Err(error) => warn!(%error, "clients are answered with 503: no session reaches a core"),
        }
    }
}
