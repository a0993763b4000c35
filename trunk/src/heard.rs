//! Whether the far end is heard: when something last came from it, and whether it answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// When something last came over a carrier, told by whoever reads it.
#[derive(Debug)]
pub(crate) struct Heard {
    at: Mutex<Instant>,
    count: AtomicU64,
}

impl Heard {
    pub(crate) fn new(now: Instant) -> Self {
        Self { at: Mutex::new(now), count: AtomicU64::new(0) }
    }

    pub(crate) fn note(&self, now: Instant) {
        *self.at.lock() = now;
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn at(&self) -> Instant {
        *self.at.lock()
    }

    /// How often something came.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

/// A carrier's counters at one time.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Sample {
    /// Whatever came.
    pub(crate) received: u64,
    /// What was sent and wants an answer.
    pub(crate) asked: u64,
    /// The answers that came.
    pub(crate) answered: u64,
}

/// How long the far end has been silent, from samples of the carrier's counters.
///
/// Two things count as silence: that nothing comes, and that nothing is answered. On a path that is
/// cut towards the far end only, its own attempts to be heard still come.
#[derive(Debug)]
pub(crate) struct Pulse {
    last: Sample,
    heard: Instant,
    /// Since when an answer is awaited.
    awaited: Option<Instant>,
}

impl Pulse {
    pub(crate) fn new(now: Instant) -> Self {
        Self { last: Sample::default(), heard: now, awaited: None }
    }

    pub(crate) fn handle_sample(&mut self, sample: Sample, now: Instant) {
        if sample.received != self.last.received {
            self.heard = now;
        }
        // Whether the answer is to what was asked since the last look can't be told: it may be, and
        // if it is not, what was asked is asked again.
        if sample.answered != self.last.answered {
            self.awaited = None;
        } else if sample.asked != self.last.asked {
            self.awaited.get_or_insert(now);
        }
        self.last = sample;
    }

    pub(crate) fn silence(&self, now: Instant) -> Duration {
        let since = self.awaited.map_or(self.heard, |awaited| awaited.min(self.heard));
        now.saturating_duration_since(since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_is_what_neither_comes_nor_is_answered() {
        let start = antipode_runtime::clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut pulse = Pulse::new(start);
        let mut sample = Sample::default();
        let mut check = |what: &str, ms, change: (u64, u64, u64), silence_ms| {
            sample.received += change.0;
            sample.asked += change.1;
            sample.answered += change.2;
            pulse.handle_sample(sample, at(ms));
            assert_eq!(pulse.silence(at(ms)), Duration::from_millis(silence_ms), "{what}");
        };
        check("nothing yet", 100, (0, 0, 0), 100);
        check("asked", 200, (0, 1, 0), 200);
        check("answered", 300, (1, 0, 1), 0);
        check("idle", 900, (0, 0, 0), 600);
        check("asked and answered, then only they speak", 950, (1, 1, 1), 0);
        check("still", 990, (9, 0, 0), 0);
        check("asked and answered between two looks", 1000, (1, 1, 1), 0);
        check("the path is cut: asked", 1100, (0, 1, 0), 100);
        check("asked again", 2000, (0, 1, 0), 1000);
        check("the far end speaks and does not answer", 2200, (1, 0, 0), 1100);
        check("answered at last", 2250, (1, 0, 1), 0);
        check("busy: answers to what was asked before", 2300, (9, 9, 3), 0);
        check("busy", 2400, (9, 9, 3), 0);
        check("only they speak", 9000, (9, 0, 3), 0);
        check("and nobody asks", 19_000, (9, 0, 0), 0);
    }

    #[test]
    fn a_note_is_an_instant_and_a_count() {
        let now = antipode_runtime::clock::now();
        let heard = Heard::new(now);
        heard.note(now + Duration::from_secs(1));
        assert_eq!((heard.at(), heard.count()), (now + Duration::from_secs(1), 1));
    }
}
