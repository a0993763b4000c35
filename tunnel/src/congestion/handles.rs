//! What a controller shares with the trunk: how many flows it stands for, and what is remembered
//! of a path from one connection to the next.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The most flows a controller stands for, however many sessions are busy: beyond that a trunk
/// would be a crowd in itself.
pub const FLOWS_MAX: u32 = 32;

/// How long a remembered rate is good for a first window.
const REMEMBERED_FOR: Duration = Duration::from_secs(600);

/// How many flows a connection stands for: the sessions that are busy on it. Clones share the
/// number; each connection has its own.
#[derive(Clone, Debug)]
pub struct Flows(Arc<AtomicU32>);

impl Default for Flows {
    fn default() -> Self {
        Self(Arc::new(AtomicU32::new(1)))
    }
}

impl Flows {
    /// Tells the controller, from its next round trip on.
    pub fn set(&self, busy: usize) {
        let busy = u32::try_from(busy).unwrap_or(FLOWS_MAX);
        self.0.store(busy.clamp(1, FLOWS_MAX), Ordering::Relaxed);
    }

    /// 1 to [`FLOWS_MAX`].
    #[must_use]
    pub fn get(&self) -> u32 {
        self.0.load(Ordering::Relaxed).clamp(1, FLOWS_MAX)
    }
}

/// What the path to one peer carried lately, kept beyond a connection so that the next one starts
/// warm. Clones share it; connections of both classes to the same peer should. Another path gets
/// another one.
#[derive(Clone, Debug, Default)]
pub struct Warmth(Arc<Mutex<Option<Remembered>>>);

#[derive(Clone, Copy, Debug)]
struct Remembered {
    window: u64,
    at: Instant,
}

impl Warmth {
    /// Remembers a window that filled the path without a queue. A smaller one replaces a larger
    /// only when that is old: a quiet connection says nothing of the path.
    pub fn remember(&self, window: u64, now: Instant) {
        let mut remembered = self.0.lock();
        let keeps = remembered.is_some_and(|old| {
            old.window > window && now.saturating_duration_since(old.at) < REMEMBERED_FOR
        });
        if !keeps {
            *remembered = Some(Remembered { window, at: now });
        }
    }

    /// The window remembered, unless it is too old.
    #[must_use]
    pub fn window(&self, now: Instant) -> Option<u64> {
        let remembered = (*self.0.lock())?;
        let age = now.saturating_duration_since(remembered.at);
        (age < REMEMBERED_FOR).then_some(remembered.window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_controller_stands_for_one_flow_to_thirty_two() {
        let flows = Flows::default();
        assert_eq!(flows.get(), 1);
        for (busy, stands_for) in [(0, 1), (7, 7), (1000, FLOWS_MAX), (usize::MAX, FLOWS_MAX)] {
            flows.set(busy);
            assert_eq!(flows.clone().get(), stands_for, "{busy}");
        }
    }

    #[test]
    fn a_quiet_connection_does_not_cool_a_path() {
        let now = tokio::time::Instant::now().into_std();
        let (soon, late) = (now + REMEMBERED_FOR / 2, now + REMEMBERED_FOR);
        let warmth = Warmth::default();
        assert_eq!(warmth.window(now), None);
        warmth.remember(1000, now);
        warmth.remember(10, soon);
        assert_eq!(warmth.window(soon), Some(1000));
        assert_eq!(warmth.window(late), None, "too old");
        warmth.remember(10, late);
        assert_eq!(warmth.window(late), Some(10));
    }
}
