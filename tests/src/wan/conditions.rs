//! What one direction of a link does to the frames that it takes, and changes of it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One direction of the link, or both.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// From left to right.
    Up,
    /// From right to left.
    Down,
    /// Both.
    Both,
}

/// Loss in bursts: the link is on and off in turn (Gilbert and Elliott's two states, in time and
/// not in frames), each for an exponentially distributed while; off, it loses all.
#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Share of the time that it is off, 0 to 1.
    pub loss: f64,
    /// How long it is off on average.
    pub mean_ms: f64,
}

/// What one direction does to frames; as by default, nothing.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Conditions {
    /// From one end to the other.
    pub delay_ms: f64,
    /// Added to the delay: uniformly distributed from 0 to this, for each frame anew.
    pub jitter_ms: f64,
    /// Whether frames stay in order whatever the jitter; without it a later one may overtake.
    pub keep_order: bool,
    /// Share of frames that are lost, each by itself, 0 to 1.
    pub loss: f64,
    /// Loss in bursts, besides.
    pub burst: Burst,
    /// Bottleneck in megabits of IP packets a second; 0: none.
    pub rate_mbit: f64,
    /// What may wait for the bottleneck; what does not fit is lost. 0: as `queue_ms` says.
    pub queue_bytes: u64,
    /// The same as time at the bottleneck's rate.
    pub queue_ms: f64,
    /// Share of frames that are held back by `reorder_ms`, so that later ones overtake.
    pub reorder: f64,
    /// How long those are held back.
    pub reorder_ms: f64,
    /// Share of frames that arrive twice.
    pub duplicate: f64,
    /// Longest IP packet in bytes; 0: no limit but the devices'.
    pub mtu: u16,
    /// Whether the sender of a longer packet is told (ICMP "packet too big"), or the packet just
    /// vanishes.
    pub icmp: bool,
    /// Whether UDP vanishes.
    pub block_udp: bool,
    /// Whether all vanishes. What is under way still arrives.
    pub cut: bool,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            delay_ms: 0.0,
            jitter_ms: 0.0,
            keep_order: false,
            loss: 0.0,
            burst: Burst::default(),
            rate_mbit: 0.0,
            queue_bytes: 0,
            queue_ms: 100.0,
            reorder: 0.0,
            reorder_ms: 5.0,
            duplicate: 0.0,
            mtu: 0,
            icmp: true,
            block_udp: false,
            cut: false,
        }
    }
}

/// A change of conditions; what it does not name stays.
#[derive(Clone, Debug, Default, Deserialize, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Change {
    /// See [`Conditions`]; so for all that follow.
    pub delay_ms: Option<f64>,
    /// As there.
    pub jitter_ms: Option<f64>,
    /// As there.
    pub keep_order: Option<bool>,
    /// As there.
    pub loss: Option<f64>,
    /// As there.
    pub burst: Option<Burst>,
    /// As there.
    pub rate_mbit: Option<f64>,
    /// As there.
    pub queue_bytes: Option<u64>,
    /// As there; takes back `queue_bytes`.
    pub queue_ms: Option<f64>,
    /// As there.
    pub reorder: Option<f64>,
    /// As there.
    pub reorder_ms: Option<f64>,
    /// As there.
    pub duplicate: Option<f64>,
    /// As there.
    pub mtu: Option<u16>,
    /// As there.
    pub icmp: Option<bool>,
    /// As there.
    pub block_udp: Option<bool>,
    /// As there.
    pub cut: Option<bool>,
}

/// Conditions that no link can have.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Impossible {
    key: &'static str,
    most: &'static str,
}

impl std::fmt::Display for Impossible {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} must be from 0 to {}", self.key, self.most)
    }
}

impl std::error::Error for Impossible {}

