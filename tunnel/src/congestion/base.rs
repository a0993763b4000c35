//! The round trip of the empty path: the least that was seen lately.

use std::time::{Duration, Instant};

/// A round trip counts for one to two of these. A path that has become longer is believed after it;
/// until then its length looks like others' queue, which costs speed but never starves.
const EPOCH: Duration = Duration::from_secs(30);

/// The least of this epoch and of the one before.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Base {
    before: Option<Duration>,
    current: Option<Duration>,
    begun: Option<Instant>,
}

impl Base {
    /// Takes a round's round trip, and returns the empty path's.
    pub(crate) fn note(&mut self, now: Instant, rtt: Duration) -> Duration {
        let begun = *self.begun.get_or_insert(now);
        if now.saturating_duration_since(begun) >= EPOCH {
            self.before = self.current.take();
            self.begun = Some(now);
        }
        let current = self.current.map_or(rtt, |least| least.min(rtt));
        self.current = Some(current);
        self.before.map_or(current, |before| before.min(current))
    }

    pub(crate) fn get(&self) -> Option<Duration> {
        self.before.into_iter().chain(self.current).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_is_kept_for_an_epoch_and_not_for_three() {
        let start = tokio::time::Instant::now().into_std();
        let at = |seconds| start + Duration::from_secs(seconds);
        let ms = Duration::from_millis;
        let mut base = Base::default();
        assert_eq!(base.get(), None);
        base.note(at(0), ms(200));
        base.note(at(1), ms(100));
        base.note(at(29), ms(300));
        assert_eq!(base.get(), Some(ms(100)));
        base.note(at(31), ms(300));
        assert_eq!(base.get(), Some(ms(100)), "an epoch later");
        base.note(at(62), ms(250));
        assert_eq!(base.get(), Some(ms(250)), "two epochs later");
    }
}
