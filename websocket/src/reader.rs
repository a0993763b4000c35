//! Bytes to checked events (RFC 6455 section 5). Payload passes through: nothing of a data frame
//! stays here, and of anything else at most a header and a control frame's payload.

use std::io::Cursor;

use bytes::{Bytes, BytesMut};
use tungstenite::protocol::frame::FrameHeader;

use crate::utf8::Utf8;
use crate::{CONTINUATION, CONTROL_BYTES_MAX, FIN, FrameStart, RSV1, Side, TEXT, close, mask};

mod error;
mod state;
#[cfg(test)]
mod tests;

pub use error::ReadError;
pub(crate) use state::check_open_frame;
pub use state::{BadState, MessageState, OpenFrame, ReaderState};

/// What a reader lets pass.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Most payload bytes of one frame. A larger one is refused at its header.
    pub frame_bytes_max: u64,
    /// Most payload bytes of one [`Event::Chunk`].
    pub chunk_bytes_max: usize,
    /// permessage-deflate is agreed (RFC 7692): RSV1 may mark a compressed message.
    pub rsv1_allowed: bool,
}

impl Default for Policy {
    /// Frames to 128 MiB (npm `ws` takes messages to 100 MiB), chunks of 16 KiB, no extension.
    fn default() -> Self {
        Self { frame_bytes_max: 128 << 20, chunk_bytes_max: 16 << 10, rsv1_allowed: false }
    }
}

/// What the peer sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Event {
    /// Payload of a text, binary or continuation frame, unmasked.
    Chunk {
        /// On the first chunk of a frame.
        start: Option<FrameStart>,
        /// Empty only in an empty frame.
        payload: Bytes,
        /// Nothing of this frame follows.
        last_of_frame: bool,
    },
    /// A whole ping.
    Ping(Bytes),
    /// A whole pong.
    Pong(Bytes),
    /// The peer's close frame, its code and reason if it had them. Nothing is read after it.
    Close(Option<(u16, String)>),
}

/// Checks the frames that one peer sends.
///
/// After an error, and after a close frame, the rest of the input is thrown away.
#[derive(Debug)]
pub struct Reader {
    side: Side,
    policy: Policy,
    stage: Stage,
    /// A header's first bytes, where the rest has not arrived.
    header: [u8; HEADER_BYTES_MAX],
    header_len: usize,
    message: Option<Message>,
}

/// Longest frame header: two bytes, a 64-bit length, a mask (RFC 6455 section 5.2).
const HEADER_BYTES_MAX: usize = 14;

/// Payloads up to this size are copied out, so that a few bytes that wait for an acknowledgement
/// don't hold the whole read buffer they came in. Larger ones share it.
pub const COPY_BYTES_MAX: usize = 1024;

#[derive(Debug)]
enum Stage {
    Header,
    Data(DataFrame),
    Control(ControlFrame),
    Closed,
    Failed(ReadError),
}

#[derive(Debug)]
struct DataFrame {
    /// `None` once the first chunk is out.
    start: Option<FrameStart>,
    last_of_message: bool,
    key: Option<[u8; 4]>,
    offset: u64,
    remaining: u64,
}

#[derive(Debug)]
struct ControlFrame {
    opcode: u8,
    key: Option<[u8; 4]>,
    len: usize,
    /// What has arrived of the payload, still masked.
    held: Vec<u8>,
}

/// The data message that is open: begun, and its last frame not seen to the end.
#[derive(Clone, Copy, Debug)]
enum Message {
    /// Uncompressed text.
    Text(Utf8),
    /// Binary, or compressed.
    Opaque,
}

impl Reader {
    /// A reader for a socket on which we play `side`.
    #[must_use]
    pub fn new(side: Side, policy: Policy) -> Self {
        Self {
            side,
            policy,
            stage: Stage::Header,
            header: [0; HEADER_BYTES_MAX],
            header_len: 0,
            message: None,
        }
    }

