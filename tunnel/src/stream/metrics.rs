//! What streams count.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What became of an attempt to open a stream.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamOutcome {
    /// It was open.
    Opened,
    /// We dialled: no address, no answer, or TCP was refused.
    Unreachable,
    /// It took longer than `STREAM_HANDSHAKE_TIME_MAX`.
    TimedOut,
    /// TLS failed: no certificate of our gateway's, or something on the way that is not the core.
    Tls,
    /// The far end answered, or asked for, something else than the tunnel.
    Upgrade,
    /// Who called is no member that we know.
    NotAMember,
    /// There were `streams_max` of them.
    Full,
    /// Its source had as many handshakes under way as one may have.
    SourceFull,
    /// The member had as many as one may have: its oldest was closed.
    Replaced,
}

impl StreamOutcome {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Opened,
        Self::Unreachable,
        Self::TimedOut,
        Self::Tls,
        Self::Upgrade,
        Self::NotAMember,
        Self::Full,
        Self::SourceFull,
        Self::Replaced,
    ];

    /// `outcome` of `antipode_tunnel_stream_attempts_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Opened => "opened",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed_out",
            Self::Tls => "tls",
            Self::Upgrade => "upgrade",
            Self::NotAMember => "not_a_member",
            Self::Full => "full",
            Self::SourceFull => "source_full",
            Self::Replaced => "replaced",
        }
    }
}

/// Why an open stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamEnd {
    /// We closed it.
    Closed,
    /// The far end did.
    FarEnd,
    /// It broke the protocol.
    Protocol,
    /// TCP or TLS failed.
    Broken,
    /// Nothing came for `STREAM_IDLE_MAX`.
    Idle,
}

impl StreamEnd {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Closed, Self::FarEnd, Self::Protocol, Self::Broken, Self::Idle];

    /// `reason` of `antipode_tunnel_stream_ends_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::FarEnd => "far_end",
            Self::Protocol => "protocol",
            Self::Broken => "broken",
            Self::Idle => "idle",
        }
    }
}

/// Counters of streams; clones share them.
#[derive(Clone, Debug, Default)]
pub struct StreamMetrics {
    /// Open ones.
    pub(crate) open: Gauge,
    attempts: Family<Label, Counter>,
    ends: Family<Label, Counter>,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Label(&'static str, &'static str);

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [(self.0, self.1)].encode(encoder)
    }
}

impl StreamMetrics {
    /// Into the tunnel's own part of a registry.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("streams", "Streams that carry datagrams", self.open.clone());
        let attempts = "Attempts to open a stream, from us or to us";
        registry.register("stream_attempts", attempts, self.attempts.clone());
        registry.register("stream_ends", "Streams that ended", self.ends.clone());
    }

    pub(crate) fn attempted(&self, outcome: StreamOutcome) {
        self.attempts.get_or_create(&Label("outcome", outcome.label())).inc();
    }

    pub(crate) fn ended(&self, end: StreamEnd) {
        self.ends.get_or_create(&Label("reason", end.label())).inc();
    }

    /// How many attempts came to `outcome`.
    #[must_use]
    pub fn attempts(&self, outcome: StreamOutcome) -> u64 {
        self.attempts.get_or_create(&Label("outcome", outcome.label())).get()
    }

    /// How many ended so.
    #[must_use]
    pub fn ends(&self, end: StreamEnd) -> u64 {
        self.ends.get_or_create(&Label("reason", end.label())).get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let mut registry = Registry::default();
        let metrics = StreamMetrics::default();
        metrics.register(registry.sub_registry_with_prefix("antipode_tunnel"));
        metrics.open.set(3);
        StreamOutcome::ALL.into_iter().for_each(|outcome| metrics.attempted(outcome));
        StreamEnd::ALL.into_iter().for_each(|end| metrics.ended(end));
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let mut lines = vec!["antipode_tunnel_streams 3".to_owned()];
        lines.extend(StreamOutcome::ALL.map(|outcome| {
            let label = outcome.label();
            format!("antipode_tunnel_stream_attempts_total{{outcome=\"{label}\"}} 1")
        }));
        lines.extend(StreamEnd::ALL.map(|end| {
            let label = end.label();
            format!("antipode_tunnel_stream_ends_total{{reason=\"{label}\"}} 1")
        }));
        for line in lines {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
