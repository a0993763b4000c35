//! What a bridge does for a successor: tells sessions to leave, and goes on with those it was
//! given.

use std::sync::Arc;

use antipode_proto::trunk::v1::{Cause, SessionKind};
use antipode_trunk::{NodeIdentity, SessionPort};
use tracing::{Instrument, info_span};

use super::websocket::{self, Parts};
use super::{Bridge, Place, Room};

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
            let _place = bridge.room.keep();
            let carried = websocket::go_on(&bridge, &port, parts);
            bridge.see_out(SessionKind::Websocket, &port, carried).await;
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
