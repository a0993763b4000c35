//! What a peer can do wrong in its frames.

use crate::close;

/// What the peer did; it picks the close code and the metric label.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum ReadError {
    /// RFC 6455 section 5.1: a client masks every frame.
    #[error("client sent a frame without a mask")]
    NotMasked,
    /// RFC 6455 section 5.1: a server masks none.
    #[error("server sent a frame with a mask")]
    Masked,
    /// RFC 6455 section 5.2: RSV bits are 0 unless an extension has agreed on them.
    #[error("reserved bits are set")]
    ReservedBits,
    /// RFC 6455 section 5.2: opcodes 3 to 7 and 11 to 15.
    #[error("opcode is reserved")]
    ReservedOpcode,
    /// RFC 6455 section 5.5.
    #[error("control frame is fragmented")]
    ControlFragmented,
    /// RFC 6455 section 5.5: at most 125 bytes.
    #[error("control frame is longer than 125 bytes")]
    ControlTooLong,
    /// RFC 6455 section 5.4.
    #[error("continuation of no message")]
    NothingToContinue,
    /// RFC 6455 section 5.4: messages are not interleaved.
    #[error("new message inside a fragmented one")]
    MessageOpen,
    /// RFC 6455 section 5.2: the shortest form that holds the length.
    #[error("length is not in its shortest form")]
    LengthNotShortest,
    /// RFC 6455 section 5.2: the top bit of a 64-bit length is 0.
    #[error("length has its top bit set")]
    LengthInvalid,
    /// Above [`Policy::frame_bytes_max`](crate::Policy::frame_bytes_max).
    #[error("frame is larger than the limit")]
    FrameTooLarge,
    /// RFC 6455 section 8.1.
    #[error("text is not utf-8")]
    NotUtf8,
    /// RFC 6455 section 5.5.1: a body has at least its two bytes of code.
    #[error("close frame has half a code")]
    CloseBody,
    /// RFC 6455 section 7.4.
    #[error("close code may not be sent")]
    CloseCode,
    /// RFC 6455 section 5.5.1.
    #[error("close reason is not utf-8")]
    CloseReason,
}

impl ReadError {
    /// The code to close with: RFC 6455 section 7.4.1.
    #[must_use]
    pub fn close_code(&self) -> u16 {
        match self {
            Self::NotUtf8 | Self::CloseReason => close::INVALID_PAYLOAD,
            Self::FrameTooLarge => close::TOO_BIG,
            Self::NotMasked
            | Self::Masked
            | Self::ReservedBits
            | Self::ReservedOpcode
            | Self::ControlFragmented
            | Self::ControlTooLong
            | Self::NothingToContinue
            | Self::MessageOpen
            | Self::LengthNotShortest
            | Self::LengthInvalid
            | Self::CloseBody
            | Self::CloseCode => close::PROTOCOL_ERROR,
        }
    }

    /// One of a fixed set, for a counter.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotMasked => "not_masked",
            Self::Masked => "masked",
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::ControlFragmented => "control_fragmented",
            Self::ControlTooLong => "control_too_long",
            Self::NothingToContinue => "nothing_to_continue",
            Self::MessageOpen => "message_open",
            Self::LengthNotShortest => "length_not_shortest",
            Self::LengthInvalid => "length_invalid",
            Self::FrameTooLarge => "frame_too_large",
            Self::NotUtf8 => "not_utf8",
            Self::CloseBody => "close_body",
            Self::CloseCode => "close_code",
            Self::CloseReason => "close_reason",
        }
    }
}
