//! What a bridge does for a successor: tells sessions to leave, and goes on with those it was
//! given.

use std::sync::Arc;

use antipode_proto::trunk::v1::{Cause, SessionKind};
use antipode_trunk::{Ended, NodeIdentity, SessionPort};
use tracing::{Instrument, debug, info_span};

use super::websocket::{self, Parts};
use super::{Bridge, OpenSession, Place, Room};
use crate::metrics::cause_label;

impl Bridge {
    /// Runs what can't be handed over; `None`: a successor did not wait for it, and the session
    /// has been reset.
    pub(crate) async fn unless_left<T>(
        &self,
        port: &SessionPort,
        rest: impl Future<Output = T>,
    ) -> Option<T> {
        let _staying = self.summons.staying();
        tokio::select! {
            biased;
            rest = rest => Some(rest),
            () = self.summons.told_to_leave() => {
                self.reset_for_successor(port);
                None
            }
        }
    }

    /// The client is told that the core restarts.
    pub(crate) fn reset_for_successor(&self, port: &SessionPort) {
        port.reset(Cause::CoreDraining, "the core restarts");
    }

    /// Goes on with a WebSocket of a predecessor's, as a task of its own.
    pub(crate) fn go_on(
        self: &Arc<Self>,
        port: SessionPort,
        node: &NodeIdentity,
        backend: &str,
        mut parts: Parts,
    ) {
        parts.assign(self.backends.assigned(backend));
        let span = info_span!("session", session.id = port.id(), node = node.name);
        let bridge = Arc::clone(self);
        let session = async move {
            bridge.metrics.session_opened(SessionKind::Websocket);
            let open = OpenSession::new(&bridge.metrics);
            let _place = bridge.room.keep();
            let (cause, detail) = tokio::select! {
                ended = websocket::go_on(&bridge, &port, parts) => match ended {
                    Ok(cause) => (cause, String::new()),
                    Err(Ended { cause, detail }) => (cause, detail),
                },
                () = bridge.grace_over() => {
                    port.reset(Cause::CoreDraining, "the core is draining");
                    (Cause::CoreDraining, String::new())
                }
            };
            open.close(cause);
            debug!(cause = cause_label(cause), detail, "session closed");
            port.finished().await;
        };
        self.shutdown.spawn(session.instrument(span));
    }
}

impl Room {
    /// The place of a session that had one in the process before this one.
    pub(crate) fn keep(&self) -> Place<'_> {
        self.taken.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Place(self)
    }
}
