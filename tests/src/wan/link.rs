//! One direction of the link as a pure machine: a frame and a time in, its fate out. The same seed,
//! frames and times give the same fates.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;

use super::conditions::{Conditions, milliseconds};
use super::frame::{Kind, Shape};
use super::loss::Bursts;

/// Why a frame does not arrive.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The link is cut.
    Cut,
    /// UDP is blocked.
    UdpBlocked,
    /// Longer than the MTU.
    TooBig,
    /// The bottleneck's queue is full.
    QueueFull,
    /// Lost by itself.
    Loss,
    /// Lost in a burst.
    Burst,
    /// From or for a port that the translator no longer knows.
    Forgotten,
    /// More is under way than the emulator holds.
    Overflow,
    /// The device at the far end did not take it.
    Refused,
}

/// What becomes of a frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fate {
    /// It arrives then; a copy of it too, if so.
    Arrives {
        /// When.
        at: Instant,
        /// When once more.
        again: Option<Instant>,
    },
    /// It does not arrive.
    Lost(Cause),
}

/// One direction.
#[derive(Debug)]
pub struct Link {
    conditions: Conditions,
    rng: StdRng,
    bursts: Bursts,
    backlog: Backlog,
    /// When the last frame that kept its place arrives.
    last: Option<Instant>,
    /// What it did so far.
    pub counters: Counters,
}

/// What a direction did.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Packets that came.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets lost, by cause.
    pub lost: BTreeMap<Cause, u64>,
    /// Packets that arrive twice.
    pub duplicated: u64,
    /// Packets held back so that others overtake.
    pub held_back: u64,
    /// Longest queue before the bottleneck in bytes.
    pub queue_bytes_max: u64,
}

impl Counters {
    /// Counts a lost packet.
    pub fn lose(&mut self, cause: Cause) {
        *self.lost.entry(cause).or_default() += 1;
    }
}

/// What waits for the bottleneck.
#[derive(Debug, Default)]
struct Backlog {
    bytes: f64,
    at: Option<Instant>,
}

impl Backlog {
    /// Bytes that wait at `now`.
    fn drain(&mut self, rate: f64, now: Instant) -> f64 {
        let passed = self.at.map_or(Duration::ZERO, |before| now.saturating_duration_since(before));
        self.bytes = (self.bytes - passed.as_secs_f64() * rate).max(0.0);
        self.at = Some(now);
        self.bytes
    }
}

impl Link {
    /// One that does nothing to frames.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            conditions: Conditions::default(),
            rng: StdRng::seed_from_u64(seed),
            bursts: Bursts::default(),
            backlog: Backlog::default(),
            last: None,
            counters: Counters::default(),
        }
    }

    /// What it does to frames.
    #[must_use]
    pub fn conditions(&self) -> &Conditions {
        &self.conditions
    }

    /// Changes what it does to frames that come from now on.
    pub fn set(&mut self, conditions: Conditions) {
        self.conditions = conditions;
    }

    /// Takes a frame that came at `now`, which must not go back between two calls.
    pub fn handle_frame(&mut self, shape: &Shape, now: Instant) -> Fate {
        if shape.kind == Kind::Wire {
            return Fate::Arrives { at: now, again: None };
        }
        self.counters.packets += 1;
        self.counters.bytes += u64::try_from(shape.ip_bytes).unwrap_or(u64::MAX);
        let fate = self.decide(shape, now);
        if let Fate::Lost(cause) = fate {
            self.counters.lose(cause);
        }
        fate
    }

    fn decide(&mut self, shape: &Shape, now: Instant) -> Fate {
        let Conditions { mtu, block_udp, cut, loss, burst, .. } = self.conditions;
        if cut {
            return Fate::Lost(Cause::Cut);
        }
        if block_udp && matches!(shape.kind, Kind::Udp(_)) {
            return Fate::Lost(Cause::UdpBlocked);
        }
        if mtu > 0 && shape.ip_bytes > usize::from(mtu) {
            return Fate::Lost(Cause::TooBig);
        }
        let Some(sent) = self.bottleneck(shape.ip_bytes, now) else {
            return Fate::Lost(Cause::QueueFull);
        };
        // After the bottleneck: a lost packet has taken its room there.
        if self.rng.random_bool(loss) {
            return Fate::Lost(Cause::Loss);
        }
        if self.bursts.is_off(burst, now, &mut self.rng) {
            return Fate::Lost(Cause::Burst);
        }
        let at = self.arrival(sent);
        let again = self.rng.random_bool(self.conditions.duplicate).then(|| self.arrival(sent));
        self.counters.duplicated += u64::from(again.is_some());
        Fate::Arrives { at, again }
    }

    /// When the bottleneck has sent a packet that came at `now`; none if its queue is full.
    fn bottleneck(&mut self, bytes: usize, now: Instant) -> Option<Instant> {
        let rate = self.conditions.bytes_per_second();
        if rate <= 0.0 {
            self.backlog = Backlog::default();
            return Some(now);
        }
        let waiting = self.backlog.drain(rate, now);
        #[allow(clippy::cast_precision_loss, reason = "a frame is small")]
        let after = waiting + bytes as f64;
        // The packet that is being sent waits no more: an empty queue takes any.
        if waiting > 0.0 && after > self.conditions.queue_bytes_max() {
            return None;
        }
        self.backlog.bytes = after;
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a queue is small and not negative"
        )]
        let longest = after as u64;
        self.counters.queue_bytes_max = self.counters.queue_bytes_max.max(longest);
        Some(now + Duration::from_secs_f64(after / rate))
    }

    /// When a packet arrives that was sent then.
    fn arrival(&mut self, sent: Instant) -> Instant {
        let Conditions { delay_ms, jitter_ms, keep_order, reorder, reorder_ms, .. } =
            self.conditions;
        let jitter: f64 = self.rng.random();
        let at = sent + milliseconds(delay_ms + jitter * jitter_ms);
        if self.rng.random_bool(reorder) {
            self.counters.held_back += 1;
            return at + milliseconds(reorder_ms);
        }
        // Without jitter a shorter delay may let later packets overtake, as a new route does.
        let at = if keep_order { self.last.map_or(at, |last| last.max(at)) } else { at };
        self.last = Some(at);
        at
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
