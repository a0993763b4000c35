//! `antipode.resume.v1`: sessions that outlive their client's sockets.
//!
//! A resumable client opens an ordinary WebSocket, and a node relays it as any other. What its
//! messages hold are the frames of a second session, between client and core, which lives on when
//! the socket is lost: the client opens another one, at any node, and both ends send again what the
//! other does not hold. The backend sees one socket all the time.
//!
//! | module | idea |
//! |---|---|
//! | [`token`] | what a client comes back with, signed |
//! | [`seat`] | who carries a session: the newest attachment |
//! | [`registry`] | the sessions, found by their tokens |
//! | [`message`] | from a trunk's chunks to whole messages |
//! | [`key`] | the signing key's file |
//! | `offer` | what a client offers, and what a backend gets to see of it |
//! | `held` | one session, as its attachments and its relay share it |
//! | `attachment` | carries frames between one WebSocket and its session |
//! | `handover` | a session, and its attachment, from one process to the next |
//! | `serve` | a session from its upgrade to its end; an upgrade that goes on with one |
//!
//! The first four decide and know neither a socket nor a clock; the others carry bytes and time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use antipode_proto::session::Ended;
use antipode_proto::trunk::v1::{Attach, Cause};
use antipode_trunk::Budget;
use parking_lot::Mutex;

mod attachment;
mod handover;
mod held;
pub mod key;
pub mod message;
pub(crate) mod offer;
pub mod registry;
pub mod seat;
mod serve;
#[cfg(test)]
mod tests;
pub mod token;

use crate::config::ResumeTable;
use crate::metrics::Metrics;
use held::Held;
use registry::{NotFound, Registry};
use seat::{AttachmentId, Stale};
use token::{SessionId, TokenKey};

pub(crate) use handover::{Attachment, inherit};
pub(crate) use held::machine_config;
pub(crate) use serve::{attach, begin};

/// What all resumable sessions of a core share.
#[derive(Debug)]
pub(crate) struct Resume {
    registry: Mutex<Registry<Arc<Held>>>,
    attachments: AtomicU64,
    /// This core's member id, which clients name to nodes when they come back.
    core: String,
    table: ResumeTable,
    /// What the sessions hold counts with that of the trunks.
    budget: Budget,
    metrics: Metrics,
}

/// Why a client can't go on with a session.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Its token leads nowhere.
    #[error(transparent)]
    Token(#[from] NotFound),
    /// It is the older attachment.
    #[error(transparent)]
    Stale(#[from] Stale),
    /// The session has ended, or did over the position that the client named.
    #[error("the session is over: {}", .0.detail)]
    Over(Ended),
    /// What it said was no attach.
    #[error("{0}")]
    Protocol(String),
    /// This core holds no sessions for clients.
    #[error("this core resumes no sessions")]
    Disabled,
}

impl Refusal {
    /// What the client is told.
    pub(crate) fn cause(&self) -> Cause {
        match self {
            Self::Token(NotFound::BadToken) => Cause::Policy,
            Self::Token(NotFound::Over) | Self::Disabled => Cause::SessionLost,
            Self::Stale(_) => Cause::Replaced,
            Self::Over(ended) => ended.cause,
            Self::Protocol(_) => Cause::ClientProtocol,
        }
    }

    /// `outcome` of `antipode_core_resumes_total`.
    pub(crate) const fn label(&self) -> &'static str {
        match self {
            Self::Token(NotFound::BadToken) => "bad_token",
            Self::Token(NotFound::Over) => "unknown",
            Self::Stale(_) => "stale",
            Self::Over(_) => "over",
            Self::Protocol(_) => "protocol",
            Self::Disabled => "disabled",
        }
    }
}

/// A place among the resumable sessions.
#[derive(Debug)]
pub(crate) struct Place {
    resume: Arc<Resume>,
    /// Once the session is there to be found.
    session: Option<SessionId>,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut registry = self.resume.registry.lock();
        let removed = self.session.and_then(|id| registry.remove(id));
        registry.give_back_place();
        self.resume.metrics.resume.sessions.set(count(registry.len()));
        drop(registry);
        drop(removed);
    }
}

impl Resume {
    pub(crate) fn new(
        table: ResumeTable,
        key: TokenKey,
        core: String,
        budget: Budget,
        metrics: Metrics,
    ) -> Arc<Self> {
        let registry = Mutex::new(Registry::new(key, table.sessions_max.get()));
        Arc::new(Self { registry, attachments: AtomicU64::new(1), core, table, budget, metrics })
    }

    /// A place for a client that wants a resumable session. `None`: it gets an ordinary WebSocket.
    pub(crate) fn take_place(self: &Arc<Self>) -> Option<Place> {
        if !self.table.enabled {
            self.metrics.resume.fell_back("disabled");
            return None;
        }
        if !self.registry.lock().take_place() {
            self.metrics.resume.fell_back("full");
            return None;
        }
        Some(Place { resume: Arc::clone(self), session: None })
    }

    /// The place of a session that had one in another process.
    fn keep_place(self: &Arc<Self>) -> Place {
        self.registry.lock().keep_place();
        Place { resume: Arc::clone(self), session: None }
    }

    /// Makes a session findable for as long as its place is taken.
    fn insert(&self, place: &mut Place, held: &Arc<Held>) {
        let mut registry = self.registry.lock();
        registry.insert(held.id(), Arc::clone(held));
        self.metrics.resume.sessions.set(count(registry.len()));
        place.session = Some(held.id());
    }

    /// Gives a session to a new attachment.
    fn attach(&self, attach: Attach, by: AttachmentId) -> Result<Arc<Held>, Refusal> {
        if !self.table.enabled {
            return Err(Refusal::Disabled);
        }
        let held = self.registry.lock().find(&attach.token).map(Arc::clone)?;
        held.attach(attach, by)?;
        Ok(held)
    }

    fn next_attachment(&self) -> AttachmentId {
        AttachmentId::new(self.attachments.fetch_add(1, Ordering::Relaxed))
    }
}

fn count(len: usize) -> i64 {
    i64::try_from(len).unwrap_or(i64::MAX)
}
