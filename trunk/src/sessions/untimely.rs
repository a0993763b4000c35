//! Sessions that ended before their time, remembered for as long as the other end may keep them.
//!
//! The reset that ended one may be lost with its lane. A node that has heard nothing of the
//! session by then asks where it stands; were it told "at nothing", it would tell its request for
//! the second time. The same goes for what a process before this one had taken on and did not hand
//! over. A core that has not heard of an end would keep the backend waiting: when the lane is back,
//! the node says it again.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use antipode_proto::trunk::v1::Cause;

/// Sessions remembered at a time, beside those of another process; the oldest give way.
pub(crate) const UNTIMELY_MAX: usize = 16 * 1024;

/// One trunk's sessions that ended before their time.
#[derive(Debug, Default)]
pub(crate) struct Untimely {
    ends: BTreeMap<u64, End>,
    /// Oldest first.
    order: VecDeque<(Instant, u64)>,
    /// How many came from another process, or were to go there: as many as that had.
    settled: usize,
}

#[derive(Debug)]
struct End {
    cause: Cause,
    lane: Option<u32>,
    /// When that was said last.
    at: Instant,
}

impl Untimely {
    /// A session of this lane has ended here.
    pub(crate) fn note(&mut self, id: u64, lane: u32, cause: Cause, now: Instant) {
        if self.order.len() >= UNTIMELY_MAX + self.settled
            && let Some((at, oldest)) = self.order.pop_front()
        {
            self.remove(at, oldest);
        }
        self.insert(id, Some(lane), cause, now);
    }

    /// These are over because a process takes over from another.
    pub(crate) fn settle(&mut self, ids: Vec<u64>, now: Instant) {
        self.settled += ids.len();
        ids.into_iter().for_each(|id| self.insert(id, None, Cause::CoreDraining, now));
    }

    fn insert(&mut self, id: u64, lane: Option<u32>, cause: Cause, now: Instant) {
        self.order.push_back((now, id));
        self.ends.insert(id, End { cause, lane, at: now });
    }

    /// What was said at `at`, unless more was said since.
    fn remove(&mut self, at: Instant, id: u64) {
        if self.ends.get(&id).is_some_and(|end| end.at == at) {
            self.ends.remove(&id);
        }
    }

    /// The other end has ended it itself: it does not ask.
    pub(crate) fn forget(&mut self, id: u64) {
        self.ends.remove(&id);
    }

    /// Why the session ended, if it was one of these.
    pub(crate) fn cause(&self, id: u64) -> Option<Cause> {
        self.ends.get(&id).map(|end| end.cause)
    }

    /// Those of one lane.
    pub(crate) fn of_lane(&self, lane: u32) -> Vec<(u64, Cause)> {
        let of_lane = self.ends.iter().filter(|(_, end)| end.lane == Some(lane));
        of_lane.map(|(id, end)| (*id, end.cause)).collect()
    }

    /// Forgets those that ended longer than `window` ago: the other end has given them up.
    pub(crate) fn expire(&mut self, window: Duration, now: Instant) {
        while self.order.front().is_some_and(|(at, _)| *at + window <= now) {
            let Some((at, oldest)) = self.order.pop_front() else { return };
            self.remove(at, oldest);
        }
        if self.order.is_empty() {
            self.settled = 0;
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = u64> {
        self.ends.keys().copied()
    }
}

#[cfg(test)]
mod tests {
    use antipode_proto::session::Config;
    use antipode_proto::trunk::v1::RequestHead;
    use antipode_runtime::clock;

    use super::*;
    use crate::bare::Bare;
    use crate::metrics::Metrics;
    use crate::peer::NodeIdentity;

    const LANE: u32 = 0;

    /// The answer and the reset go into the cut; the core takes them for said.
    #[test]
    fn a_request_whose_reset_was_lost_is_not_carried_out_twice() {
        let node_identity = NodeIdentity::for_tests("node");
        let mut node = Bare::node(1, Config::default(), Metrics::default());
        let mut core = Bare::core(1, Config::default(), Metrics::default(), node_identity, 100);
        let up = |node: &mut Bare, core: &mut Bare| {
            core.lane_up(LANE);
            node.lane_up(LANE);
        };
        up(&mut node, &mut core);
        let client = node.open(RequestHead::default()).unwrap();
        carry(&mut node, &core);
        let asked = core.next_incoming().expect("the request came");
        asked.port.reset(Cause::BackendTimeout, "too slow");
        assert!(core.collect_batch(LANE, clock::now()).is_some(), "and is lost");

        up(&mut node, &mut core);
        for _ in 0..4 {
            carry(&mut node, &core);
            carry(&mut core, &node);
        }
        assert!(core.next_incoming().is_none(), "carried out twice");
        let ended = client.try_ready().expect_err("it is over");
        assert_eq!(ended.cause, Cause::BackendTimeout, "and the client is told why");
    }

    #[test]
    fn what_is_remembered_is_bounded_and_passes() {
        let (mut untimely, start) = (Untimely::default(), clock::now());
        for id in 0..100_000 {
            untimely.note(id, LANE, Cause::Policy, start);
        }
        assert_eq!(untimely.order.len(), UNTIMELY_MAX);
        assert_eq!(untimely.ids().count(), UNTIMELY_MAX);
        assert_eq!((untimely.cause(0), untimely.cause(99_999)), (None, Some(Cause::Policy)));
        untimely.forget(99_999);
        assert_eq!(untimely.cause(99_999), None);
        let window = Duration::from_secs(9);
        untimely.expire(window, start + window - Duration::from_millis(1));
        assert!(!untimely.is_empty());
        untimely.expire(window, start + window);
        assert!(untimely.is_empty() && untimely.order.is_empty());

        untimely.settle((0..50_000).collect(), start);
        untimely.note(50_000, LANE, Cause::Policy, start);
        assert_eq!(untimely.cause(0), Some(Cause::CoreDraining), "none of those gives way");
        untimely.expire(window, start + window);
        assert!(untimely.is_empty() && untimely.settled == 0, "and they pass as well");

        // One that was handed over after all, and ends here later.
        untimely.settle(vec![7], start);
        untimely.note(7, LANE, Cause::Policy, start + window / 2);
        untimely.expire(window, start + window);
        assert_eq!(untimely.cause(7), Some(Cause::Policy));
    }

    fn carry(from: &mut Bare, to: &Bare) {
        while let Some(batch) = from.collect_batch(LANE, clock::now()) {
            to.handle_batch(LANE, batch).unwrap();
        }
    }
}
