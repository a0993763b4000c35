//! The machine: how much may be on its way. No clock and no socket.
//!
//! ```text
//!             a queue appears, or nothing more arrives
//!   Starting ──────────────────────────────────────────► Alone
//!                                                        │   ▲
//!      a queue that stays although we made room for it   ▼   │  the queue has gone
//!                                                        Shared
//! ```
//!
//! From Alone it starts again once it has doubled and no queue showed, and from both when the
//! window was not used for long.
//!
//! **Starting** doubles each round trip. **Alone** holds a standing queue of some milliseconds
//! ([`TARGET`]): it adds a segment a flow and round trip, faster and faster while no queue shows,
//! and takes away just what stands too much. **Shared** is a [`Crowd`]. Every [`LOOK_INTERVAL`] it
//! makes room for some round trips: that shows the length of the empty path, or that nobody else
//! is there any more.

mod start;

use std::time::{Duration, Instant};

use crate::congestion::base::Base;
use crate::congestion::crowd::Crowd;
use crate::congestion::handles::{Flows, Warmth};
use crate::congestion::rounds::Round;
use crate::congestion::trains::Trains;

/// The standing queue that we allow ourselves: the first of these, and up to the second on top the
/// smaller the window is. Who has little may go on growing where who has much makes room, so that
/// several trunks on one line come to equal shares. quinn sends bursts of ten packets, 10 ms of a
/// 10 Mbit/s line, on top of it.
const TARGET: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(4));
/// Segments a flow, in a window that is small.
const SMALL: f64 = 8.0;
/// The standing queue where round trips vary by themselves.
const TARGET_JITTER: Duration = Duration::from_millis(16);
/// How often we make room to look.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);
/// Rounds that a look lasts: one until the room shows, one to see it.
const LOOK_ROUNDS: u32 = 3;
/// Times in a row that room was made in vain before others are taken to be there.
const IN_VAIN: u32 = 3;
/// The share of a window by which it may grow in a round trip, once no queue is in sight.
const GROWTH: f64 = 1.0 / 16.0;
/// A pace that has doubled sixteen times, and the window has about doubled meanwhile, without a
/// queue: the start was left too soon, or the line has become another. It starts again.
const RESTART_PACE: f64 = 65_536.0;
/// A window that was not used for so long may no longer fit, as in RFC 7661, section 4.4, which
/// has five minutes: half of it is tried as in a new connection.
const UNUSED: Duration = Duration::from_secs(10);
/// Loss above what the line has had all the time that counts as our own doing: a line that drops
/// instead of queueing.
const LOSS_EXCESS: f64 = 0.05;
/// The least window, in segments.
const LEAST: f64 = 4.0;

#[derive(Clone, Debug)]
enum Mode {
    /// The most that arrived in a round, the rounds since it grew, and whether bursts said that
    /// the line was about full: the queue of the start itself blurs them later.
    Starting { most: f64, flat: u32, near: bool },
    /// How fast it grows, how often room was made in vain, the window before, rounds to wait.
    Alone { pace: f64, vain: u32, before: f64, wait: u32 },
    /// As many flows as we stand for.
    Shared(Crowd),
}

impl Mode {
    const fn start() -> Self {
        Self::Starting { most: 0.0, flat: 0, near: false }
    }
}

/// Room made to look at the path.
#[derive(Clone, Copy, Debug)]
struct Look {
    rounds: u32,
    before: f64,
}

/// See the module.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    flows: Flows,
    warmth: Warmth,
    segment: f64,
    window: f64,
    /// What it is where nothing is known of the path.
    cold: f64,
    /// Where the window moves to, and by what share of the acknowledged bytes: over a round trip,
    /// because what is sent in a clump comes back and is sent again in a clump.
    goal: f64,
    slope: f64,
    mode: Mode,
    round: Round,
    trains: Trains,
    base: Base,
    look: Option<Look>,
    looked: Instant,
    /// When the window was last used.
    used: Instant,
    /// The loss of the line itself: follows the rounds' slowly upwards, fast downwards.
    line_loss: f64,
    /// How far round trips usually are from the least of their round: half of what chance adds to
    /// them, or of what our own bursts do.
    spread: Duration,
    /// What is being acknowledged ends the round.
    ends: bool,
}

impl Model {
    pub(crate) fn new(
        window: u64,
        cold: u64,
        segment: u16,
        flows: Flows,
        warmth: Warmth,
        now: Instant,
    ) -> Self {
        Self {
            flows,
            warmth,
            segment: f64::from(segment),
            window: window as f64,
            cold: cold as f64,
            goal: window as f64,
            slope: 0.0,
            mode: Mode::start(),
            round: Round::new(now),
            trains: Trains::default(),
            base: Base::default(),
            look: None,
            looked: now,
            used: now,
            line_loss: 0.0,
            spread: Duration::ZERO,
            ends: false,
        }
    }

