//! Every metric the core exports, in one place.
//!
//! Names are `antipode_core_<noun>_<unit>`; label values come from closed sets or from the
//! configuration file: never a session, a client's address or a token. Opened less closed sessions
//! are the sessions at hand.

use antipode_proto::trunk::v1::{Cause, SessionKind};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::backend::choice::Choice;

/// The core's metrics; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    /// Sessions at hand.
    pub(crate) sessions: Gauge,
    pub(crate) sessions_opened: Family<KindLabel, Counter>,
    pub(crate) sessions_closed: Family<CauseLabel, Counter>,
    /// Sessions that a limit, or a missing backend, turned away; also other errors that the core
    /// answers itself.
    pub(crate) answers_made: Family<ReasonLabel, Counter>,
    /// The same in one number, for the gateway.
    pub(crate) sessions_failed: Counter,
    pub(crate) chunks: Family<DirectionLabel, Counter>,
    pub(crate) payload_bytes: Family<DirectionLabel, Counter>,
    pub(crate) pongs_skipped: Counter,
    pub(crate) backend_sessions: Family<BackendLabel, Gauge>,
    pub(crate) backend_up: Family<BackendLabel, Gauge>,
    pub(crate) backend_connects: Family<ConnectLabel, Counter>,
    pub(crate) backend_choices: Family<ReasonLabel, Counter>,
    pub(crate) backend_choices_open: Counter,
    pub(crate) backend_protocol_errors: Family<ReasonLabel, Counter>,
    /// From the session's arrival to the backend's answer.
    pub(crate) response_head: ResponseHeadSeconds,
    pub(crate) peers: Gauge,
    /// Sessions that another process handed over to this one.
    pub(crate) sessions_taken_over: Counter,
    /// Attempts of another process to take over that came to nothing.
    pub(crate) handovers_failed: Counter,
    pub(crate) resume: ResumeMetrics,
}

/// What concerns resumable clients.
#[derive(Clone, Debug, Default)]
pub(crate) struct ResumeMetrics {
    /// Resumable sessions at hand, detached ones included.
    pub(crate) sessions: Gauge,
    /// Of these, those that wait for their client to come back.
    pub(crate) detached: Gauge,
    /// Sockets that were opened to go on with a session.
    pub(crate) resumes: Family<OutcomeLabel, Counter>,
    /// Clients that asked for a resumable session and got an ordinary one.
    pub(crate) fallbacks: Family<ReasonLabel, Counter>,
    /// Attachments that a newer one replaced while they looked alive.
    pub(crate) moved: Counter,
    /// Sessions ended by what their client sent.
    pub(crate) protocol_errors: Family<ReasonLabel, Counter>,
    /// Sessions whose client did not come back in time.
    pub(crate) expired: Counter,
    /// How long clients were away that came back.
    pub(crate) detached_seconds: DetachedSeconds,
}

impl ResumeMetrics {
    fn register(&self, registry: &mut Registry) {
        let m = self.clone();
        registry.register("resumable_sessions", "Resumable sessions at hand", m.sessions);
        registry.register("detached_sessions", "Sessions that wait for their client", m.detached);
        registry.register("resumes", "Sockets opened to go on with a session", m.resumes);
        let fallbacks = "Clients that asked for a resumable session and got an ordinary one";
        registry.register("resume_fallbacks", fallbacks, m.fallbacks);
        registry.register("attachments_moved", "Replaced while they looked alive", m.moved);
        let errors = "Resumable sessions ended by what their client sent";
        registry.register("resume_protocol_errors", errors, m.protocol_errors);
        let expired = "Sessions whose client did not come back in time";
        registry.register("sessions_expired", expired, m.expired);
        let away = "Time that clients were away that came back";
        registry.register_with_unit("detached", away, Unit::Seconds, m.detached_seconds.0);
    }

    pub(crate) fn fell_back(&self, reason: &'static str) {
        self.fallbacks.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn broke(&self, reason: &'static str) {
        self.protocol_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn resumed(&self, outcome: &'static str) {
        self.resumes.get_or_create(&OutcomeLabel { outcome }).inc();
    }
}

/// 16 ms to 4 min: from a change of networks to more than the window.
#[derive(Clone, Debug)]
pub(crate) struct DetachedSeconds(pub(crate) Histogram);

impl Default for DetachedSeconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.016, 2.0, 15)))
    }
}

