//! A channel that loses, and a sender with a shield over it: the lab of this module's tests.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::super::delayed::{Copy, Delayed};
use super::super::dose::Dose;
use super::super::policy::{DECIDE_EVERY, Plan, ShieldState, Weather};

const STEP: Duration = Duration::from_micros(250);
/// Loss is counted over this time, as probes do.
const WINDOW_SLOTS: usize = 16;
/// Bursts that their length is told from, as probes do.
const BURSTS_MAX: usize = 64;
const RTT_MIN: Duration = Duration::from_millis(200);
const QUEUE_MAX: Duration = Duration::from_millis(500);

/// What the link does to datagrams.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Channel {
    /// Share lost, one by one.
    pub(crate) random: f64,
    /// Share of time in which all is lost, and the mean length of such a time.
    pub(crate) bursts: Option<(f64, Duration)>,
    /// Bytes a second that pass; more waits, up to half a second.
    pub(crate) bottleneck: Option<f64>,
    /// Bytes a second that pass; more is thrown away.
    pub(crate) policer: Option<f64>,
}

/// What is sent: `per_s` datagrams a second of `bytes`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) per_s: f64,
    pub(crate) bytes: usize,
}

/// What came of it.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) messages: u64,
    pub(crate) arrived: u64,
    /// How late each of them was: zero, or as much as the copy that brought it.
    pub(crate) late: Vec<Duration>,
    pub(crate) copies: u64,
    pub(crate) copied_bytes: u64,
    /// Steps from one count of copies to another.
    pub(crate) switches: u32,
    /// Spacing when last on.
    pub(crate) spacing: Duration,
    /// Share of the decisions in each state, in the order of [`ShieldState::ALL`].
    pub(crate) decisions: [u32; ShieldState::ALL.len()],
    /// Decisions for two copies.
    pub(crate) twice: u32,
}

impl Outcome {
    pub(crate) fn residual(&self) -> f64 {
        1.0 - count(self.arrived) / count(self.messages)
    }

    /// Share of messages that came later than this, or never.
    pub(crate) fn later_than(&self, time: Duration) -> f64 {
        let late = self.late.iter().filter(|late| **late > time).count() as u64;
        count(late + self.messages - self.arrived) / count(self.messages)
    }

    pub(crate) fn copies_each(&self) -> f64 {
        count(self.copies) / count(self.messages)
    }

    pub(crate) fn share(&self, state: ShieldState) -> f64 {
        let all: u32 = self.decisions.iter().sum();
        f64::from(self.decisions[state as usize]) / f64::from(all)
    }
}

/// The world: one sender, one channel, virtual time.
pub(crate) struct Lab {
    pub(crate) channel: Channel,
    pub(crate) load: Load,
    pub(crate) dose: Dose,
    pub(crate) now: Instant,
    random: Random,
    delayed: Delayed<usize>,
    /// When each message went, and how late it was when it came.
    messages: Vec<(Instant, Option<Duration>)>,
    bad_until: Option<Instant>,
    good_until: Instant,
    backlog: f64,
    allowance: f64,
    slots: VecDeque<Slot>,
    gap: Option<(Instant, u32)>,
    /// The last bursts: how long, and how many datagrams they cost.
    gaps: VecDeque<(Duration, u32)>,
    heard: Instant,
}

#[derive(Clone, Debug, Default)]
struct Slot {
    sent: u32,
    lost: u32,
    backlog_min: f64,
}

impl Lab {
    pub(crate) fn new(seed: u64, load: Load, channel: Channel) -> Self {
        let now = crate::tunnel::now();
        let mut dose = Dose::default();
        dose.budget.set_share(50e6 / 8.0);
        Self {
            channel,
            load,
            dose,
            now,
            random: Random(seed),
            delayed: Delayed::new(4 << 20),
            messages: Vec::new(),
            bad_until: None,
            good_until: now,
            backlog: 0.0,
            allowance: 0.0,
            slots: VecDeque::from([Slot::default()]),
            gap: None,
            gaps: VecDeque::new(),
            heard: now,
        }
    }

    /// Lets time pass. What is counted is counted anew.
    pub(crate) fn run(&mut self, time: Duration) -> Outcome {
        let mut outcome = Outcome::default();
        self.messages.clear();
        let (end, mut decide) = (self.now + time, self.now);
        while self.now < end {
            if self.now >= decide {
                decide += DECIDE_EVERY;
                self.decide(&mut outcome);
            }
            self.step(&mut outcome);
            self.now += STEP;
        }
        let settled = self.now + Duration::from_millis(100);
        self.send_due(settled, &mut outcome);
        outcome.messages = self.messages.len() as u64;
        outcome.late = self.messages.iter().filter_map(|(_, late)| *late).collect();
        outcome.arrived = outcome.late.len() as u64;
        outcome
    }

