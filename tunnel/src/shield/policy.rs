//! How often the datagrams to one peer are sent again, and how far apart: from loss, bursts and
//! queues.

use std::time::{Duration, Instant};

use super::brake::Brake;
use super::memory::Memory;
use super::trial::Trial;

/// How often [`Policy::decide`] is due.
pub(crate) const DECIDE_EVERY: Duration = Duration::from_millis(250);

/// Loss from which one copy goes. A path below it is clean: of 1,000 messages, one is late.
pub(crate) const LOSSY: f64 = 0.001;
/// Loss from which two copies go: one would leave 5 in 100,000 lost, each of them holds up the four
/// behind it in its lane (1,000 messages a second on 64 lanes, a quarter of a second), and an echo
/// goes both ways. That is half of the one message in a thousand that may be late.
pub(crate) const VERY_LOSSY: f64 = 0.007;
/// Bursts weigh from here on: for one loss in a thousand, whatever its form, one copy will do.
const BURSTY: f64 = 0.003;
/// A level is left for a lower one under this share of what asks for it.
const LEAVE_SHARE: f64 = 0.7;

/// The least time between a datagram and its copy: 8 ms, as measured. Less would lose both to what
/// drops several in a row; on a path of 200 ms it is a 25th.
pub(crate) const SPACING_MIN: Duration = Duration::from_millis(8);
/// The most: a first copy that comes later than a fifth of a long round trip helps few.
pub(crate) const SPACING_MAX: Duration = Duration::from_millis(40);
/// A copy is put this many bursts' length behind what it copies, and so beyond most of them. Two
/// that came after 0.9 of it let one in a thousand through at bursts of 5 ms, and several at 20.
const BEYOND: f64 = 1.5;
/// Bursts of this length need two copies: one that is beyond them would come late each time.
const LONG_BURST: Duration = Duration::from_millis(13);
/// Spacing over a second path: nothing that loses packets on one knows of the other, and two
/// datagrams of one run need not leave together.
pub(crate) const SPACING_ACROSS: Duration = Duration::from_millis(1);

/// A copy may be this many chat datagrams behind at most: quinn drops what is more than 128 packets
/// old.
const BEHIND_CHAT: f64 = 100.0;
/// The same for all datagrams to the peer: boringtun's replay window is 1,024 messages.
const BEHIND_ALL: f64 = 900.0;

/// Without measurements, as after a change of path, what was done goes on for so long.
const BLIND_FOR: Duration = Duration::from_secs(5);

/// For how long less must do before less is done.
const HOLD: Duration = Duration::from_secs(30);
/// [`HOLD`] doubles up to this when more is needed again soon after.
const HOLD_LONGEST: Duration = Duration::from_secs(480);

/// What is known of the way out to a peer, as far as copies depend on it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Weather {
    /// Share of our datagrams that got lost in the last seconds, copies included.
    pub(crate) loss: f64,
    /// How long losses in a row last; zero if there were none.
    pub(crate) burst: Duration,
    /// How much longer the round trip is than it need be, by queues.
    pub(crate) queueing: Duration,
    /// The round trip without queues.
    pub(crate) rtt_min: Duration,
    /// Chat datagrams that we send a second, without copies.
    pub(crate) chat_per_s: f64,
    /// All datagrams that we send a second.
    pub(crate) all_per_s: f64,
}

/// Why there are as many copies as there are.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub enum ShieldState {
    /// Switched off, or a way that needs none: a stream loses nothing.
    #[default]
    Off,
    /// Nothing is known of the way yet.
    Unmeasured,
    /// Next to nothing gets lost.
    Clean,
    /// Datagrams are sent again.
    On,
    /// The link's queue grows: copies would only push out others.
    Full,
    /// Fewer got lost without copies than with them.
    Harmful,
}

impl ShieldState {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Off, Self::Unmeasured, Self::Clean, Self::On, Self::Full, Self::Harmful];

    /// `state` of `antipode_tunnel_shield_state`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Unmeasured => "unmeasured",
            Self::Clean => "clean",
            Self::On => "on",
            Self::Full => "full",
            Self::Harmful => "harmful",
        }
    }
}

/// What is done for the next datagrams.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Plan {
    /// Copies of each: 0, 1 or 2.
    pub copies: u8,
    /// Between a datagram and its copy, and between that and the next.
    pub spacing: Duration,
    /// Why.
    pub state: ShieldState,
}

impl Plan {
    const fn none(state: ShieldState) -> Self {
        Self { copies: 0, spacing: Duration::ZERO, state }
    }
}

