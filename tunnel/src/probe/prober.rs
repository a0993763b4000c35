//! One peer's probes: what is asked, what is answered, and what the echoes say.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Heard;
use super::codec::{Kind, Probe};
use super::seen::Seen;
use crate::metrics::ProbeOutcome;
use crate::quality::Quality;
use crate::quality::meter::{Meter, Report};
use crate::way::Way;

/// The way in use is probed this often,
const IN_USE_INTERVAL: Duration = Duration::from_millis(250);
/// less a tick that came early.
const TICK_SLACK: Duration = Duration::from_millis(50);
/// A peer that has not answered for so long may be another's WireGuard: it is asked this often.
const UNANSWERED_INTERVAL: Duration = Duration::from_secs(5);
/// Metrics follow this often: they are read every few seconds, and there may be many peers.
const SHOW_INTERVAL: Duration = Duration::from_secs(1);
/// Probes that may still be answered.
const OUTSTANDING_MAX: usize = 128;
/// An echo that comes later than this is of no use.
const OUTSTANDING_AGE_MAX: Duration = Duration::from_secs(5);
/// Echoes to one peer in a second.
pub(crate) const ECHOES_PER_SECOND_MAX: u32 = 64;
/// Shorter round trips than this are put down to the clock.
const REORDER_MIN: Duration = Duration::from_millis(2);
/// Longer reordering is loss to all purposes.
const REORDER_MAX: Duration = Duration::from_millis(30);

/// How a probe asks.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Asking {
    /// As long as a full packet.
    pub(crate) full: bool,
    /// Our datagrams go this way.
    pub(crate) in_use: bool,
}

/// What our end has counted of the peer's link.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(crate) struct Counts {
    /// Data messages to it.
    pub(crate) sent: u64,
    /// Data messages from it.
    pub(crate) arrived: u64,
    /// How long bursts of loss from it last.
    pub(crate) burst_in: Duration,
}

/// The probes of one peer.
#[derive(Debug)]
pub(crate) struct Prober {
    created: Instant,
    next_seq: u64,
    outstanding: VecDeque<Outstanding>,
    /// The peer's probes that were answered.
    seen: Seen,
    /// The newest probe of the peer's that came on the way it uses.
    used_seq: Option<u64>,
    echoes: Allowance,
    /// The newest echo that was made use of.
    echoed_seq: u64,
    heard: Option<Instant>,
    in_use_asked: Option<Instant>,
    shown: Option<Instant>,
    way: Option<Way>,
    burst_in: Duration,
    meter: Meter,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    seq: u64,
    way: Way,
    asking: Asking,
    asked: Instant,
}

impl Prober {
    /// `first_seq` is to be higher than any that a process before this one used.
    pub(crate) fn new(first_seq: u64, now: Instant) -> Self {
        Self {
            created: now,
            next_seq: first_seq,
            outstanding: VecDeque::new(),
            seen: Seen::default(),
            used_seq: None,
            echoes: Allowance { left: ECHOES_PER_SECOND_MAX, filled: now },
            echoed_seq: 0,
            heard: None,
            in_use_asked: None,
            shown: None,
            way: None,
            burst_in: Duration::ZERO,
            meter: Meter::default(),
        }
    }

    /// The link as it is.
    pub(crate) fn quality(&self, now: Instant) -> Quality {
        self.meter.quality(self.burst_in, now)
    }

    /// How late a message may be that was only overtaken.
    pub(crate) fn reordering(&self) -> Duration {
        (self.meter.jitter() * 5 / 2).clamp(REORDER_MIN, REORDER_MAX)
    }

