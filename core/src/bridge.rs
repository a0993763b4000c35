//! One session: from the far end of the trunk to a backend and back.
//!
//! - [`websocket`]: the upgrade, then frames both ways
//! - [`http`]: an exchange with streaming bodies
//! - `answer`: what the core answers itself where there is no backend's answer
//! - `headers`: which headers cross, and which belong to one hop

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use antipode_proto::body::Body;
use antipode_proto::trunk::v1::{Cause, End, RequestHead, SessionKind};
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{Ended, Incoming, SessionPort};
use tokio::time::sleep;
use tracing::{Instrument, debug, info_span};

mod answer;
mod buffers;
mod handover;
mod headers;
pub(crate) mod http;
#[cfg(test)]
pub(crate) mod tests;
pub(crate) mod websocket;

use crate::backend::Backends;
use crate::config::Config;
use crate::handover::Summons;
use crate::metrics::{Metrics, cause_label};
use crate::resume::{self, Resume, offer::Offer};
pub(crate) use answer::Answer;
use buffers::Buffers;

/// What every session's task shares.
#[derive(Debug)]
pub(crate) struct Bridge {
    config: Config,
    backends: Backends,
    buffers: Buffers,
    pub(crate) metrics: Metrics,
    pub(crate) room: Room,
    pub(crate) resume: Arc<Resume>,
    pub(crate) summons: Summons,
    pub(crate) shutdown: Shutdown,
}

impl Bridge {
    pub(crate) fn new(
        config: Config,
        backends: Backends,
        resume: Arc<Resume>,
        metrics: Metrics,
        shutdown: &Shutdown,
    ) -> Arc<Self> {
        let room = Room::new(config.limits.sessions_max.get());
        let (buffers, shutdown) = (Buffers::default(), shutdown.clone());
        let summons = Summons::default();
        Arc::new(Self { config, backends, buffers, metrics, room, resume, summons, shutdown })
    }

    pub(crate) fn backends(&self) -> &Backends {
        &self.backends
    }

    /// Sessions at hand.
    pub(crate) fn sessions_len(&self) -> usize {
        self.room.taken.load(Ordering::Relaxed)
    }

    /// The gateway's limit, which can only lower the operator's; 0: none.
    pub(crate) fn set_sessions_max(&self, max: u32) {
        let own = self.config.limits.sessions_max.get();
        let max = usize::try_from(max).ok().filter(|max| *max > 0).unwrap_or(own);
        self.room.max.store(max.min(own), Ordering::Relaxed);
    }

    /// Serves one session to its end, as a task of its own.
    pub(crate) fn spawn(self: &Arc<Self>, incoming: Incoming) {
        let Incoming { mut head, port, node } = incoming;
        let span = info_span!("session", session.id = port.id(), node = node.name);
        let bridge = Arc::clone(self);
        let place = match resume::offer::take(&mut head) {
            Offer::Attach => {
                self.shutdown.spawn(resume::attach(bridge, port).instrument(span));
                return;
            }
            Offer::Begin => self.resume.take_place(),
            Offer::Plain => None,
        };
        match place {
            Some(place) => {
                let session = resume::begin(bridge, head, port, place);
                self.shutdown.spawn(session.instrument(span))
            }
            None => self.shutdown.spawn(bridge.serve(head, port).instrument(span)),
        };
    }

    async fn serve(self: Arc<Self>, head: RequestHead, port: SessionPort) {
        let port = Arc::new(port);
        let kind = head.kind();
        self.see_out(kind, &port, self.carry(head, &port)).await;
    }

    /// Carries a session to its end, or to that of the drain's grace, and counts it.
    async fn see_out(
        &self,
        kind: SessionKind,
        port: &SessionPort,
        carried: impl Future<Output = Result<Cause, Ended>>,
    ) {
        self.metrics.session_opened(kind);
        let open = OpenSession::new(&self.metrics);
        let (cause, detail) = tokio::select! {
            ended = carried => match ended {
                Ok(cause) => (cause, String::new()),
                Err(Ended { cause, detail }) => (cause, detail),
            },
            () = self.grace_over() => {
                port.reset(Cause::CoreDraining, "the core is draining");
                (Cause::CoreDraining, String::new())
            }
        };
        open.close(cause);
        debug!(cause = cause_label(cause), detail, "session closed");
        port.finished().await;
    }

