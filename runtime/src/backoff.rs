//! How long to wait before trying again: exponential, with full jitter.
//!
//! Pure: the randomness comes in. Full jitter spreads a crowd that lost the same peer at the same
//! moment best (Marc Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

use rand::Rng;

/// Waits that grow from one failure to the next, until [`Backoff::reset`].
#[derive(Clone, Debug)]
pub struct Backoff {
    bounds: Bounds,
    ceiling: Duration,
}

/// Between which waits a [`Backoff`] moves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Bounds {
    /// The first wait is at most this long.
    pub first: Duration,
    /// No wait is longer than this.
    pub max: Duration,
}

impl Backoff {
    /// Starts with waits of at most `bounds.first`.
    pub const fn new(bounds: Bounds) -> Self {
        Self { bounds, ceiling: bounds.first }
    }

    /// The next wait: uniform between zero and a ceiling that doubles with each call.
    pub fn next_delay(&mut self, rng: &mut impl Rng) -> Duration {
        let ceiling = self.ceiling.min(self.bounds.max);
        self.ceiling = ceiling.saturating_mul(2).min(self.bounds.max);
        rng.random_range(Duration::ZERO..=ceiling)
    }

    /// What was tried worked: the next wait is short again.
    pub const fn reset(&mut self) {
        self.ceiling = self.bounds.first;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    const BOUNDS: Bounds =
        Bounds { first: Duration::from_millis(100), max: Duration::from_millis(1_500) };

    #[test]
    fn the_ceiling_doubles_up_to_the_maximum_and_falls_back() {
        let mut backoff = Backoff::new(BOUNDS);
        for expected_ms in [100, 200, 400, 800, 1_500, 1_500] {
            assert_eq!(backoff.ceiling, Duration::from_millis(expected_ms));
            backoff.next_delay(&mut StdRng::seed_from_u64(1));
        }
        backoff.reset();
        assert_eq!(backoff.ceiling, BOUNDS.first);
    }

    #[test]
    fn a_crowd_spreads_over_the_whole_range() {
        let mut rng = StdRng::seed_from_u64(7);
        let delays: Vec<_> =
            (0..1_000).map(|_| Backoff::new(BOUNDS).next_delay(&mut rng).as_millis()).collect();
        for tenth in 0..10 {
            let in_tenth = delays.iter().filter(|&&ms| ms / 10 == tenth).count();
            assert!((60..140).contains(&in_tenth), "{in_tenth} of 1000 in tenth {tenth}");
        }
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_its_ceiling(seed: u64, tries in 1_u32..200) {
            let mut rng = StdRng::seed_from_u64(seed);
            let mut backoff = Backoff::new(BOUNDS);
            for tried in 0..tries {
                let ceiling = BOUNDS.first.saturating_mul(2_u32.saturating_pow(tried));
                prop_assert!(backoff.next_delay(&mut rng) <= ceiling.min(BOUNDS.max));
            }
        }
    }
}
