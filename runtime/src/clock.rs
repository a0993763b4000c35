//! The only place that asks what time it is.
//!
//! Machines take `now` as an argument; their drivers ask here. A test may set what its own thread
//! is told ([`virtual_time`]). That is no feature of the crate: what is tested is then what is
//! built anyway, and a thread that asks pays a nanosecond.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub mod virtual_time;

/// Monotonic time, the `now` that machines take.
///
/// It is tokio's clock, so a test with paused time moves drivers and machines together. Outside a
/// runtime it is the machine's own monotonic clock.
pub fn now() -> Instant {
    if let Some(now) = virtual_time::now() {
        return now;
    }
    tokio::time::Instant::now().into_std()
}

/// Wall-clock time since 1970-01-01 00:00:00 UTC; zero on a clock that stands before it.
#[expect(clippy::disallowed_methods, reason = "the one place where the wall clock is read")]
pub fn unix_now() -> Duration {
    if let Some(now) = virtual_time::unix_now() {
        return now;
    }
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn paused_time_moves_now() {
        let before = now();
        tokio::time::sleep(Duration::from_secs(3600)).await;
        assert_eq!(now() - before, Duration::from_secs(3600));
    }

    #[test]
    fn now_works_outside_a_runtime() {
        let before = now();
        assert!(now() >= before);
    }

    #[test]
    fn unix_time_is_past_the_first_release() {
        assert!(unix_now() > Duration::from_secs(1_700_000_000));
    }
}
