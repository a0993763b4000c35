//! Every metric the node exports, in one place.
//!
//! Names are `antipode_node_<noun>_<unit>`; base units; counters get `_total` from the encoder.
//! Label values come from closed sets: never a session, a client address or a name that a client
//! chose. `sessions_opened − sessions_closed = sessions`, for each kind.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::front::pacing::Turn;

/// The node's counters. Clones share them.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Sockets of clients that are open.
    pub clients: Gauge,
    /// Sockets that were closed unserved, by the limit they hit.
    pub clients_refused: Family<Label, Counter>,
    /// TLS handshakes, by how they ended.
    pub handshakes: Family<Label, Counter>,
    /// Sessions at this node right now, by kind.
    pub sessions: Family<Label, Gauge>,
    /// Sessions that the trunk took, by kind.
    pub sessions_opened: Family<Label, Counter>,
    /// Sessions that ended, by kind and by cause.
    pub sessions_closed: Family<Closed, Counter>,
    /// Requests that got no session, by reason.
    pub requests_refused: Family<Label, Counter>,
    /// Payload bytes of frames and bodies, by direction.
    pub client_payload: Family<Label, Counter>,
    /// WebSocket data frames, by direction.
    pub frames: Family<Label, Counter>,
    /// Request sent up until the response head came down.
    pub open_latency: Histogram,
    /// Certificate files looked at anew, by outcome.
    pub certificate_reloads: Family<Label, Counter>,
    /// Sessions told to go because the node drains.
    pub sessions_drained: Counter,
    /// Invitations to resumable clients, to go on elsewhere.
    pub sessions_invited: Counter,
    /// WebSockets at this node right now whose session can go on elsewhere.
    pub sessions_resumable: Gauge,
    /// WebSockets whose session goes on here.
    pub resumes: Counter,
    /// Clients that had to wait for their turn, by what for.
    pub turns_waited: Family<Label, Counter>,
}

/// A resumable session, counted for as long as it is here.
#[derive(Debug)]
pub(crate) struct Resumable(Gauge);

impl Drop for Resumable {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// One label of a closed set; the family says what it is called.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Label {
    name: &'static str,
    value: &'static str,
}

impl EncodeLabelSet for Label {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [(self.name, self.value)].encode(encoder)
    }
}

/// How a session of a kind ended.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct Closed {
    kind: &'static str,
    reason: &'static str,
}

impl EncodeLabelSet for Closed {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("kind", self.kind), ("reason", self.reason)].encode(encoder)
    }
}

/// What a session is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Kind {
    /// A WebSocket.
    WebSocket,
    /// An HTTP exchange.
    Http,
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// How a handshake ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HandshakeOutcome {
    /// TLS is up.
    Completed,
    /// The client spoke no TLS that we do, or left.
    Failed,
    /// `handshake_timeout` passed.
    TimedOut,
}

/// What became of a certificate file that was read again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReloadOutcome {
    /// It is in use.
    Loaded,
    /// It can't be used; the old one stays.
    Kept,
}

impl Kind {
    const fn label(self) -> Label {
        let value = match self {
            Self::WebSocket => "websocket",
            Self::Http => "http",
        };
        Label { name: "kind", value }
    }
}

impl Direction {
    const fn label(self) -> Label {
        let value = match self {
            Self::Up => "up",
            Self::Down => "down",
        };
        Label { name: "direction", value }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            clients: Gauge::default(),
            clients_refused: Family::default(),
            handshakes: Family::default(),
            sessions: Family::default(),
            sessions_opened: Family::default(),
            sessions_closed: Family::default(),
            requests_refused: Family::default(),
            client_payload: Family::default(),
            frames: Family::default(),
            // 1 ms to 16 s: an antipodal round trip (about 300 ms) sits mid-range.
            open_latency: Histogram::new(exponential_buckets(0.001, 2.0, 15)),
            certificate_reloads: Family::default(),
            sessions_drained: Counter::default(),
            sessions_invited: Counter::default(),
            sessions_resumable: Gauge::default(),
            resumes: Counter::default(),
            turns_waited: Family::default(),
        }
    }
}

