//! Every metric of the tunnel, in one place.
//!
//! Names are `antipode_tunnel_<noun>_<unit>`; counters get `_total` from the encoder. Labels come
//! from closed sets, but for `peer`, which is the first 8 characters of a configured peer's key.
//! Packets and bytes are those inside the tunnel, headers of IPv6 and UDP included, padding not.

mod links;
mod reasons;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use crate::forward::metrics::ForwardMetrics;
use crate::key::PublicKey;
use crate::paths::metrics::PathMetrics;
use crate::shield::ShieldMetrics;
use crate::stream::metrics::StreamMetrics;
pub use links::{LinkMetrics, ProbeOutcome};
pub use reasons::{DropReason, HandshakeOutcome};

/// Which way a packet went through the tunnel.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From a peer to us.
    In,
    /// From us to a peer.
    Out,
}

/// The tunnel's counters. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    handshakes: Family<Label, Counter>,
    packets: Family<Label, Counter>,
    bytes: Family<Label, Counter>,
    drops: Family<Label, Counter>,
    handshake_age: Family<PeerLabel, Gauge<f64, AtomicU64>>,
    hot: Arc<Hot>,
    /// What concerns links.
    pub links: LinkMetrics,
    /// What concerns streams.
    pub streams: StreamMetrics,
    /// What concerns the shield.
    pub shield: ShieldMetrics,
    /// What concerns forwarding.
    pub forwarding: ForwardMetrics,
    /// What concerns the choice of ways.
    pub paths: PathMetrics,
}

/// Counters of the data path, looked up once: a family lookup costs a lock and a hash.
#[derive(Debug)]
struct Hot {
    packets: [Counter; 2],
    bytes: [Counter; 2],
    drops: [Counter; DropReason::ALL.len()],
    handshakes: [Counter; HandshakeOutcome::ALL.len()],
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Label(&'static str, &'static str);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct PeerLabel(String);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [(self.0, self.1)].encode(encoder)
    }
}

impl EncodeLabelSet for PeerLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("peer", self.0.as_str())].encode(encoder)
    }
}

impl Default for Metrics {
    /// Counters that nobody exports, for tests and small programs.
    fn default() -> Self {
        let handshakes = Family::<Label, Counter>::default();
        let (packets, bytes) = (Family::<Label, Counter>::default(), Family::default());
        let drops = Family::<Label, Counter>::default();
        let of = |family: &Family<Label, Counter>, label, value| {
            family.get_or_create(&Label(label, value)).clone()
        };
        let hot = Hot {
            packets: ["in", "out"].map(|value| of(&packets, "direction", value)),
            bytes: ["in", "out"].map(|value| of(&bytes, "direction", value)),
            drops: DropReason::ALL.map(|reason| of(&drops, "reason", reason.label())),
            handshakes: HandshakeOutcome::ALL.map(|o| of(&handshakes, "outcome", o.label())),
        };
        let handshake_age = Family::default();
        let (hot, links) = (Arc::new(hot), LinkMetrics::default());
        let shield = ShieldMetrics::default();
        let (streams, forwarding) = (StreamMetrics::default(), ForwardMetrics::default());
        Self {
            handshakes,
            packets,
            bytes,
            drops,
            handshake_age,
            hot,
            links,
            streams,
            shield,
            forwarding,
            paths: PathMetrics::default(),
        }
    }
}

