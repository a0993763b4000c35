//! One way to a peer: the probes that went, and what their echoes say.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::{Candidate, WayState};
use crate::way::Way;

/// A probe is counted as lost after twice the round trip and this, so that jitter is not loss.
const LATE_AFTER: Duration = Duration::from_secs(1);
/// The same while no round trip is known.
const LATE_AFTER_UNKNOWN: Duration = Duration::from_secs(3);
/// An echo of a probe older than this is not believed.
const FORGET_AFTER: Duration = Duration::from_secs(10);
/// Probes kept in mind: ten seconds' worth of the fastest pace, and some.
const PENDING_MAX: usize = 64;
/// What the prober's clock may round: an echo names its probe by the time it went.
const CLOCK_SLACK: Duration = Duration::from_millis(1);
/// Echoes further apart than this are rare.
const SPARSE: Duration = Duration::from_secs(1);
/// Outcomes that loss is taken of.
const OUTCOMES: u32 = u32::BITS;
/// The first time that a way, which passes probes but not WireGuard, is left out; doubles.
const MUTE_FIRST: Duration = Duration::from_secs(30);
/// The longest such time.
const MUTE_MAX: Duration = Duration::from_secs(600);

/// How a way ranks before anything is measured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) enum Kind {
    /// Straight to the peer.
    Direct,
    /// By a neighbour.
    Through,
    /// Over TCP: loss there is everybody's delay.
    Stream,
}

#[derive(Clone, Copy, Debug)]
struct Pending {
    sent: Instant,
    full: bool,
    counted: bool,
}

/// What became of the last probes.
#[derive(Clone, Copy, Debug, Default)]
struct Outcomes {
    /// One bit a probe, the newest lowest; set: lost.
    bits: u32,
    concluded: u32,
}

/// A candidate and its measurements.
#[derive(Debug)]
pub(super) struct Track {
    pub(super) candidate: Candidate,
    /// Still among the candidates; one that is not goes when it is not in use.
    pub(super) is_listed: bool,
    /// Known from the start but for streams.
    pub(super) way: Option<Way>,
    /// Not probed before then: the race's head start of others.
    pub(super) begins: Instant,
    probed: Option<Instant>,
    full_probed: Option<Instant>,
    pending: VecDeque<Pending>,
    outcomes: Outcomes,
    /// Of small probes only.
    small: Outcomes,
    rtt: Option<Duration>,
    last_rtt: Option<Duration>,
    jitter: Duration,
    answered: Option<Instant>,
    heard: Option<Instant>,
    /// WireGuard's handshake was answered on it.
    shaken: Option<Instant>,
    full_answered: u32,
    full_lost: u32,
    muted_until: Option<Instant>,
    mutes: u32,
}

impl Track {
    pub(super) fn new(candidate: Candidate, begins: Instant) -> Self {
        let way = match &candidate {
            Candidate::Udp(remote) => Some(Way::from(*remote)),
            Candidate::Through(id) => Some(Way::Through(*id)),
            Candidate::Stream(_) => None,
        };
        Self {
            candidate,
            is_listed: true,
            way,
            begins,
            probed: None,
            full_probed: None,
            pending: VecDeque::new(),
            outcomes: Outcomes::default(),
            small: Outcomes::default(),
            rtt: None,
            last_rtt: None,
            jitter: Duration::ZERO,
            answered: None,
            heard: None,
            shaken: None,
            full_answered: 0,
            full_lost: 0,
            muted_until: None,
            mutes: 0,
        }
    }

    pub(super) const fn kind(&self) -> Kind {
        match self.candidate {
            Candidate::Udp(_) => Kind::Direct,
            Candidate::Through(_) => Kind::Through,
            Candidate::Stream(_) => Kind::Stream,
        }
    }

    /// A stream's way comes and goes: what was measured on the last one says nothing of this one.
    pub(super) fn set_way(&mut self, way: Option<Way>, now: Instant) {
        let candidate = self.candidate.clone();
        let is_listed = self.is_listed;
        *self = Self { way, is_listed, ..Self::new(candidate, now) };
    }

    /// When the next probe is due at this pace.
    pub(super) fn probe_due(&self, pace: Duration) -> Instant {
        self.probed.map_or(self.begins, |probed| (probed + pace).max(self.begins))
    }

    /// When the next full one is due at this pace.
    pub(super) fn is_full_due(&self, pace: Duration, now: Instant) -> bool {
        self.full_probed.is_none_or(|at| now.saturating_duration_since(at) >= pace)
    }