impl Metrics {
    /// Registers everything under `antipode_node`; the names are the operator's contract.
    pub fn register(&self, registry: &mut Registry) {
        let registry = registry.sub_registry_with_prefix("antipode_node");
        let Self { clients, clients_refused, handshakes, sessions, .. } = self.clone();
        registry.register("clients", "Open sockets of clients", clients);
        registry.register("clients_refused", "Sockets closed unserved", clients_refused);
        registry.register("handshakes", "TLS handshakes", handshakes);
        registry.register("sessions", "Sessions at this node", sessions);
        let Self { sessions_opened, sessions_closed, requests_refused, frames, .. } = self.clone();
        registry.register("sessions_opened", "Sessions that the trunk took", sessions_opened);
        registry.register("sessions_closed", "Sessions ended", sessions_closed);
        registry.register("requests_refused", "Requests that got no session", requests_refused);
        registry.register("frames", "WebSocket data frames", frames);
        let Self { client_payload, open_latency, certificate_reloads, sessions_drained, .. } =
            self.clone();
        let help = "Payload of frames and bodies";
        registry.register_with_unit("client_payload", help, Unit::Bytes, client_payload);
        let help = "Time from a request to its response head";
        registry.register_with_unit("open_latency", help, Unit::Seconds, open_latency);
        registry.register("certificate_reloads", "Certificates read again", certificate_reloads);
        registry.register("sessions_drained", "Sessions told to go", sessions_drained);
        let Self { sessions_invited, sessions_resumable, resumes, turns_waited, .. } = self.clone();
        registry.register("sessions_invited", "Invitations to go on elsewhere", sessions_invited);
        let help = "WebSockets whose session can go on elsewhere";
        registry.register("sessions_resumable", help, sessions_resumable);
        registry.register("resumes", "WebSockets whose session goes on here", resumes);
        registry.register("turns_waited", "Clients that waited for their turn", turns_waited);
    }

    /// Counts a resumable session for as long as what is returned lives.
    pub(crate) fn resumable(&self) -> Resumable {
        self.sessions_resumable.inc();
        Resumable(self.sessions_resumable.clone())
    }

    /// A client has to wait for its turn.
    pub fn waited(&self, turn: Turn) {
        self.turns_waited.get_or_create(&Label { name: "what", value: turn.label() }).inc();
    }

    /// The trunk took a session.
    pub fn session_opened(&self, kind: Kind) {
        self.sessions_opened.get_or_create(&kind.label()).inc();
        self.sessions.get_or_create(&kind.label()).inc();
    }

    /// A session ended for `reason`.
    pub fn session_closed(&self, kind: Kind, reason: &'static str) {
        let closed = Closed { kind: kind.label().value, reason };
        self.sessions_closed.get_or_create(&closed).inc();
        self.sessions.get_or_create(&kind.label()).dec();
    }

    /// A request got no session.
    pub fn refused(&self, reason: &'static str) {
        self.requests_refused.get_or_create(&Label { name: "reason", value: reason }).inc();
    }

    /// A socket was closed unserved because of `limit`.
    pub fn client_refused(&self, limit: &'static str) {
        self.clients_refused.get_or_create(&Label { name: "limit", value: limit }).inc();
    }

    /// A TLS handshake ended.
    pub fn handshake(&self, outcome: HandshakeOutcome) {
        let value = match outcome {
            HandshakeOutcome::Completed => "completed",
            HandshakeOutcome::Failed => "failed",
            HandshakeOutcome::TimedOut => "timed_out",
        };
        self.handshakes.get_or_create(&Label { name: "outcome", value }).inc();
    }

    /// A certificate was read again.
    pub fn certificate_reloaded(&self, outcome: ReloadOutcome) {
        let value = match outcome {
            ReloadOutcome::Loaded => "loaded",
            ReloadOutcome::Kept => "kept",
        };
        self.certificate_reloads.get_or_create(&Label { name: "outcome", value }).inc();
    }

    /// The counters of one direction, to be kept where many frames pass.
    pub fn flow(&self, direction: Direction) -> Flow {
        Flow {
            frames: self.frames.get_or_create_owned(&direction.label()),
            payload: self.client_payload.get_or_create_owned(&direction.label()),
        }
    }

