//! What the line can carry, by how far apart the packets of one burst arrive.
//!
//! quinn sends in bursts of ten packets and more. The slowest hop spreads them out, and the
//! acknowledgements with them, long before its queue shows. What is read in one batch, as on fast
//! lines, tells nothing; chance delays make the line look slower than it is, so this only slows the
//! start down.

use std::time::Instant;

/// Packets that must have come after the first of a burst.
const PACKETS: u32 = 6;

#[derive(Clone, Debug, Default)]
pub(crate) struct Trains {
    train: Option<Train>,
    /// The fastest of this round and of the one before, in bytes a second.
    fastest: f64,
    before: f64,
}

/// Packets sent at the same moment.
#[derive(Clone, Copy, Debug)]
struct Train {
    sent: Instant,
    first: Instant,
    bytes: u64,
    packets: u32,
}

impl Trains {
    pub(crate) fn acked(&mut self, now: Instant, sent: Instant, bytes: u64) {
        match &mut self.train {
            Some(train) if train.sent == sent => {
                let took = now.saturating_duration_since(train.first).as_secs_f64();
                // What came with the first says nothing of the distance.
                if took > 0.0 {
                    train.bytes += bytes;
                    train.packets += 1;
                    if train.packets >= PACKETS {
                        self.fastest = self.fastest.max(train.bytes as f64 / took);
                    }
                }
            }
            _ => self.train = Some(Train { sent, first: now, bytes: 0, packets: 0 }),
        }
    }

    pub(crate) fn end_round(&mut self) {
        self.before = std::mem::take(&mut self.fastest);
    }

    /// Bytes a second, once there was a burst to tell by.
    pub(crate) fn rate(&self) -> Option<f64> {
        let rate = self.fastest.max(self.before);
        (rate > 0.0).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_distance_of_a_burst_is_the_rate_of_the_line() {
        let sent = tokio::time::Instant::now().into_std();
        let mut trains = Trains::default();
        for pair in 0..5u64 {
            let now = sent + Duration::from_millis(100 + 2 * pair);
            trains.acked(now, sent, 1000);
            trains.acked(now, sent, 1000);
        }
        assert_eq!(trains.rate(), Some(1e6));
        trains.end_round();
        assert_eq!(trains.rate(), Some(1e6), "of the round before");
        trains.end_round();
        assert_eq!(trains.rate(), None);
    }

    #[test]
    fn a_batch_tells_nothing() {
        let sent = tokio::time::Instant::now().into_std();
        let mut trains = Trains::default();
        (0..20).for_each(|_| trains.acked(sent + Duration::from_millis(10), sent, 1000));
        assert_eq!(trains.rate(), None);
    }
}
