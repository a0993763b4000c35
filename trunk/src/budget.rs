//! Most bytes that all sessions of a process may hold together, and what happens as that runs out.
//!
//! Each session has limits of its own, and they are generous: ten thousand that use theirs up would
//! not fit any machine. So the process counts what all hold, and as it fills up:
//!
//! | filled to | then |
//! |---|---|
//! | 75 % | windows stop growing and shrink to a floor |
//! | 85 % | who holds much gets no room; each second the largest that stand still end, until 75 % |
//! | 95 % | only who holds nothing gets room, and those that stand still end at once |
//! | 100 % | nobody gets room, and those that let most lie unread end at once, until 95 % |
//!
//! A session without a lane is not stalled: its trunk is broken, and it is promised to wait. What
//! it holds can't grow.

mod shed;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::cell::Cell;
use crate::metrics::BudgetMetrics;
use crate::sessions::Sessions;

/// What a session may hold and still get room when the budget is tight: several chunks.
pub(crate) const MODEST_BYTES: u64 = 64 * 1024;

/// How often sessions are asked whether they have moved.
const SWEEP_INTERVAL: Duration = Duration::from_millis(900);

/// Bytes for all sessions of a process. Clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    max: u64,
    used: AtomicU64,
    /// Tells those who wait for room that there may be some.
    roomy: Notify,
    trunks: Mutex<Vec<Weak<Sessions>>>,
    solos: Mutex<Vec<Weak<Cell>>>,
    sweep: Mutex<Sweep>,
    metrics: OnceLock<BudgetMetrics>,
}

#[derive(Debug, Default)]
struct Sweep {
    swept: Option<Instant>,
    relieved: Option<Instant>,
    /// The last look at all sessions found nobody whose end would help.
    futile: bool,
    pressed: bool,
}

/// How short of bytes the process is.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Strain {
    Easy,
    Pressed,
    Tight,
    Full,
    Over,
}

impl Budget {
    /// All sessions together may hold `bytes_max`.
    #[must_use]
    pub fn new(bytes_max: u64) -> Self {
        let inner = Inner {
            max: bytes_max,
            used: AtomicU64::new(0),
            roomy: Notify::new(),
            trunks: Mutex::default(),
            solos: Mutex::default(),
            sweep: Mutex::default(),
            metrics: OnceLock::new(),
        };
        Self { inner: Arc::new(inner) }
    }

    /// Each session is held to its own limits only. For tests of something else.
    #[must_use]
    pub fn unlimited() -> Self {
        Self::new(u64::MAX)
    }

    /// What sessions hold now.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.inner.used.load(Ordering::Relaxed)
    }

    /// What they may hold.
    #[must_use]
    pub fn max(&self) -> u64 {
        self.inner.max
    }

    /// From here on the budget is seen in these series. The first ones stay.
    pub(crate) fn export(&self, metrics: &BudgetMetrics) {
        let metrics = self.inner.metrics.get_or_init(|| metrics.clone());
        metrics.max_bytes.set(i64::try_from(self.inner.max).unwrap_or(i64::MAX));
    }

    pub(crate) fn add_trunk(&self, sessions: &Arc<Sessions>) {
        self.inner.trunks.lock().push(Arc::downgrade(sessions));
    }

    pub(crate) fn add_solo(&self, cell: &Arc<Cell>) {
        self.inner.solos.lock().push(Arc::downgrade(cell));
    }

    /// A session held `before` and holds `after`. Whether somebody may have to go.
    pub(crate) fn charge(&self, before: u64, after: u64) -> bool {
        let strained = match after.cmp(&before) {
            std::cmp::Ordering::Equal => return false,
            std::cmp::Ordering::Greater => {
                self.inner.used.fetch_add(after - before, Ordering::Relaxed);
                return self.strain() >= Strain::Full;
            }
            std::cmp::Ordering::Less => {
                let used = self.inner.used.fetch_sub(before - after, Ordering::Relaxed);
                self.strain_at(used)
            }
        };
        if strained > self.strain().max(Strain::Pressed) {
            self.inner.roomy.notify_waiters();
        }
        false
    }

    pub(crate) fn strain(&self) -> Strain {
        self.strain_at(self.used())
    }

    /// Whether a session that holds `held` may be given more.
    pub(crate) fn has_room(&self, held: u64) -> bool {
        match self.strain() {
            Strain::Easy | Strain::Pressed => true,
            Strain::Tight => held < MODEST_BYTES,
            Strain::Full => held == 0,
            Strain::Over => false,
        }
    }

    /// Resolves when there may be room again.
    pub(crate) fn roomy(&self) -> Notified<'_> {
        self.inner.roomy.notified()
    }

    fn strain_at(&self, used: u64) -> Strain {
        let share = |percent| self.inner.max / 100 * percent;
        match used {
            _ if used < share(75) => Strain::Easy,
            _ if used < share(85) => Strain::Pressed,
            _ if used < share(95) => Strain::Tight,
            _ if used < self.inner.max => Strain::Full,
            _ => Strain::Over,
        }
    }
}

#[cfg(test)]
mod tests;
