//! Metrics of links: what probes found out about each peer.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Label, PeerLabel};
use crate::key::PublicKey;
use crate::quality::Quality;
use crate::way::Way;

/// What became of a path probe.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ProbeOutcome {
    /// We sent one.
    Asked,
    /// A peer's echo of one came back.
    Returned,
    /// We sent the echo of a peer's.
    Answered,
    /// Damaged, or not from a peer.
    Forged,
    /// A peer's probe came a second time, or very late.
    Repeated,
    /// A peer asked too often.
    Limited,
    /// An echo of a probe that nobody waits for any more.
    Stale,
}

impl ProbeOutcome {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 7] = [
        Self::Asked,
        Self::Returned,
        Self::Answered,
        Self::Forged,
        Self::Repeated,
        Self::Limited,
        Self::Stale,
    ];

    /// `outcome` of `antipode_tunnel_probes_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Asked => "asked",
            Self::Returned => "returned",
            Self::Answered => "answered",
            Self::Forged => "forged",
            Self::Repeated => "repeated",
            Self::Limited => "limited",
            Self::Stale => "stale",
        }
    }
}

type PerPeer = Family<PeerLabel, Gauge<f64, AtomicU64>>;
type PerDirection = Family<DirectionLabel, Gauge<f64, AtomicU64>>;

/// Counters and gauges of links. Clones share them.
#[derive(Clone, Debug)]
pub struct LinkMetrics {
    probes: Family<Label, Counter>,
    outcomes: Arc<[Counter; ProbeOutcome::ALL.len()]>,
    round_trip: PerPeer,
    round_trip_min: PerPeer,
    jitter: PerPeer,
    queueing: PerPeer,
    loss: PerDirection,
    burst: PerDirection,
    measured: PerPeer,
    ways: Family<WayLabel, Gauge>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct DirectionLabel {
    peer: String,
    direction: &'static str,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct WayLabel {
    peer: String,
    way: &'static str,
}

impl EncodeLabelSet for DirectionLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("peer", self.peer.as_str()), ("direction", self.direction)].encode(encoder)
    }
}

impl EncodeLabelSet for WayLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("peer", self.peer.as_str()), ("way", self.way)].encode(encoder)
    }
}

impl Default for LinkMetrics {
    fn default() -> Self {
        let probes = Family::<Label, Counter>::default();
        let outcomes = ProbeOutcome::ALL
            .map(|outcome| probes.get_or_create(&Label("outcome", outcome.label())).clone());
        Self {
            probes,
            outcomes: Arc::new(outcomes),
            round_trip: Family::default(),
            round_trip_min: Family::default(),
            jitter: Family::default(),
            queueing: Family::default(),
            loss: Family::default(),
            burst: Family::default(),
            measured: Family::default(),
            ways: Family::default(),
        }
    }
}

impl LinkMetrics {
    /// Registers them; `registry` has the crate's prefix.
    pub(super) fn register(&self, registry: &mut Registry) {
        registry.register("probes", "Path probes and echoes", self.probes.clone());
        let mut seconds = |name: &str, help: &str, family: &PerPeer| {
            registry.register_with_unit(name, help, Unit::Seconds, family.clone());
        };
        seconds("link_round_trip", "Round trip of the way in use, smoothed", &self.round_trip);
        let help = "Least round trip of the way in use in the last minute";
        seconds("link_round_trip_min", help, &self.round_trip_min);
        seconds("link_jitter", "Mean change between two round trips", &self.jitter);
        seconds("link_queueing", "What queues add to the round trip now", &self.queueing);
        let help = "How long bursts of loss last; nine in ten are shorter";
        registry.register_with_unit("link_burst", help, Unit::Seconds, self.burst.clone());
        let help = "Share of WireGuard data messages that did not arrive, copies included";
        registry.register("link_loss_ratio", help, self.loss.clone());
        let help = "Whether the peer answers probes: 1, or 0 and the other link series are 0 too";
        registry.register("link_measured", help, self.measured.clone());
        let help = "The kind of way that datagrams to the peer take: 1 for the one in use";
        registry.register("link_way", help, self.ways.clone());
    }

    /// Counts what became of a probe.
    pub fn probe(&self, outcome: ProbeOutcome) {
        self.outcomes[outcome as usize].inc();
    }

