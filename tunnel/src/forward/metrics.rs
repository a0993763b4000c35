//! What forwarding counts.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::forwarder::Refused;

/// Which way a datagram was sent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Leg {
    /// From a neighbour to a core.
    ToCore,
    /// Back.
    ToNeighbour,
}

/// Counters of forwarding; clones share them.
#[derive(Clone, Debug, Default)]
pub struct ForwardMetrics {
    /// Neighbours with a core, each with a socket.
    pub(crate) flows: Gauge,
    datagrams: Family<Label, Counter>,
    bytes: Family<Label, Counter>,
    refused: Family<Label, Counter>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Label(&'static str, &'static str);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [(self.0, self.1)].encode(encoder)
    }
}

impl ForwardMetrics {
    /// Into the tunnel's own part of a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        let flows = "Neighbours' flows to cores that are sent on";
        registry.register("forward_flows", flows, self.flows.clone());
        let datagrams = "Neighbours' datagrams sent on";
        registry.register("forwarded_datagrams", datagrams, self.datagrams.clone());
        let bytes = "Bytes of neighbours' datagrams sent on, without what they were wrapped in";
        registry.register("forwarded_bytes", bytes, self.bytes.clone());
        let refused = "Neighbours' datagrams that were not sent on";
        registry.register("forward_refused", refused, self.refused.clone());
    }

    pub(crate) fn forwarded(&self, leg: Leg, bytes: usize) {
        let label = Label(
            "to",
            match leg {
                Leg::ToCore => "core",
                Leg::ToNeighbour => "neighbour",
            },
        );
        self.datagrams.get_or_create(&label).inc();
        self.bytes.get_or_create(&label).inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));
    }

    pub(crate) fn refused(&self, reason: Refused) {
        self.refused.get_or_create(&Label("reason", reason.label())).inc();
    }

    /// How many datagrams were refused so.
    #[must_use]
    pub fn refused_count(&self, reason: Refused) -> u64 {
        self.refused.get_or_create(&Label("reason", reason.label())).get()
    }

    /// Datagrams sent on, to cores and back to neighbours.
    #[must_use]
    pub fn forwarded_count(&self) -> [u64; 2] {
        ["core", "neighbour"].map(|to| self.datagrams.get_or_create(&Label("to", to)).get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let mut registry = Registry::default();
        let metrics = ForwardMetrics::default();
        metrics.register(registry.sub_registry_with_prefix("antipode_tunnel"));
        metrics.flows.set(3);
        metrics.forwarded(Leg::ToCore, 100);
        metrics.forwarded(Leg::ToNeighbour, 200);
        Refused::ALL.into_iter().for_each(|reason| metrics.refused(reason));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut lines = vec![
            "antipode_tunnel_forward_flows 3".to_owned(),
            "antipode_tunnel_forwarded_datagrams_total{to=\"core\"} 1".to_owned(),
            "antipode_tunnel_forwarded_datagrams_total{to=\"neighbour\"} 1".to_owned(),
            "antipode_tunnel_forwarded_bytes_total{to=\"core\"} 100".to_owned(),
            "antipode_tunnel_forwarded_bytes_total{to=\"neighbour\"} 200".to_owned(),
        ];
        lines.extend(Refused::ALL.map(|reason| {
            let label = reason.label();
            format!("antipode_tunnel_forward_refused_total{{reason=\"{label}\"}} 1")
        }));
        for line in lines {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
