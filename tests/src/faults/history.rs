//! The judge: what was sent and what arrived, session by session and direction by direction.

use std::collections::{BTreeMap, BTreeSet};

/// One direction of one session.
#[derive(Clone, Debug, Default)]
pub struct Direction {
    /// How many were sent: numbers 1 to this.
    pub sent: u64,
    /// Numbers as they arrived, with the time in milliseconds since 1970.
    pub arrived: Vec<(u64, u64)>,
}

/// One session, seen from both ends.
#[derive(Clone, Debug, Default)]
pub struct Session {
    /// From the client to the backend.
    pub up: Direction,
    /// From the backend to the client.
    pub down: Direction,
    /// Sockets that the backend saw opened for it.
    pub opened: u64,
    /// Sockets that the backend saw closed before the client's goodbye.
    pub closed_early: u64,
    /// Both have said goodbye: everything that was sent had its time to arrive.
    pub is_complete: bool,
    /// How often it went on elsewhere.
    pub resumed: u64,
    /// The client was told that its session is lost, or that its socket is closed, before its
    /// goodbye: the close code, 1006 without one.
    pub told: Option<u16>,
}

/// All sessions of a run.
pub type History = BTreeMap<u64, Session>;

/// What a history says.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Verdict {
    /// Sessions.
    pub sessions: u64,
    /// Frames sent, both directions.
    pub sent: u64,
    /// Frames that did not arrive though later ones did, or though the session is complete.
    pub lost: u64,
    /// Frames that arrived more than once.
    pub duplicated: u64,
    /// Frames that arrived behind a later one.
    pub reordered: u64,
    /// Sessions that did not come to their goodbye, and whose client was not told why.
    pub hanging: u64,
    /// Sessions whose client was told that they are over.
    pub told: u64,
    /// Sockets that the backend saw closed early, or opened a second time.
    pub backend_closes: u64,
    /// Sessions that went on elsewhere.
    pub resumed: u64,
    /// Milliseconds until traffic flowed again, one a session and direction, sorted.
    pub flows_ms: Vec<u64>,
}

impl Verdict {
    /// Judges a run whose fault was over, or began with nothing to wait for, at `healed_ms`.
    #[must_use]
    pub fn of(history: &History, healed_ms: u64) -> Self {
        let mut verdict = Self::default();
        for session in history.values() {
            verdict.sessions += 1;
            for direction in [&session.up, &session.down] {
                verdict.judge(direction, session.is_complete);
                let after = direction.arrived.iter().map(|(_, at)| *at).find(|at| *at >= healed_ms);
                verdict.flows_ms.extend(after.map(|at| at - healed_ms));
            }
            verdict.resumed += u64::from(session.resumed > 0);
            verdict.told += u64::from(session.told.is_some());
            verdict.hanging += u64::from(!session.is_complete && session.told.is_none());
            verdict.backend_closes += session.closed_early + session.opened.saturating_sub(1);
        }
        verdict.flows_ms.sort_unstable();
        verdict
    }

    /// Whether nothing was lost, duplicated or reordered.
    #[must_use]
    pub fn is_exact(&self) -> bool {
        self.lost + self.duplicated + self.reordered == 0
    }

    /// Whether every session came to its goodbye, whole, and the backend noticed nothing.
    #[must_use]
    pub fn is_untouched(&self) -> bool {
        self.is_exact() && self.hanging + self.told + self.backend_closes == 0
    }

    /// The share of `flows_ms` that is at most this, in seconds; none without any.
    #[must_use]
    pub fn flow_seconds(&self, permille: usize) -> Option<f64> {
        let last = self.flows_ms.len().checked_sub(1)?;
        let ms = self.flows_ms[(last * permille).div_ceil(1000)];
        Some(f64::from(u32::try_from(ms).unwrap_or(u32::MAX)) / 1000.0)
    }

    fn judge(&mut self, direction: &Direction, is_complete: bool) {
        self.sent += direction.sent;
        let mut seen = BTreeSet::new();
        let mut last = 0;
        for (number, _) in &direction.arrived {
            if !seen.insert(*number) {
                self.duplicated += 1;
            } else if *number < last {
                self.reordered += 1;
            }
            last = last.max(*number);
        }
        let due = if is_complete { direction.sent.max(last) } else { last };
        self.lost += due - u64::try_from(seen.len()).unwrap_or(u64::MAX).min(due);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(sent: u64, arrived: &[u64], is_complete: bool) -> (u64, u64, u64) {
        let arrived = arrived.iter().map(|number| (*number, 0)).collect();
        let up = Direction { sent, arrived };
        let session = Session { up, is_complete, opened: 1, ..Session::default() };
        let verdict = Verdict::of(&History::from([(1, session)]), 0);
        (verdict.lost, verdict.duplicated, verdict.reordered)
    }

    #[test]
    fn each_fault_of_a_history_is_counted() {
        assert_eq!(judged(3, &[1, 2, 3], true), (0, 0, 0));
        assert_eq!(judged(3, &[1, 2], true), (1, 0, 0));
        assert_eq!(judged(3, &[1, 2], false), (0, 0, 0), "a prefix");
        assert_eq!(judged(3, &[1, 3], false), (1, 0, 0), "a gap");
        assert_eq!(judged(3, &[1, 2, 2, 3], true), (0, 1, 0));
        assert_eq!(judged(3, &[2, 1, 3], true), (0, 0, 1));
        assert_eq!(judged(0, &[], true), (0, 0, 0));
    }

    #[test]
    fn a_session_without_an_end_hangs() {
        let hanging = Session { opened: 1, ..Session::default() };
        let told = Session { told: Some(1001), ..hanging.clone() };
        let verdict = Verdict::of(&History::from([(1, hanging), (2, told)]), 0);
        assert_eq!((verdict.hanging, verdict.told), (1, 1));
        assert!(!verdict.is_untouched());
    }

    #[test]
    fn flowing_again_is_counted_from_the_healing() {
        let arrived = vec![(1, 90), (2, 150), (3, 160)];
        let up = Direction { sent: 3, arrived };
        let session = Session { up, is_complete: true, opened: 1, ..Session::default() };
        let verdict = Verdict::of(&History::from([(1, session)]), 100);
        assert_eq!(verdict.flows_ms, [50]);
        assert_eq!(verdict.flow_seconds(1000), Some(0.05));
    }
}
