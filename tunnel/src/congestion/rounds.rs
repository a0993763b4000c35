//! What one round trip's worth of acknowledgements says.

use std::time::{Duration, Instant};

/// A round is no shorter than this, or a loopback's would hold a packet or two.
const ROUND_MIN: Duration = Duration::from_millis(2);

/// Round trips that [`Round::recent`] takes the least of.
const RECENT: usize = 16;

/// From a moment until what was sent after it is acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) begun: Instant,
    pub(crate) acked: u64,
    pub(crate) lost: u64,
    /// The least round trip: the queue that stood all the time.
    pub(crate) rtt_min: Option<Duration>,
    /// The most that was on its way.
    pub(crate) peak: u64,
    last: [Duration; RECENT],
    samples: usize,
    sum: Duration,
}

impl Round {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            acked: 0,
            lost: 0,
            rtt_min: None,
            peak: 0,
            last: [Duration::ZERO; RECENT],
            samples: 0,
            sum: Duration::ZERO,
        }
    }

    pub(crate) fn acked(&mut self, bytes: u64, rtt: Duration) {
        self.acked += bytes;
        self.rtt_min = Some(self.rtt_min.map_or(rtt, |least| least.min(rtt)));
        self.last[self.samples % RECENT] = rtt;
        self.samples += 1;
        self.sum += rtt;
    }

    /// How far the usual round trip is from the least, once there are enough of them.
    pub(crate) fn spread(&self) -> Option<Duration> {
        let count = u32::try_from(self.samples).unwrap_or(u32::MAX);
        (self.samples >= RECENT).then_some(())?;
        Some((self.sum / count).saturating_sub(self.rtt_min?))
    }

    /// Whether the acknowledgement of something sent at `sent` ends the round.
    pub(crate) fn ends(&self, now: Instant, sent: Instant) -> bool {
        sent >= self.begun && now.saturating_duration_since(self.begun) >= ROUND_MIN
    }

    /// The least of the latest round trips, once there are enough of them.
    pub(crate) fn recent(&self) -> Option<Duration> {
        (self.samples >= RECENT).then(|| self.last.into_iter().min()).flatten()
    }

    /// Bytes a second that arrived since the round began.
    pub(crate) fn rate(&self, now: Instant) -> f64 {
        let seconds = now.saturating_duration_since(self.begun).as_secs_f64();
        if seconds > 0.0 { self.acked as f64 / seconds } else { 0.0 }
    }

    /// The share of what was sent that was lost.
    pub(crate) fn loss(&self) -> f64 {
        let all = self.acked + self.lost;
        if all == 0 { 0.0 } else { self.lost as f64 / all as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_ends_with_what_was_sent_in_it() {
        let now = tokio::time::Instant::now().into_std();
        let ms = Duration::from_millis;
        let mut round = Round::new(now);
        round.acked(1000, ms(110));
        round.acked(1000, ms(100));
        round.lost += 2000;
        assert!(!round.ends(now + ms(90), now - ms(10)));
        assert!(!round.ends(now + ms(1), now), "too short");
        assert!(round.ends(now + ms(100), now));
        assert_eq!(round.rtt_min, Some(ms(100)));
        assert!((round.loss() - 0.5).abs() < 1e-9);
        assert!((round.rate(now + ms(100)) - 20_000.0).abs() < 1e-6);
    }

    #[test]
    fn the_latest_round_trips_are_a_window() {
        let ms = Duration::from_millis;
        let mut round = Round::new(tokio::time::Instant::now().into_std());
        round.acked(1, ms(1));
        assert_eq!(round.recent(), None, "one is not enough");
        (0..RECENT).for_each(|_| round.acked(1, ms(50)));
        assert_eq!(round.recent(), Some(ms(50)), "the first has left the window");
        assert_eq!(round.rtt_min, Some(ms(1)));
    }
}
