//! Where sessions may begin that asked before anything of them had come.
//!
//! The head that a node sent first may still lie on a lane that is dead for the node and not yet
//! for the core. Once the node was told to begin on another lane, that copy counts no more: it
//! would put the session on the dead lane, or begin it again when it is long over.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

/// Sessions remembered at a time; the oldest give way.
pub(crate) const FENCES_MAX: usize = 16 * 1024;

/// One trunk's sessions that were told to begin, and on which lane.
#[derive(Debug, Default)]
pub(super) struct Fences {
    lanes: BTreeMap<u64, Fence>,
    /// Oldest first.
    order: VecDeque<(Instant, u64)>,
}

#[derive(Debug)]
struct Fence {
    lane: u32,
    at: Instant,
}

impl Fences {
    /// The session asked on this lane, and may begin there and nowhere else.
    pub(super) fn set(&mut self, id: u64, lane: u32, now: Instant) {
        if self.order.len() >= FENCES_MAX {
            self.remove_oldest();
        }
        self.order.push_back((now, id));
        self.lanes.insert(id, Fence { lane, at: now });
    }

    /// Whether the session may begin on this lane.
    pub(super) fn lets(&self, id: u64, lane: u32) -> bool {
        self.lanes.get(&id).is_none_or(|fence| fence.lane == lane)
    }

    /// Forgets what is older than `window`: no copy is that late.
    pub(super) fn expire(&mut self, window: Duration, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| *at + window <= now) {
            self.remove_oldest();
        }
    }

    /// Unless the session has asked again since.
    fn remove_oldest(&mut self) {
        let Some((at, oldest)) = self.order.pop_front() else { return };
        if self.lanes.get(&oldest).is_some_and(|fence| fence.at == at) {
            self.lanes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests {
    use antipode_runtime::clock;

    use super::*;

    #[test]
    fn what_is_remembered_is_bounded_and_passes() {
        let (mut fences, start) = (Fences::default(), clock::now());
        for id in 0..100_000 {
            fences.set(id, 0, start);
        }
        assert_eq!((fences.lanes.len(), fences.order.len()), (FENCES_MAX, FENCES_MAX));
        assert!(fences.lets(0, 1) && !fences.lets(99_999, 1) && fences.lets(99_999, 0));
        let window = Duration::from_secs(9);
        fences.set(99_999, 1, start + window / 2);
        fences.expire(window, start + window);
        assert_eq!(fences.lanes.len(), 1, "one has asked again");
        assert!(fences.lets(99_999, 1) && !fences.lets(99_999, 0));
        fences.expire(window, start + window * 2);
        assert!(fences.lanes.is_empty() && fences.order.is_empty());
    }
}