    /// Payload bytes that have gone `direction`.
    pub fn payload_bytes(&self, direction: Direction) -> u64 {
        self.client_payload.get_or_create(&direction.label()).get()
    }

    /// Sessions of `kind` right now.
    pub fn sessions_now(&self, kind: Kind) -> i64 {
        self.sessions.get_or_create(&kind.label()).get()
    }

    /// Sessions of `kind` since the start.
    pub fn opened(&self, kind: Kind) -> u64 {
        self.sessions_opened.get_or_create(&kind.label()).get()
    }
}

impl Metrics {
    /// Requests and sessions that failed through no doing of the client's.
    pub fn failed(&self) -> u64 {
        let refused = ["no_core", "trunk_down", "full"].map(|reason| {
            self.requests_refused.get_or_create(&Label { name: "reason", value: reason }).get()
        });
        let kinds = [Kind::WebSocket, Kind::Http].into_iter();
        let closed = kinds.flat_map(|kind| {
            let kind = kind.label().value;
            OUR_FAULTS
                .map(|reason| self.sessions_closed.get_or_create(&Closed { kind, reason }).get())
        });
        refused.into_iter().sum::<u64>() + closed.sum::<u64>()
    }
}

/// Causes that speak against this node or its way to the core.
const OUR_FAULTS: [&str; 4] = ["trunk_lost", "session_lost", "trunk_protocol", "internal"];

/// The counters of one direction.
#[derive(Clone, Debug)]
pub struct Flow {
    frames: Counter,
    payload: Counter,
}

impl Flow {
    /// A frame began.
    pub fn frame(&self) {
        self.frames.inc();
    }

    /// `len` bytes of payload passed.
    pub fn payload(&self, len: usize) {
        self.payload.inc_by(u64::try_from(len).unwrap_or(u64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dashboards and alerts name these series: a rename has to be seen in review.
    #[test]
    fn names_are_a_contract() {
        let mut registry = Registry::default();
        let metrics = Metrics::default();
        metrics.register(&mut registry);
        metrics.clients.inc();
        metrics.session_opened(Kind::WebSocket);
        metrics.session_opened(Kind::Http);
        metrics.session_closed(Kind::Http, "complete");
        metrics.refused("no_core");
        metrics.client_refused("clients_max");
        metrics.handshake(HandshakeOutcome::TimedOut);
        metrics.certificate_reloaded(ReloadOutcome::Kept);
        metrics.flow(Direction::Up).frame();
        metrics.flow(Direction::Down).payload(7);
        metrics.open_latency.observe(0.2);
        metrics.sessions_drained.inc();
        metrics.sessions_invited.inc();
        drop(metrics.resumable());
        metrics.resumes.inc();
        metrics.waited(Turn::Resume);

        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "antipode_node_clients 1",
            "antipode_node_clients_refused_total{limit=\"clients_max\"} 1",
            "antipode_node_handshakes_total{outcome=\"timed_out\"} 1",
            "antipode_node_sessions{kind=\"websocket\"} 1",
            "antipode_node_sessions{kind=\"http\"} 0",
            "antipode_node_sessions_opened_total{kind=\"http\"} 1",
            "antipode_node_sessions_closed_total{kind=\"http\",reason=\"complete\"} 1",
            "antipode_node_requests_refused_total{reason=\"no_core\"} 1",
            "antipode_node_client_payload_bytes_total{direction=\"down\"} 7",
            "antipode_node_frames_total{direction=\"up\"} 1",
            "antipode_node_open_latency_seconds_count 1",
            "antipode_node_certificate_reloads_total{outcome=\"kept\"} 1",
            "antipode_node_sessions_drained_total 1",
            "antipode_node_sessions_invited_total 1",
            "antipode_node_sessions_resumable 0",
            "antipode_node_resumes_total 1",
            "antipode_node_turns_waited_total{what=\"resume\"} 1",
        ] {
            assert!(text.lines().any(|l| l == line), "no {line:?} in\n{text}");
        }
    }
}