    /// Takes bytes off the front of `input` and returns the next event, or `None` once more input
    /// is needed; `input` is empty then.
    ///
    /// # Errors
    /// What the peer did against RFC 6455 or the policy; the same again on each later call.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ReadError> {
        let outcome = self.advance(input);
        if let Err(error) = outcome {
            self.stage = Stage::Failed(error);
            input.clear();
        }
        outcome
    }

    /// Whether the peer's next byte would begin a frame of a new message: a socket that ends here
    /// ends between messages.
    #[must_use]
    pub fn between_messages(&self) -> bool {
        matches!(self.stage, Stage::Header | Stage::Closed)
            && self.header_len == 0
            && self.message.is_none()
    }

    fn advance(&mut self, input: &mut BytesMut) -> Result<Option<Event>, ReadError> {
        loop {
            match &mut self.stage {
                Stage::Closed => {
                    input.clear();
                    return Ok(None);
                }
                Stage::Failed(error) => return Err(*error),
                Stage::Header => {
                    let Some((header, len, length_code)) = self.take_header(input)? else {
                        return Ok(None);
                    };
                    self.stage = self.begin(&header, len, length_code)?;
                }
                Stage::Data(frame) if frame.remaining > 0 && input.is_empty() => return Ok(None),
                Stage::Data(_) => return self.read_data(input).map(Some),
                Stage::Control(frame) => {
                    let missing = frame.len - frame.held.len();
                    let arrived = input.split_to(missing.min(input.len()));
                    frame.held.extend_from_slice(&arrived);
                    if frame.held.len() < frame.len {
                        return Ok(None);
                    }
                    return self.finish_control().map(Some);
                }
            }
        }
    }

    /// A whole header and its 7-bit length, or `None` with what there is put by.
    fn take_header(
        &mut self,
        input: &mut BytesMut,
    ) -> Result<Option<(FrameHeader, u64, u8)>, ReadError> {
        let held = self.header_len;
        let room = (HEADER_BYTES_MAX - held).min(input.len());
        self.header[held..held + room].copy_from_slice(&input[..room]);
        let bytes = &self.header[..held + room];

        if let Some(&first_byte) = bytes.first() {
            check_first_byte(first_byte)?;
        }
        let mut cursor = Cursor::new(bytes);
        let parsed = FrameHeader::parse(&mut cursor).map_err(|_| ReadError::ReservedOpcode)?;
        let Some((header, len)) = parsed else {
            self.header_len += room;
            let _ = input.split_to(room);
            return Ok(None);
        };
        let length_code = bytes[1] & 0x7f;
        let header_len = usize::try_from(cursor.position()).expect("at most 14");
        let _ = input.split_to(header_len - held);
        self.header_len = 0;
        Ok(Some((header, len, length_code)))
    }

    /// Checks a header against the protocol, the policy and the message so far.
    fn begin(
        &mut self,
        header: &FrameHeader,
        len: u64,
        length_code: u8,
    ) -> Result<Stage, ReadError> {
        match (self.side, header.mask) {
            (Side::Server, None) => return Err(ReadError::NotMasked),
            (Side::Client, Some(_)) => return Err(ReadError::Masked),
            (Side::Server, Some(_)) | (Side::Client, None) => {}
        }
        let opcode = u8::from(header.opcode);
        if header.rsv2 || header.rsv3 || (header.rsv1 && !self.rsv1_fits(opcode)) {
            return Err(ReadError::ReservedBits);
        }
        if opcode & 0x8 != 0 {
            if !header.is_final {
                return Err(ReadError::ControlFragmented);
            }
            // A control frame's length has no longer form: 126 and 127 are too long as they stand.
            let len = usize::from(length_code);
            if len > CONTROL_BYTES_MAX {
                return Err(ReadError::ControlTooLong);
            }
            let held = Vec::new();
            return Ok(Stage::Control(ControlFrame { opcode, key: header.mask, len, held }));
        }
        self.check_length(len, length_code)?;
        self.message = Some(match (self.message, opcode) {
            (Some(message), CONTINUATION) => message,
            (None, CONTINUATION) => return Err(ReadError::NothingToContinue),
            (Some(_), _) => return Err(ReadError::MessageOpen),
            (None, TEXT) if !header.rsv1 => Message::Text(Utf8::default()),
            (None, _) => Message::Opaque,
        });
        let mut first_byte = opcode;
        first_byte |= if header.is_final { FIN } else { 0 };
        first_byte |= if header.rsv1 { RSV1 } else { 0 };
        Ok(Stage::Data(DataFrame {
            start: Some(FrameStart { first_byte, frame_len: len }),
            last_of_message: header.is_final,
            key: header.mask,
            offset: 0,
            remaining: len,
        }))
    }

    /// RFC 7692 section 6: RSV1 stands on the first frame of a data message and nowhere else.
    fn rsv1_fits(&self, opcode: u8) -> bool {
        self.policy.rsv1_allowed && opcode & 0x8 == 0 && opcode != CONTINUATION
    }

    fn check_length(&self, len: u64, length_code: u8) -> Result<(), ReadError> {
        let shortest = match len {
            0..=125 => length_code < 126,
            126..=0xffff => length_code == 126,
            _ => true,
        };
        if !shortest {
            return Err(ReadError::LengthNotShortest);
        }
        if len >> 63 != 0 {
            return Err(ReadError::LengthInvalid);
        }
        if len > self.policy.frame_bytes_max {
            return Err(ReadError::FrameTooLarge);
        }
        Ok(())
    }

    fn read_data(&mut self, input: &mut BytesMut) -> Result<Event, ReadError> {
        let Stage::Data(frame) = &mut self.stage else { unreachable!("asked for in this stage") };
        let wanted = usize::try_from(frame.remaining).unwrap_or(usize::MAX);
        let take = wanted.min(input.len()).min(self.policy.chunk_bytes_max.max(1));
        let mut payload = input.split_to(take);
        if let Some(key) = frame.key {
            mask::apply(&mut payload, key, frame.offset);
        }
        let taken = u64::try_from(take).expect("a length fits 64 bits");
        frame.offset += taken;
        frame.remaining -= taken;
        let last_of_frame = frame.remaining == 0;
        let last_of_message = last_of_frame && frame.last_of_message;
        let start = frame.start.take();

        if let Some(Message::Text(utf8)) = &mut self.message {
            utf8.push(&payload).map_err(|_| ReadError::NotUtf8)?;
            if last_of_message && !utf8.is_complete() {
                return Err(ReadError::NotUtf8);
            }
        }
        if last_of_message {
            self.message = None;
        }
        if last_of_frame {
            self.stage = Stage::Header;
        }
        Ok(Event::Chunk { start, payload: own(payload), last_of_frame })
    }

    fn finish_control(&mut self) -> Result<Event, ReadError> {
        let stage = std::mem::replace(&mut self.stage, Stage::Header);
        let Stage::Control(frame) = stage else { unreachable!("asked for in this stage") };
        let mut payload = frame.held;
        if let Some(key) = frame.key {
            mask::apply(&mut payload, key, 0);
        }
        match frame.opcode {
            0x8 => {
                let close = parse_close(&payload)?;
                self.stage = Stage::Closed;
                Ok(Event::Close(close))
            }
            0x9 => Ok(Event::Ping(payload.into())),
            _ => Ok(Event::Pong(payload.into())),
        }
    }
}

/// What one byte tells: a peer that goes wrong in its first byte is told so at once.
fn check_first_byte(first_byte: u8) -> Result<(), ReadError> {
    match first_byte & 0x0f {
        0x0..=0x2 | 0x8..=0xa => Ok(()),
        _ => Err(ReadError::ReservedOpcode),
    }
}

fn parse_close(payload: &[u8]) -> Result<Option<(u16, String)>, ReadError> {
    let [high, low, reason @ ..] = payload else {
        return if payload.is_empty() { Ok(None) } else { Err(ReadError::CloseBody) };
    };
    let code = u16::from_be_bytes([*high, *low]);
    if !close::is_sendable(code) {
        return Err(ReadError::CloseCode);
    }
    let reason = std::str::from_utf8(reason).map_err(|_| ReadError::CloseReason)?;
    Ok(Some((code, reason.to_owned())))
}

fn own(payload: BytesMut) -> Bytes {
    if payload.len() <= COPY_BYTES_MAX {
        Bytes::copy_from_slice(&payload)
    } else {
        payload.freeze()
    }
}
