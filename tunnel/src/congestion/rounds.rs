//! What one round trip's worth of acknowledgements says.

use std::time::{Duration, Instant};

/// A round is no shorter than this, or a loopback's would hold a packet or two.
const ROUND_MIN: Duration = Duration::from_millis(2);

/// Acknowledgements that [`Round::recent`] takes the least of, as RFC 9406 has it.
const RECENT: usize = 8;

/// One in so many acknowledgements may show a shorter round trip than the path has: who is held up
/// between asking for the time and reading what has come in the meantime takes it for early. On
/// two busy cores 1 in 10,000 did, by up to 9 ms, and was the empty path's for a minute.
const EARLY: usize = 32;
/// The most of them that a round leaves out.
const EARLY_MOST: usize = 3;

/// From a moment until what was sent after it is acknowledged.
#[derive(Clone, Debug)]
pub(crate) struct Round {
    pub(crate) begun: Instant,
    pub(crate) acked: u64,
    pub(crate) lost: u64,
    /// The most that was on its way.
    pub(crate) peak: u64,
    /// There was nothing to send at times: what arrived says little of what the line carries.
    pub(crate) paused: bool,
    /// When acknowledgements were last read, and the least round trip among them: what is read at
    /// one moment is one look at the path, right or wrong together.
    read: Option<(Instant, Duration)>,
    /// The least of those before, in order.
    least: [Duration; EARLY_MOST + 1],
    last: [Duration; RECENT],
    reads: usize,
    sum: Duration,
}

impl Round {
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            begun: now,
            acked: 0,
            lost: 0,
            peak: 0,
            paused: false,
            read: None,
            least: [Duration::MAX; EARLY_MOST + 1],
            last: [Duration::ZERO; RECENT],
            reads: 0,
            sum: Duration::ZERO,
        }
    }

    pub(crate) fn acked(&mut self, now: Instant, bytes: u64, rtt: Duration) {
        self.acked += bytes;
        match &mut self.read {
            Some((at, least)) if *at == now => *least = (*least).min(rtt),
            Some(_) | None => {
                self.close();
                self.read = Some((now, rtt));
            }
        }
    }

    /// What was read last is complete.
    pub(crate) fn close(&mut self) {
        let Some((_, rtt)) = self.read.take() else { return };
        self.last[self.reads % RECENT] = rtt;
        self.reads += 1;
        self.sum += rtt;
        let mut next = rtt;
        for least in &mut self.least {
            if next < *least {
                std::mem::swap(least, &mut next);
            }
        }
    }

    /// The least round trip, which says what queue stood all the time; without those that are
    /// likely to be wrong.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        let early = (self.reads / EARLY).min(EARLY_MOST);
        (self.reads > 0).then(|| self.least[early])
    }

    /// How far the usual round trip is from the least, once there are enough of them.
    pub(crate) fn spread(&self) -> Option<Duration> {
        let count = u32::try_from(self.reads).unwrap_or(u32::MAX);
        (self.reads >= RECENT).then_some(())?;
        Some((self.sum / count).saturating_sub(self.rtt()?))
    }

    /// Whether the acknowledgement of something sent at `sent` ends the round.
    pub(crate) fn ends(&self, now: Instant, sent: Instant) -> bool {
        sent >= self.begun && now.saturating_duration_since(self.begun) >= ROUND_MIN
    }

    /// The least of the latest round trips, once there are enough of them.
    pub(crate) fn recent(&self) -> Option<Duration> {
        (self.reads >= RECENT).then(|| self.last.into_iter().min()).flatten()
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
        round.acked(now, 1000, ms(110));
        round.acked(now + ms(1), 1000, ms(100));
        round.close();
        round.lost += 2000;
        assert!(!round.ends(now + ms(90), now - ms(10)));
        assert!(!round.ends(now + ms(1), now), "too short");
        assert!(round.ends(now + ms(100), now));
        assert_eq!(round.rtt(), Some(ms(100)));
        assert!((round.loss() - 0.5).abs() < 1e-9);
        assert!((round.rate(now + ms(100)) - 20_000.0).abs() < 1e-6);
    }

    #[test]
    fn the_latest_round_trips_are_a_window() {
        let ms = Duration::from_millis;
        let now = tokio::time::Instant::now().into_std();
        let mut round = Round::new(now);
        (0..50).for_each(|_| round.acked(now, 1, ms(1)));
        assert_eq!(round.recent(), None, "one look is not enough, whatever it saw");
        (1..=9).for_each(|at| round.acked(now + ms(at), 1, ms(50)));
        assert_eq!(round.recent(), Some(ms(50)), "the first has left the window");
        round.close();
        assert_eq!(round.rtt(), Some(ms(1)));
    }

    #[test]
    fn what_is_read_too_early_now_and_then_is_left_out() {
        let ms = Duration::from_millis;
        let now = tokio::time::Instant::now().into_std();
        let mut round = Round::new(now);
        let rtt = |at| if at == 40 { ms(191) } else { ms(200) };
        (0..100).for_each(|at| round.acked(now + ms(at), 1, rtt(at)));
        round.close();
        assert_eq!(round.rtt(), Some(ms(200)));
        // A path that has become shorter says so all the time.
        (100..110).for_each(|at| round.acked(now + ms(at), 1, ms(150)));
        round.close();
        assert_eq!(round.rtt(), Some(ms(150)));
    }
}
