//! Every metric the gateway exports, in one place.
//!
//! Names are `antipode_gateway_<noun>_<unit>`; base units; counters get `_total` from the encoder.
//! Label values come from closed sets: never a member's name, a client's address or a token.

use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::health::{Changed, Health};
use crate::member::Role;
use crate::steer::Reason;

/// The gateway's counters; clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    nodes: Family<State, Gauge>,
    cores: Family<State, Gauge>,
    links: Family<Label<LinkWay>, Gauge>,
    health_changes: Family<Change, Counter>,
    steer_decisions: Family<Label<SteerReason>, Counter>,
    steer: Histogram,
    located: Family<Label<By>, Counter>,
    enrolments: Family<Label<Outcome>, Counter>,
    /// Streams of members open right now.
    pub attending: Gauge,
    attend_ends: Family<Label<EndReason>, Counter>,
    /// Processes of nodes that have gone, as cores were told.
    pub processes_gone: Counter,
    sockets_refused: Family<Label<Refused>, Counter>,
    mmdb_reloads: Family<Label<Outcome>, Counter>,
}

/// One label whose name is `N`'s and whose value is one of a fixed set.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Label<N>(&'static str, std::marker::PhantomData<N>);

trait Name {
    const NAME: &'static str;
}

macro_rules! names {
    ($($kind:ident $name:literal),*) => {$(
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        struct $kind;
        impl Name for $kind {
            const NAME: &'static str = $name;
        }
    )*};
}
names!(SteerReason "reason", By "by", Outcome "outcome", EndReason "reason", Refused "reason");
names!(LinkWay "way");

impl<N> Label<N> {
    fn of(value: &'static str) -> Self {
        Self(value, std::marker::PhantomData)
    }
}

impl<N: Name> EncodeLabelSet for Label<N> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [(N::NAME, self.0)].encode(encoder)
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct State(&'static str);

impl EncodeLabelSet for State {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("state", self.0)].encode(encoder)
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Change(Changed);

impl EncodeLabelSet for Change {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        let Changed { from, to, reason } = self.0;
        [("from", from.label()), ("to", to.label()), ("reason", reason.label())].encode(encoder)
    }
}

