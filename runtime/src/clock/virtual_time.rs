//! Time that a test sets, for the thread it runs on.
//!
//! ```
//! # use std::time::Duration;
//! use antipode_runtime::clock::{self, virtual_time};
//!
//! let time = virtual_time::start();
//! let before = clock::now();
//! time.advance(Duration::from_secs(3600));
//! assert_eq!(clock::now() - before, Duration::from_secs(3600));
//! ```

use std::cell::Cell;
use std::marker::PhantomData;
use std::time::{Duration, Instant};

thread_local! {
    static SET: Cell<Option<Set>> = const { Cell::new(None) };
}

/// The wall clock of a virtual world begins here: 2026-01-01 00:00:00 UTC.
const WALL_START: Duration = Duration::from_secs(1_767_225_600);

#[derive(Clone, Copy)]
struct Set {
    now: Instant,
    unix: Duration,
}

/// Virtual time on this thread for as long as this lives.
#[derive(Debug)]
#[must_use = "virtual time ends when this is dropped"]
pub struct VirtualTime {
    /// The time of one thread: not to be moved to another.
    here: PhantomData<*const ()>,
}

/// Stops the clocks of this thread: monotonic time where it stands, the wall clock at the start of
/// 2026. A second start on one thread takes the first one's place.
pub fn start() -> VirtualTime {
    let here = VirtualTime { here: PhantomData };
    SET.set(None);
    SET.set(Some(Set { now: super::now(), unix: WALL_START }));
    here
}

impl VirtualTime {
    /// Both clocks go on by `step`.
    pub fn advance(&self, step: Duration) {
        change(|set| {
            set.now += step;
            set.unix += step;
        });
    }

    /// Monotonic time becomes `now`, and the wall clock moves as far. Earlier than it stands: no
    /// change, since such a clock never goes back.
    pub fn advance_to(&self, now: Instant) {
        let step = now.saturating_duration_since(super::now());
        self.advance(step);
    }

    /// The wall clock jumps, as when an operator sets it; monotonic time does not notice.
    pub fn set_unix(&self, unix: Duration) {
        change(|set| set.unix = unix);
    }
}

impl Drop for VirtualTime {
    fn drop(&mut self) {
        SET.set(None);
    }
}

pub(super) fn now() -> Option<Instant> {
    SET.get().map(|set| set.now)
}

pub(super) fn unix_now() -> Option<Duration> {
    SET.get().map(|set| set.unix)
}

fn change(change: impl FnOnce(&mut Set)) {
    if let Some(mut set) = SET.get() {
        change(&mut set);
        SET.set(Some(set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock;

    #[test]
    fn time_stands_until_it_is_moved() {
        let time = start();
        let (before, wall) = (clock::now(), clock::unix_now());
        assert_eq!((clock::now(), clock::unix_now()), (before, wall));
        time.advance(Duration::from_secs(5));
        time.advance_to(before);
        assert_eq!(clock::now() - before, Duration::from_secs(5), "it never goes back");
        time.set_unix(Duration::from_secs(7));
        time.advance_to(before + Duration::from_secs(6));
        assert_eq!(clock::unix_now(), Duration::from_secs(8), "the wall clock may jump");
    }

    #[test]
    fn other_threads_and_later_times_are_real() {
        let time = start();
        let real = std::thread::spawn(clock::unix_now).join().expect("no panic");
        assert_ne!(real, clock::unix_now());
        drop(time);
        assert!(now().is_none() && unix_now().is_none());
    }
}
