//! How a core takes in new sessions, and what it answers to frames of those that it has not.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use antipode_proto::body::{Body, INITIAL_CREDIT_BYTES};
use antipode_proto::session::{Ended, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Attach, Attached, Cause, Frame, Reset, Segment};
use antipode_runtime::clock;
use tokio::sync::mpsc;

use super::{Pause, Sessions};
use crate::peer::{Incoming, NodeIdentity};
use crate::port::SessionPort;
use crate::queue::LaneQueue;

/// A core that refused a session gets no new ones for so long, if there is another.
const REFUSED_FOR: Duration = Duration::from_secs(1);

/// Whether a session ended because the core takes none.
pub(super) const fn is_refusal(cause: Cause) -> bool {
    matches!(cause, Cause::CoreFull | Cause::CoreDraining)
}

/// How the core takes in new sessions.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) node: NodeIdentity,
    pub(crate) limit: Arc<SessionLimit>,
    pub(crate) pause: Arc<Pause>,
}

/// A count of sessions that all trunks of a core share.
#[derive(Debug)]
pub(crate) struct SessionLimit {
    pub(super) open: AtomicUsize,
    max: usize,
}

impl SessionLimit {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), max })
    }

    pub(super) fn take(&self) -> bool {
        let taken = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < self.max).then_some(open + 1)
        });
        taken.is_ok()
    }

    pub(super) fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Sessions {
    /// At the node: whether the core refused a session lately.
    pub(crate) fn refuses(&self, now: Instant) -> bool {
        self.refused.lock().is_some_and(|refused| now < refused + REFUSED_FOR)
    }

    pub(super) fn handle_unknown(self: &Arc<Self>, id: u64, kind: Kind, lane: u32) {
        let (Some(admission), Some(queue)) = (&self.admission, self.queue(lane)) else { return };
        if admission.pause.is_held() {
            return;
        }
        let asks = matches!(kind, Kind::Segment(_) | Kind::Attach(_));
        let ended = self.untimely.lock().cause(id).filter(|_| asks);
        if let Some(cause) = ended {
            return queue.answer(reset(id, cause, "the session has ended"));
        }
        match kind {
            Kind::Segment(Segment { seq: 1, ref body, .. })
                if matches!(body, Some(Body::Request(_))) =>
            {
                if self.fences.lock().lets(id, lane) {
                    self.admit(admission, id, kind, queue);
                }
            }
            Kind::Segment(_) => queue.answer(reset(id, Cause::SessionLost, "unknown session")),
            // Nothing of it has arrived here: the node may start from the beginning.
            Kind::Attach(Attach { epoch, received: 0, .. }) => {
                self.fences.lock().set(id, lane, clock::now());
                let attached = Attached { epoch, received: 0, credit: INITIAL_CREDIT_BYTES };
                queue.answer(Frame { session: id, kind: Some(Kind::Attached(attached)) });
            }
            Kind::Attach(_) => queue.answer(reset(id, Cause::SessionLost, "unknown session")),
            Kind::Ack(_) | Kind::Attached(_) | Kind::Reset(_) | Kind::GoAway(_) => {}
        }
    }

    fn admit(self: &Arc<Self>, admission: &Admission, id: u64, kind: Kind, queue: &Arc<LaneQueue>) {
        let Ok(permit) = admission.incoming.try_reserve() else {
            self.metrics.refused.inc();
            return queue.answer(reset(id, Cause::CoreFull, "the core is busy"));
        };
        if !admission.limit.take() {
            self.metrics.refused.inc();
            return queue.answer(reset(id, Cause::CoreFull, "the core is full"));
        }
        let machine = Session::new(Side::Core, self.config, clock::now());
        let cell = self.make(id, machine, queue, None);
        if !self.insert(Arc::clone(&cell)) {
            // Only a node that opens one number on two lanes at once: the first one has it.
            return admission.limit.give_back();
        }
        if self.is_closed() {
            return cell.change(|machine| machine.abandon(Cause::Policy, "the trunk is closed"));
        }
        cell.handle_frame(kind);
        let port = SessionPort::new(cell);
        let Ok(Some(first)) = port.try_deliver() else { return };
        port.consumed(first.seq);
        if let Body::Request(head) = first.body {
            permit.send(Incoming { head: *head, port, node: admission.node.clone() });
        }
    }
}

pub(super) fn reset(session: u64, cause: Cause, detail: &str) -> Frame {
    let Ended { cause, detail } = Ended::new(cause, detail);
    let reset = Reset { cause: cause.into(), detail };
    Frame { session, kind: Some(Kind::Reset(reset)) }
}
