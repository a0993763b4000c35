//! What QUIC's own statistics tell of a way whose peer answers no probes.
//!
//! quinn counts as lost what neither a datagram nor its copies brought over: with one copy, the
//! square of what gets lost. But it also counts what only came late, and copies don't help against
//! that: its root would call for more copies, whose root would be larger still. So the root is
//! bounded by what was seen. And it can't tell bursts, nor the way out from the way back in
//! its round trip.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Loss is counted over this time,
const WINDOW: Duration = Duration::from_secs(5);
/// in slots of this length.
const SLOT: Duration = Duration::from_millis(500);
/// With fewer packets than this nothing is known.
const PACKETS_MIN: u64 = 20;
/// The root of what copies leave is at most so many times what is seen, now or without copies.
const ROOT_BOUND: f64 = 4.0;
/// The least round trip is that of this time, so that a new path is known in the end.
const RTT_MIN_OVER: Duration = Duration::from_secs(60);

/// Loss, round trip and queueing, from QUIC.
#[derive(Debug, Default)]
pub(crate) struct Inferred {
    slots: VecDeque<Slot>,
    /// The loss while there were no copies, the last time.
    bare: Option<f64>,
    /// The least round trip of each part of [`RTT_MIN_OVER`], and when that began.
    rtts: VecDeque<(Instant, Duration)>,
    rtt: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Slot {
    began: Instant,
    sent: u64,
    lost: u64,
    /// Of all packets, the roots of the loss differ with the copies they had.
    copies: u8,
}

/// What can be told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) loss: f64,
    pub(crate) queueing: Duration,
    pub(crate) rtt_min: Duration,
}

impl Inferred {
    /// Takes what QUIC has sent and found lost since the last call, while each datagram had so many
    /// copies, and its round trip now.
    pub(crate) fn note(&mut self, sent: u64, lost: u64, rtt: Duration, copies: u8, now: Instant) {
        let age = |at: Instant| now.saturating_duration_since(at);
        match self.slots.back_mut() {
            Some(slot) if age(slot.began) < SLOT && slot.copies == copies => {
                slot.sent += sent;
                slot.lost += lost;
            }
            Some(_) | None => self.slots.push_back(Slot { began: now, sent, lost, copies }),
        }
        self.forget(now);
        let (bare_sent, bare_lost) = self.counts(0);
        if copies == 0 && bare_sent >= PACKETS_MIN {
            self.bare = Some(float(bare_lost) / float(bare_sent));
        }
        self.rtt = rtt;
        match self.rtts.back_mut() {
            Some((began, least)) if age(*began) < RTT_MIN_OVER / 6 => *least = rtt.min(*least),
            Some(_) | None => self.rtts.push_back((now, rtt)),
        }
        while self.rtts.front().is_some_and(|(began, _)| age(*began) > RTT_MIN_OVER) {
            self.rtts.pop_front();
        }
    }

    /// What that says at `now`, if it was enough.
    pub(crate) fn told(&mut self, now: Instant) -> Option<Told> {
        self.forget(now);
        let sent: u64 = self.slots.iter().map(|slot| slot.sent).sum();
        if sent < PACKETS_MIN {
            return None;
        }
        let loss = (0..=2).map(|copies| self.raw_loss(copies)).sum::<f64>() / float(sent);
        let rtt_min = self.rtts.iter().map(|(_, least)| *least).min()?;
        Some(Told { loss, queueing: self.rtt.saturating_sub(rtt_min), rtt_min })
    }

    fn forget(&mut self, now: Instant) {
        let is_old = |slot: &Slot| now.saturating_duration_since(slot.began) > WINDOW;
        while self.slots.front().is_some_and(is_old) {
            self.slots.pop_front();
        }
    }

    /// Datagrams sent, and lost, that had so many copies.
    fn counts(&self, copies: u8) -> (u64, u64) {
        let with = self.slots.iter().filter(|slot| slot.copies == copies);
        with.fold((0, 0), |(sent, lost), slot| (sent + slot.sent, lost + slot.lost))
    }

    /// Datagrams lost of those that had so many copies, before the copies.
    fn raw_loss(&self, copies: u8) -> f64 {
        let (sent, lost) = self.counts(copies);
        if sent == 0 {
            return 0.0;
        }
        let residual = (float(lost) / float(sent)).clamp(0.0, 1.0);
        let root = residual.powf(1.0 / f64::from(copies + 1));
        let bound = self.bare.map_or(f64::INFINITY, |bare| bare.max(residual) * ROOT_BOUND);
        root.min(bound) * float(sent)
    }
}

fn float(count: u64) -> f64 {
    u32::try_from(count).map_or(f64::INFINITY, f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(200);

    #[test]
    fn copies_hide_loss_and_the_root_finds_it() {
        check("no copies", 10_000, 100, 0, 0.01);
        check("one copy", 10_000, 1, 1, 0.01);
        check("two copies", 1_000_000, 1, 2, 0.01);
        check("none lost", 10_000, 0, 1, 0.0);
    }

    #[track_caller]
    fn check(what: &str, sent: u64, lost: u64, copies: u8, expected: f64) {
        let (mut inferred, now) = (Inferred::default(), crate::tunnel::now());
        inferred.note(sent, lost, RTT, copies, now);
        let loss = inferred.told(now).unwrap().loss;
        assert!((loss - expected).abs() < 1e-6, "{what}: {loss}");
    }

    /// Of 1,000 packets one comes so late that QUIC takes it for lost, copies or none.
    #[test]
    fn what_only_came_late_does_not_grow_with_the_copies() {
        let (mut inferred, mut now) = (Inferred::default(), crate::tunnel::now());
        for copies in [0, 1, 2] {
            now += WINDOW * 2;
            inferred.note(10_000, 10, RTT, copies, now);
            let loss = inferred.told(now).unwrap().loss;
            assert!(loss < 0.005, "{copies} copies: {loss}");
        }
        now += WINDOW * 2;
        inferred.note(10_000, 25, RTT, 1, now);
        let loss = inferred.told(now).unwrap().loss;
        assert!(loss > 0.009, "a path that becomes worse is noticed: {loss}");
    }

    #[test]
    fn little_is_nothing_and_the_old_is_forgotten() {
        let (mut inferred, start) = (Inferred::default(), crate::tunnel::now());
        inferred.note(PACKETS_MIN - 1, 5, RTT, 0, start);
        assert_eq!(inferred.told(start), None);
        inferred.note(1, 0, RTT * 2, 0, start + SLOT / 2);
        assert_eq!(inferred.told(start + WINDOW + SLOT), None, "nobody has told anything since");
        inferred.note(PACKETS_MIN - 1, 5, RTT, 0, start);
        inferred.note(1, 0, RTT * 2, 0, start + SLOT / 2);
        let told = inferred.told(start + SLOT / 2).unwrap();
        assert_eq!((told.queueing, told.rtt_min), (RTT, RTT));
        assert!(told.loss > 0.2);
        inferred.note(PACKETS_MIN, 0, RTT * 2, 0, start + WINDOW + SLOT);
        let told = inferred.told(start + WINDOW + SLOT).unwrap();
        assert!(told.loss.abs() < f64::EPSILON);
        for second in 6..70 {
            let now = start + Duration::from_secs(second);
            inferred.note(PACKETS_MIN, 0, RTT * 2, 0, now);
        }
        let told = inferred.told(start + Duration::from_secs(69)).unwrap();
        assert_eq!(told.queueing, Duration::ZERO, "a longer path");
    }
}