    /// The next probe goes as soon as it may.
    pub(super) const fn hurry(&mut self) {
        self.probed = None;
    }

    /// A probe went.
    pub(super) fn probe(&mut self, full: bool, now: Instant) {
        self.probed = Some(now);
        if full {
            self.full_probed = Some(now);
        }
        if self.pending.len() >= PENDING_MAX {
            self.pending.pop_front();
        }
        self.pending.push_back(Pending { sent: now, full, counted: false });
    }

    /// A probe was answered; tells whether it was one of ours.
    pub(super) fn echo(&mut self, sent: Instant, now: Instant) -> bool {
        let far = |probe: &Pending| probe.sent.max(sent) - probe.sent.min(sent);
        let ours = self.pending.iter().position(|probe| far(probe) <= CLOCK_SLACK);
        let Some(probe) = ours.and_then(|at| self.pending.remove(at)) else { return false };
        if !probe.counted {
            self.outcomes.note(false);
            if !probe.full {
                self.small.note(false);
            }
        }
        let before = self.answered.replace(now);
        if probe.full {
            self.full_answered = self.full_answered.saturating_add(1);
            self.full_lost = 0;
        }
        let gap = before.map(|before| now.saturating_duration_since(before));
        let is_rare = gap.is_some_and(|gap| gap >= SPARSE) && !probe.counted;
        self.measure(now.saturating_duration_since(probe.sent), if is_rare { 1 } else { 7 });
        true
    }

    /// Takes a round trip in. The mean is over about two seconds, or two samples where they are
    /// rare; one that was given up may have waited for us.
    fn measure(&mut self, sample: Duration, keep: u32) {
        self.rtt = Some(self.rtt.map_or(sample, |rtt| (rtt * keep + sample) / (keep + 1)));
        if let Some(last) = self.last_rtt.replace(sample) {
            let change = last.max(sample) - last.min(sample);
            self.jitter = (self.jitter * (keep * 2 + 1) + change) / (keep * 2 + 2);
        }
    }

    /// Counts what was not answered in time.
    pub(super) fn conclude(&mut self, now: Instant) {
        let late = self.rtt.map_or(LATE_AFTER_UNKNOWN, |rtt| rtt * 2 + LATE_AFTER);
        let age = |probe: &Pending| now.saturating_duration_since(probe.sent);
        let mut full_lost = 0;
        for probe in &mut self.pending {
            if !probe.counted && age(probe) >= late {
                probe.counted = true;
                full_lost += u32::from(probe.full);
                self.outcomes.note(true);
                if !probe.full {
                    self.small.note(true);
                }
            }
        }
        if full_lost > 0 {
            self.full_answered = 0;
            self.full_lost = self.full_lost.saturating_add(full_lost);
        }
        self.pending.retain(|probe| age(probe) < FORGET_AFTER);
    }

    /// Forgets losses: they were a time without any way, not this way's quality.
    pub(super) fn forget_losses(&mut self) {
        self.outcomes = Outcomes::default();
        self.small = Outcomes::default();
        self.full_lost = 0;
        self.pending.iter_mut().for_each(|probe| probe.counted = true);
    }

    /// WireGuard was heard on it.
    pub(super) fn hear(&mut self, at: Instant) {
        self.heard = self.heard.max(Some(at));
        self.mutes = 0;
        self.muted_until = None;
    }

    /// A handshake of ours was answered on it: it carries both ways.
    pub(super) fn shake(&mut self, now: Instant) {
        self.hear(now);
        self.shaken = Some(now);
    }

    pub(super) const fn shaken(&self) -> Option<Instant> {
        self.shaken
    }

    /// It passes probes, but WireGuard was not answered on it.
    pub(super) fn mute(&mut self, now: Instant) {
        let doubled = MUTE_FIRST.saturating_mul(1 << self.mutes.min(8));
        self.mutes += 1;
        self.muted_until = Some(now + doubled.min(MUTE_MAX));
        self.full_answered = 0;
    }

    pub(super) fn is_mute(&self, now: Instant) -> bool {
        self.muted_until.is_some_and(|until| now < until)
    }

    pub(super) const fn answered(&self) -> Option<Instant> {
        self.answered
    }

    /// When it last gave a sign of life: an echo, or WireGuard.
    pub(super) fn alive(&self) -> Option<Instant> {
        self.answered.max(self.heard)
    }

    pub(super) const fn rtt(&self) -> Option<Duration> {
        self.rtt
    }