    pub(crate) fn window(&self) -> u64 {
        bytes(self.window.max(LEAST * self.segment))
    }

    pub(crate) fn set_segment(&mut self, segment: u16) {
        self.segment = f64::from(segment);
    }

    pub(crate) fn on_ack(&mut self, now: Instant, sent: Instant, acked: u64, app_limited: bool) {
        let rtt = now.saturating_duration_since(sent);
        self.round.acked(now, acked, rtt);
        self.follow(acked as f64);
        if let Mode::Starting { near, .. } = self.mode {
            self.start_on(now, sent, acked, app_limited, near);
        }
        self.round.paused |= app_limited;
        self.ends |= self.round.ends(now, sent);
    }

    pub(crate) fn on_end_acks(&mut self, now: Instant, in_flight: u64, acked: u64) {
        self.round.peak = self.round.peak.max(in_flight + acked);
        if std::mem::take(&mut self.ends) {
            self.end_round(now);
        }
    }

    pub(crate) fn on_lost(&mut self, now: Instant, sent: Instant, lost: u64, persistent: bool) {
        self.round.lost += lost;
        self.follow(lost as f64);
        if persistent {
            // Nothing came through for several round trips: begin again, small.
            self.set((self.window / 4.0).min(32.0 * self.segment));
            self.mode = Mode::start();
            self.look = None;
            return;
        }
        if let Mode::Shared(crowd) = &mut self.mode {
            let packets = bytes((lost as f64 / self.segment).ceil()).max(1);
            crowd.lose(packets, now, sent);
            let window = crowd.window() * self.segment;
            if self.look.is_none() {
                self.set(window);
            }
        }
    }

    /// Moves the window at once.
    fn set(&mut self, window: f64) {
        self.window = window.max(LEAST * self.segment);
        (self.goal, self.slope) = (self.window, 0.0);
    }

    /// Moves the window over the next round trip.
    fn steer(&mut self, goal: f64) {
        self.goal = goal.max(LEAST * self.segment);
        self.slope = (self.goal - self.window) / self.window;
    }

    fn follow(&mut self, acked: f64) {
        let next = self.window + self.slope * acked;
        let (low, high) = (self.window.min(self.goal), self.window.max(self.goal));
        self.window = next.clamp(low, high);
    }

    fn queue(&self, rtt: Option<Duration>) -> Option<Duration> {
        Some(rtt?.saturating_sub(self.base.get()?))
    }

    /// The standing queue that we allow ourselves: more where chance moves the round trips more.
    fn target(&self) -> Duration {
        let small = f64::from(self.flows.get()) * SMALL * self.segment;
        let target = TARGET.0 + TARGET.1.mul_f64((small / self.window).sqrt().min(1.0));
        (self.spread / 2).clamp(target, TARGET_JITTER)
    }

    fn note_spread(&mut self, round: &Round) {
        if let Some(spread) = round.spread() {
            self.spread = (self.spread * 3 + spread) / 4;
        }
    }

    fn end_round(&mut self, now: Instant) {
        let mut round = std::mem::replace(&mut self.round, Round::new(now));
        round.close();
        let Some(rtt) = round.rtt() else { return };
        let base = self.base.note(now, rtt);
        let used = round.peak as f64 >= 0.75 * self.window;
        let queue = rtt.saturating_sub(base);
        self.note_spread(&round);
        let target = self.target();
        if let Some(look) = self.look {
            return self.look_on(look, queue, now);
        }
        let unused = now.saturating_duration_since(self.used);
        if used {
            self.used = now;
        }
        if unused >= UNUSED {
            return self.try_again();
        }
        if !used {
            if let Mode::Alone { pace, wait, .. } = &mut self.mode {
                (*pace, *wait) = (1.0, 0);
            }
            return;
        }
        match &mut self.mode {
            Mode::Starting { most, flat, .. } => {
                self.trains.end_round();
                let rate = round.rate(now);
                if rate > *most * 1.08 {
                    (*most, *flat) = (rate, 0);
                } else if !round.paused {
                    *flat += 1;
                }
                if *flat >= 3 || (*flat >= 1 && round.loss() > 0.15) {
                    let carried = if *flat >= 3 { *most } else { rate };
                    self.set(carried * base.as_secs_f64());
                    self.become_alone();
                }
            }
            Mode::Alone { .. } => {
                self.keep_short(&round, queue, now);
                self.answer_loss(&round);
            }
            Mode::Shared(crowd) => {
                if queue < target {
                    self.become_alone();
                } else {
                    crowd.resize(self.flows.get(), now);
                    crowd.grow(now, rtt.as_secs_f64());
                    let window = crowd.window() * self.segment;
                    self.steer(window);
                }
            }
        }
        self.begin_look(base, rtt, now);
    }

