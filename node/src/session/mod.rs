//! One client's conversation with the backend, as the node sees it.
//!
//! | file | idea |
//! |---|---|
//! | `relay` | a WebSocket's policy, as a pure machine |
//! | `websocket` | the one task of a WebSocket, which carries bytes and time to that machine |
//! | `http` | an HTTP exchange: bodies both ways |
//! | `cause` | what the client is told when it ends |
//! | `admission` | who may have one more |

pub mod admission;
pub mod cause;
pub mod http;
pub mod relay;
pub(crate) mod websocket;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

use antipode_proto::trunk::v1::{Cause, GoAway};
use antipode_trunk::{Body, Delivery, Ended, Seq, SessionPort};
use tracing::debug;

use crate::front::Front;
use crate::metrics::Kind;
use admission::Admitted;
use cause::telling;

/// A session that the trunk took, and its place within the node's limits.
///
/// Dropped before both directions have ended, it tells the far end that the client is lost.
#[derive(Debug)]
pub(crate) struct Session {
    front: Arc<Front>,
    port: SessionPort,
    kind: Kind,
    _admitted: Admitted,
    /// Why it ended, as a [`Cause`]; 0: nobody has said.
    cause: AtomicI32,
    /// The segment that ends the way down, once it is delivered.
    end_seq: AtomicU64,
    is_up_ended: AtomicBool,
    is_down_ended: AtomicBool,
    is_body_too_large: AtomicBool,
}

impl Session {
    pub(crate) fn new(
        front: Arc<Front>,
        port: SessionPort,
        admitted: Admitted,
        kind: Kind,
    ) -> Self {
        front.metrics.session_opened(kind);
        Self {
            front,
            port,
            kind,
            _admitted: admitted,
            cause: AtomicI32::new(0),
            end_seq: AtomicU64::new(u64::MAX),
            is_up_ended: AtomicBool::new(false),
            is_down_ended: AtomicBool::new(false),
            is_body_too_large: AtomicBool::new(false),
        }
    }

    pub(crate) fn front(&self) -> &Arc<Front> {
        &self.front
    }

    pub(crate) fn id(&self) -> u64 {
        self.port.id()
    }

    /// Notes why the session ends; the first word counts.
    pub(crate) fn note(&self, cause: Cause) {
        let cause = i32::from(cause);
        self.cause.compare_exchange(0, cause, Ordering::Relaxed, Ordering::Relaxed).ok();
    }

    /// Waits until another chunk may be sent. Cancel-safe.
    pub(crate) async fn ready(&self) -> Result<(), Ended> {
        self.port.ready().await
    }

    pub(crate) fn send(&self, body: Body) -> Result<(), Ended> {
        if let Body::End(_) = &body {
            self.is_up_ended.store(true, Ordering::Relaxed);
        }
        self.port.send(body)
    }

    /// Waits for the next segment. Cancel-safe.
    pub(crate) async fn deliver(&self) -> Result<Delivery, Ended> {
        let delivery = self.port.deliver().await?;
        if let Body::End(_) = &delivery.body {
            self.end_seq.store(delivery.seq.get(), Ordering::Relaxed);
        }
        Ok(delivery)
    }

    /// Has the core tell the client where it can go on.
    pub(crate) fn invite(&self, go_away: GoAway) {
        self.port.invite(go_away);
    }

    /// Everything up to `seq` is on the client's socket, or thrown away.
    pub(crate) fn consumed(&self, seq: Seq) {
        if seq.get() >= self.end_seq.load(Ordering::Relaxed) {
            self.is_down_ended.store(true, Ordering::Relaxed);
        }
        self.port.consumed(seq);
    }

    /// Whether nothing more comes down.
    pub(crate) fn is_down_ended(&self) -> bool {
        self.is_down_ended.load(Ordering::Relaxed)
    }

    /// Ends the session at both ends, at once.
    pub(crate) fn reset(&self, cause: Cause, detail: &str) {
        self.note(cause);
        self.port.reset(cause, detail);
    }

    /// Throws away what still comes down, until its end.
    pub(crate) async fn discard(&self) {
        while !self.is_down_ended() {
            let Ok(delivery) = self.deliver().await else { return };
            self.consumed(delivery.seq);
        }
    }

    /// The client sent more than `http_body_bytes_max`.
    pub(crate) fn refuse_body(&self) {
        self.is_body_too_large.store(true, Ordering::Relaxed);
        self.reset(Cause::Policy, "the request's body is too large");
    }

    pub(crate) fn is_body_too_large(&self) -> bool {
        self.is_body_too_large.load(Ordering::Relaxed)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let is_up_ended = self.is_up_ended.load(Ordering::Relaxed);
        if !(is_up_ended && self.is_down_ended()) {
            self.note(Cause::ClientLost);
            self.port.reset(Cause::ClientLost, "the client has gone");
        }
        let cause = Cause::try_from(self.cause.load(Ordering::Relaxed));
        let reason = telling(cause.unwrap_or(Cause::Unspecified)).label;
        self.front.metrics.session_closed(self.kind, reason);
        debug!(session.id = self.id(), reason, "session ended");
    }
}
