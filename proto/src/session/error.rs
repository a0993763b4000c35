//! How a session comes to an untimely end.

use crate::trunk::v1::{Cause, Reset};

/// What the peer did against the protocol.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProtocolError {
    /// An acknowledgement of what was never sent.
    #[error("ack of segment {ack}, but the last one sent is {last_sent}")]
    AckBeyondSent {
        /// What the peer acknowledged.
        ack: u64,
        /// What there was to acknowledge.
        last_sent: u64,
    },
    /// The peer no longer holds what it had acknowledged.
    #[error("the peer stands at segment {received}, but had acknowledged {acked}")]
    StateLost {
        /// Where the peer says it stands.
        received: u64,
        /// What it had acknowledged before.
        acked: u64,
    },
    /// More than the credit allows.
    #[error("segment {seq} exceeds the credit")]
    CreditExceeded {
        /// The segment that was too much.
        seq: u64,
    },
    /// A head where a chunk belongs, or the reverse, or the wrong head for this end.
    #[error("segment {seq} is out of place")]
    OutOfPlace {
        /// The segment in question.
        seq: u64,
    },
    /// A segment without a body, or with one that this version does not know.
    #[error("a segment without a body")]
    EmptySegment,
}

impl ProtocolError {
    /// A short name, from a closed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::AckBeyondSent { .. } => "ack_beyond_sent",
            Self::StateLost { .. } => "state_lost",
            Self::CreditExceeded { .. } => "credit_exceeded",
            Self::OutOfPlace { .. } => "out_of_place",
            Self::EmptySegment => "empty_segment",
        }
    }

    /// The cause that the session is reset with.
    #[must_use]
    pub const fn cause(&self) -> Cause {
        match self {
            Self::StateLost { .. } => Cause::SessionLost,
            Self::AckBeyondSent { .. }
            | Self::CreditExceeded { .. }
            | Self::OutOfPlace { .. }
            | Self::EmptySegment => Cause::TrunkProtocol,
        }
    }
}

/// Why a session ended before both directions had come to their end.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("session ended: {} ({detail})", .cause.as_str_name())]
pub struct Ended {
    /// The reason, from a closed set.
    pub cause: Cause,
    /// For people; at most [`Ended::DETAIL_BYTES_MAX`] bytes.
    pub detail: String,
}

impl Ended {
    /// What fits in a close frame beside its code (RFC 6455 §5.5: 125 bytes in all).
    pub const DETAIL_BYTES_MAX: usize = 123;

    /// Cuts the detail to its limit, at a character's edge.
    #[must_use]
    pub fn new(cause: Cause, detail: &str) -> Self {
        let mut end = detail.len().min(Self::DETAIL_BYTES_MAX);
        while !detail.is_char_boundary(end) {
            end -= 1;
        }
        Self { cause, detail: detail[..end].to_owned() }
    }

    /// As the peer is told.
    #[must_use]
    pub fn to_reset(&self) -> Reset {
        Reset { cause: self.cause.into(), detail: self.detail.clone() }
    }
}
