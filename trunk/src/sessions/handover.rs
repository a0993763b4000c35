//! A core's sessions on their way from one process to the next.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use antipode_proto::session::Session;
use antipode_proto::trunk::v1::Cause;
use antipode_runtime::clock;

use super::{SessionLimit, Sessions};
use crate::cell::Cell;
use crate::peer::NodeIdentity;
use crate::port::SessionPort;

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
        let untimely = self.untimely.lock();
        let all: BTreeSet<_> = here.chain(untimely.ids()).collect();
        all.into_iter().collect()
    }

    /// A predecessor had taken these on: what it did not hand over can't begin anew. Its request
    /// may have reached a backend.
    pub(crate) fn settle(&self, ids: Vec<u64>) {
        self.untimely.lock().settle(ids, clock::now());
    }

    /// Whether the trunk is to be kept though no lane carries it.
    pub(crate) fn is_in_use(&self) -> bool {
        self.len() > 0 || !self.untimely.lock().is_empty()
    }

    /// A predecessor's session goes on here. `None` if there is no such lane, or it is here.
    pub(crate) fn adopt(
        self: &Arc<Self>,
        id: u64,
        lane: u32,
        machine: Session,
    ) -> Option<SessionPort> {
        let (admission, queue) = (self.admission.as_ref()?, self.queue(lane)?);
        let cell = self.make(id, machine, queue, None);
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

    /// A session that has ended must not begin anew: here, if it ended before its time; at a
    /// successor, however it ended during the pause.
    pub(super) fn remember(&self, cell: &Cell, ended: Option<Cause>) {
        let now = clock::now();
        if self.admission.as_ref().is_some_and(|admission| admission.pause.is_held()) {
            self.untimely.lock().settle(vec![cell.id], now);
        } else if let Some(cause) = ended {
            self.untimely.lock().note(cell.id, cell.queue().index, cause, now);
        }
    }
}

#[cfg(test)]
mod tests;
