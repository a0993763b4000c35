//! What copies may cost: a bucket of bytes a peer, from which small datagrams are served longest.

use std::time::{Duration, Instant};

/// The largest datagram that is copied: every one of a path of 1,500 bytes.
const LARGE_BYTES: f64 = 1_500.0;
/// With an empty bucket, only up to this: a keystroke, a cursor, an acknowledgement.
const SMALL_BYTES: f64 = 200.0;
/// The bucket holds what comes in in this time,
const BURST: Duration = Duration::from_millis(250);
/// but never less than a few runs.
const BURST_BYTES_MIN: f64 = 16_384.0;

/// After a brake, half of what was spent may be spent, and it grows back by this much a second.
const EASE_PER_S: f64 = 0.05;
/// The least that a brake leaves.
const RATE_MIN: f64 = 8_000.0;
/// Spending is averaged over this time.
const SPENT_OVER_S: f64 = 2.0;

/// Bytes for copies to one peer.
#[derive(Debug)]
pub(crate) struct Budget {
    /// Bytes a second, the setting divided by the peers that need it.
    share: f64,
    /// Bytes a second that are left of it after a brake.
    cap: f64,
    tokens: f64,
    spent_per_s: f64,
    at: Option<Instant>,
}

impl Default for Budget {
    fn default() -> Self {
        let tokens = BURST_BYTES_MIN;
        Self { share: 0.0, cap: f64::INFINITY, tokens, spent_per_s: 0.0, at: None }
    }
}

impl Budget {
    /// Sets what this peer may have, in bytes a second.
    pub(crate) fn set_share(&mut self, bytes_per_s: f64) {
        self.share = bytes_per_s;
    }

    /// Copies were too much for the link: from now on half of them, and slowly more.
    pub(crate) fn brake(&mut self) {
        self.cap = (self.spent_per_s / 2.0).max(RATE_MIN);
    }

    /// Takes the price of `copies` copies of a run, unless there is not enough, or its datagrams
    /// are too large for what is left.
    pub(crate) fn take(&mut self, run: usize, segment: usize, copies: u8, now: Instant) -> bool {
        self.pass(now);
        let (run, segment) = (bytes(run) * f64::from(copies), bytes(segment));
        if self.rate() <= 0.0 || run > self.tokens || segment > self.size_max() {
            return false;
        }
        self.tokens -= run;
        self.spent_per_s += run / SPENT_OVER_S;
        true
    }

    fn rate(&self) -> f64 {
        self.share.min(self.cap)
    }

    fn depth(&self) -> f64 {
        (self.rate() * BURST.as_secs_f64()).max(BURST_BYTES_MIN)
    }

    /// The largest datagram that is copied: any while the bucket is at least half full.
    fn size_max(&self) -> f64 {
        let fill = (self.tokens / self.depth() * 2.0).clamp(0.0, 1.0);
        SMALL_BYTES + (LARGE_BYTES - SMALL_BYTES) * fill
    }

    fn pass(&mut self, now: Instant) {
        let before = self.at.replace(now).unwrap_or(now);
        let seconds = now.saturating_duration_since(before).as_secs_f64();
        if self.cap < self.share {
            self.cap *= (seconds * EASE_PER_S).exp();
        }
        self.tokens = (self.tokens + self.rate() * seconds).min(self.depth());
        self.spent_per_s *= (-seconds / SPENT_OVER_S).exp();
    }
}

fn bytes(count: usize) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}
