//! The start: how fast it grows, and what ends it.

use std::time::{Duration, Instant};

use super::{Mode, Model};

/// A queue that ends the start: an eighth of the round trip, within these.
const START_QUEUE: (Duration, Duration) = (Duration::from_millis(4), Duration::from_millis(16));
/// What the start grows by in a round trip once bursts say that the line is about full.
const START_NEAR: f64 = 1.0 / 8.0;
/// Round trips that vary more than this hide how far apart the packets of a burst arrive.
const SPREAD: Duration = Duration::from_millis(4);

impl Model {
    pub(super) fn start_on(
        &mut self,
        now: Instant,
        sent: Instant,
        acked: u64,
        app_limited: bool,
        near: bool,
    ) {
        let near = near || self.near_full();
        if let Mode::Starting { near: known, .. } = &mut self.mode {
            *known = near;
        }
        if !app_limited {
            self.trains.acked(now, sent, acked);
            self.set(self.window + acked as f64 * if near { START_NEAR } else { 1.0 });
        }
        let spread = if near { Duration::ZERO } else { self.spread };
        let full = self.start_queue() + spread;
        if self.queue(self.round.recent()).is_some_and(|queue| queue > full) {
            self.leave_start(now);
        }
    }

    /// Whether the bursts say that the line is about full.
    fn near_full(&self) -> bool {
        let carried = self.trains.rate().zip(self.base.get());
        self.spread < SPREAD
            && carried.is_some_and(|(rate, base)| self.window > rate * base.as_secs_f64())
    }

    fn start_queue(&self) -> Duration {
        let (least, most) = START_QUEUE;
        (self.base.get().unwrap_or_default() / 8).clamp(least, most)
    }

    fn leave_start(&mut self, now: Instant) {
        let (Some(base), Some(rtt)) = (self.base.get(), self.round.recent()) else { return };
        // What arrives now was sent with half of the window.
        let fits = self.window / 2.0 * base.as_secs_f64() / rtt.as_secs_f64();
        self.set(fits.max(self.round.rate(now) * base.as_secs_f64()));
        self.become_alone();
    }
}