    /// Alone: towards a queue between half of the target and all of it.
    fn keep_short(&mut self, round: &Round, queue: Duration, now: Instant) {
        let (Some(base), Some(rtt)) = (self.base.get(), round.rtt()) else { return };
        let target = self.target();
        let Mode::Alone { pace, vain, before, wait } = &mut self.mode else { return };
        if *wait > 0 {
            *wait -= 1;
            return;
        }
        if queue <= target {
            *vain = 0;
            *pace = if queue < target / 2 { *pace * 2.0 } else { 1.0 };
            let step = f64::from(self.flows.get()) * self.segment;
            let fine = self.window * (target / 4).as_secs_f64() / rtt.as_secs_f64();
            let step = *pace * step.min(fine).max(self.segment);
            let most = self.window * GROWTH;
            // Faster only after the last step was seen not to queue, or the next two follow unseen:
            // 30 ms of a 10 Mbit/s line. At its fastest it has grown by an eighth and seen nothing.
            *wait = u32::from(step > self.segment && step < most);
            if *pace >= RESTART_PACE {
                self.mode = Mode::start();
            }
            self.warmth.remember(bytes(self.window), now);
            self.steer(self.window + step.min(most.max(self.segment)));
            return;
        }
        if *vain == 0 {
            *before = self.window;
        }
        *vain += 1;
        if *vain > IN_VAIN {
            let segments = *before / self.segment;
            self.mode = Mode::Shared(Crowd::new(self.flows.get(), segments, now));
            self.steer(segments * self.segment);
            self.looked = now;
            return;
        }
        // What was sent with the old window is still to be measured: wait for a round.
        (*pace, *wait) = (1.0, 1);
        let room = (base + target / 2).as_secs_f64();
        let fits = (self.window / rtt.as_secs_f64()).min(round.rate(now)) * room;
        self.steer(fits.max(self.window / 4.0));
    }

    /// Alone: loss far beyond the line's own is answered.
    fn answer_loss(&mut self, round: &Round) {
        let loss = round.loss();
        if loss > self.line_loss + LOSS_EXCESS && round.lost as f64 >= 8.0 * self.segment {
            self.steer(self.goal.min(self.window * (1.0 - loss / 2.0)));
            if let Mode::Alone { pace, .. } = &mut self.mode {
                *pace = 1.0;
            }
        }
        let follow = if loss > self.line_loss { 1.0 / 64.0 } else { 1.0 / 4.0 };
        self.line_loss += (loss - self.line_loss) * follow;
    }

    /// The line may have become another while little was sent: half of the window is tried anew.
    fn try_again(&mut self) {
        if self.window > self.cold && !matches!(self.mode, Mode::Starting { .. }) {
            self.set((self.window / 2.0).max(self.cold));
            self.mode = Mode::start();
        }
    }

    fn become_alone(&mut self) {
        self.mode = Mode::Alone { pace: 1.0, vain: 0, before: self.window, wait: 2 };
    }

    fn begin_look(&mut self, base: Duration, rtt: Duration, now: Instant) {
        let starting = matches!(self.mode, Mode::Starting { .. });
        if starting || now.saturating_duration_since(self.looked) < LOOK_INTERVAL {
            return;
        }
        self.looked = now;
        self.look = Some(Look { rounds: 0, before: self.goal });
        self.steer(self.goal * 0.9 * base.as_secs_f64() / rtt.as_secs_f64());
    }

    fn look_on(&mut self, look: Look, queue: Duration, now: Instant) {
        let gone = queue < self.target() / 2;
        let rounds = look.rounds + 1;
        if !gone && rounds < LOOK_ROUNDS {
            self.look = Some(Look { rounds, ..look });
            return;
        }
        self.look = None;
        self.looked = now;
        match &mut self.mode {
            Mode::Shared(_) if gone => {
                self.steer(self.window / 0.9);
                self.become_alone();
            }
            Mode::Shared(crowd) => {
                let window = crowd.window() * self.segment;
                self.steer(window);
            }
            Mode::Starting { .. } | Mode::Alone { .. } => self.steer(look.before),
        }
    }
}

/// A window in whole bytes.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a cast from a float saturates"
)]
fn bytes(window: f64) -> u64 {
    window as u64
}

#[cfg(test)]
mod tests;
