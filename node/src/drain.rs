//! Leaving politely: sessions are told to go one after another, so that they don't all come back to
//! the next node in the same moment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// When each of a number of sessions is told to go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct DrainPlan {
    sessions: u32,
    spread: Duration,
}

impl DrainPlan {
    /// Spreads `sessions` over the first three quarters of `grace`: the last ones need time to
    /// close.
    #[must_use]
    pub fn new(sessions: u32, grace: Duration) -> Self {
        Self { sessions, spread: grace * 3 / 4 }
    }

    /// How long after the start of the drain the session of this turn is told; turns count from 0.
    #[must_use]
    pub fn delay(&self, turn: u32) -> Duration {
        let sessions = f64::from(self.sessions.max(1));
        self.spread.mul_f64((f64::from(turn) / sessions).min(1.0))
    }
}

/// The plan of this process, made when the first session asks.
#[derive(Debug)]
pub struct Drain {
    grace: Duration,
    plan: OnceLock<DrainPlan>,
    turns: AtomicU32,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { grace, plan: OnceLock::new(), turns: AtomicU32::new(0) }
    }

    /// The asking session's delay, when there are `sessions` of them.
    pub fn turn(&self, sessions: u32) -> Duration {
        let plan = self.plan.get_or_init(|| DrainPlan::new(sessions, self.grace));
        plan.delay(self.turns.fetch_add(1, Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_session_is_told_within_the_grace_and_none_in_a_crowd() {
        let grace = Duration::from_secs(40);
        let drain = Drain::new(grace);
        let delays: Vec<_> = (0..300).map(|_| drain.turn(300)).collect();
        assert_eq!(delays[0], Duration::ZERO);
        assert!(delays.is_sorted());
        assert!(delays[299] < grace * 3 / 4);
        for second in 0..30 {
            let range = Duration::from_secs(second)..Duration::from_secs(second + 1);
            assert!(delays.iter().filter(|delay| range.contains(*delay)).count() <= 11);
        }
    }

    #[test]
    fn a_session_that_came_late_is_told_in_time_too() {
        let plan = DrainPlan::new(2, Duration::from_secs(4));
        assert_eq!(plan.delay(9), Duration::from_secs(3));
        assert_eq!(DrainPlan::new(0, Duration::ZERO).delay(0), Duration::ZERO);
    }
}
