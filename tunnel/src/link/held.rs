//! Packets that wait for keys, for as long as they are of use.
//!
//! boringtun keeps up to 256 of them for ever, and the oldest at that: after a long break it would
//! deliver a pile of attempts that nobody waits for any more, and drop the newest.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// After this long whoever sent a packet has sent it again, or given up.
const AGE_MAX: Duration = Duration::from_secs(1);

/// Packets held at once: two trunks that both begin with their first flight.
const PACKETS_MAX: usize = 64;

/// The packets of one peer, oldest first.
#[derive(Debug, Default)]
pub(super) struct Held(VecDeque<(Instant, Box<[u8]>)>);

impl Held {
    /// Holds a packet; the oldest one makes room.
    pub(super) fn push(&mut self, packet: &[u8], now: Instant) {
        self.forget_stale(now);
        if self.0.len() >= PACKETS_MAX {
            self.0.pop_front();
        }
        self.0.push_back((now, packet.into()));
    }

    /// The next packet that is still of use.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Box<[u8]>> {
        self.forget_stale(now);
        self.0.pop_front().map(|(_, packet)| packet)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    fn forget_stale(&mut self, now: Instant) {
        let is_stale = |held: &(Instant, _)| now.saturating_duration_since(held.0) > AGE_MAX;
        while self.0.front().is_some_and(is_stale) {
            self.0.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stale_is_forgotten_and_the_newest_stay() {
        let (mut held, start) = (Held::default(), crate::tunnel::now());
        held.push(b"stale", start);
        let now = start + AGE_MAX + Duration::from_millis(1);
        for number in 0..=u8::try_from(PACKETS_MAX).unwrap() {
            held.push(&[number], now);
        }
        for number in 1..=u8::try_from(PACKETS_MAX).unwrap() {
            assert_eq!(held.pop(now).as_deref(), Some(&[number][..]));
        }
        assert_eq!(held.pop(now), None);
        held.push(b"fresh", now);
        assert_eq!(held.pop(now + AGE_MAX).as_deref(), Some(&b"fresh"[..]));
    }
}
