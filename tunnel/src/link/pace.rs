//! How often a handshake may be asked for again.

use std::time::{Duration, Instant};

/// The least time between two initiations that somebody asks for.
const GAP_MIN: Duration = Duration::from_millis(200);

/// The gap while the path's round trip is not known.
const GAP_UNKNOWN: Duration = Duration::from_millis(400);

/// The least gap by the number of initiations that were not answered: the round trip may have
/// grown. Sessions wait for two minutes; until then a link that is back must be noticed soon.
const GAPS: [(u32, Duration); 3] =
    [(60, GAP_MIN), (500, Duration::from_millis(300)), (u32::MAX, Duration::from_secs(1))];

/// After a handshake there is none for so long: the peer has our keys. boringtun keeps eight pairs
/// of keys by the number of their initiation, modulo eight: handshakes in quick succession would
/// throw away keys of which packets are still on their way.
const FRESH: Duration = Duration::from_secs(1);

/// When the last initiation went, when the last one was answered, and how many went since.
///
/// boringtun accepts an answer to its last two initiations. Asked more than twice within a round
/// trip, it would refuse every answer and the handshake would never end: so two gaps are never
/// shorter than the round trip of the last handshake, and some more.
#[derive(Debug, Default)]
pub(super) struct Pace {
    initiated: Option<Instant>,
    completed: Option<Instant>,
    unanswered: u32,
}

impl Pace {
    /// Whether another initiation may go.
    pub(super) fn allows(&self, round_trip: Option<Duration>, now: Instant) -> bool {
        let floor = GAPS.iter().find(|(most, _)| self.unanswered < *most);
        let floor = floor.map_or(GAP_MIN, |(_, gap)| *gap);
        let gap = round_trip.map_or(GAP_UNKNOWN, |round_trip| round_trip * 3 / 5).max(floor);
        let since = |at: Option<Instant>| at.map(|at| now.saturating_duration_since(at));
        since(self.initiated).is_none_or(|since| since >= gap)
            && since(self.completed).is_none_or(|since| since >= FRESH)
    }

    /// Whether a handshake was completed just now.
    pub(super) fn is_fresh(&self, now: Instant) -> bool {
        self.completed.is_some_and(|at| now.saturating_duration_since(at) < FRESH)
    }

    /// An initiation went.
    pub(super) fn initiated(&mut self, now: Instant) {
        self.initiated = Some(now);
        self.unanswered = self.unanswered.saturating_add(1);
    }

    /// An initiation was answered.
    pub(super) const fn completed(&mut self, now: Instant) {
        self.completed = Some(now);
        self.unanswered = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_follows_the_round_trip() {
        let (mut pace, now) = (Pace::default(), crate::tunnel::now());
        assert!(pace.allows(None, now), "the first one may go at once");
        pace.initiated(now);
        let allows = |pace: &Pace, round_trip_ms: Option<u64>, after_ms| {
            let round_trip = round_trip_ms.map(Duration::from_millis);
            pace.allows(round_trip, now + Duration::from_millis(after_ms))
        };
        for (round_trip, least) in [(Some(0), 200), (Some(600), 360), (None, 400)] {
            assert!(!allows(&pace, round_trip, least - 1), "{round_trip:?}");
            assert!(allows(&pace, round_trip, least), "{round_trip:?}");
        }
        (0..60).for_each(|_| pace.initiated(now));
        assert!(!allows(&pace, Some(0), 299) && allows(&pace, Some(0), 300));
        (0..440).for_each(|_| pace.initiated(now));
        assert!(!allows(&pace, Some(0), 999) && allows(&pace, Some(0), 1000));
        pace.completed(now);
        assert!(!allows(&pace, Some(0), 999), "the peer has our keys");
        assert!(allows(&pace, Some(0), 1000), "it is counted anew");
    }
}