/// 1 ms to 65 s: a healthy backend answers in milliseconds, long polling in half a minute.
#[derive(Clone, Debug)]
pub(crate) struct ResponseHeadSeconds(pub(crate) Histogram);

impl Default for ResponseHeadSeconds {
    fn default() -> Self {
        Self(Histogram::new(exponential_buckets(0.001, 2.0, 17)))
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct KindLabel {
    kind: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Copy, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct DirectionLabel {
    direction: &'static str,
}

/// From the client to the backend.
pub(crate) const UP: DirectionLabel = DirectionLabel { direction: "up" };
/// From the backend to the client.
pub(crate) const DOWN: DirectionLabel = DirectionLabel { direction: "down" };

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct BackendLabel {
    pub(crate) backend: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
pub(crate) struct ConnectLabel {
    backend: String,
    outcome: &'static str,
}

impl Metrics {
    /// Registers everything under `antipode_core`; the names are the operator's contract.
    pub fn register(registry: &mut Registry) -> Self {
        let registry = registry.sub_registry_with_prefix("antipode_core");
        let metrics = Self::default();
        let m = metrics.clone();
        registry.register("sessions", "Sessions at hand", m.sessions);
        registry.register("sessions_opened", "Sessions begun", m.sessions_opened);
        registry.register("sessions_closed", "Sessions ended", m.sessions_closed);
        registry.register("answers_made", "Answers the core made itself", m.answers_made);
        let failed = "Sessions that got no answer of a backend";
        registry.register("sessions_failed", failed, m.sessions_failed);
        registry.register("chunks", "Pieces of frames and bodies carried", m.chunks);
        registry.register_with_unit("payload", "Carried", Unit::Bytes, m.payload_bytes);
        registry.register(
            "pongs_skipped",
            "Backend pings answered by a later pong",
            m.pongs_skipped,
        );
        registry.register("backend_sessions", "Sessions at a backend", m.backend_sessions);
        registry.register("backend_up", "1: the backend is healthy", m.backend_up);
        registry.register("backend_connects", "Sockets asked for", m.backend_connects);
        registry.register("backend_choices", "Backends chosen", m.backend_choices);
        let open = "Choices made with no backend healthy";
        registry.register("backend_choices_open", open, m.backend_choices_open);
        let errors = "Sessions ended by what a backend sent";
        registry.register("backend_protocol_errors", errors, m.backend_protocol_errors);
        let answered = "Time from a session's arrival to its backend's answer";
        registry.register_with_unit("response_head", answered, Unit::Seconds, m.response_head.0);
        registry.register("peers", "Nodes on the roster", m.peers);
        let taken = "Sessions that another process handed over to this one";
        registry.register("sessions_taken_over", taken, m.sessions_taken_over);
        let failed = "Attempts of a new process to take over that came to nothing";
        registry.register("handovers_failed", failed, m.handovers_failed);
        metrics.resume.register(registry);
        metrics
    }

    pub(crate) fn session_opened(&self, kind: SessionKind) {
        self.sessions_opened.get_or_create(&kind_label(kind)).inc();
        self.sessions.inc();
    }

    pub(crate) fn session_closed(&self, cause: Cause) {
        self.sessions_closed.get_or_create(&CauseLabel { cause: cause_label(cause) }).inc();
        self.sessions.dec();
    }

    /// Sessions begun, of every kind.
    pub(crate) fn opened(&self) -> u64 {
        let kinds = [SessionKind::Websocket, SessionKind::Http, SessionKind::Unspecified];
        kinds.map(|kind| self.sessions_opened.get_or_create(&kind_label(kind)).get()).iter().sum()
    }

    pub(crate) fn answer_made(&self, reason: &'static str) {
        self.sessions_failed.inc();
        self.answers_made.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn backend_chosen(&self, choice: Choice) {
        let reason = choice.reason.label();
        self.backend_choices.get_or_create(&ReasonLabel { reason }).inc();
        if choice.open {
            self.backend_choices_open.inc();
        }
    }

    pub(crate) fn backend_connected(&self, backend: &str, outcome: &'static str) {
        let label = ConnectLabel { backend: backend.to_owned(), outcome };
        self.backend_connects.get_or_create(&label).inc();
    }

    pub(crate) fn backend_broke(&self, reason: &'static str) {
        self.backend_protocol_errors.get_or_create(&ReasonLabel { reason }).inc();
    }

    pub(crate) fn carried(&self, direction: DirectionLabel, payload_len: usize) {
        self.chunks.get_or_create(&direction).inc();
        let bytes = u64::try_from(payload_len).unwrap_or(u64::MAX);
        self.payload_bytes.get_or_create(&direction).inc_by(bytes);
    }
}

fn kind_label(kind: SessionKind) -> KindLabel {
    let kind = match kind {
        SessionKind::Websocket => "websocket",
        SessionKind::Http => "http",
        SessionKind::Unspecified => "unspecified",
    };
    KindLabel { kind }
}

/// `cause` as a label: the wire's name in lower case, without its prefix.
pub(crate) fn cause_label(cause: Cause) -> &'static str {
    match cause {
        Cause::Unspecified => "unspecified",
        Cause::Complete => "complete",
        Cause::ClientClosed => "client_closed",
        Cause::BackendClosed => "backend_closed",
        Cause::ClientLost => "client_lost",
        Cause::BackendLost => "backend_lost",
        Cause::ClientProtocol => "client_protocol",
        Cause::BackendProtocol => "backend_protocol",
        Cause::ClientSlow => "client_slow",
        Cause::BackendSlow => "backend_slow",
        Cause::ClientIdle => "client_idle",
        Cause::BackendUnreachable => "backend_unreachable",
        Cause::BackendTimeout => "backend_timeout",
        Cause::NodeDraining => "node_draining",
        Cause::CoreDraining => "core_draining",
        Cause::Policy => "policy",
        Cause::Replaced => "replaced",
        Cause::SessionLost => "session_lost",
        Cause::TrunkLost => "trunk_lost",
        Cause::TrunkProtocol => "trunk_protocol",
        Cause::Internal => "internal",
        Cause::CoreFull => "core_full",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::choice::Reason;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.session_opened(SessionKind::Websocket);
        metrics.session_opened(SessionKind::Http);
        metrics.session_closed(Cause::ClientClosed);
        metrics.answer_made("core_full");
        metrics.carried(UP, 7);
        metrics.pongs_skipped.inc();
        metrics.backend_connected("a", "ok");
        metrics.backend_chosen(Choice { index: 0, reason: Reason::Cookie, open: true });
        metrics.backend_broke("masked");
        let backend = BackendLabel { backend: "a".to_owned() };
        metrics.backend_up.get_or_create(&backend).set(1);
        metrics.backend_sessions.get_or_create(&backend).inc();
        metrics.response_head.0.observe(0.1);
        metrics.peers.set(3);
        metrics.sessions_taken_over.inc_by(2);
        metrics.handovers_failed.inc();
        metrics.resume.sessions.set(5);
        metrics.resume.detached.set(2);
        metrics.resume.resumed("attached");
        metrics.resume.fell_back("full");
        metrics.resume.moved.inc();
        metrics.resume.broke("text");
        metrics.resume.expired.inc();
        metrics.resume.detached_seconds.0.observe(1.0);
        assert_eq!(metrics.opened(), 2);

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "antipode_core_sessions 1",
            "antipode_core_sessions_opened_total{kind=\"websocket\"} 1",
            "antipode_core_sessions_closed_total{cause=\"client_closed\"} 1",
            "antipode_core_answers_made_total{reason=\"core_full\"} 1",
            "antipode_core_sessions_failed_total 1",
            "antipode_core_chunks_total{direction=\"up\"} 1",
            "antipode_core_payload_bytes_total{direction=\"up\"} 7",
            "antipode_core_pongs_skipped_total 1",
            "antipode_core_backend_sessions{backend=\"a\"} 1",
            "antipode_core_backend_up{backend=\"a\"} 1",
            "antipode_core_backend_connects_total{backend=\"a\",outcome=\"ok\"} 1",
            "antipode_core_backend_choices_total{reason=\"cookie\"} 1",
            "antipode_core_backend_choices_open_total 1",
            "antipode_core_backend_protocol_errors_total{reason=\"masked\"} 1",
            "antipode_core_response_head_seconds_count 1",
            "antipode_core_peers 3",
            "antipode_core_sessions_taken_over_total 2",
            "antipode_core_handovers_failed_total 1",
            "antipode_core_resumable_sessions 5",
            "antipode_core_detached_sessions 2",
            "antipode_core_resumes_total{outcome=\"attached\"} 1",
            "antipode_core_resume_fallbacks_total{reason=\"full\"} 1",
            "antipode_core_attachments_moved_total 1",
            "antipode_core_resume_protocol_errors_total{reason=\"text\"} 1",
            "antipode_core_sessions_expired_total 1",
            "antipode_core_detached_seconds_count 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
