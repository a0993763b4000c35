//! Every series a trunk exports, in one place.

mod budget;
mod fan_out;

use std::sync::atomic::AtomicU64;

use antipode_proto::trunk::v1::Cause;
use antipode_tunnel::Class;
use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Registry, Unit};

pub use budget::BudgetMetrics;
pub use fan_out::FanOutMetrics;

/// The trunk's series; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Lanes that a gRPC call carries right now, over all trunks.
    pub lanes_up: Gauge,
    /// Lanes for bulk that a gRPC call carries right now, over all trunks.
    pub bulk_lanes_up: Gauge,
    /// Sessions moved by this node, by the class of lanes they went to.
    pub moves: Family<MoveLabels, Counter>,
    /// Sessions whose machine is held right now.
    pub sessions: Gauge,
    /// Sessions that came to their end: `complete`, or the cause of an untimely end.
    pub sessions_ended: Family<EndLabels, Counter>,
    /// New sessions refused because the core was full or busy.
    pub refused: Counter,
    /// Frames by direction, as this end sees it.
    pub frames: Family<DirectionLabels, Counter>,
    /// Batches by direction; frames over batches is how well batching works.
    pub batches: Family<DirectionLabels, Counter>,
    /// Segments sent again after a break.
    pub replayed_segments: Counter,
    /// Lanes that broke after they had carried something.
    pub lanes_lost: Counter,
    /// Lanes ended because the peer broke the protocol.
    pub protocol_errors: Counter,
    /// Of the trunk that has been silent for longest: since it was heard.
    pub silence: Gauge<f64, AtomicU64>,
    /// Attempts to dial a core that was there before.
    pub redials: Counter,
    /// Carriers that fell silent and lost their lanes to a newer one.
    pub carriers_replaced: Counter,
    /// Payloads that cross once for many sessions.
    pub fan_out: FanOutMetrics,
    /// What all sessions hold.
    pub budget: BudgetMetrics,
}

/// From this end's point of view.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Direction {
    /// From the other end.
    In,
    /// To the other end.
    Out,
}

/// The label `direction`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct DirectionLabels {
    /// Which way.
    pub direction: Direction,
}

impl EncodeLabelSet for DirectionLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        let direction = match self.direction {
            Direction::In => "in",
            Direction::Out => "out",
        };
        [("direction", direction)].encode(encoder)
    }
}

/// The label `to`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct MoveLabels {
    /// Which lanes.
    pub to: Class,
}

impl EncodeLabelSet for MoveLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        let to = match self.to {
            Class::Chat => "chat",
            Class::Bulk => "bulk",
        };
        [("to", to)].encode(encoder)
    }
}

/// The label `cause`.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct EndLabels {
    /// Lower case, from the closed set of [`Cause`].
    pub cause: String,
}

impl EndLabels {
    pub(crate) fn of(cause: Cause) -> Self {
        let cause = cause.as_str_name().trim_start_matches("CAUSE_").to_ascii_lowercase();
        Self { cause }
    }
}

impl EncodeLabelSet for EndLabels {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> Result<(), std::fmt::Error> {
        [("cause", self.cause.as_str())].encode(encoder)
    }
}

impl Metrics {
    /// Registers everything under `antipode_trunk`.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("antipode_trunk");
        let metrics = Self::default();
        let Self {
            lanes_up,
            bulk_lanes_up,
            moves,
            sessions,
            sessions_ended,
            refused,
            frames,
            batches,
            replayed_segments,
            lanes_lost,
            protocol_errors,
            silence,
            redials,
            carriers_replaced,
            fan_out,
            budget,
        } = metrics.clone();
        registry.register("lanes_up", "Lanes that are open", lanes_up);
        registry.register("bulk_lanes_up", "Lanes for bulk that are open", bulk_lanes_up);
        registry.register("moves", "Sessions moved to lanes of another class", moves);
        registry.register("sessions", "Sessions held", sessions);
        registry.register("sessions_ended", "Sessions that ended, by cause", sessions_ended);
        registry.register("sessions_refused", "New sessions refused by the core", refused);
        registry.register("frames", "Frames carried", frames);
        registry.register("batches", "Batches carried", batches);
        registry.register("replayed_segments", "Segments sent again", replayed_segments);
        registry.register("lanes_lost", "Lanes that broke", lanes_lost);
        registry.register("protocol_errors", "Lanes ended over a protocol error", protocol_errors);
        let help = "Since the trunk that is silent for longest was heard";
        registry.register_with_unit("silence", help, Unit::Seconds, silence);
        registry.register("redials", "Attempts to dial a core again", redials);
        let help = "Silent carriers whose lanes a newer one took";
        registry.register("carriers_replaced", help, carriers_replaced);
        fan_out.register(registry);
        budget.register(registry);
        metrics
    }

    pub(crate) fn count_frames(&self, direction: Direction, frames: usize) {
        let labels = DirectionLabels { direction };
        self.frames.get_or_create(&labels).inc_by(u64::try_from(frames).unwrap_or(u64::MAX));
        self.batches.get_or_create(&labels).inc();
    }

    pub(crate) fn count_end(&self, cause: Option<Cause>, replayed: u64) {
        let labels = EndLabels::of(cause.unwrap_or(Cause::Complete));
        self.sessions_ended.get_or_create(&labels).inc();
        self.replayed_segments.inc_by(replayed);
        self.sessions.dec();
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
        metrics.lanes_up.inc();
        metrics.bulk_lanes_up.inc();
        metrics.moves.get_or_create(&MoveLabels { to: Class::Bulk }).inc();
        metrics.sessions.inc();
        metrics.count_frames(Direction::In, 3);
        metrics.count_frames(Direction::Out, 2);
        metrics.count_end(Some(Cause::ClientSlow), 5);
        metrics.refused.inc();
        metrics.lanes_lost.inc();
        metrics.protocol_errors.inc();
        metrics.silence.set(1.5);
        metrics.redials.inc();
        metrics.carriers_replaced.inc();
        metrics.fan_out.saved_bytes.inc_by(7);
        metrics.fan_out.waits.inc();
        metrics.fan_out.asked_again.inc();
        metrics.budget.used_bytes.set(3);
        metrics.budget.max_bytes.set(4);
        metrics.budget.sessions_shed.get_or_create(&EndLabels::of(Cause::ClientSlow)).inc();

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();

        for line in [
            "antipode_trunk_lanes_up 1",
            "antipode_trunk_bulk_lanes_up 1",
            "antipode_trunk_moves_total{to=\"bulk\"} 1",
            "antipode_trunk_sessions 0",
            "antipode_trunk_sessions_ended_total{cause=\"client_slow\"} 1",
            "antipode_trunk_sessions_refused_total 1",
            "antipode_trunk_frames_total{direction=\"in\"} 3",
            "antipode_trunk_batches_total{direction=\"out\"} 1",
            "antipode_trunk_replayed_segments_total 5",
            "antipode_trunk_lanes_lost_total 1",
            "antipode_trunk_protocol_errors_total 1",
            "antipode_trunk_silence_seconds 1.5",
            "antipode_trunk_redials_total 1",
            "antipode_trunk_carriers_replaced_total 1",
            "antipode_trunk_fan_out_saved_bytes_total 7",
            "antipode_trunk_fan_out_waits_total 1",
            "antipode_trunk_fan_out_asked_again_total 1",
            "antipode_trunk_session_bytes 3",
            "antipode_trunk_session_bytes_max 4",
            "antipode_trunk_sessions_shed_total{cause=\"client_slow\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