/// The machine for one peer. Loss alone raises the level at once and lowers it slowly; a full link,
/// or loss that copies make, puts it out for a time.
#[derive(Debug)]
pub(crate) struct Policy {
    level: u8,
    memory: Memory,
    lower_since: Option<Instant>,
    lowered: Option<Instant>,
    hold: Duration,
    brake: Brake,
    trial: Trial,
    seen: Option<Instant>,
    plan: Plan,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            level: 0,
            memory: Memory::default(),
            lower_since: None,
            lowered: None,
            hold: HOLD,
            brake: Brake::default(),
            trial: Trial::default(),
            seen: None,
            plan: Plan::none(ShieldState::Unmeasured),
        }
    }
}

impl Policy {
    /// Decides anew; call it every [`DECIDE_EVERY`]. `None`: nothing is known.
    pub(crate) fn decide(&mut self, weather: Option<&Weather>, now: Instant) -> Plan {
        if let Some(weather) = weather {
            self.seen = Some(now);
            self.plan = self.weigh(weather, now);
            return self.plan;
        }
        let is_blind = |at| now.saturating_duration_since(at) > BLIND_FOR;
        if self.seen.is_none_or(is_blind) {
            self.plan = Plan::none(ShieldState::Unmeasured);
        }
        self.plan
    }

    /// What was decided last.
    #[must_use]
    pub(crate) const fn plan(&self) -> Plan {
        self.plan
    }

    fn weigh(&mut self, weather: &Weather, now: Instant) -> Plan {
        self.memory.note(weather, now);
        self.set_level(weather, now);
        let is_full = self.brake.is_on(weather.queueing, weather.rtt_min, now);
        let copies = if is_full { 0 } else { self.level };
        let is_harmful = self.trial.forbids(copies, weather.loss, now);
        if self.level == 0 {
            return Plan::none(ShieldState::Clean);
        }
        if is_full {
            return Plan::none(ShieldState::Full);
        }
        if is_harmful {
            return Plan::none(ShieldState::Harmful);
        }
        let spacing = spacing(weather, self.memory.burst(), copies);
        Plan { copies, spacing, state: ShieldState::On }
    }

    fn set_level(&mut self, weather: &Weather, now: Instant) {
        let asked = self.asked(weather);
        if asked > self.level {
            self.raise(asked, now);
        }
        let kept = self.kept(weather);
        if kept >= self.level {
            self.lower_since = None;
            return;
        }
        let since = *self.lower_since.get_or_insert(now);
        if now.saturating_duration_since(since) >= self.hold {
            self.level = kept;
            self.lower_since = None;
            self.lowered = Some(now);
            self.memory.forget_loss();
        }
    }

    /// The level that is called for, whatever it is now.
    fn asked(&self, weather: &Weather) -> u8 {
        let is_long = self.memory.burst() >= LONG_BURST;
        if self.memory.shows(VERY_LOSSY, weather) || (is_long && self.memory.shows(BURSTY, weather))
        {
            return 2;
        }
        u8::from(self.memory.shows(LOSSY, weather))
    }

    /// The level that could not be left for a lower one.
    fn kept(&self, weather: &Weather) -> u8 {
        let is_long = self.memory.burst() >= LONG_BURST.mul_f64(LEAVE_SHARE);
        let loss = weather.loss / LEAVE_SHARE;
        if loss >= VERY_LOSSY || (is_long && loss >= BURSTY) {
            return 2;
        }
        u8::from(loss >= LOSSY)
    }

    /// Was it lowered too early? Then the next time it is held longer.
    fn raise(&mut self, needed: u8, now: Instant) {
        if let Some(lowered) = self.lowered {
            let away = now.saturating_duration_since(lowered);
            self.hold = if away < self.hold { (self.hold * 2).min(HOLD_LONGEST) } else { HOLD };
        }
        self.level = needed;
    }
}

fn spacing(weather: &Weather, burst: Duration, copies: u8) -> Duration {
    let wanted = burst.mul_f64(BEYOND).clamp(SPACING_MIN, SPACING_MAX);
    // The last copy is the one that must not be too late.
    let behind = |max: f64, per_s: f64| max / per_s.max(1.0) / f64::from(copies.max(1));
    let chat = behind(BEHIND_CHAT, weather.chat_per_s);
    let all = behind(BEHIND_ALL, weather.all_per_s);
    wanted.min(Duration::from_secs_f64(chat.min(all)))
}
