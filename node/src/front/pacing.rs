//! Storms, paced: when many clients come at once, each gets its turn, and those that go on with a
//! session get theirs first.
//!
//! Three rates. One for TLS handshakes, which cost most. One for resumes, and one for new
//! WebSockets, which every resume that gets its turn uses up too: so new sessions get what resumes
//! leave, and never the other way round. What a handshake is for can't be known before it is done;
//! whoever is refused after it is told when to come back, which spreads those handshakes out.

use std::time::{Duration, Instant};

use antipode_runtime::clock;
use parking_lot::Mutex;

use crate::config::Pacing as Limits;
use crate::metrics::Metrics;

/// A rate with a burst of one second's worth, as GCRA keeps it: one instant, no timer.
///
/// (ITU-T I.371, "generic cell rate algorithm". Who comes too early is told how long to wait; a
/// crate such as `governor` does that too, but knows no rate that another one uses up.)
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    step: Duration,
    /// When the next one would be due if all came evenly.
    due: Instant,
}

/// How far ahead of its even pace a rate may be.
const BURST: Duration = Duration::from_secs(1);

impl Rate {
    /// `per_second` at most, after a burst of as many.
    #[must_use]
    pub fn new(per_second: u32, now: Instant) -> Self {
        Self { step: Duration::from_secs(1) / per_second.max(1), due: now }
    }

    /// Takes a turn: how long to wait for it. `None`: longer than `patience`, and no turn is taken.
    #[must_use]
    pub fn take(&mut self, patience: Duration, now: Instant) -> Option<Duration> {
        let due = self.due.max(now);
        let wait = due.saturating_duration_since(now + BURST);
        if wait > patience {
            return None;
        }
        self.due = due + self.step;
        Some(wait)
    }

    /// Uses up a turn, whether there is one or not; never more than `patience` and a burst ahead.
    pub fn use_up(&mut self, patience: Duration, now: Instant) {
        let due = self.due.max(now) + self.step;
        self.due = due.min(now + BURST + patience + self.step);
    }
}

/// What is paced.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Turn {
    /// A TLS handshake.
    Handshake,
    /// A new WebSocket.
    Session,
    /// A WebSocket whose session goes on.
    Resume,
}

impl Turn {
    /// `what` of `antipode_node_turns_waited_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Handshake => "handshake",
            Self::Session => "session",
            Self::Resume => "resume",
        }
    }

    /// The limit's name: how a refusal is counted and told.
    #[must_use]
    pub fn limit(self) -> &'static str {
        match self {
            Self::Handshake => "handshakes_per_second_max",
            Self::Session => "sessions_per_second_max",
            Self::Resume => "resumes_per_second_max",
        }
    }
}

/// Too many wait already.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TooMany;

/// The rates of one node.
#[derive(Debug)]
pub struct Pacing {
    patience: Duration,
    rates: Mutex<Rates>,
}

/// `None`: no limit.
#[derive(Debug)]
struct Rates {
    handshakes: Option<Rate>,
    sessions: Option<Rate>,
    resumes: Option<Rate>,
}

impl Pacing {
    /// As the limits say.
    #[must_use]
    pub fn new(limits: &Limits) -> Self {
        let now = clock::now();
        let rate = |per_second| (per_second > 0).then(|| Rate::new(per_second, now));
        let rates = Rates {
            handshakes: rate(limits.handshakes_per_second_max),
            sessions: rate(limits.sessions_per_second_max),
            resumes: rate(limits.resumes_per_second_max),
        };
        Self { patience: limits.wait_max, rates: Mutex::new(rates) }
    }

    /// Waits for a turn.
    pub(crate) async fn turn(&self, turn: Turn, metrics: &Metrics) -> Result<(), TooMany> {
        let wait = self.take(turn, clock::now()).ok_or(TooMany)?;
        if !wait.is_zero() {
            metrics.waited(turn);
            tokio::time::sleep(wait).await;
        }
        Ok(())
    }

