//! What a client is told when its session ends, by cause.
//!
//! | cause | WebSocket close | HTTP status before a head |
//! |---|---|---|
//! | the backend closed | the backend's own code and reason | 502 |
//! | the backend was lost, broke the protocol, can't be reached | 1014 bad gateway | 502 |
//! | the backend did not answer in time | 1014 | 504 |
//! | the backend reads too slowly | 1013 try again later | 504 |
//! | the core is full | 1013 | 503 |
//! | this node drains | 1001 going away | 503 |
//! | the core drains, or has lost the session | 1012 service restart | 502 |
//! | the trunk did not come back in time | 1013 | 504 |
//! | the client broke the protocol | 1002, 1007 or 1009, by what it did | 400 |
//! | the client reads too slowly | 4409, ours | 408 |
//! | against a rule of the operator's | 1008 policy | 403 |
//! | the client was not heard of | 1001 | 408 |
//! | a newer attachment took the session | 4411, ours | 409 |
//! | anything else | 1011 internal error | 500 |
//!
//! A 503 says that the request has not reached the backend and may be made again; where it may
//! have, the status is 502 or 504 (RFC 9110 section 9.2.2 leaves the repeating to who knows the
//! request).

use antipode_proto::trunk::v1::Cause;
use antipode_websocket::close;
use http::StatusCode;

/// The close code of a client that reads too slowly: of the range for private use, so that an
/// application can tell it from its own backend's 1008 (RFC 6455 section 7.4.2).
pub const SLOW_CONSUMER: u16 = 4409;
/// The close code of an attachment whose session has moved to a newer one.
pub const MOVED: u16 = 4411;

/// How a cause reads to the client, to a counter and to a person.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Telling {
    /// The close code for a WebSocket (RFC 6455 section 7.4.1 and the IANA registry).
    pub close_code: u16,
    /// The answer to an HTTP request whose head has not been answered yet.
    pub status: StatusCode,
    /// Value of `antipode-error` and of the metric label `reason`; one of a fixed set.
    pub label: &'static str,
    /// The close reason, and the text of the answer; at most 123 bytes.
    pub text: &'static str,
}

/// What to tell a client whose session ends for `cause`.
#[must_use]
pub fn telling(cause: Cause) -> Telling {
    let (close_code, status, label, text) = match cause {
        Cause::Unspecified => (close::INTERNAL_ERROR, 500, "unspecified", "the session ended"),
        Cause::Complete => (close::NORMAL, 502, "complete", ""),
        Cause::ClientClosed => (close::NORMAL, 400, "client_closed", ""),
        Cause::BackendClosed => (close::NORMAL, 502, "backend_closed", "the backend closed"),
        Cause::ClientLost => (close::GOING_AWAY, 400, "client_lost", "the client was lost"),
        Cause::BackendLost => (close::BAD_GATEWAY, 502, "backend_lost", "the backend was lost"),
        Cause::ClientProtocol => {
            (close::PROTOCOL_ERROR, 400, "client_protocol", "the client broke the protocol")
        }
        Cause::BackendProtocol => {
            (close::BAD_GATEWAY, 502, "backend_protocol", "the backend broke the protocol")
        }
        Cause::ClientSlow => (SLOW_CONSUMER, 408, "client_slow", "the client reads too slowly"),
        Cause::BackendSlow => {
            (close::TRY_AGAIN_LATER, 504, "backend_slow", "the backend reads too slowly")
        }
        Cause::ClientIdle => (close::GOING_AWAY, 408, "client_idle", "nothing heard in time"),
        Cause::BackendUnreachable => {
            (close::BAD_GATEWAY, 502, "backend_unreachable", "the backend can't be reached")
        }
        Cause::BackendTimeout => {
            (close::BAD_GATEWAY, 504, "backend_timeout", "the backend did not answer in time")
        }
        Cause::NodeDraining => (close::GOING_AWAY, 503, "node_draining", "the relay goes away"),
        Cause::CoreDraining => {
            (close::SERVICE_RESTART, 502, "core_draining", "the core restarts: come back")
        }
        Cause::Policy => (close::POLICY, 403, "policy", "against a rule of the operator's"),
        Cause::Replaced => (MOVED, 409, "replaced", "a newer attachment took over"),
        Cause::SessionLost => {
            (close::SERVICE_RESTART, 502, "session_lost", "the core lost the session: come back")
        }
        Cause::TrunkLost => {
            (close::TRY_AGAIN_LATER, 504, "trunk_lost", "the way to the core is down: try again")
        }
        Cause::TrunkProtocol => {
            (close::INTERNAL_ERROR, 502, "trunk_protocol", "node and core disagree")
        }
        Cause::Internal => (close::INTERNAL_ERROR, 500, "internal", "the relay met a fault"),
        Cause::CoreFull => {
            (close::TRY_AGAIN_LATER, 503, "core_full", "the core is full: try again")
        }
    };
    let status = StatusCode::from_u16(status).expect("the table holds statuses");
    Telling { close_code, status, label, text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_can_be_told() {
        let mut labels = Vec::new();
        for number in 0..=21 {
            let telling = telling(Cause::try_from(number).unwrap());
            assert!(close::is_sendable(telling.close_code), "{telling:?}");
            assert!(telling.text.len() <= close::REASON_BYTES_MAX, "{telling:?}");
            assert!(telling.status.as_u16() >= 400, "{telling:?}");
            assert!(!labels.contains(&telling.label), "{telling:?}");
            labels.push(telling.label);
        }
        assert!(Cause::try_from(22).is_err(), "a new cause needs a row");
    }
}
