//! The core's side: which payloads it has just sent, and whether one may be named by its number.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use parking_lot::Mutex;

use super::ANNOUNCED_BYTES_MIN;
use crate::metrics::FanOutMetrics;

/// How long a payload may be named after it was announced: the same moment, to people. Each repeat
/// within it saves its bytes; one that comes later is announced anew.
pub(crate) const NAMED_FOR: Duration = Duration::from_millis(250);

/// What may be named at a time. The node keeps four times as much, so that a lane that is late
/// still finds what it names.
pub(crate) const NAMED_BYTES_MAX: usize = 1024 * 1024;
pub(crate) const NAMED_COUNT_MAX: usize = 4096;

/// A lane that carried more than this lately announces nothing: what it sends may stand in line for
/// long, and whoever names it on a quiet lane would stand in line with it. It is also how bulk
/// transfers stay out of here.
const LANE_BYTES_CALM: usize = 256 * 1024;

/// How fast a lane's load is forgotten: all of [`LANE_BYTES_CALM`] in [`NAMED_FOR`].
const DRAINS_A_MS: usize = LANE_BYTES_CALM / 250;

/// Numbers have 42 bits, six bytes on the wire.
const NUMBER_BITS: u32 = 42;

/// What a lane does with a payload.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Offer {
    /// It goes as it is.
    Plain,
    /// It goes, and the peer keeps it under this number.
    Announced(u64),
    /// The peer has it, or another lane is bringing it: the number is enough.
    Named(u64),
}

/// One trunk's recent payloads.
#[derive(Debug)]
pub(crate) struct Announcer {
    /// `None` until the peer has said that it keeps payloads.
    recent: Mutex<Option<Recent>>,
    pub(crate) metrics: FanOutMetrics,
}

#[derive(Debug, Default)]
struct Recent {
    next_number: u64,
    by_fingerprint: HashMap<u64, Announced>,
    /// Oldest first.
    order: VecDeque<Ordered>,
    bytes: usize,
    lanes: Vec<Load>,
}

#[derive(Debug)]
struct Announced {
    number: u64,
    /// A copy: the original would keep alive the whole buffer that it was read into.
    payload: Bytes,
}

#[derive(Debug)]
struct Ordered {
    at: Instant,
    fingerprint: u64,
    number: u64,
    lane: u32,
}

/// How much a lane carried lately; it drains with time.
#[derive(Clone, Copy, Debug, Default)]
struct Load {
    bytes: usize,
    drained: Option<Instant>,
}

impl Announcer {
    pub(crate) fn new(metrics: FanOutMetrics) -> Self {
        Self { recent: Mutex::new(None), metrics }
    }

    /// The peer keeps payloads. Numbers begin anywhere, so that one never means something else to a
    /// peer that still keeps what an older trunk to the same process had numbered.
    pub(crate) fn enable(&self) {
        let mut recent = self.recent.lock();
        if recent.is_none() {
            let start = rand::random_range(1 << (NUMBER_BITS - 1)..1 << NUMBER_BITS);
            *recent = Some(Recent { next_number: start, ..Recent::default() });
        }
    }

    pub(crate) fn offer(
        &self,
        fingerprint: u64,
        payload: &Bytes,
        lane: u32,
        now: Instant,
    ) -> Offer {
        if payload.len() < ANNOUNCED_BYTES_MIN {
            return Offer::Plain;
        }
        match &mut *self.recent.lock() {
            Some(recent) => recent.offer(fingerprint, payload, lane, now),
            None => Offer::Plain,
        }
    }

    /// The lane broke: what it had announced may never arrive.
    pub(crate) fn forget_lane(&self, lane: u32) {
        if let Some(recent) = &mut *self.recent.lock() {
            for old in std::mem::take(&mut recent.order) {
                match old.lane == lane {
                    true => recent.forget(&old),
                    false => recent.order.push_back(old),
                }
            }
        }
    }

    /// Lets go of what may not be named any more.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        if let Some(recent) = &mut *self.recent.lock() {
            recent.expire(now);
        }
    }
}

impl Recent {
    fn offer(&mut self, fingerprint: u64, payload: &Bytes, lane: u32, now: Instant) -> Offer {
        self.expire(now);
        if let Some(known) = self.by_fingerprint.get(&fingerprint)
            && known.payload == payload
        {
            return Offer::Named(known.number);
        }
        if !self.is_calm(lane, payload.len(), now) {
            return Offer::Plain;
        }
        while self.order.len() >= NAMED_COUNT_MAX || self.bytes + payload.len() > NAMED_BYTES_MAX {
            let Some(oldest) = self.order.pop_front() else { return Offer::Plain };
            self.forget(&oldest);
        }
        let number = self.next_number;
        self.next_number += 1;
        self.bytes += payload.len();
        let announced = Announced { number, payload: Bytes::copy_from_slice(payload) };
        if let Some(other) = self.by_fingerprint.insert(fingerprint, announced) {
            self.bytes -= other.payload.len();
        }
        self.order.push_back(Ordered { at: now, fingerprint, number, lane });
        Offer::Announced(number)
    }

    fn expire(&mut self, now: Instant) {
        while self.order.front().is_some_and(|oldest| oldest.at + NAMED_FOR <= now) {
            let Some(oldest) = self.order.pop_front() else { return };
            self.forget(&oldest);
        }
    }

    /// Another payload with the same fingerprint may have taken its place.
    fn forget(&mut self, old: &Ordered) {
        let known = self.by_fingerprint.get(&old.fingerprint);
        if known.is_some_and(|known| known.number == old.number)
            && let Some(gone) = self.by_fingerprint.remove(&old.fingerprint)
        {
            self.bytes -= gone.payload.len();
        }
    }

