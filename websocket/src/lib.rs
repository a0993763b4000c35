//! WebSocket framing (RFC 6455) as pure machines: bytes in, checked events out, and back again.
//!
//! A [`Reader`] checks what a peer sends, a [`Writer`] codes what goes to it; neither holds a frame
//! or a message, so a relay's memory does not depend on what its clients send. [`handshake`] has
//! what both ends of an upgrade must check. No sockets, no clock; randomness comes in as a seed.
//!
//! - [`reader`]: frames to events, large frames in chunks
//! - [`writer`]: chunks and control frames to bytes
//! - [`close`]: close codes
//! - [`handshake`]: requests, answers, accept keys

pub mod close;
pub mod handshake;
mod mask;
pub mod reader;
mod utf8;
pub mod writer;

pub use reader::{BadState, Event, Policy, ReadError, Reader, ReaderState};
pub use writer::{WriteError, Writer, WriterState};

/// Which end *we* play on a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Reads unmasked frames, writes masked ones.
    Client,
    /// Reads masked frames, writes unmasked ones.
    Server,
}

/// How a data frame begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct FrameStart {
    /// FIN, RSV1 to RSV3 and the opcode as they stand on the wire (RFC 6455 section 5.2).
    pub first_byte: u8,
    /// Payload bytes of the whole frame.
    pub frame_len: u64,
}

/// Most payload bytes of a control frame (RFC 6455 section 5.5).
pub const CONTROL_BYTES_MAX: usize = 125;

/// FIN, set on the last frame of a message.
pub const FIN: u8 = 0x80;
/// RSV1, which permessage-deflate sets on the first frame of a compressed message (RFC 7692).
pub const RSV1: u8 = 0x40;
/// Opcode of a frame that goes on with a message.
pub const CONTINUATION: u8 = 0x0;
/// Opcode of a text frame.
pub const TEXT: u8 = 0x1;
/// Opcode of a binary frame.
pub const BINARY: u8 = 0x2;
