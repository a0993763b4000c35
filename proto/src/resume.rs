//! The frames of `antipode.resume.v1`: what a resumable client and a core say to each other, each
//! in one binary WebSocket message.
//!
//! The table is in docs/protocol.md, "Resumable clients". What the frames mean to a session is the
//! business of [`crate::session`], which a [`Frame`] enters as a [`Kind`]; the others are the
//! driver's.

mod decode;
mod encode;
mod error;

use bytes::Bytes;

use crate::body::{Body, CHUNK_BYTES_MAX};
use crate::session::Ended;
use crate::trunk::v1::frame::Kind;
use crate::trunk::v1::{Ack, Attach, Attached, Cause, Chunk, End, GoAway, Reset, Segment};

pub use decode::decode;
pub use encode::{encode, encode_chunk_header};
pub use error::DecodeError;

/// The subprotocol that a client offers beside its application's own, and that the core chooses.
pub const SUBPROTOCOL: &str = "antipode.resume.v1";

/// What stands before a core's member id in the subprotocol that names the core of a session.
pub const CORE_PREFIX: &str = "antipode.core.";

/// The version that `welcome` and `attach` state.
pub const VERSION: u64 = 1;

/// The epoch of a session's first attachment: the one that is welcomed.
pub const FIRST_EPOCH: u64 = 1;

/// Largest integer on the wire: what a JavaScript number holds exactly (ECMA-262 §21.1.2.6).
pub const INTEGER_MAX: u64 = (1 << 53) - 1;

/// Most bytes of a token.
pub const TOKEN_BYTES_MAX: usize = 256;
/// Most bytes of a core's member id.
pub const CORE_BYTES_MAX: usize = 256;
/// Most bytes of the name of the application's subprotocol.
pub const PROTOCOL_BYTES_MAX: usize = 1024;
/// Most bytes of the place that a go-away invites to.
pub const URL_BYTES_MAX: usize = 2048;
/// Most bytes of a reason or a detail: what fits in a close frame beside its code (RFC 6455 §5.5).
pub const REASON_BYTES_MAX: usize = 123;

/// Most bytes before the payload of a chunk: four integers of 8 bytes and three single bytes.
pub const CHUNK_HEADER_BYTES_MAX: usize = 4 * 8 + 3;

/// Most bytes of a message; a full chunk is the largest, a go-away comes far below.
pub const MESSAGE_BYTES_MAX: usize = CHUNK_HEADER_BYTES_MAX + CHUNK_BYTES_MAX;

/// One message.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// 1, from the core: the session exists.
    Welcome(Welcome),
    /// 2, from the client: the first message of every later attachment.
    Attach(Attach),
    /// 3, from the core: resumed.
    Attached(Attached),
    /// 4, from the core: not resumed, and never to be.
    Refused(Reset),
    /// 5: a piece of a WebSocket data frame.
    Chunk(Position, Chunk),
    /// 6: nothing follows in this direction.
    End(Position, Box<End>),
    /// 7.
    Ack(Ack),
    /// 8: the session is over at the sender.
    Reset(Reset),
    /// 9, from the core: an invitation to another node.
    GoAway(GoAway),
    /// 10, from the client.
    Ping(u64),
    /// 11, from the core: the number of the ping.
    Pong(u64),
    /// 12, from the core: this newer epoch has the session; this attachment is the older one.
    Moved(u64),
}

/// What a new session's client has to know.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Welcome {
    /// What the client may send in all; as in [`Ack`].
    pub credit: u64,
    /// How long a session without an attachment is kept, in milliseconds.
    pub window_ms: u64,
    /// How often the client pings, in milliseconds.
    pub ping_ms: u64,
    /// What the client attaches with.
    pub token: Bytes,
    /// Member id of the core that has the session.
    pub core: String,
    /// The application's subprotocol, as the backend chose it; empty if it chose none.
    pub protocol: String,
}

/// What a numbered frame says beside its body; as in [`Segment`].
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Position {
    /// Its number.
    pub seq: u64,
    /// What has been written to the sender's far side.
    pub ack: u64,
    /// What the receiver may send in all.
    pub credit: u64,
}

impl Frame {
    /// Tells a client that its session is not to be resumed; the detail is cut to its limit.
    #[must_use]
    pub fn refused(cause: Cause, detail: &str) -> Self {
        Self::Refused(Ended::new(cause, detail).to_reset())
    }

    /// The frame for what a session machine has to say; `None` for what only a trunk carries.
    #[must_use]
    pub fn from_kind(kind: Kind) -> Option<Self> {
        match kind {
            Kind::Segment(Segment { seq, ack, credit, body }) => {
                let position = Position { seq, ack, credit };
                match body? {
                    Body::Chunk(chunk) => Some(Self::Chunk(position, chunk)),
                    Body::End(end) => Some(Self::End(position, end)),
                    Body::Request(_) | Body::Response(_) => None,
                }
            }
            Kind::Ack(ack) => Some(Self::Ack(ack)),
            Kind::Attach(attach) => Some(Self::Attach(attach)),
            Kind::Attached(attached) => Some(Self::Attached(attached)),
            Kind::Reset(reset) => Some(Self::Reset(reset)),
            Kind::GoAway(go_away) => Some(Self::GoAway(go_away)),
        }
    }

    /// What the frame is to a session machine.
    ///
    /// # Errors
    ///
    /// Gives back a frame that is the driver's business.
    pub fn into_kind(self) -> Result<Kind, Self> {
        match self {
            Self::Chunk(position, chunk) => Ok(position.segment(Body::Chunk(chunk))),
            Self::End(position, end) => Ok(position.segment(Body::End(end))),
            Self::Ack(ack) => Ok(Kind::Ack(ack)),
            Self::Attach(attach) => Ok(Kind::Attach(attach)),
            Self::Attached(attached) => Ok(Kind::Attached(attached)),
            Self::Reset(reset) => Ok(Kind::Reset(reset)),
            Self::GoAway(go_away) => Ok(Kind::GoAway(go_away)),
            Self::Welcome(_)
            | Self::Refused(_)
            | Self::Ping(_)
            | Self::Pong(_)
            | Self::Moved(_) => Err(self),
        }
    }
}

impl Position {
    fn segment(self, body: Body) -> Kind {
        let Self { seq, ack, credit } = self;
        Kind::Segment(Segment { seq, ack, credit, body: Some(body) })
    }
}

/// The first byte of a message.
mod kind {
    pub(super) const WELCOME: u8 = 1;
    pub(super) const ATTACH: u8 = 2;
    pub(super) const ATTACHED: u8 = 3;
    pub(super) const REFUSED: u8 = 4;
    pub(super) const CHUNK: u8 = 5;
    pub(super) const END: u8 = 6;
    pub(super) const ACK: u8 = 7;
    pub(super) const RESET: u8 = 8;
    pub(super) const GO_AWAY: u8 = 9;
    pub(super) const PING: u8 = 10;
    pub(super) const PONG: u8 = 11;
    pub(super) const MOVED: u8 = 12;
}

/// Bits in the flags of a chunk.
mod flag {
    /// The frame's first byte follows: the chunk begins a frame.
    pub(super) const FRAME: u8 = 1;
    /// The frame's length follows: it comes in several chunks.
    pub(super) const FRAME_LEN: u8 = 2;
}