    async fn carry(&self, head: RequestHead, port: &Arc<SessionPort>) -> Result<Cause, Ended> {
        let Some(_place) = self.room.take() else {
            return self.answer(&head, port, Answer::CoreFull).await;
        };
        match head.kind() {
            SessionKind::Websocket => Box::pin(websocket::carry(self, head, port)).await,
            SessionKind::Http => {
                let exchange = Box::pin(http::carry(self, head, port));
                let left = Ok(Cause::CoreDraining);
                self.unless_left(port, exchange).await.unwrap_or(left)
            }
            SessionKind::Unspecified => {
                port.reset(Cause::TrunkProtocol, "unknown kind of session");
                Ok(Cause::TrunkProtocol)
            }
        }
    }

    /// Answers in the backend's place, then waits for the request's end.
    pub(crate) async fn answer(
        &self,
        head: &RequestHead,
        port: &SessionPort,
        answer: Answer,
    ) -> Result<Cause, Ended> {
        self.metrics.answer_made(answer.label());
        debug!(answer = answer.label(), "answered in the backend's place");
        answer.send(head, port)?;
        self.discard(port).await?;
        Ok(answer.cause())
    }

    /// Throws away what the client still sends, up to its end; not for ever.
    pub(crate) async fn discard(&self, port: &SessionPort) -> Result<(), Ended> {
        let rest = async {
            loop {
                let delivery = port.deliver().await?;
                port.consumed(delivery.seq);
                if delivery.body.is_end() {
                    return Ok(());
                }
            }
        };
        if let Some(outcome) = self.while_closing(port, rest).await {
            return outcome;
        }
        port.reset(Cause::BackendClosed, "the backend takes no more");
        Ok(())
    }

    /// Waits for `rest` until the client has had everything and `timeouts.closing` more: one who
    /// reads slowly gets all of it, one who does not close gets no longer. The node ends those who
    /// read nothing.
    async fn while_closing<T>(
        &self,
        port: &SessionPort,
        rest: impl Future<Output = T>,
    ) -> Option<T> {
        let late = async {
            port.heard_out().await;
            sleep(self.config.timeouts.closing).await;
        };
        tokio::select! {
            biased;
            rest = rest => Some(rest),
            () = late => None,
        }
    }

    /// Shortly before the drain's grace ends, while there is still a trunk to tell the far end.
    pub(crate) async fn grace_over(&self) {
        self.shutdown.draining().await;
        sleep(self.config.drain_grace.mul_f64(0.8)).await;
    }
}

/// Places for sessions; their number may change while some are taken.
#[derive(Debug)]
pub(crate) struct Room {
    max: AtomicUsize,
    taken: AtomicUsize,
}

/// One taken place.
pub(crate) struct Place<'a>(&'a Room);

impl Room {
    fn new(max: usize) -> Self {
        Self { max: AtomicUsize::new(max), taken: AtomicUsize::new(0) }
    }

    pub(crate) fn take(&self) -> Option<Place<'_>> {
        let max = self.max.load(Ordering::Relaxed);
        let more = |taken| (taken < max).then_some(taken + 1);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.ok().map(|_| Place(self))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts a session as closed, whichever way its task ends.
pub(crate) struct OpenSession<'a> {
    metrics: &'a Metrics,
    cause: Cause,
}

impl<'a> OpenSession<'a> {
    pub(crate) const fn new(metrics: &'a Metrics) -> Self {
        Self { metrics, cause: Cause::Internal }
    }

    pub(crate) fn close(mut self, cause: Cause) {
        self.cause = cause;
    }
}

impl Drop for OpenSession<'_> {
    fn drop(&mut self) {
        self.metrics.session_closed(self.cause);
    }
}

/// The end of our direction.
fn end(cause: Cause) -> Body {
    End { cause: cause.into(), ..End::default() }.into()
}
