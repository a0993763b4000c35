//! When to dial a core: a machine without a clock, a socket or randomness of its own.
//!
//! A QUIC sender that waits doubles its probe time up to the length of the cut, a TCP sender too,
//! and so does the handshake of an attempt to dial. So while the core is silent there is never only
//! one attempt: a new one goes every [`STAGGER`], and the first one up takes the lanes. A core that
//! answers with a refusal is not silent: for that there is a backoff.
//!
//! That the core is heard again on the old carrier does not end the attempts: what it sent into the
//! cut waits for its own probes, which may be as far apart as the cut was long. Only a carrier that
//! stays heard keeps its lanes.
//!
//! Lanes for bulk can wait: nobody's session ends without them. Their port may be blocked where
//! chat's is not, so that attempts get rarer for as long as none is answered.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antipode_runtime::backoff::{Backoff, Bounds};
use antipode_tunnel::Class;
use rand::Rng;

/// Between two attempts while the core is silent. A cut that ends is noticed after half of it on
/// average; then come a round trip each for QUIC, the lane's greeting and the sessions' attach.
pub(super) const STAGGER: Duration = Duration::from_millis(300);

/// The same once sessions would not outlive the silence anyway.
const STAGGER_PATIENT: Duration = Duration::from_secs(1);

/// After this long [`STAGGER_PATIENT`] holds. Sessions wait for two minutes.
const PATIENT_AFTER: Duration = Duration::from_secs(150);

/// The longest between two attempts for bulk.
const BULK_GAP: Duration = Duration::from_secs(60);

/// A carrier that was silent and is heard for so long keeps its lanes.
const HEARD_FOR: Duration = Duration::from_secs(2);

/// Attempts under way at once. An attempt is given [`super::dialler::DIAL_PATIENCE`], so ten are.
pub(super) const ATTEMPTS_MAX: usize = 12;

/// Between attempts that were refused.
const REFUSED: Bounds = Bounds { first: Duration::from_millis(100), max: Duration::from_secs(1) };

/// The same for bulk.
const BULK_REFUSED: Bounds = Bounds { max: BULK_GAP, ..REFUSED };

/// What the driver has to do next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Output {
    /// Begin another attempt.
    Attempt,
    /// Drop those under way: the trunk is carried.
    CallOff,
}

/// How an attempt failed.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Failure {
    /// Nothing came back in time.
    Unanswered,
    /// Something said no.
    Refused,
}

/// What became of a carrier that was lost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Lost {
    /// It had carried a lane.
    Proven,
    /// The core took no lane on it.
    Unproven,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum State {
    /// A carrier is there, and the core is heard on it.
    Carried,
    /// There is none, or the core is not heard on it, or only now again.
    Wanting { since: Instant, heard: Option<Instant> },
}

/// When to dial, and how often.
#[derive(Debug)]
pub(super) struct Redial {
    class: Class,
    state: State,
    under_way: usize,
    /// Not before then comes the next attempt.
    next: Instant,
    /// Of bulk: from the next attempt to the one after it.
    gap: Duration,
    backoff: Backoff,
    outputs: VecDeque<Output>,
}

impl Redial {
    /// Nothing is there: the first attempt is due.
    pub(super) const fn new(class: Class, now: Instant) -> Self {
        let refused = match class {
            Class::Chat => REFUSED,
            Class::Bulk => BULK_REFUSED,
        };
        Self {
            class,
            state: State::Wanting { since: now, heard: None },
            under_way: 0,
            next: now,
            gap: STAGGER,
            backoff: Backoff::new(refused),
            outputs: VecDeque::new(),
        }
    }

    /// The core is not heard any more: dials at once, unless it does already.
    pub(super) fn handle_silent(&mut self, now: Instant) {
        match &mut self.state {
            State::Carried => {
                self.state = State::Wanting { since: now, heard: None };
                self.next = self.next.max(now);
            }
            State::Wanting { heard, .. } => *heard = None,
        }
    }

    /// The core is heard on the carrier that is there: begins no more attempts, and after a while
    /// drops those under way.
    pub(super) fn handle_heard(&mut self, now: Instant) {
        let State::Wanting { heard, .. } = &mut self.state else { return };
        let since = *heard.get_or_insert(now);
        if self.under_way == 0 || now.saturating_duration_since(since) >= HEARD_FOR {
            self.carried();
        }
    }

    /// The tunnel's way to the core is another one: one attempt is made beside the carrier that is
    /// there. If it fails, that one does.
    pub(super) fn handle_way_changed(&mut self, now: Instant) {
        match self.state {
            State::Carried => {
                // One that began on the older way measures that one.
                if std::mem::replace(&mut self.under_way, 1) > 0 {
                    self.outputs.push_back(Output::CallOff);
                }
                self.outputs.push_back(Output::Attempt);
            }
            // What is under way began on the older way, and repeats itself rarely by now.
            State::Wanting { .. } => self.handle_reachable(now),
        }
    }

    /// There is reason to think that the core can be reached now, where it could not be before.
    pub(super) fn handle_reachable(&mut self, now: Instant) {
        self.gap = STAGGER;
        self.next = self.next.min(now);
    }

    /// An attempt succeeded: its carrier takes the lanes.
    pub(super) fn handle_up(&mut self) {
        self.carried();
    }

    /// The core has taken a lane on the carrier.
    pub(super) const fn handle_proven(&mut self) {
        self.gap = STAGGER;
        self.backoff.reset();
    }

    /// An attempt failed.
    pub(super) fn handle_failed(&mut self, failure: Failure, now: Instant, rng: &mut impl Rng) {
        self.under_way = self.under_way.saturating_sub(1);
        if failure == Failure::Refused {
            self.next = self.next.max(now + self.backoff.next_delay(rng));
        }
    }

    /// The carrier is gone: one that has served is replaced at once.
    pub(super) fn handle_lost(&mut self, lost: Lost, now: Instant, rng: &mut impl Rng) {
        let delay = match lost {
            Lost::Proven => Duration::ZERO,
            Lost::Unproven => self.backoff.next_delay(rng),
        };
        match &mut self.state {
            State::Carried => {
                self.state = State::Wanting { since: now, heard: None };
                self.next = now + delay;
            }
            State::Wanting { heard, .. } => *heard = None,
        }
    }

    /// Runs whatever is due at `now`.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let State::Wanting { since, .. } = self.state else { return };
        if self.poll_timeout().is_none_or(|due| due > now) {
            return;
        }
        let is_patient = now.saturating_duration_since(since) >= PATIENT_AFTER;
        self.next = now
            + match self.class {
                Class::Chat if is_patient => STAGGER_PATIENT,
                Class::Chat => STAGGER,
                Class::Bulk => {
                    let doubled = (self.gap * 2).min(BULK_GAP);
                    std::mem::replace(&mut self.gap, doubled)
                }
            };
        self.under_way += 1;
        self.outputs.push_back(Output::Attempt);
    }

    /// Whether attempts are being made.
    pub(super) const fn is_dialling(&self) -> bool {
        matches!(self.state, State::Wanting { .. })
    }

    /// The next thing to do, or `None` once drained.
    #[must_use]
    pub(super) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When the next attempt is due. Changes after every other method.
    #[must_use]
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        let wanting = matches!(self.state, State::Wanting { heard: None, .. });
        (wanting && self.under_way < ATTEMPTS_MAX).then_some(self.next)
    }

    fn carried(&mut self) {
        self.state = State::Carried;
        if std::mem::take(&mut self.under_way) > 0 {
            self.outputs.push_back(Output::CallOff);
        }
    }
}

#[cfg(test)]
mod tests;
