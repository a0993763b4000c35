//! Where clients come in: sockets, TLS, HTTP, and what each request is.
//!
//! | file | idea |
//! |---|---|
//! | `listen` | sockets accepted, within the limits |
//! | `client` | one client: handshake, HTTP, and the hand-over to a WebSocket's task |
//! | `route` | what a request asks for |
//! | `open` | a session for it, or the refusal |
//! | `resume` | what a client offers of antipode.resume.v1 |
//! | `pacing` | storms: who may come how fast, and who first |
//! | `elsewhere` | where else a client can go |
//! | `client_js` | the JavaScript client, for pages |
//! | `answer` | what the node answers by itself |
//! | `transport` | the socket, in clear text or TLS |

pub mod answer;
mod client;
pub mod client_js;
pub mod elsewhere;
pub mod listen;
mod open;
pub mod pacing;
mod resume;
mod route;
#[cfg(test)]
mod tests;
pub mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{OpenError, Trunks};
use tracing::{info, warn};

use crate::config::{Config, FrontLimits, SessionLimits, Upgrade};
use crate::drain::{Crowd, Drain, Leave, Pace};
use crate::headers::trusted::TrustedProxies;
use crate::metrics::{Direction, Flow, Kind, Metrics};
use crate::session::admission::Admission;
use answer::{Answer, CANDIDATES_HEADER, Refusal};
use elsewhere::Elsewhere;
use pacing::Pacing;

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
    pub(crate) pacing: Pacing,
    pub(crate) elsewhere: Elsewhere,
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
            drain: Drain::new(Pace {
                grace: config.drain_grace,
                per_second: config.drain_per_second,
            }),
            pacing: Pacing::new(&config.pacing),
            elsewhere: Elsewhere::default(),
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

    /// Where else clients can go; the gateway says.
    #[must_use]
    pub fn elsewhere(&self) -> &Elsewhere {
        &self.elsewhere
    }

    /// The part of one WebSocket in the drain that has begun.
    pub(crate) fn leave(&self, is_resumable: bool) -> Leave {
        let count = |sessions: i64| u32::try_from(sessions.max(0)).unwrap_or(u32::MAX);
        let resumable = count(self.metrics.sessions_resumable.get());
        let plain = count(self.metrics.sessions_now(Kind::WebSocket)).saturating_sub(resumable);
        let crowd = Crowd { resumable, plain };
        self.drain.leave(is_resumable, crowd, self.shutdown.ordered_grace(), clock::now())
    }

    /// A refusal as an answer; one that drains names others.
    pub(crate) fn refusal(&self, refusal: Refusal) -> Answer {
        let mut answer = Answer::from(refusal);
        if self.shutdown.is_draining()
            && let Some(hint) = self.elsewhere.hint()
        {
            answer.headers_mut().insert(CANDIDATES_HEADER, hint);
        }
        answer
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