    fn step(&mut self, outcome: &mut Outcome) {
        let seconds = STEP.as_secs_f64();
        let rate = self.channel.bottleneck.unwrap_or(f64::INFINITY);
        self.backlog = (self.backlog - rate * seconds).max(0.0);
        let slot = self.slots.back_mut().unwrap();
        slot.backlog_min = slot.backlog_min.min(self.backlog);
        if let Some(rate) = self.channel.policer {
            self.allowance = (self.allowance + rate * seconds).min(rate / 50.0);
        }
        self.send_due(self.now, outcome);
        let mut due = self.load.per_s * seconds;
        while self.random.unit() < due {
            due -= 1.0;
            self.send_new(outcome);
        }
    }

    fn send_new(&mut self, outcome: &mut Outcome) {
        let (id, bytes) = (self.messages.len(), self.load.bytes);
        let arrives = self.offer(bytes);
        self.messages.push((self.now, arrives.then_some(Duration::ZERO)));
        let taken = self.dose.take(bytes, bytes, self.now);
        if let Ok(Plan { copies: copies @ 1.., spacing, .. }) = taken {
            outcome.spacing = spacing;
            let again = (copies > 1).then_some(spacing);
            let due = self.now + spacing;
            let bytes = vec![0; bytes];
            self.delayed.push(Copy { to: id, due, segment: bytes.len(), bytes, again });
        }
    }

    fn send_due(&mut self, until: Instant, outcome: &mut Outcome) {
        while let Some(mut copy) = self.delayed.pop(until) {
            outcome.copies += 1;
            outcome.copied_bytes += copy.bytes.len() as u64;
            let arrives = self.offer(copy.bytes.len());
            if let Some((sent, late @ None)) = self.messages.get_mut(copy.to)
                && arrives
            {
                *late = Some(copy.due.saturating_duration_since(*sent));
            }
            if let Some(after) = copy.again.take() {
                copy.due += after;
                self.delayed.push(copy);
            }
        }
    }

    fn offer(&mut self, bytes: usize) -> bool {
        let arrives = self.passes(bytes as f64);
        let slot = self.slots.back_mut().unwrap();
        slot.sent += 1;
        slot.lost += u32::from(!arrives);
        if arrives {
            if let Some((began, lost)) = self.gap.take()
                && lost >= 2
            {
                self.gaps.push_back((self.now - began, lost));
                self.gaps.drain(..self.gaps.len().saturating_sub(BURSTS_MAX));
            }
            self.heard = self.now;
        } else {
            self.gap.get_or_insert((self.heard, 0)).1 += 1;
        }
        arrives
    }

    fn passes(&mut self, bytes: f64) -> bool {
        if let Some((share, mean)) = self.channel.bursts {
            while self.now >= self.good_until {
                let bad = mean.mul_f64(self.random.exponential());
                let good = mean.mul_f64((1.0 - share) / share * self.random.exponential());
                self.bad_until = Some(self.good_until + bad);
                self.good_until += bad + good;
            }
            if self.bad_until.is_some_and(|until| self.now < until) {
                return false;
            }
        }
        if self.channel.policer.is_some() {
            if self.allowance < bytes {
                return false;
            }
            self.allowance -= bytes;
        }
        if let Some(rate) = self.channel.bottleneck {
            if (self.backlog + bytes) / rate > QUEUE_MAX.as_secs_f64() {
                return false;
            }
            self.backlog += bytes;
        }
        self.random.unit() >= self.channel.random
    }

    fn decide(&mut self, outcome: &mut Outcome) {
        let weather = self.weather();
        let before = self.dose.plan();
        let plan = self.dose.decide(Some(&weather), self.now);
        outcome.switches += u32::from(before.copies != plan.copies);
        outcome.decisions[plan.state as usize] += 1;
        outcome.twice += u32::from(plan.copies == 2);
        self.slots.push_back(Slot { backlog_min: self.backlog, ..Slot::default() });
        if self.slots.len() > WINDOW_SLOTS {
            self.slots.pop_front();
        }
    }

    fn weather(&self) -> Weather {
        let sum = |of: fn(&Slot) -> u32| self.slots.iter().map(of).sum::<u32>();
        let (sent, lost) = (sum(|slot| slot.sent), sum(|slot| slot.lost));
        let mut gaps: Vec<_> = self.gaps.iter().copied().collect();
        gaps.sort();
        let all: u32 = gaps.iter().map(|(_, lost)| lost).sum();
        let mut seen = 0;
        let burst = gaps.into_iter().find(|(_, lost)| {
            seen += lost;
            f64::from(seen) >= 0.9 * f64::from(all)
        });
        let last = self.slots.iter().rev().take(4).map(|slot| slot.backlog_min);
        let backlog = last.fold(f64::INFINITY, f64::min);
        let queueing = backlog / self.channel.bottleneck.unwrap_or(f64::INFINITY);
        Weather {
            loss: f64::from(lost) / f64::from(sent.max(1)),
            burst: burst.map_or(Duration::ZERO, |(long, _)| long.min(Duration::from_millis(60))),
            queueing: Duration::from_secs_f64(queueing),
            rtt_min: RTT_MIN,
            chat_per_s: self.load.per_s,
            all_per_s: f64::from(sent) / 4.0,
        }
    }
}

/// SplitMix64: the same world for the same seed.
struct Random(u64);

impl Random {
    fn unit(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.unit()).ln()
    }
}

fn count(of: u64) -> f64 {
    of as f64
}
