//! Leaving politely: sessions are told to go one after another, so that they don't all come to the
//! next nodes in the same moment.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How many sessions there are to tell.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Crowd {
    /// Clients that can go on elsewhere: they are invited.
    pub resumable: u32,
    /// Clients whose sessions end here.
    pub plain: u32,
}

/// What a drain goes by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pace {
    /// When the rest is cut.
    pub grace: Duration,
    /// Sessions told in a second, unless the grace is too short for that.
    pub per_second: u32,
}

/// When each of a crowd is told to go: those who can go on elsewhere first, then the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DrainPlan {
    crowd: Crowd,
    grace: Duration,
    /// Seconds from one to the next.
    step: f64,
}

impl DrainPlan {
    /// A plan that has told everybody after three quarters of the grace: the last ones need time.
    #[must_use]
    pub fn new(crowd: Crowd, pace: Pace) -> Self {
        let count = f64::from(crowd.resumable.saturating_add(crowd.plain).max(1));
        let wanted = 1.0 / f64::from(pace.per_second.max(1));
        let step = wanted.min(pace.grace.as_secs_f64() * 0.75 / count);
        Self { crowd, grace: pace.grace, step }
    }

    /// When the resumable session of this turn is invited, after the start; turns count from 0.
    /// `jitter` from 0 to 1 is its place within its step.
    #[must_use]
    pub fn invite_after(&self, turn: u32, jitter: f64) -> Duration {
        self.at(turn, jitter)
    }

    /// When the plain session of this turn is closed.
    #[must_use]
    pub fn close_after(&self, turn: u32, jitter: f64) -> Duration {
        self.at(self.crowd.resumable.saturating_add(turn), jitter)
    }

    /// When a resumable session is closed that has not gone by itself: late, but in time to be told
    /// rather than cut. It goes on elsewhere too.
    #[must_use]
    pub fn last_call_after(&self, jitter: f64) -> Duration {
        self.grace.mul_f64(0.9 + 0.05 * jitter)
    }

    /// One who came late is told with the last.
    fn at(&self, turn: u32, jitter: f64) -> Duration {
        let after = (f64::from(turn) + jitter) * self.step;
        Duration::from_secs_f64(after).min(self.grace.mul_f64(0.75))
    }
}

/// What one session does in a drain.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Leave {
    /// When it is invited elsewhere; `None`: it can't go on elsewhere.
    pub invite_at: Option<Instant>,
    /// When it is closed, if it has not gone.
    pub close_at: Instant,
}

/// The drain of this process; it is planned when the first session asks.
#[derive(Debug)]
pub struct Drain {
    pace: Pace,
    plan: OnceLock<(Instant, DrainPlan)>,
    invited: AtomicU32,
    closed: AtomicU32,
}

impl Drain {
    /// A drain that has not begun.
    #[must_use]
    pub fn new(pace: Pace) -> Self {
        Self { pace, plan: OnceLock::new(), invited: AtomicU32::new(0), closed: AtomicU32::new(0) }
    }

    /// The asking session's part, when it is one of `crowd`. `grace` is what was ordered, if it is
    /// not to be the node's own.
    pub fn leave(
        &self,
        is_resumable: bool,
        crowd: Crowd,
        grace: Option<Duration>,
        now: Instant,
    ) -> Leave {
        let pace = Pace { grace: grace.unwrap_or(self.pace.grace), ..self.pace };
        let (began, plan) = *self.plan.get_or_init(|| (now, DrainPlan::new(crowd, pace)));
        let jitter: f64 = rand::random();
        if is_resumable {
            let turn = self.invited.fetch_add(1, Ordering::Relaxed);
            let invite_at = Some(began + plan.invite_after(turn, jitter));
            return Leave { invite_at, close_at: began + plan.last_call_after(jitter) };
        }
        let turn = self.closed.fetch_add(1, Ordering::Relaxed);
        Leave { invite_at: None, close_at: began + plan.close_after(turn, jitter) }
    }
}