impl Metrics {
    /// Registers everything under `antipode_gateway`; the names are the operator's contract.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("antipode_gateway");
        let metrics = Self {
            nodes: Family::default(),
            cores: Family::default(),
            links: Family::default(),
            health_changes: Family::default(),
            steer_decisions: Family::default(),
            // 1 us to 32 ms: a decision over a few nodes takes microseconds, an mmdb look-up tens.
            steer: Histogram::new(exponential_buckets(0.000_001, 2.0, 16)),
            located: Family::default(),
            enrolments: Family::default(),
            attending: Gauge::default(),
            attend_ends: Family::default(),
            processes_gone: Counter::default(),
            sockets_refused: Family::default(),
            mmdb_reloads: Family::default(),
        };
        let Self { nodes, cores, health_changes, steer_decisions, .. } = &metrics;
        registry.register("nodes", "Nodes by health", nodes.clone());
        registry.register("cores", "Cores by health", cores.clone());
        let help = "Tunnels of nodes by the way their datagrams take";
        registry.register("links", help, metrics.links.clone());
        registry.register("health_changes", "Changes of health", health_changes.clone());
        let help = "Answers by why their first candidate is first";
        registry.register("steer_decisions", help, steer_decisions.clone());
        let help = "Time to locate a client and choose its nodes";
        registry.register_with_unit("steer", help, Unit::Seconds, metrics.steer.clone());
        let help = "Questions by what told where the client is";
        registry.register("steer_located", help, metrics.located.clone());
        registry.register("enrolments", "Attempts to join", metrics.enrolments.clone());
        registry.register("attending", "Open streams of members", metrics.attending.clone());
        registry.register("attend_ends", "Streams ended", metrics.attend_ends.clone());
        let help = "Processes of nodes that have gone";
        registry.register("processes_gone", help, metrics.processes_gone.clone());
        let help = "Sockets closed before their first call";
        registry.register("sockets_refused", help, metrics.sockets_refused.clone());
        let help = "Times the mmdb file changed and was read again";
        registry.register("mmdb_reloads", help, metrics.mmdb_reloads.clone());
        metrics
    }

    /// How many members of a role are in each state.
    pub fn count(&self, role: Role, states: [(Health, usize); 5]) {
        let family = match role {
            Role::Node => &self.nodes,
            Role::Core => &self.cores,
        };
        for (state, count) in states {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            family.get_or_create(&State(state.label())).set(count);
        }
    }

    /// How many tunnels of nodes take each way.
    pub fn ways(&self, ways: [(&'static str, usize); 4]) {
        for (way, count) in ways {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.links.get_or_create(&Label::of(way)).set(count);
        }
    }

    /// A member's health changed.
    pub fn health_changed(&self, changed: Changed) {
        self.health_changes.get_or_create(&Change(changed)).inc();
    }

    /// A question was answered.
    pub fn steered(&self, reason: Reason, located_by: &'static str, took: Duration) {
        self.steer_decisions.get_or_create(&Label::of(reason.label())).inc();
        self.located.get_or_create(&Label::of(located_by)).inc();
        self.steer.observe(took.as_secs_f64());
    }

    /// Somebody tried to join; `outcome` is `ok`, or why not.
    pub fn enrolled(&self, outcome: &'static str) {
        self.enrolments.get_or_create(&Label::of(outcome)).inc();
    }

    /// A member's stream ended.
    pub fn attend_ended(&self, reason: &'static str) {
        self.attend_ends.get_or_create(&Label::of(reason)).inc();
    }

    /// A socket was closed before its first call.
    pub fn socket_refused(&self, reason: &'static str) {
        self.sockets_refused.get_or_create(&Label::of(reason)).inc();
    }

    /// The mmdb file changed; `outcome` is `ok` or `failed`.
    pub fn mmdb_reloaded(&self, outcome: &'static str) {
        self.mmdb_reloads.get_or_create(&Label::of(outcome)).inc();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::HealthReason;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.count(Role::Node, Health::ALL.map(|state| (state, 1)));
        metrics.count(Role::Core, Health::ALL.map(|state| (state, 2)));
        metrics.ways([("udp", 3), ("stream", 0), ("through", 1), ("unknown", 0)]);
        let (from, to) = (Health::Alive, Health::Suspect);
        metrics.health_changed(Changed { from, to, reason: HealthReason::Silent });
        metrics.steered(Reason::Nearest, "time_zone", Duration::from_micros(3));
        metrics.enrolled("ok");
        metrics.attending.inc();
        metrics.attend_ended("lost");
        metrics.processes_gone.inc();
        metrics.socket_refused("handshake");
        metrics.mmdb_reloaded("ok");

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "antipode_gateway_nodes{state=\"alive\"} 1",
            "antipode_gateway_cores{state=\"dead\"} 2",
            "antipode_gateway_links{way=\"udp\"} 3",
            "antipode_gateway_links{way=\"through\"} 1",
            "antipode_gateway_health_changes_total\
             {from=\"alive\",to=\"suspect\",reason=\"silent\"} 1",
            "antipode_gateway_steer_decisions_total{reason=\"nearest\"} 1",
            "antipode_gateway_steer_seconds_count 1",
            "antipode_gateway_steer_located_total{by=\"time_zone\"} 1",
            "antipode_gateway_enrolments_total{outcome=\"ok\"} 1",
            "antipode_gateway_attending 1",
            "antipode_gateway_attend_ends_total{reason=\"lost\"} 1",
            "antipode_gateway_processes_gone_total 1",
            "antipode_gateway_sockets_refused_total{reason=\"handshake\"} 1",
            "antipode_gateway_mmdb_reloads_total{outcome=\"ok\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
