//! Is the link full? While its queue grows, no copies.

use std::time::{Duration, Instant};

/// Queueing from which a link counts as full: this much of the round trip without queues.
const FULL_SHARE: u32 = 5;
/// And never less than this, which scheduling and jitter reach on their own.
const FULL_MIN: Duration = Duration::from_millis(15);
/// A full link is free again under this share of what made it full.
const FREE_SHARE: u32 = 2;

/// For how long it must be free before copies go again.
const HOLD: Duration = Duration::from_secs(2);
/// [`HOLD`] doubles up to this while copies are what fills it.
const HOLD_LONGEST: Duration = Duration::from_secs(60);
/// Filling up this soon after is taken for the copies' doing.
const RELAPSE: Duration = Duration::from_secs(10);

/// The machine: on with a queue, off after a while without one.
#[derive(Debug)]
pub(crate) struct Brake {
    on: bool,
    free_since: Option<Instant>,
    released: Option<Instant>,
    hold: Duration,
}

impl Default for Brake {
    fn default() -> Self {
        Self { on: false, free_since: None, released: None, hold: HOLD }
    }
}

impl Brake {
    /// Whether the link is full, by what the last measurement says.
    pub(crate) fn is_on(&mut self, queueing: Duration, rtt_min: Duration, now: Instant) -> bool {
        let full = (rtt_min / FULL_SHARE).max(FULL_MIN);
        if !self.on {
            if queueing > full {
                self.put_on(now);
            }
            return self.on;
        }
        if queueing >= full / FREE_SHARE {
            self.free_since = None;
            return true;
        }
        let since = *self.free_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.hold {
            self.on = false;
            self.released = Some(now);
        }
        self.on
    }

    fn put_on(&mut self, now: Instant) {
        self.on = true;
        self.free_since = None;
        let away = |at: Instant| now.saturating_duration_since(at);
        self.hold = match self.released {
            Some(at) if away(at) < RELAPSE => (self.hold * 2).min(HOLD_LONGEST),
            Some(_) | None => HOLD,
        };
    }
}