    /// How often [`LinkMetrics::probe`] was called with `outcome`.
    #[must_use]
    pub fn probe_count(&self, outcome: ProbeOutcome) -> u64 {
        self.outcomes[outcome as usize].get()
    }

    /// Notes how the link with a peer is.
    pub fn set(&self, peer: &PublicKey, quality: &Quality, way: Option<Way>) {
        let peer = peer.short();
        let label = PeerLabel(peer.clone());
        let seconds = |family: &PerPeer, duration: Duration| {
            family.get_or_create(&label).set(duration.as_secs_f64());
        };
        seconds(&self.round_trip, quality.rtt);
        seconds(&self.round_trip_min, quality.rtt_min);
        seconds(&self.jitter, quality.jitter);
        seconds(&self.queueing, quality.queueing);
        self.measured.get_or_create(&label).set(f64::from(u8::from(quality.is_measured)));
        let directed = |family: &PerDirection, direction, value| {
            let label = DirectionLabel { peer: peer.clone(), direction };
            family.get_or_create(&label).set(value);
        };
        directed(&self.loss, "in", quality.loss_in.into());
        directed(&self.loss, "out", quality.loss_out.into());
        directed(&self.burst, "in", quality.burst_in.as_secs_f64());
        directed(&self.burst, "out", quality.burst_out.as_secs_f64());
        for kind in Way::KINDS {
            let is_this = way.is_some_and(|way| way.kind() == kind);
            let label = WayLabel { peer: peer.clone(), way: kind };
            self.ways.get_or_create(&label).set(is_this.into());
        }
    }

    /// Forgets a removed peer's series.
    pub(super) fn forget_peer(&self, peer: &PublicKey) {
        let peer = peer.short();
        let label = PeerLabel(peer.clone());
        let families =
            [&self.round_trip, &self.round_trip_min, &self.jitter, &self.queueing, &self.measured];
        for family in families {
            family.remove(&label);
        }
        for direction in ["in", "out"] {
            let label = DirectionLabel { peer: peer.clone(), direction };
            self.loss.remove(&label);
            self.burst.remove(&label);
        }
        for way in Way::KINDS {
            self.ways.remove(&WayLabel { peer: peer.clone(), way });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let mut registry = Registry::default();
        let metrics = crate::Metrics::register(&mut registry);
        for outcome in ProbeOutcome::ALL {
            metrics.links.probe(outcome);
        }
        let peer = PublicKey::from([7; 32]);
        let ms = Duration::from_millis;
        let quality = Quality {
            rtt: ms(250),
            rtt_min: ms(200),
            jitter: ms(4),
            queueing: ms(30),
            loss_out: 0.25,
            loss_in: 0.5,
            burst_out: ms(5),
            burst_in: ms(8),
            packets_out_per_s: 1000.0,
            is_measured: true,
        };
        let way = Way::Stream(crate::way::StreamId(1));
        metrics.links.set(&peer, &quality, Some(way));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "link_round_trip_seconds{peer=\"BwcHBwcH\"} 0.25",
            "link_round_trip_min_seconds{peer=\"BwcHBwcH\"} 0.2",
            "link_jitter_seconds{peer=\"BwcHBwcH\"} 0.004",
            "link_queueing_seconds{peer=\"BwcHBwcH\"} 0.03",
            "link_measured{peer=\"BwcHBwcH\"} 1.0",
            "link_loss_ratio{peer=\"BwcHBwcH\",direction=\"out\"} 0.25",
            "link_loss_ratio{peer=\"BwcHBwcH\",direction=\"in\"} 0.5",
            "link_burst_seconds{peer=\"BwcHBwcH\",direction=\"out\"} 0.005",
            "link_burst_seconds{peer=\"BwcHBwcH\",direction=\"in\"} 0.008",
            "link_way{peer=\"BwcHBwcH\",way=\"udp\"} 0",
            "link_way{peer=\"BwcHBwcH\",way=\"stream\"} 1",
        ] {
            let line = format!("antipode_tunnel_{line}");
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
        for outcome in ProbeOutcome::ALL {
            let line = format!("antipode_tunnel_probes_total{{outcome=\"{}\"}} 1", outcome.label());
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
            assert_eq!(metrics.links.probe_count(outcome), 1);
        }
        metrics.forget_peer(&peer);
        text.clear();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(!text.contains("BwcHBwcH"), "{text}");
    }
}
