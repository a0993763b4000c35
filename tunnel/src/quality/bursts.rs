//! How long bursts of loss last, from the gaps in the counters of what arrives.
//!
//! Between the last message before a gap and the first after it the path lost everything, or
//! nothing went: so a gap is told only where messages are close enough to one another to show it.
//! A gap that late messages fill was reordering.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Gaps that may still be filled; more at once are not told.
const OPEN_MAX: usize = 64;
/// Gaps that the estimate is made of.
const SAMPLES_MAX: usize = 64;
/// Older gaps say nothing of the path as it is.
const AGE_MAX: Duration = Duration::from_secs(60);
/// Longer than this is a cut: a copy of what was lost would have to wait for as long.
const CUT: Duration = Duration::from_secs(1);
/// No burst is told to be longer.
const BURST_MAX: Duration = Duration::from_millis(60);
/// Messages further apart than this tell nothing of what happens between them.
const SPACING_MAX: Duration = Duration::from_millis(20);
/// One burst is no more than so many lost messages.
const WEIGHT_MAX: u64 = 100;

/// The bursts in what arrives from a peer.
#[derive(Debug)]
pub(crate) struct Bursts {
    newest: Option<Instant>,
    open: VecDeque<Gap>,
    /// When it was told, how many messages it cost, how long it lasted.
    samples: VecDeque<(Instant, u64, Duration)>,
    patience: Duration,
}

#[derive(Debug)]
struct Gap {
    counters: Range<u64>,
    missing: u64,
    opened: Instant,
    lasted: Duration,
}

impl Default for Bursts {
    fn default() -> Self {
        let patience = Duration::from_millis(2);
        Self { newest: None, open: VecDeque::new(), samples: VecDeque::new(), patience }
    }
}

impl Bursts {
    /// How late a message may be that was only overtaken; what comes later is taken for a copy.
    pub(crate) const fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// The peer counts from zero again.
    pub(crate) fn handle_session(&mut self, now: Instant) {
        self.open.clear();
        self.newest = Some(now);
    }

    /// A message came that is newer than all before; `skipped` are the counters it jumped over.
    pub(crate) fn handle_newer(&mut self, skipped: Range<u64>, now: Instant) {
        let before = self.newest.replace(now);
        self.settle(now);
        let missing = skipped.end.saturating_sub(skipped.start);
        let Some(before) = before.filter(|_| missing >= 2) else { return };
        let lasted = now.saturating_duration_since(before);
        if lasted < CUT && self.open.len() < OPEN_MAX {
            self.open.push_back(Gap { counters: skipped, missing, opened: now, lasted });
        }
    }

    /// A message came, for the first time, that newer ones had overtaken.
    pub(crate) fn handle_late(&mut self, counter: u64, now: Instant) {
        self.settle(now);
        if let Some(gap) = self.open.iter_mut().find(|gap| gap.counters.contains(&counter)) {
            gap.missing = gap.missing.saturating_sub(1);
        }
    }

    /// How long bursts last: nine in ten lost messages were in a shorter one.
    pub(crate) fn estimate(&mut self, now: Instant) -> Duration {
        self.settle(now);
        let mut samples: Vec<(Duration, u64)> =
            self.samples.iter().map(|&(_, weight, lasted)| (lasted, weight)).collect();
        samples.sort_unstable();
        let all: u64 = samples.iter().map(|(_, weight)| weight).sum();
        let mut below = 0;
        let reaches = |(_, weight): &&(Duration, u64)| {
            below += weight;
            below * 10 >= all * 9
        };
        samples.iter().find(reaches).map_or(Duration::ZERO, |&(lasted, _)| lasted.min(BURST_MAX))
    }

