//! The order of a peer's data messages: how many arrived, and which are newer than all before.
//!
//! A message that was overtaken, or a copy that came late over another way, says nothing of where
//! the peer is now: only a newer one moves its way. WireGuard's header carries the counter in clear
//! ([paper §5.4.6](https://www.wireguard.com/papers/wireguard.pdf)).

use std::time::{Duration, Instant};

use crate::quality::bursts::Bursts;

/// A data message's header: type and zeros 4, receiver 4, counter 8.
const HEADER_BYTES: usize = 16;

/// The counters seen, over the two sessions that may be in use at once.
#[derive(Debug, Default)]
pub(super) struct Order {
    newest: Option<(u32, u64)>,
    /// The session before the newest one; its messages may still be on their way.
    previous: Option<u32>,
    arrived: u64,
    bursts: Bursts,
}

impl Order {
    /// Data messages that arrived, copies included.
    pub(super) const fn arrived(&self) -> u64 {
        self.arrived
    }

    /// Counts a data message that is authentic, or a copy of one.
    pub(super) const fn count(&mut self) {
        self.arrived += 1;
    }

    /// How long bursts of loss last in what arrives.
    pub(super) fn burst(&mut self, now: Instant) -> Duration {
        self.bursts.estimate(now)
    }

    /// How late a message may be that was only overtaken.
    pub(super) const fn set_reordering(&mut self, late_max: Duration) {
        self.bursts.set_patience(late_max);
    }

    /// Whether an authentic data message is newer than all before it.
    pub(super) fn is_newer(&mut self, datagram: &[u8], now: Instant) -> bool {
        let Some((receiver, counter)) = header(datagram) else { return false };
        match self.newest {
            Some((newest, highest)) if newest == receiver => {
                if counter <= highest {
                    self.bursts.handle_late(counter, now);
                    return false;
                }
                self.bursts.handle_newer(highest + 1..counter, now);
            }
            Some(_) if self.previous == Some(receiver) => return false,
            Some((newest, _)) => {
                self.previous = Some(newest);
                self.bursts.handle_session(now);
            }
            None => self.bursts.handle_session(now),
        }
        self.newest = Some((receiver, counter));
        true
    }
}

fn header(datagram: &[u8]) -> Option<(u32, u64)> {
    let header = datagram.get(..HEADER_BYTES)?;
    let receiver = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let counter = u64::from_le_bytes(header[8..16].try_into().ok()?);
    Some((receiver, counter))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(receiver: u32, counter: u64) -> Vec<u8> {
        let mut message = vec![4, 0, 0, 0];
        message.extend(receiver.to_le_bytes());
        message.extend(counter.to_le_bytes());
        message
    }

    #[test]
    fn only_what_is_newer_than_all_before_moves_a_peer() {
        let (mut order, now) = (Order::default(), crate::tunnel::now());
        let mut check = |what: &str, receiver, counter, newer| {
            assert_eq!(order.is_newer(&message(receiver, counter), now), newer, "{what}");
        };
        check("the first", 7, 0, true);
        check("the same again", 7, 0, false);
        check("one further on", 7, 5, true);
        check("one that was overtaken", 7, 3, false);
        check("a new session counts from zero", 8, 0, true);
        check("the old session's last ones", 7, 9, false);
        check("the new session goes on", 8, 1, true);
        check("a third session", 9, 0, true);
        check("the second one's last", 8, 2, false);
        assert!(!order.is_newer(&[4, 0, 0], now), "a runt is nothing");
    }
}