    fn take(&self, turn: Turn, now: Instant) -> Option<Duration> {
        let mut rates = self.rates.lock();
        let Rates { handshakes, sessions, resumes } = &mut *rates;
        let rate = match turn {
            Turn::Handshake => handshakes,
            Turn::Session => &mut *sessions,
            Turn::Resume => resumes,
        };
        let wait = rate.as_mut().map_or(Some(Duration::ZERO), |rate| rate.take(self.patience, now));
        // One that is refused takes nobody's turn: anybody can say that a session goes on.
        if turn == Turn::Resume && wait.is_some() {
            sessions.iter_mut().for_each(|sessions| sessions.use_up(self.patience, now));
        }
        wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pacing(sessions: u32, resumes: u32) -> Pacing {
        Pacing::new(&Limits {
            sessions_per_second_max: sessions,
            resumes_per_second_max: resumes,
            ..Limits::default()
        })
    }

    /// How many of `count` that come at `now` get a turn, and the longest wait of those.
    fn storm(pacing: &Pacing, turn: Turn, count: u32, now: Instant) -> (u32, Duration) {
        let waits: Vec<_> = (0..count).filter_map(|_| pacing.take(turn, now)).collect();
        (u32::try_from(waits.len()).unwrap(), waits.into_iter().max().unwrap_or_default())
    }

    #[test]
    fn a_burst_passes_a_queue_waits_and_the_rest_is_refused() {
        let (pacing, now) = (pacing(100, 200), clock::now());
        let (taken, longest) = storm(&pacing, Turn::Session, 1000, now);
        assert!((200..=202).contains(&taken), "a burst, and as many as a second brings: {taken}");
        assert!(longest <= SECOND);
        assert_eq!(storm(&pacing, Turn::Session, 1000, now).0, 0);
        let later = now + SECOND / 2;
        assert!((49..=51).contains(&storm(&pacing, Turn::Session, 1000, later).0));
        let calm = now + 10 * SECOND;
        assert_eq!(pacing.take(Turn::Session, calm), Some(Duration::ZERO));
    }

    #[test]
    fn resumes_come_first() {
        let (one, now) = (pacing(100, 200), clock::now());
        storm(&one, Turn::Session, 10_000, now);
        assert_eq!(storm(&one, Turn::Resume, 200, now).0, 200, "new ones starve no resume");

        let (other, now) = (pacing(100, 200), clock::now());
        assert!((400..=402).contains(&storm(&other, Turn::Resume, 10_000, now).0));
        assert_eq!(storm(&other, Turn::Session, 10_000, now).0, 0, "what resumes leave");
        let after = now + 2 * SECOND;
        assert!(storm(&other, Turn::Session, 10_000, after).0 > 150, "and soon after them");
    }

    /// Anybody can say that a session goes on: who is refused must cost the others nothing.
    #[test]
    fn resumes_that_are_refused_take_no_turn_of_new_sessions() {
        let (pacing, now) = (pacing(1000, 10), clock::now());
        assert!(storm(&pacing, Turn::Resume, 100_000, now).0 <= 22);
        assert!(storm(&pacing, Turn::Session, 500, now).0 == 500, "starved by the refused");
    }

    #[test]
    fn no_limit_is_no_limit() {
        let (pacing, now) = (pacing(0, 0), clock::now());
        for turn in [Turn::Session, Turn::Resume] {
            assert_eq!(storm(&pacing, turn, 100_000, now), (100_000, Duration::ZERO));
        }
    }

    #[test]
    fn over_ten_seconds_the_rate_holds() {
        let mut rate = Rate::new(50, clock::now());
        let start = clock::now();
        let mut taken = 0;
        for ms in (0..10_000u64).step_by(3) {
            let now = start + Duration::from_millis(ms);
            taken += u32::from(rate.take(SECOND, now).is_some());
        }
        assert!((595..=605).contains(&taken), "500, a burst of 50, and 50 that wait: {taken}");
    }
}
