//! What a link tells of itself: what it did to packets, and how late it was with them.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::conditions::Conditions;
use super::link::Counters;

/// Later than this is written down as this.
const LATENESS_US_MAX: u64 = 60_000_000;

/// Both directions.
#[derive(Clone, Debug, Serialize)]
pub struct Figures {
    /// From left to right.
    pub up: WayFigures,
    /// From right to left.
    pub down: WayFigures,
}

/// One direction.
#[derive(Clone, Debug, Serialize)]
pub struct WayFigures {
    /// What it does.
    pub conditions: Conditions,
    /// What it did.
    #[serde(flatten)]
    pub counters: Counters,
    /// Frames that arrived, copies among them.
    pub arrived: u64,
    /// Frames under way.
    pub under_way: usize,
    /// How late frames arrived.
    pub lateness: Summary,
}

/// How late frames arrived, after the time that the link had decided.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Summary {
    /// Half of them less than this.
    pub p50_us: u64,
    /// All but 1 of 100 less than this.
    pub p99_us: u64,
    /// All but 1 of 1,000 less than this.
    pub p999_us: u64,
    /// The latest.
    pub max_us: u64,
    /// Share that was more than 1 ms late.
    pub over_1_ms: f64,
}

/// How late frames were, written down.
#[derive(Debug)]
pub struct Lateness(Histogram<u64>);

impl Default for Lateness {
    fn default() -> Self {
        Self(Histogram::new_with_bounds(1, LATENESS_US_MAX, 2).expect("constants that suit"))
    }
}

impl Lateness {
    /// Writes one down.
    pub fn record(&mut self, late: Duration) {
        self.0.saturating_record(u64::try_from(late.as_micros()).unwrap_or(LATENESS_US_MAX));
    }

    /// In short.
    #[must_use]
    pub fn summary(&self) -> Summary {
        let Self(all) = self;
        #[allow(clippy::cast_precision_loss, reason = "a share, to look at")]
        let share = |part: u64| part as f64 / all.len().max(1) as f64;
        Summary {
            p50_us: all.value_at_quantile(0.5),
            p99_us: all.value_at_quantile(0.99),
            p999_us: all.value_at_quantile(0.999),
            max_us: all.max(),
            over_1_ms: share(all.count_between(1001, LATENESS_US_MAX)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_says_how_late() {
        let mut lateness = Lateness::default();
        (0..999).for_each(|_| lateness.record(Duration::from_micros(80)));
        lateness.record(Duration::from_micros(3000));
        let summary = lateness.summary();
        assert_eq!((summary.p50_us, summary.p99_us), (80, 80));
        assert!((2980..=3020).contains(&summary.max_us), "{summary:?}");
        assert!((summary.over_1_ms - 0.001).abs() < 1e-9, "{summary:?}");
    }
}
