//! The share of datagrams that is lost, from two running counts: what was sent, what arrived.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The share is over at least so long,
const SPAN_MIN: Duration = Duration::from_secs(3);
/// and further back until there are so many datagrams,
const DATAGRAMS_ENOUGH: u64 = 1_000;
/// but no further than this.
const SPAN_MAX: Duration = Duration::from_secs(30);
/// Of fewer datagrams one that is lost is no tenth part: it counts as one of so many.
const DATAGRAMS_MIN: u64 = 100;
/// Reports this far apart that found less than half: the path was cut. That is no share.
const CUT: Duration = Duration::from_secs(1);
/// Reports kept: thirty seconds of them.
const STEPS_MAX: usize = 128;

/// One direction of a link.
#[derive(Debug, Default)]
pub(crate) struct Loss {
    last: Option<Counts>,
    /// What came between one report and the next: when, sent, arrived.
    steps: VecDeque<(Instant, u64, u64)>,
}

#[derive(Clone, Copy, Debug)]
struct Counts {
    at: Instant,
    sent: u64,
    arrived: u64,
}

impl Loss {
    /// Of `sent` datagrams so far, `arrived` had arrived.
    pub(crate) fn handle_counts(&mut self, sent: u64, arrived: u64, now: Instant) {
        let before = self.last.replace(Counts { at: now, sent, arrived });
        let Some(before) = before else { return };
        // A count that went back is that of another process: it says nothing beside the last one.
        let steps = (sent.checked_sub(before.sent), arrived.checked_sub(before.arrived));
        let (Some(sent), Some(arrived)) = steps else {
            self.steps.clear();
            return;
        };
        let was_cut = now.saturating_duration_since(before.at) >= CUT && arrived < sent / 2;
        if was_cut {
            return;
        }
        if self.steps.len() >= STEPS_MAX {
            self.steps.pop_front();
        }
        self.steps.push_back((now, sent, arrived));
    }

    /// The share over the last seconds, 0 to 1.
    pub(crate) fn share(&self, now: Instant) -> f32 {
        let (mut sent, mut arrived) = (0u64, 0u64);
        for &(at, step_sent, step_arrived) in self.steps.iter().rev() {
            let age = now.saturating_duration_since(at);
            if age > SPAN_MAX || (age > SPAN_MIN && sent >= DATAGRAMS_ENOUGH) {
                break;
            }
            sent = sent.saturating_add(step_sent);
            arrived = arrived.saturating_add(step_arrived);
        }
        // Reordering at the edges may find more than was sent.
        let lost = sent.saturating_sub(arrived);
        ratio(lost, sent.max(DATAGRAMS_MIN))
    }

    /// Forgets everything: the datagrams go another way.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

/// `part` of `whole` as a share; both may be too large for a float to tell apart.
fn ratio(part: u64, whole: u64) -> f32 {
    let parts_in_a_million = u128::from(part) * 1_000_000 / u128::from(whole.max(1));
    let capped = u32::try_from(parts_in_a_million.min(1_000_000)).unwrap_or(1_000_000);
    // A million fits a double exactly, and the share a float well enough.
    Duration::from_micros(capped.into()).as_secs_f32()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Duration = Duration::from_millis(250);

    /// `each` (sent, arrived) a report, every 250 ms.
    fn run(loss: &mut Loss, start: Instant, each: &[(u64, u64)]) -> Instant {
        let (mut sent, mut arrived, mut now) = (0, 0, start);
        loss.handle_counts(0, 0, now);
        for (step_sent, step_arrived) in each {
            now += STEP;
            sent += step_sent;
            arrived += step_arrived;
            loss.handle_counts(sent, arrived, now);
        }
        now
    }

    #[test]
    fn the_share_is_that_of_the_last_seconds() {
        let (mut loss, start) = (Loss::default(), crate::tunnel::now());
        let mut each = vec![(1000, 900); 20];
        each.extend([(1000, 970); 13]);
        let now = run(&mut loss, start, &each);
        check(loss.share(now), 0.03);
    }

    #[test]
    fn a_quiet_link_is_judged_over_longer() {
        let (mut loss, start) = (Loss::default(), crate::tunnel::now());
        let mut each = vec![(10, 9); 40];
        each.extend([(10, 10); 40]);
        let now = run(&mut loss, start, &each);
        check(loss.share(now), 0.05);
        check(loss.share(now + SPAN_MAX), 0.0);
    }

    #[test]
    fn one_of_few_is_not_much() {
        let (mut loss, start) = (Loss::default(), crate::tunnel::now());
        let now = run(&mut loss, start, &[(2, 1)]);
        check(loss.share(now), 0.01);
    }

    #[test]
    fn what_is_on_its_way_late_is_no_loss() {
        let (mut loss, start) = (Loss::default(), crate::tunnel::now());
        let now = run(&mut loss, start, &[(1000, 1004), (1000, 998), (1000, 1000)]);
        check(loss.share(now), 0.0);
    }

    #[test]
    fn a_cut_and_a_restart_are_no_share() {
        let (mut loss, start) = (Loss::default(), crate::tunnel::now());
        let now = run(&mut loss, start, &[(1000, 1000); 8]);
        let later = now + CUT;
        loss.handle_counts(10_000, 8_700, later);
        check(loss.share(later), 0.0);
        loss.handle_counts(11_000, 9_690, later + STEP);
        check(loss.share(later + STEP), 0.01 / 9.0);
        loss.handle_counts(11_500, 3, later + STEP * 2);
        check(loss.share(later + STEP * 2), 0.0);
        loss.handle_counts(12_500, 953, later + STEP * 3);
        check(loss.share(later + STEP * 3), 0.05);
    }

    #[test]
    fn heavy_loss_is_no_cut() {
        let (mut loss, start) = (Loss::default(), crate::tunnel::now());
        let now = run(&mut loss, start, &[(1000, 200); 8]);
        check(loss.share(now), 0.8);
        loss.handle_counts(10_000, 2_800, now + CUT);
        check(loss.share(now + CUT), 0.72);
    }

    #[test]
    fn absurd_counts_are_survived() {
        let (mut loss, start) = (Loss::default(), crate::tunnel::now());
        for (sent, arrived) in [(0, 0), (u64::MAX, 0), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            loss.handle_counts(sent, arrived, start);
            assert!((0.0..=1.0).contains(&loss.share(start)));
        }
        (0..1000).for_each(|n| loss.handle_counts(n, n, start));
        assert!(loss.steps.len() <= STEPS_MAX);
    }

    #[track_caller]
    fn check(found: f32, expected: f32) {
        assert!((found - expected).abs() < 1e-4, "{found} is not {expected}");
    }
}
