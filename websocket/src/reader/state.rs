//! A reader's state as plain values, so that another process can go on where this one stopped.
//!
//! What had arrived of a header or of a control frame comes out as bytes: they are read once more,
//! so that the state has only to say where in a message and in a data frame the reader stands.

use bytes::{BufMut, BytesMut};

use super::{ControlFrame, DataFrame, Message, Policy, Reader, Stage};
use crate::utf8::Utf8;
use crate::{CONTROL_BYTES_MAX, FIN, FrameStart, Side};

/// Where a reader stands between two events.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ReaderState {
    /// permessage-deflate is agreed.
    pub rsv1_allowed: bool,
    /// The data message that is open.
    pub message: Option<MessageState>,
    /// The data frame that is open.
    pub frame: Option<OpenFrame>,
    /// What has arrived and is no event yet: to be read before anything else.
    pub unread: BytesMut,
}

/// An open data message.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum MessageState {
    /// Uncompressed text, with the bytes of the character that is open.
    Text {
        /// At most three bytes.
        pending: Vec<u8>,
    },
    /// Binary, or compressed.
    Opaque,
}

/// An open data frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct OpenFrame {
    /// Until the first chunk is out.
    pub start: Option<FrameStart>,
    /// The message ends with this frame.
    pub last_of_message: bool,
    /// The peer's mask.
    pub key: Option<[u8; 4]>,
    /// Payload bytes that have come out.
    pub offset: u64,
    /// Payload bytes to come.
    pub remaining: u64,
}

/// No reader can stand where the state says.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadState {
    /// A frame of no message.
    #[error("a frame is open and its message is not")]
    FrameWithoutMessage,
    /// The open character is none.
    #[error("what is open of a character is not UTF-8")]
    NotUtf8,
    /// Masked where it must not be, or the reverse.
    #[error("a frame of the wrong side")]
    WrongSide,
    /// Longer than any frame can be.
    #[error("an open frame of {offset} and {remaining} bytes more")]
    NoSuchFrame {
        /// Payload bytes so far.
        offset: u64,
        /// Payload bytes to come.
        remaining: u64,
    },
}

impl Reader {
    /// The state, with `unread`, the input that has not been read yet. `None` once the reader has
    /// failed or has read a close frame: then nothing is to come.
    #[must_use]
    pub fn export(&self, unread: &[u8]) -> Option<ReaderState> {
        let mut first = BytesMut::new();
        let frame = match &self.stage {
            Stage::Closed | Stage::Failed(_) => return None,
            Stage::Header => {
                first.extend_from_slice(&self.header[..self.header_len]);
                None
            }
            Stage::Control(frame) => {
                put_back(&mut first, frame);
                None
            }
            Stage::Data(frame) => Some(OpenFrame {
                start: frame.start,
                last_of_message: frame.last_of_message,
                key: frame.key,
                offset: frame.offset,
                remaining: frame.remaining,
            }),
        };
        first.extend_from_slice(unread);
        let message = self.message.map(|message| match message {
            Message::Text(utf8) => MessageState::Text { pending: utf8.pending().to_vec() },
            Message::Opaque => MessageState::Opaque,
        });
        let rsv1_allowed = self.policy.rsv1_allowed;
        Some(ReaderState { rsv1_allowed, message, frame, unread: first })
    }

    /// A reader that goes on from `state`; `state.unread` is its first input. The policy's word
    /// on RSV1 gives way to the state's: it was agreed in the handshake.
    ///
    /// # Errors
    /// What no reader exports.
    pub fn import(side: Side, policy: Policy, state: &ReaderState) -> Result<Self, BadState> {
        let policy = Policy { rsv1_allowed: state.rsv1_allowed, ..policy };
        let mut reader = Self::new(side, policy);
        reader.message = match &state.message {
            None => None,
            Some(MessageState::Opaque) => Some(Message::Opaque),
            Some(MessageState::Text { pending }) => {
                let mut utf8 = Utf8::default();
                let open = pending.len() < 4 && utf8.push(pending).is_ok();
                if !open || utf8.pending() != pending {
                    return Err(BadState::NotUtf8);
                }
                Some(Message::Text(utf8))
            }
        };
        if let Some(frame) = state.frame {
            if reader.message.is_none() {
                return Err(BadState::FrameWithoutMessage);
            }
            let OpenFrame { start, last_of_message, key, offset, remaining } = frame;
            check_open_frame(side == Side::Server, key, offset, remaining)?;
            reader.stage =
                Stage::Data(DataFrame { start, last_of_message, key, offset, remaining });
        }
        Ok(reader)
    }
}

/// What holds for a frame that is open on either side of a socket.
pub(crate) fn check_open_frame(
    masked: bool,
    key: Option<[u8; 4]>,
    offset: u64,
    remaining: u64,
) -> Result<(), BadState> {
    if key.is_some() != masked {
        return Err(BadState::WrongSide);
    }
    // RFC 6455 section 5.2: the most significant bit of a length is 0.
    match offset.checked_add(remaining) {
        Some(len) if len >> 63 == 0 => Ok(()),
        Some(_) | None => Err(BadState::NoSuchFrame { offset, remaining }),
    }
}

/// A control frame as it came, as far as it came.
fn put_back(out: &mut BytesMut, frame: &ControlFrame) {
    let len = u8::try_from(frame.len.min(CONTROL_BYTES_MAX)).expect("at most 125");
    out.put_u8(FIN | frame.opcode);
    match frame.key {
        None => out.put_u8(len),
        Some(key) => {
            out.put_u8(0x80 | len);
            out.put_slice(&key);
        }
    }
    out.put_slice(&frame.held);
}