#[cfg(test)]
mod tests {
    use antipode_runtime::clock;
    use proptest::prelude::*;

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn a_few_are_told_at_the_chosen_rate_and_many_in_time() {
        let pace = Pace { grace: 10 * MINUTE, per_second: 100 };
        let few = DrainPlan::new(Crowd { resumable: 200, plain: 100 }, pace);
        assert_eq!(few.invite_after(0, 0.0), Duration::ZERO);
        assert_eq!(few.invite_after(199, 1.0), Duration::from_secs(2));
        assert_eq!(few.close_after(0, 0.0), Duration::from_secs(2), "after those who can go on");
        assert_eq!(few.close_after(99, 1.0), Duration::from_secs(3));
        let many = DrainPlan::new(Crowd { resumable: 90_000, plain: 0 }, pace);
        assert_eq!(many.invite_after(89_999, 1.0), 10 * MINUTE * 3 / 4);
        assert_eq!(DrainPlan::new(Crowd::default(), pace).invite_after(7, 0.0).as_millis(), 70);
        let hurried = Pace { grace: Duration::ZERO, ..pace };
        assert_eq!(DrainPlan::new(Crowd::default(), hurried).close_after(3, 0.5), Duration::ZERO);
    }

    #[test]
    fn one_that_came_late_is_told_in_time_too() {
        let drain = Drain::new(Pace { grace: MINUTE, per_second: 1 });
        let (now, crowd) = (clock::now(), Crowd { resumable: 1, plain: 0 });
        let first = drain.leave(true, crowd, None, now);
        assert!(first.invite_at.unwrap() <= now + Duration::from_secs(1));
        assert!(first.close_at >= now + MINUTE.mul_f64(0.9));
        let later = now + Duration::from_secs(20);
        for _ in 0..100 {
            assert!(drain.leave(true, crowd, None, later).invite_at.unwrap() <= now + MINUTE);
            assert!(drain.leave(false, crowd, None, later).close_at <= now + MINUTE);
        }
    }

    #[test]
    fn an_ordered_grace_counts() {
        let drain = Drain::new(Pace { grace: MINUTE, per_second: 1 });
        let (now, crowd) = (clock::now(), Crowd { resumable: 0, plain: 100 });
        let (ordered, four) = (Some(Duration::from_secs(4)), Duration::from_secs(4));
        let told = (0..100).map(|_| drain.leave(false, crowd, ordered, now).close_at);
        assert!(told.max().unwrap() <= now + four);
    }

    proptest! {
        #[test]
        fn everybody_is_told_within_the_grace_and_nobody_in_a_crowd(
            resumable in 0..2000u32,
            plain in 0..2000u32,
            grace_s in 1..900u64,
            per_second in 1..500u32,
            jitters in prop::collection::vec(0.0..1.0f64, 1..50),
        ) {
            let grace = Duration::from_secs(grace_s);
            let plan = DrainPlan::new(Crowd { resumable, plain }, Pace { grace, per_second });
            let jitter = |turn: u32| jitters[usize::try_from(turn).unwrap() % jitters.len()];
            let invited = (0..resumable).map(|turn| plan.invite_after(turn, jitter(turn)));
            let closed = (0..plain).map(|turn| plan.close_after(turn, jitter(turn)));
            let told: Vec<_> = invited.chain(closed).collect();
            prop_assert!(told.is_sorted(), "resumable ones first");
            prop_assert!(told.iter().all(|at| *at <= grace));
            let count = f64::from(resumable + plain);
            let rate = f64::from(per_second).max(count / (0.75 * grace.as_secs_f64()));
            for window in told.windows(1 + told.len().min(40)) {
                let (first, last) = (window[0], window[window.len() - 1]);
                let most = (last - first).as_secs_f64() * rate + 2.01;
                prop_assert!(f64::from(u32::try_from(window.len()).unwrap()) <= most);
            }
        }
    }
}