    /// Full probes answered in a row.
    pub(super) const fn full_answered(&self) -> u32 {
        self.full_answered
    }

    /// Full probes lost since one was answered.
    pub(super) const fn full_lost(&self) -> u32 {
        self.full_lost
    }

    /// Probes since `since` that were not answered.
    pub(super) fn unanswered(&self, since: Instant) -> usize {
        self.pending.iter().filter(|probe| probe.sent >= since).count()
    }

    /// Share of the last probes that were lost.
    pub(super) fn loss(&self) -> f32 {
        self.outcomes.loss()
    }

    /// The same of the small ones.
    pub(super) fn small_loss(&self) -> f32 {
        self.small.loss()
    }

    /// What a message is likely to take: the round trip, one more for each that is lost, with its
    /// timeout, and jitter. `None` if it was never measured.
    pub(super) fn score(&self) -> Option<Duration> {
        let rtt = self.rtt?;
        Some(rtt + rtt.mul_f32(4.0 * self.loss()) + self.jitter)
    }

    pub(super) fn state(&self, using: Option<Way>, now: Instant) -> Option<WayState> {
        let way = self.way?;
        Some(WayState {
            way,
            rtt: self.rtt,
            loss: self.loss(),
            jitter: self.jitter,
            silence: self.answered.map(|at| now.saturating_duration_since(at)),
            in_use: using == Some(way),
        })
    }
}

impl Outcomes {
    fn note(&mut self, lost: bool) {
        self.bits = self.bits << 1 | u32::from(lost);
        self.concluded = (self.concluded + 1).min(OUTCOMES);
    }

    fn loss(self) -> f32 {
        let count = |count: u32| f32::from(u16::try_from(count).unwrap_or(u16::MAX));
        count(self.bits.count_ones()) / count(self.concluded.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn track(now: Instant) -> Track {
        Track::new(Candidate::Udp("192.0.2.1:1".parse().unwrap()), now)
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn an_echo_counts_once_and_only_for_a_probe_of_ours() {
        let now = crate::tunnel::now();
        let mut track = track(now);
        track.probe(false, now);
        assert!(!track.echo(now + 2 * MS, now + 50 * MS), "nothing went then");
        assert!(track.echo(now, now + 100 * MS));
        assert!(!track.echo(now, now + 120 * MS), "a copy of an echo is nothing");
        assert_eq!(track.rtt(), Some(100 * MS));
        assert_eq!(track.answered(), Some(now + 100 * MS));
    }

    #[test]
    fn loss_is_of_the_last_probes_and_jitter_is_not_loss() {
        let start = crate::tunnel::now();
        let mut track = track(start);
        let at = |n: u32| start + 250 * MS * n;
        for n in 0..64 {
            track.probe(false, at(n));
            if n % 4 != 0 {
                assert!(track.echo(at(n), at(n) + 200 * MS));
            }
            track.conclude(at(n));
        }
        track.conclude(at(64) + LATE_AFTER * 2);
        assert!((track.loss() - 0.25).abs() < 0.05, "{}", track.loss());
        track.probe(false, at(80));
        track.conclude(at(80) + 900 * MS);
        assert!(track.echo(at(80), at(80) + 900 * MS), "late, and still no loss");
        assert!((track.loss() - 0.25).abs() < 0.05);
    }

    #[test]
    fn full_probes_are_counted_in_a_row() {
        let start = crate::tunnel::now();
        let mut track = track(start);
        for n in 0..4 {
            track.probe(true, start + 500 * MS * n);
            assert!(track.echo(start + 500 * MS * n, start + 500 * MS * n + 100 * MS));
        }
        assert_eq!((track.full_answered(), track.full_lost()), (4, 0));
        track.probe(true, start + 3000 * MS);
        track.conclude(start + 5000 * MS);
        assert_eq!((track.full_answered(), track.full_lost()), (0, 1));
    }

    #[test]
    fn what_is_mute_again_is_left_out_for_longer() {
        let now = crate::tunnel::now();
        let mut track = track(now);
        track.mute(now);
        assert!(track.is_mute(now + MUTE_FIRST - MS) && !track.is_mute(now + MUTE_FIRST));
        track.mute(now);
        assert!(track.is_mute(now + MUTE_FIRST));
        (0..40).for_each(|_| track.mute(now));
        assert!(!track.is_mute(now + MUTE_MAX));
        track.mute(now);
        track.hear(now);
        assert!(!track.is_mute(now), "WireGuard was heard on it");
    }
}