impl Conditions {
    /// These after a change.
    ///
    /// # Errors
    ///
    /// If no link can be so; then nothing was changed.
    pub fn changed(&self, change: &Change) -> Result<Self, Impossible> {
        let after = Self {
            delay_ms: change.delay_ms.unwrap_or(self.delay_ms),
            jitter_ms: change.jitter_ms.unwrap_or(self.jitter_ms),
            keep_order: change.keep_order.unwrap_or(self.keep_order),
            loss: change.loss.unwrap_or(self.loss),
            burst: change.burst.unwrap_or(self.burst),
            rate_mbit: change.rate_mbit.unwrap_or(self.rate_mbit),
            queue_bytes: match (change.queue_bytes, change.queue_ms) {
                (Some(bytes), _) => bytes,
                (None, Some(_)) => 0,
                (None, None) => self.queue_bytes,
            },
            queue_ms: change.queue_ms.unwrap_or(self.queue_ms),
            reorder: change.reorder.unwrap_or(self.reorder),
            reorder_ms: change.reorder_ms.unwrap_or(self.reorder_ms),
            duplicate: change.duplicate.unwrap_or(self.duplicate),
            mtu: change.mtu.unwrap_or(self.mtu),
            icmp: change.icmp.unwrap_or(self.icmp),
            block_udp: change.block_udp.unwrap_or(self.block_udp),
            cut: change.cut.unwrap_or(self.cut),
        };
        after.check().map(|()| after)
    }

    /// Bytes that may wait for the bottleneck.
    #[must_use]
    pub fn queue_bytes_max(&self) -> f64 {
        #[allow(clippy::cast_precision_loss, reason = "a queue is far smaller than 2^53 bytes")]
        let bytes = self.queue_bytes as f64;
        if self.queue_bytes > 0 { bytes } else { self.bytes_per_second() * self.queue_ms / 1000.0 }
    }

    /// The bottleneck.
    #[must_use]
    pub fn bytes_per_second(&self) -> f64 {
        self.rate_mbit * 1_000_000.0 / 8.0
    }

    fn check(&self) -> Result<(), Impossible> {
        const HOUR_MS: f64 = 3_600_000.0;
        let shares = [
            ("loss", self.loss),
            ("burst.loss", self.burst.loss),
            ("reorder", self.reorder),
            ("duplicate", self.duplicate),
        ];
        let times = [
            ("delay_ms", self.delay_ms),
            ("jitter_ms", self.jitter_ms),
            ("burst.mean_ms", self.burst.mean_ms),
            ("queue_ms", self.queue_ms),
            ("reorder_ms", self.reorder_ms),
        ];
        let outside = |most: f64| move |&(_, value): &(_, f64)| !(0.0..=most).contains(&value);
        if let Some(&(key, _)) = shares.iter().find(|one| outside(1.0)(one)) {
            return Err(Impossible { key, most: "1" });
        }
        if let Some(&(key, _)) = times.iter().find(|one| outside(HOUR_MS)(one)) {
            return Err(Impossible { key, most: "3600000" });
        }
        if outside(1e6)(&("", self.rate_mbit)) {
            return Err(Impossible { key: "rate_mbit", most: "1000000" });
        }
        Ok(())
    }
}

/// A number of milliseconds that was checked.
#[must_use]
pub fn milliseconds(number: f64) -> Duration {
    Duration::from_secs_f64(number / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_does_not_name_stays() {
        let before = Conditions { delay_ms: 100.0, loss: 0.01, ..Conditions::default() };
        let change: Change = serde_json::from_str(r#"{"loss": 0.03, "cut": true}"#).unwrap();
        let after = before.changed(&change).unwrap();
        assert_eq!(after, Conditions { loss: 0.03, cut: true, ..before });
    }

    #[test]
    fn the_later_of_two_queue_limits_counts() {
        let change = |text: &str| serde_json::from_str::<Change>(text).unwrap();
        let link = Conditions { rate_mbit: 8.0, ..Conditions::default() };
        assert_eq!(link.queue_bytes_max(), 100_000.0);
        let link = link.changed(&change(r#"{"queue_bytes": 3000}"#)).unwrap();
        assert_eq!(link.queue_bytes_max(), 3000.0);
        let link = link.changed(&change(r#"{"queue_ms": 20}"#)).unwrap();
        assert_eq!(link.queue_bytes_max(), 20_000.0);
    }

    #[test]
    fn no_link_can_be_so() {
        for text in [
            r#"{"loss": 1.1}"#,
            r#"{"burst": {"loss": -0.1, "mean_ms": 5}}"#,
            r#"{"delay_ms": -1}"#,
            r#"{"jitter_ms": 1e30}"#,
            r#"{"rate_mbit": -3}"#,
        ] {
            let change: Change = serde_json::from_str(text).unwrap();
            assert!(Conditions::default().changed(&change).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Change>(r#"{"los": 0.1}"#).is_err());
    }
}
