//! The line: a queue that is served at a rate, then a distance. Back there is only the distance.

use std::time::{Duration, Instant};

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// What every datagram costs on the line beside its UDP payload: WireGuard and the headers of both
/// layers.
const OVERHEAD_BYTES: usize = 48 + 32 + 28;

/// How a line is.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    pub(crate) mbit: f64,
    pub(crate) one_way: Duration,
    pub(crate) queue: Duration,
    pub(crate) loss: f64,
    /// Up to so much is added to each datagram, which may then be overtaken.
    pub(crate) jitter: Duration,
}

impl Line {
    /// Megabits a second, milliseconds of round trip, milliseconds of queue, share lost each way.
    pub(crate) fn new(mbit: f64, rtt_ms: u64, queue_ms: u64, loss: f64) -> Self {
        Self {
            mbit,
            one_way: Duration::from_millis(rtt_ms) / 2,
            queue: Duration::from_millis(queue_ms),
            loss,
            jitter: Duration::ZERO,
        }
    }
}

/// A line at work.
#[derive(Debug)]
pub(crate) struct LineState {
    pub(crate) line: Line,
    free: Instant,
    chance: SmallRng,
    pub(crate) overflowed: u64,
}

impl LineState {
    pub(crate) fn new(line: Line, now: Instant) -> Self {
        Self { line, free: now, chance: SmallRng::seed_from_u64(42), overflowed: 0 }
    }

    /// How long a datagram that comes now waits for the line.
    pub(crate) fn wait(&self, now: Instant) -> Duration {
        self.free.saturating_duration_since(now)
    }

    /// When it is there, if it gets there.
    pub(crate) fn send(&mut self, now: Instant, len: usize, back: bool) -> Option<Instant> {
        let jitter = self.line.jitter.mul_f64(self.chance.random());
        let lost = self.chance.random_bool(self.line.loss);
        if back {
            return (!lost).then(|| now + self.line.one_way + jitter);
        }
        let takes = (len + OVERHEAD_BYTES) as f64 * 8.0 / (self.line.mbit * 1e6);
        if self.wait(now) > self.line.queue {
            self.overflowed += 1;
            return None;
        }
        self.free = self.free.max(now) + Duration::from_secs_f64(takes);
        (!lost).then(|| self.free + self.line.one_way + jitter)
    }
}