impl Metrics {
    /// Registers everything under `antipode_tunnel`; the names are the operator's contract.
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let registry = registry.sub_registry_with_prefix("antipode_tunnel");
        registry.register("handshakes", "WireGuard handshakes", metrics.handshakes.clone());
        registry.register("packets", "Packets carried inside the tunnel", metrics.packets.clone());
        registry.register("bytes", "Bytes carried inside the tunnel", metrics.bytes.clone());
        registry.register("packets_dropped", "Packets that went no further", metrics.drops.clone());
        registry.register_with_unit(
            "last_handshake_age",
            "Time since a peer's last handshake; -1 where there was none or its keys are gone",
            Unit::Seconds,
            metrics.handshake_age.clone(),
        );
        metrics.links.register(registry);
        metrics.shield.register(registry);
        metrics.streams.register(registry);
        metrics.forwarding.register(registry);
        metrics.paths.register(registry);
        metrics
    }

    /// Counts what became of a handshake.
    pub fn handshake(&self, outcome: HandshakeOutcome) {
        self.hot.handshakes[outcome as usize].inc();
    }

    /// Counts `packets` of `bytes` together that went through.
    pub fn carried(&self, direction: Direction, packets: u64, bytes: u64) {
        self.hot.packets[direction as usize].inc_by(packets);
        self.hot.bytes[direction as usize].inc_by(bytes);
    }

    /// Counts one packet that went no further.
    pub fn dropped(&self, reason: DropReason) {
        self.hot.drops[reason as usize].inc();
    }

    /// How often [`Metrics::dropped`] was called with `reason`.
    #[must_use]
    pub fn dropped_count(&self, reason: DropReason) -> u64 {
        self.hot.drops[reason as usize].get()
    }

    /// How often [`Metrics::handshake`] was called with `outcome`.
    #[must_use]
    pub fn handshake_count(&self, outcome: HandshakeOutcome) -> u64 {
        self.hot.handshakes[outcome as usize].get()
    }

    /// Packets and bytes that went through in one direction.
    #[must_use]
    pub fn carried_count(&self, direction: Direction) -> (u64, u64) {
        let index = direction as usize;
        (self.hot.packets[index].get(), self.hot.bytes[index].get())
    }

    /// Notes how old a peer's keys are.
    pub fn set_handshake_age(&self, peer: &PublicKey, age: Option<Duration>) {
        let seconds = age.map_or(-1.0, |age| age.as_secs_f64());
        self.handshake_age.get_or_create(&PeerLabel(peer.short())).set(seconds);
    }

    /// Forgets a removed peer's series.
    pub fn forget_peer(&self, peer: &PublicKey) {
        self.handshake_age.remove(&PeerLabel(peer.short()));
        self.links.forget_peer(peer);
        self.shield.forget_peer(peer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        for outcome in HandshakeOutcome::ALL {
            metrics.handshake(outcome);
        }
        for reason in DropReason::ALL {
            metrics.dropped(reason);
        }
        metrics.carried(Direction::In, 2, 100);
        metrics.carried(Direction::Out, 3, 200);
        let peer = PublicKey::from([7; 32]);
        metrics.set_handshake_age(&peer, Some(Duration::from_millis(1500)));
        metrics.paths.taken(crate::Way::Through(crate::way::ThroughId(1)));

        let text = exposition(&registry);
        for line in [
            "antipode_tunnel_packets_total{direction=\"in\"} 2",
            "antipode_tunnel_packets_total{direction=\"out\"} 3",
            "antipode_tunnel_bytes_total{direction=\"in\"} 100",
            "antipode_tunnel_bytes_total{direction=\"out\"} 200",
            "antipode_tunnel_last_handshake_age_seconds{peer=\"BwcHBwcH\"} 1.5",
            "antipode_tunnel_handshakes_total{outcome=\"stale_timestamp\"} 1",
            "antipode_tunnel_packets_dropped_total{reason=\"source_not_allowed\"} 1",
            "antipode_tunnel_way_changes_total{way=\"through\"} 1",
            "antipode_tunnel_way_changes_total{way=\"udp\"} 0",
            "antipode_tunnel_way_changes_total{way=\"stream\"} 0",
            "antipode_tunnel_ways_lost_total 0",
            "antipode_tunnel_rebinds_total 0",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
        for outcome in HandshakeOutcome::ALL {
            let line = format!("handshakes_total{{outcome=\"{}\"}} 1", outcome.label());
            assert!(text.contains(&line), "no {line:?} in\n{text}");
        }
        for reason in DropReason::ALL {
            let line = format!("packets_dropped_total{{reason=\"{}\"}} 1", reason.label());
            assert!(text.contains(&line), "no {line:?} in\n{text}");
        }
        metrics.forget_peer(&peer);
        assert!(!exposition(&registry).contains("BwcHBwcH"));
    }

    fn exposition(registry: &Registry) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, registry).unwrap();
        text
    }
}