    /// Whether the way in use is to be asked now, if nobody else has.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        let since = |at| now.saturating_duration_since(at);
        let answers = since(self.heard.unwrap_or(self.created)) < UNANSWERED_INTERVAL;
        let interval = if answers { IN_USE_INTERVAL } else { UNANSWERED_INTERVAL };
        self.in_use_asked.is_none_or(|at| since(at) + TICK_SLACK >= interval)
    }

    /// Whether the figures are to be shown again; says so once.
    pub(crate) fn is_to_be_shown(&mut self, now: Instant) -> bool {
        let is_due = |at| now.saturating_duration_since(at) >= SHOW_INTERVAL;
        let is_to_be_shown = self.shown.is_none_or(is_due);
        if is_to_be_shown {
            self.shown = Some(now);
        }
        is_to_be_shown
    }

    /// A probe for `way`.
    pub(crate) fn ask(&mut self, way: Way, asking: Asking, ours: Counts, now: Instant) -> Probe {
        let seq = self.next_seq;
        self.next_seq += 1;
        let is_old = |asked| now.saturating_duration_since(asked) > OUTSTANDING_AGE_MAX;
        while self.outstanding.pop_front_if(|probe| is_old(probe.asked)).is_some() {}
        if self.outstanding.len() >= OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Outstanding { seq, way, asking, asked: now });
        if asking.in_use {
            self.in_use_asked = Some(now);
            if self.way.replace(way.from_any()) != Some(way.from_any()) {
                self.meter.handle_way_change();
            }
        }
        self.burst_in = ours.burst_in;
        self.meter.handle_sent(ours.sent, now);
        let since = now.saturating_duration_since(self.created);
        Probe {
            kind: Kind::Probe,
            full: asking.full,
            in_use: asking.in_use,
            seq,
            time_us: u64::try_from(since.as_micros()).unwrap_or(u64::MAX),
            sent: ours.sent,
            arrived: ours.arrived,
            arrived_of: 0,
            burst_us: micros(ours.burst_in),
            held_us: 0,
        }
    }

    /// The echo of a peer's probe, and whether the probe says that the peer's datagrams come that
    /// way now.
    ///
    /// # Errors
    /// Why there is none.
    pub(crate) fn answer(
        &mut self,
        probe: &Probe,
        ours: Counts,
        now: Instant,
    ) -> Result<(Probe, bool), ProbeOutcome> {
        if !self.seen.is_new(probe.seq) {
            return Err(ProbeOutcome::Repeated);
        }
        if !self.echoes.take(now) {
            return Err(ProbeOutcome::Limited);
        }
        let is_used = probe.in_use && self.used_seq.is_none_or(|used| used < probe.seq);
        if is_used {
            self.used_seq = Some(probe.seq);
        }
        let echo = Probe {
            kind: Kind::Echo,
            sent: ours.sent,
            arrived: ours.arrived,
            arrived_of: probe.sent,
            burst_us: micros(ours.burst_in),
            held_us: 0,
            ..*probe
        };
        Ok((echo, is_used))
    }

    /// An echo came.
    ///
    /// # Errors
    /// If it is no echo of a probe that waits for one.
    pub(crate) fn handle_echo(
        &mut self,
        echo: &Probe,
        ours: Counts,
        now: Instant,
    ) -> Result<Heard, ProbeOutcome> {
        let at = self.outstanding.iter().position(|probe| probe.seq == echo.seq);
        let probe = at.and_then(|at| self.outstanding.remove(at)).ok_or(ProbeOutcome::Stale)?;
        let passed = now.saturating_duration_since(probe.asked);
        let rtt = passed.saturating_sub(Duration::from_micros(echo.held_us.into()));
        self.heard = Some(now);
        let is_newest = probe.seq >= self.echoed_seq;
        let Asking { full, in_use } = probe.asking;
        if is_newest && self.way == Some(probe.way.from_any()) {
            self.echoed_seq = probe.seq;
            let report = Report {
                rtt,
                sent: echo.arrived_of,
                arrived_there: echo.arrived,
                sent_there: echo.sent,
                arrived: ours.arrived,
                burst_out: Duration::from_micros(echo.burst_us.into()),
            };
            self.meter.handle_report(report, now);
        }
        Ok(Heard::Echo { way: probe.way, rtt, full, in_use })
    }
}

fn micros(duration: Duration) -> u32 {
    u32::try_from(duration.as_micros()).unwrap_or(u32::MAX)
}

/// So many a second, all of them at once if need be.
#[derive(Debug)]
struct Allowance {
    left: u32,
    filled: Instant,
}

impl Allowance {
    fn take(&mut self, now: Instant) -> bool {
        let one = Duration::from_secs(1) / ECHOES_PER_SECOND_MAX;
        let earned = now.saturating_duration_since(self.filled).as_nanos() / one.as_nanos();
        let earned = u32::try_from(earned).unwrap_or(u32::MAX);
        if self.left.saturating_add(earned) >= ECHOES_PER_SECOND_MAX {
            self.left = ECHOES_PER_SECOND_MAX;
            self.filled = now;
        } else {
            self.left += earned;
            self.filled += one * earned;
        }
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }
}

#[cfg(test)]
mod tests;
