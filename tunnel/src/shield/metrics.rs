//! The shield's series.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

use super::{Plan, Refusal, ShieldState};
use crate::key::PublicKey;

/// What the shield counts. Clones share it.
#[derive(Clone, Debug)]
pub struct ShieldMetrics {
    copies: Counter,
    bytes: Counter,
    refused: Family<ReasonLabel, Counter>,
    refusals: Arc<[Counter; Refusal::ALL.len()]>,
    state: Family<StateLabel, Gauge>,
    copies_planned: Family<PeerLabel, Gauge>,
    spacing: Family<PeerLabel, Gauge<f64, AtomicU64>>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct ReasonLabel(&'static str);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct PeerLabel(String);

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct StateLabel(String, &'static str);

impl EncodeLabelSet for ReasonLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("reason", self.0)].encode(encoder)
    }
}

impl EncodeLabelSet for PeerLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("peer", self.0.as_str())].encode(encoder)
    }
}

impl EncodeLabelSet for StateLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("peer", self.0.as_str()), ("state", self.1)].encode(encoder)
    }
}

impl Default for ShieldMetrics {
    fn default() -> Self {
        let refused = Family::<ReasonLabel, Counter>::default();
        let of = |reason: Refusal| refused.get_or_create(&ReasonLabel(reason.label())).clone();
        Self {
            copies: Counter::default(),
            bytes: Counter::default(),
            refusals: Arc::new(Refusal::ALL.map(of)),
            refused,
            state: Family::default(),
            copies_planned: Family::default(),
            spacing: Family::default(),
        }
    }
}

impl ShieldMetrics {
    /// Adds the series to `registry`.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("shield_copies", "Datagrams sent again", self.copies.clone());
        registry.register("shield_bytes", "Bytes of datagrams sent again", self.bytes.clone());
        registry.register(
            "shield_refused",
            "Datagrams not sent again though their path loses",
            self.refused.clone(),
        );
        registry.register("shield_state", "1 for the state that is", self.state.clone());
        registry.register(
            "shield_copies_planned",
            "Copies of each chat datagram",
            self.copies_planned.clone(),
        );
        registry.register_with_unit(
            "shield_spacing",
            "Time between a datagram and its copy",
            Unit::Seconds,
            self.spacing.clone(),
        );
    }

    /// Counts copies that went.
    pub fn sent(&self, copies: u64, bytes: u64) {
        self.copies.inc_by(copies);
        self.bytes.inc_by(bytes);
    }

    /// Counts datagrams that got no copy.
    pub fn refused(&self, reason: Refusal, datagrams: u64) {
        self.refusals[reason as usize].inc_by(datagrams);
    }

    /// How many copies went so far, and their bytes.
    #[must_use]
    pub fn sent_count(&self) -> (u64, u64) {
        (self.copies.get(), self.bytes.get())
    }

    /// How many datagrams got no copy for this reason.
    #[must_use]
    pub fn refused_count(&self, reason: Refusal) -> u64 {
        self.refusals[reason as usize].get()
    }

    /// Notes what is done for a peer.
    pub fn set_plan(&self, peer: &PublicKey, plan: Plan) {
        let label = PeerLabel(peer.short());
        for state in ShieldState::ALL {
            let of = StateLabel(label.0.clone(), state.label());
            self.state.get_or_create(&of).set(i64::from(state == plan.state));
        }
        self.copies_planned.get_or_create(&label).set(plan.copies.into());
        self.spacing.get_or_create(&label).set(plan.spacing.as_secs_f64());
    }

    /// Forgets a removed peer's series.
    pub fn forget_peer(&self, peer: &PublicKey) {
        let label = PeerLabel(peer.short());
        for state in ShieldState::ALL {
            self.state.remove(&StateLabel(label.0.clone(), state.label()));
        }
        self.copies_planned.remove(&label);
        self.spacing.remove(&label);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let (mut registry, metrics) = (Registry::default(), ShieldMetrics::default());
        metrics.register(registry.sub_registry_with_prefix("antipode_tunnel"));
        metrics.sent(2, 300);
        Refusal::ALL.into_iter().for_each(|reason| metrics.refused(reason, 7));
        let (peer, spacing) = (PublicKey::from([7; 32]), Duration::from_millis(8));
        metrics.set_plan(&peer, Plan { copies: 1, spacing, state: ShieldState::Full });
        metrics.set_plan(&peer, Plan { copies: 1, spacing, state: ShieldState::On });
        let text = exposition(&registry);
        let mut lines = vec![
            "antipode_tunnel_shield_copies_total 2".to_owned(),
            "antipode_tunnel_shield_bytes_total 300".to_owned(),
            "antipode_tunnel_shield_copies_planned{peer=\"BwcHBwcH\"} 1".to_owned(),
            "antipode_tunnel_shield_spacing_seconds{peer=\"BwcHBwcH\"} 0.008".to_owned(),
        ];
        for reason in ["full", "harmful", "budget", "queue_full", "not_sent"] {
            lines.push(format!("antipode_tunnel_shield_refused_total{{reason=\"{reason}\"}} 7"));
        }
        for state in ["off", "unmeasured", "clean", "on", "full", "harmful"] {
            let is = i32::from(state == "on");
            let labels = format!("peer=\"BwcHBwcH\",state=\"{state}\"");
            lines.push(format!("antipode_tunnel_shield_state{{{labels}}} {is}"));
        }
        for line in lines {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
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