    /// Believes gaps that nothing has filled for long enough, and forgets what is too old.
    fn settle(&mut self, now: Instant) {
        let age = |at| now.saturating_duration_since(at);
        while let Some(gap) = self.open.pop_front_if(|gap| age(gap.opened) >= self.patience) {
            let spacing = gap.lasted / u32::try_from(gap.missing + 1).unwrap_or(u32::MAX);
            if gap.missing < 2 || spacing > SPACING_MAX {
                continue;
            }
            if self.samples.len() >= SAMPLES_MAX {
                self.samples.pop_front();
            }
            self.samples.push_back((gap.opened, gap.missing.min(WEIGHT_MAX), gap.lasted));
        }
        while self.samples.pop_front_if(|&mut (at, ..)| age(at) > AGE_MAX).is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Messages every millisecond; those whose time is in one of `lost` don't arrive.
    fn run(bursts: &mut Bursts, millis: u64, lost: impl Fn(u64) -> bool) -> Instant {
        let start = crate::tunnel::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut next = 0;
        bursts.handle_session(start);
        for ms in (0..millis).filter(|&ms| !lost(ms)) {
            bursts.handle_newer(next..ms, at(ms));
            next = ms + 1;
        }
        at(millis)
    }

    #[test]
    fn a_burst_is_as_long_as_the_gap_it_makes() {
        let mut bursts = Bursts::default();
        let end = run(&mut bursts, 5_000, |ms| ms % 500 >= 495);
        assert_eq!(bursts.estimate(end), Duration::from_millis(6));
        assert_eq!(bursts.estimate(end + AGE_MAX + CUT), Duration::ZERO, "it is forgotten");
    }

    #[test]
    fn nine_in_ten_lost_messages_are_in_a_shorter_one() {
        let mut bursts = Bursts::default();
        // Of ten bursts of 10 messages one is of 30: a quarter of what was lost.
        let lost = |ms| if ms < 500 { ms % 500 >= 470 } else { ms % 500 >= 490 };
        let end = run(&mut bursts, 5_000, lost);
        assert_eq!(bursts.estimate(end), Duration::from_millis(31));
        let mut rare = Bursts::default();
        let end = run(&mut rare, 25_000, lost);
        assert_eq!(rare.estimate(end), Duration::from_millis(11));
    }

    #[test]
    fn single_losses_and_cuts_are_no_bursts() {
        let mut bursts = Bursts::default();
        let end = run(&mut bursts, 5_000, |ms| ms % 100 == 99);
        assert_eq!(bursts.estimate(end), Duration::ZERO);
        let end = run(&mut bursts, 5_000, |ms| (1_000..3_000).contains(&ms));
        assert_eq!(bursts.estimate(end), Duration::ZERO);
        let end = run(&mut bursts, 5_000, |ms| (1_000..1_900).contains(&ms));
        assert_eq!(bursts.estimate(end), BURST_MAX);
    }

    #[test]
    fn messages_far_apart_tell_nothing() {
        let (mut bursts, start) = (Bursts::default(), crate::tunnel::now());
        bursts.handle_session(start);
        bursts.handle_newer(0..2, start + Duration::from_millis(61));
        assert_eq!(bursts.estimate(start + CUT), Duration::ZERO);
        bursts.handle_newer(3..5, start + Duration::from_millis(121));
        assert_eq!(bursts.estimate(start + CUT), Duration::from_millis(60));
    }

    #[test]
    fn what_was_only_overtaken_is_no_loss_and_a_copy_hides_none() {
        let ms = Duration::from_millis;
        for (patience, expected) in [(ms(20), Duration::ZERO), (ms(2), ms(10))] {
            let (mut bursts, start) = (Bursts::default(), crate::tunnel::now());
            bursts.set_patience(patience);
            bursts.handle_session(start);
            bursts.handle_newer(0..9, start + ms(10));
            (0..8).for_each(|counter| bursts.handle_late(counter, start + ms(18)));
            assert_eq!(bursts.estimate(start + ms(40)), expected, "patience {patience:?}");
        }
    }

    #[test]
    fn one_long_burst_among_many_is_not_the_rule() {
        let mut bursts = Bursts::default();
        let lost = |ms| (ms < 6_000 && ms % 100 >= 80) || (7_000..7_900).contains(&ms);
        let end = run(&mut bursts, 8_500, lost);
        assert_eq!(bursts.estimate(end), Duration::from_millis(21));
    }

    #[test]
    fn a_gap_ends_with_its_session() {
        let (mut bursts, start) = (Bursts::default(), crate::tunnel::now());
        bursts.handle_session(start);
        bursts.handle_newer(0..9, start + Duration::from_millis(10));
        bursts.handle_session(start + Duration::from_millis(11));
        assert_eq!(bursts.estimate(start + CUT), Duration::ZERO, "nobody could fill it any more");
    }

    #[test]
    fn memory_is_bounded() {
        let (mut bursts, start) = (Bursts::default(), crate::tunnel::now());
        bursts.handle_session(start);
        for i in 0..100_000u32 {
            let first = u64::from(i) * 4;
            bursts.handle_newer(first..first + 3, start + Duration::from_micros(20) * i);
        }
        assert!(bursts.open.len() <= OPEN_MAX && bursts.samples.len() <= SAMPLES_MAX);
    }
}