    fn is_calm(&mut self, lane: u32, len: usize, now: Instant) -> bool {
        let lane = usize::try_from(lane).unwrap_or(usize::MAX);
        if lane >= self.lanes.len() {
            self.lanes.resize(lane + 1, Load::default());
        }
        self.lanes[lane].take(len, now)
    }
}

impl Load {
    /// Notes that `len` more bytes go; whether they had to stand in line is told.
    fn take(&mut self, len: usize, now: Instant) -> bool {
        let since = now.saturating_duration_since(self.drained.unwrap_or(now)).as_millis();
        let drained = usize::try_from(since).unwrap_or(usize::MAX).saturating_mul(DRAINS_A_MS);
        self.bytes = self.bytes.saturating_sub(drained);
        if drained > 0 || self.drained.is_none() {
            self.drained = Some(now);
        }
        let calm = self.bytes < LANE_BYTES_CALM;
        self.bytes = (self.bytes + len).min(2 * LANE_BYTES_CALM);
        calm
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fan_out::fingerprint;

    #[test]
    fn a_payload_is_announced_once_and_then_named() {
        let (recent, start) = (announcer(), antipode_runtime::clock::now());
        let Offer::Announced(number) = offer(&recent, "news", 0, start) else { panic!("plain") };
        assert_eq!(offer(&recent, "news", 5, start), Offer::Named(number));
        let other = offer(&recent, "other", 5, start);
        assert_eq!(other, Offer::Announced(number + 1), "another one has another number");
        let late = start + NAMED_FOR;
        assert_eq!(offer(&recent, "news", 5, late), Offer::Announced(number + 2), "too late");
    }

    #[test]
    fn who_does_not_keep_is_told_everything() {
        let recent = Announcer::new(FanOutMetrics::default());
        assert_eq!(offer(&recent, "news", 0, antipode_runtime::clock::now()), Offer::Plain);
    }

    #[test]
    fn what_a_broken_lane_announced_is_named_no_more() {
        let (recent, now) = (announcer(), antipode_runtime::clock::now());
        offer(&recent, "on one", 1, now);
        let Offer::Announced(two) = offer(&recent, "on two", 2, now) else { panic!("plain") };
        recent.forget_lane(1);
        assert_eq!(offer(&recent, "on two", 3, now), Offer::Named(two));
        assert_eq!(offer(&recent, "on one", 3, now), Offer::Announced(two + 1));
    }

    #[test]
    fn what_may_be_named_is_bounded() {
        let (recent, start) = (announcer(), antipode_runtime::clock::now());
        let first = offer(&recent, "0", 0, start);
        for other in 1..=NAMED_COUNT_MAX {
            // Spread over lanes, so that all of them stay calm.
            offer(&recent, &other.to_string(), u32::try_from(other % 64).unwrap(), start);
        }
        assert_ne!(offer(&recent, "0", 63, start), first, "the oldest one has gone");
        let held = recent.recent.lock();
        let held = held.as_ref().unwrap();
        assert!(held.order.len() <= NAMED_COUNT_MAX && held.bytes <= NAMED_BYTES_MAX);
        assert_eq!(held.bytes, held.by_fingerprint.len() * ANNOUNCED_BYTES_MIN);
    }

    #[test]
    fn bulk_announces_nothing_and_may_still_name() {
        let (recent, mut now) = (announcer(), antipode_runtime::clock::now());
        let mut plain = 0;
        for piece in 0..100_u8 {
            let payload = Bytes::from(vec![piece; 16 * 1024]);
            let offer = recent.offer(fingerprint(&payload), &payload, 0, now);
            plain += u32::from(offer == Offer::Plain);
        }
        assert_eq!(plain, 100 - 16, "its first 256 KiB may have been news");
        let Offer::Announced(number) = offer(&recent, "news", 1, now) else { panic!("calm") };
        assert_eq!(offer(&recent, "news", 0, now), Offer::Named(number));
        now += 2 * NAMED_FOR;
        assert!(matches!(offer(&recent, "news", 0, now), Offer::Announced(_)), "calm again");
    }

    #[test]
    fn one_fingerprint_for_two_payloads_mixes_nothing_up() {
        let (recent, now) = (announcer(), antipode_runtime::clock::now());
        let (one, two) = (payload("one"), payload("two"));
        let Offer::Announced(first) = recent.offer(9, &one, 0, now) else { panic!("plain") };
        assert_eq!(recent.offer(9, &two, 0, now), Offer::Announced(first + 1));
        assert_eq!(recent.offer(9, &two, 0, now), Offer::Named(first + 1));
        assert_eq!(recent.offer(9, &one, 0, now), Offer::Announced(first + 2));
        recent.handle_timeout(now + NAMED_FOR);
        assert_eq!(recent.recent.lock().as_ref().unwrap().bytes, 0, "nothing is counted twice");
    }

    fn announcer() -> Announcer {
        let announcer = Announcer::new(FanOutMetrics::default());
        announcer.enable();
        announcer
    }

    fn offer(recent: &Announcer, text: &str, lane: u32, now: Instant) -> Offer {
        let payload = payload(text);
        recent.offer(fingerprint(&payload), &payload, lane, now)
    }

    fn payload(text: &str) -> Bytes {
        let mut bytes = text.as_bytes().to_vec();
        bytes.resize(ANNOUNCED_BYTES_MIN, b'.');
        bytes.into()
    }
}
