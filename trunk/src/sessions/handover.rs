//! A core's sessions on their way from one process to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use antipode_proto::session::Session;
use antipode_proto::trunk::v1::Cause;
use antipode_proto::trunk::v1::frame::Kind;

use super::{Admission, SessionLimit, Sessions, reset};
use crate::peer::NodeIdentity;
use crate::port::SessionPort;
use crate::queue::LaneQueue;

/// How far all trunks of a core have stopped for a process that takes over.
#[derive(Debug, Default)]
pub(crate) struct Pause {
    held: AtomicBool,
    halted: AtomicBool,
}

impl Pause {
    /// New sessions are left unanswered: their nodes tell them again to whoever takes the lanes.
    pub(crate) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// No lane comes up, either.
    pub(crate) fn halt(&self) {
        self.halted.store(true, Ordering::SeqCst);
    }

    pub(crate) fn go_on(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.halted.store(false, Ordering::SeqCst);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted.load(Ordering::SeqCst)
    }
}

impl SessionLimit {
    /// For a session that had its place in the process before this one.
    fn keep(&self) {
        self.open.fetch_add(1, Ordering::AcqRel);
    }
}

impl Sessions {
    /// Takes every lane down, now.
    pub(crate) fn halt(&self) {
        for (index, lane) in (0..).zip(&self.lanes) {
            let current = lane.revoked.lock();
            current.cancel();
            let _ = self.detach(lane, index);
        }
    }

    /// Sessions that have ended here and have not said so yet.
    pub(crate) fn unspoken(&self) -> usize {
        let is_unspoken = |machine: &Session| machine.ended().is_some() && !machine.is_finished();
        self.cells.iter().filter(|entry| entry.value().look(is_unspoken)).count()
    }

    /// The numbers of all sessions that are here, and of those that ended and may be asked for.
    pub(crate) fn taken_on(&self) -> Vec<u64> {
        let here = self.cells.iter().map(|entry| *entry.key());
        let settled = self.settled.lock();
        let untimely = self.untimely.lock();
        let all: BTreeSet<_> = here.chain(settled.iter().copied()).chain(untimely.ids()).collect();
        all.into_iter().collect()
    }

    /// A predecessor had taken these on: what it did not hand over can't begin anew. Its request
    /// may have reached a backend.
    pub(crate) fn settle(&self, ids: Vec<u64>) {
        self.settled.lock().extend(ids);
    }

    /// Whether the trunk is to be kept though no lane carries it.
    pub(crate) fn is_in_use(&self) -> bool {
        self.len() > 0 || !self.settled.lock().is_empty() || !self.untimely.lock().is_empty()
    }

    /// A predecessor's session goes on here. `None` if there is no such lane, or it is here.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        id: u64,
        lane: u32,
        machine: Session,
    ) -> Option<SessionPort> {
        let (admission, queue) = (self.admission.as_ref()?, self.queue(lane)?);
        let cell = self.make(id, machine, queue);
        if !self.insert(Arc::clone(&cell)) {
            return None;
        }
        admission.limit.keep();
        Some(SessionPort::new(cell))
    }

    /// The node at the other end, if this is a core's end.
    pub(crate) fn node(&self) -> Option<&NodeIdentity> {
        self.admission.as_ref().map(|admission| &admission.node)
    }

    /// A session that ends during the pause must not begin anew at a successor.
    pub(super) fn remember(&self, admission: &Admission, id: u64) {
        if admission.pause.is_held() {
            self.settled.lock().insert(id);
        }
    }

    /// Whether a frame of a session that is not here is none for us to answer as usual: we pause,
    /// or a predecessor had taken the session on.
    pub(super) fn is_handed_over(
        &self,
        admission: &Admission,
        id: u64,
        kind: &Kind,
        queue: &LaneQueue,
    ) -> bool {
        if admission.pause.is_held() {
            return true;
        }
        let speaks = matches!(kind, Kind::Segment(_) | Kind::Attach(_));
        if !speaks || !self.settled.lock().contains(&id) {
            return false;
        }
        queue.answer(reset(id, Cause::CoreDraining, "the core was restarted"));
        true
    }
}

#[cfg(test)]
mod tests;
