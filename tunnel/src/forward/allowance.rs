//! How many bytes a second a forwarder spends on its neighbours, and each one's share.
//!
//! Half of what is saved up is there for all; the other half only for whoever keeps within its
//! share. So one busy neighbour may use what the others leave, and takes nothing from them.

use std::time::{Duration, Instant};

/// Saved up at most: a quarter of a second's bytes, enough for the bursts of a paced sender.
const SAVED: Duration = Duration::from_millis(250);
/// Never less than a few dozen datagrams.
const SAVED_BYTES_FLOOR: u64 = 64 << 10;

/// Bytes that are earned with time and spent.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    bytes: u64,
    filled_at: Instant,
}

impl Bucket {
    fn fill(&mut self, bytes_per_second: u64, bytes_max: u64, now: Instant) {
        let passed = now.saturating_duration_since(self.filled_at).as_micros();
        let earned = u128::from(bytes_per_second) * passed / 1_000_000;
        let earned = u64::try_from(earned).unwrap_or(u64::MAX);
        // What is less than a byte goes on being earned.
        if earned > 0 {
            self.bytes = self.bytes.saturating_add(earned).min(bytes_max);
            self.filled_at = now;
        }
    }
}

/// What a forwarder may spend on all.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowance {
    bytes_per_second: u64,
    common: Bucket,
}

/// What one neighbour has of it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Share(Bucket);

impl Allowance {
    pub(crate) fn new(bytes_per_second: u64, now: Instant) -> Self {
        let mut allowance = Self { bytes_per_second, common: Bucket { bytes: 0, filled_at: now } };
        allowance.common.bytes = allowance.saved_max();
        allowance
    }

    /// A neighbour's, which begins with what it may save up.
    pub(crate) fn share(&self, now: Instant) -> Share {
        Share(Bucket { bytes: self.saved_max(), filled_at: now })
    }

    /// Spends `bytes` on one of `neighbours`; `false` if it has to do without.
    pub(crate) fn spend(
        &mut self,
        share: &mut Share,
        neighbours: usize,
        bytes: u64,
        now: Instant,
    ) -> bool {
        let (rate, saved_max) = (self.bytes_per_second, self.saved_max());
        let neighbours = u64::try_from(neighbours).unwrap_or(u64::MAX).max(1);
        self.common.fill(rate, saved_max, now);
        share.0.fill(rate / neighbours, saved_max / 2 / neighbours, now);
        let in_share = share.0.bytes >= bytes;
        let kept_for_others = if in_share { 0 } else { saved_max / 2 };
        if self.common.bytes < bytes + kept_for_others {
            return false;
        }
        self.common.bytes -= bytes;
        share.0.bytes = share.0.bytes.saturating_sub(bytes);
        true
    }

    fn saved_max(&self) -> u64 {
        let millis = u64::try_from(SAVED.as_millis()).unwrap_or(u64::MAX);
        (self.bytes_per_second / 1000).saturating_mul(millis).max(SAVED_BYTES_FLOOR)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DATAGRAM: u64 = 1000;

    /// Bytes that each of the senders got through in ten seconds, of what it asked for in a
    /// second.
    fn lab(bytes_per_second: u64, asked: &[u64]) -> Vec<u64> {
        let start = crate::tunnel::now();
        let mut allowance = Allowance::new(bytes_per_second, start);
        let neighbours = asked.len();
        let mut shares: Vec<Share> = asked.iter().map(|_| allowance.share(start)).collect();
        let mut got = vec![0; asked.len()];
        for ms in 0..10_000u64 {
            let now = start + Duration::from_millis(ms);
            for (sender, asked) in asked.iter().enumerate() {
                let due = asked * (ms + 1) / 1000 / DATAGRAM - asked * ms / 1000 / DATAGRAM;
                for _ in 0..due {
                    if allowance.spend(&mut shares[sender], neighbours, DATAGRAM, now) {
                        got[sender] += DATAGRAM;
                    }
                }
            }
        }
        got
    }

    #[test]
    fn one_gets_all_that_there_is_and_no_more() {
        let got = lab(1_000_000, &[500_000])[0];
        assert_eq!(got, 5_000_000);
        let got = lab(1_000_000, &[5_000_000])[0];
        assert!((9_900_000..=10_300_000).contains(&got), "{got}");
    }

    #[test]
    fn a_busy_one_uses_what_others_leave_and_takes_nothing_from_them() {
        let got = lab(1_000_000, &[9_000_000, 200_000, 300_000]);
        assert_eq!(got[1..], [2_000_000, 3_000_000]);
        assert!((4_800_000..=5_300_000).contains(&got[0]), "{got:?}");
    }

    #[test]
    fn all_busy_ones_have_the_same() {
        for got in lab(900_000, &[9_000_000, 900_000, 2_000_000]) {
            assert!((2_500_000..=3_500_000).contains(&got), "{got}");
        }
    }

    #[test]
    fn slow_earnings_are_not_lost_to_frequent_calls() {
        let start = crate::tunnel::now();
        let mut allowance = Allowance::new(1000, start);
        let mut share = allowance.share(start);
        while allowance.spend(&mut share, 1, DATAGRAM, start) {}
        let mut got = 0;
        for ms in 0..100_000u64 {
            let now = start + Duration::from_micros(ms * 100);
            got += u64::from(allowance.spend(&mut share, 1, DATAGRAM, now));
        }
        assert!((9..=10).contains(&got), "{got}");
    }
}
