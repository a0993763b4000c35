//! Chunks and control frames to bytes: masked where we are the client, never a control frame
//! inside another frame.

use bytes::{BufMut, BytesMut};
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{Control, Data, OpCode};

use crate::reader::{BadState, check_open_frame};
use crate::{CONTROL_BYTES_MAX, FrameStart, Side, close, mask};

/// Codes frames onto a buffer; remembers only how much of the open frame is due.
#[derive(Debug)]
pub struct Writer {
    /// Draws a fresh key for each frame (RFC 6455 section 5.3); `None`: we are the server.
    keys: Option<Box<StdRng>>,
    frame: Option<WriterState>,
}

/// A frame that is begun: where a writer stands, and all that another one needs to go on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct WriterState {
    /// Payload bytes due.
    pub remaining: u64,
    /// Its mask.
    pub key: Option<[u8; 4]>,
    /// Payload bytes written, which is where the key stands.
    pub offset: u64,
}

/// Why nothing was written. The chunks came in an order that makes no frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum WriteError {
    /// A frame, or a control frame, may not begin before the open one is whole.
    #[error("inside a frame that lacks {remaining} bytes")]
    InsideFrame {
        /// Payload bytes due.
        remaining: u64,
    },
    /// The rest of a frame came, but none is open.
    #[error("no frame is open")]
    NoFrame,
    /// A chunk runs past its frame's end.
    #[error("chunk of {len} bytes in a frame that lacks {remaining}")]
    PastFrame {
        /// Bytes of the chunk.
        len: usize,
        /// Payload bytes due.
        remaining: u64,
    },
    /// Only text, binary and continuation frames come in chunks.
    #[error("first byte {first_byte:#04x} begins no data frame")]
    NotData {
        /// As given.
        first_byte: u8,
    },
    /// More than a control frame holds.
    #[error("control payload of {len} bytes exceeds 125")]
    ControlTooLong {
        /// As given.
        len: usize,
    },
    /// A code that no close frame may carry.
    #[error("close code {code} may not be sent")]
    CloseCode {
        /// As given.
        code: u16,
    },
}

impl Writer {
    /// Writes unmasked frames, as a server.
    #[must_use]
    pub fn server() -> Self {
        Self { keys: None, frame: None }
    }

    /// Writes masked frames, as a client; `seed` comes from the operating system's randomness.
    #[must_use]
    pub fn client(seed: [u8; 32]) -> Self {
        Self { keys: Some(Box::new(StdRng::from_seed(seed))), frame: None }
    }

    /// Which end this writer plays.
    #[must_use]
    pub fn side(&self) -> Side {
        if self.keys.is_some() { Side::Client } else { Side::Server }
    }

    /// Appends the next chunk of a data frame, with the header if `start` begins one.
    ///
    /// # Errors
    /// Where the chunks don't add up to frames; then `out` is as it was.
    pub fn chunk(
        &mut self,
        out: &mut BytesMut,
        start: Option<FrameStart>,
        payload: &[u8],
    ) -> Result<(), WriteError> {
        let len = u64::try_from(payload.len()).expect("a slice's length fits 64 bits");
        let remaining = match start {
            Some(start) => {
                self.outside_frame()?;
                if !matches!(start.first_byte & 0x0f, 0..=2) {
                    return Err(WriteError::NotData { first_byte: start.first_byte });
                }
                start.frame_len
            }
            None => self.frame.ok_or(WriteError::NoFrame)?.remaining,
        };
        if len > remaining {
            return Err(WriteError::PastFrame { len: payload.len(), remaining });
        }
        let mut frame = match start {
            Some(start) => self.start(out, start),
            None => self.frame.ok_or(WriteError::NoFrame)?,
        };
        write_masked(out, payload, frame.key, frame.offset);
        frame.offset += len;
        frame.remaining -= len;
        self.frame = (frame.remaining > 0).then_some(frame);
        Ok(())
    }

    /// The open frame, if one is open, so that another process can go on where this one stopped.
    #[must_use]
    pub fn export(&self) -> Option<WriterState> {
        self.frame
    }

    /// Goes on inside the frame that another writer of the same side has begun.
    ///
    /// # Errors
    /// What no writer of this side exports.
    pub fn import(mut self, state: Option<WriterState>) -> Result<Self, BadState> {
        if let Some(state) = state {
            check_open_frame(
                self.side() == Side::Client,
                state.key,
                state.offset,
                state.remaining,
            )?;
        }
        self.frame = state;
        Ok(self)
    }

    /// Whether a frame is open: control frames must wait.
    #[must_use]
    pub fn inside_frame(&self) -> bool {
        self.frame.is_some()
    }

    /// Appends a ping.
    ///
    /// # Errors
    /// Inside a frame, or where `payload` exceeds 125 bytes.
    pub fn ping(&mut self, out: &mut BytesMut, payload: &[u8]) -> Result<(), WriteError> {
        self.control(out, Control::Ping, payload)
    }

    /// Appends a pong.
    ///
    /// # Errors
    /// Inside a frame, or where `payload` exceeds 125 bytes.
    pub fn pong(&mut self, out: &mut BytesMut, payload: &[u8]) -> Result<(), WriteError> {
        self.control(out, Control::Pong, payload)
    }

    /// Appends a close frame; the reason is cut to 123 bytes at the end of a character.
    ///
    /// # Errors
    /// Inside a frame, or where the code may not be sent.
    pub fn close(
        &mut self,
        out: &mut BytesMut,
        code_and_reason: Option<(u16, &str)>,
    ) -> Result<(), WriteError> {
        let Some((code, reason)) = code_and_reason else {
            return self.control(out, Control::Close, &[]);
        };
        if !close::is_sendable(code) {
            return Err(WriteError::CloseCode { code });
        }
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(close::fit_reason(reason).as_bytes());
        self.control(out, Control::Close, &payload)
    }

    fn control(
        &mut self,
        out: &mut BytesMut,
        opcode: Control,
        payload: &[u8],
    ) -> Result<(), WriteError> {
        self.outside_frame()?;
        if payload.len() > CONTROL_BYTES_MAX {
            return Err(WriteError::ControlTooLong { len: payload.len() });
        }
        let key = self.draw_key();
        let header = FrameHeader {
            is_final: true,
            opcode: OpCode::Control(opcode),
            mask: key,
            ..FrameHeader::default()
        };
        let len = u64::try_from(payload.len()).expect("at most 125");
        header.format(len, &mut out.writer()).expect("a buffer takes every byte");
        write_masked(out, payload, key, 0);
        Ok(())
    }

    fn start(&mut self, out: &mut BytesMut, start: FrameStart) -> WriterState {
        let key = self.draw_key();
        let bit = |mask: u8| start.first_byte & mask != 0;
        let header = FrameHeader {
            is_final: bit(0x80),
            rsv1: bit(0x40),
            rsv2: bit(0x20),
            rsv3: bit(0x10),
            opcode: match start.first_byte & 0x0f {
                0 => OpCode::Data(Data::Continue),
                1 => OpCode::Data(Data::Text),
                _ => OpCode::Data(Data::Binary),
            },
            mask: key,
        };
        header.format(start.frame_len, &mut out.writer()).expect("a buffer takes every byte");
        WriterState { remaining: start.frame_len, key, offset: 0 }
    }

    fn outside_frame(&self) -> Result<(), WriteError> {
        match self.frame {
            Some(frame) => Err(WriteError::InsideFrame { remaining: frame.remaining }),
            None => Ok(()),
        }
    }

    fn draw_key(&mut self) -> Option<[u8; 4]> {
        self.keys.as_mut().map(|keys| keys.next_u32().to_ne_bytes())
    }
}

fn write_masked(out: &mut BytesMut, payload: &[u8], key: Option<[u8; 4]>, offset: u64) {
    let from = out.len();
    out.extend_from_slice(payload);
    if let Some(key) = key {
        mask::apply(&mut out[from..], key, offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{FIN, TEXT};

    /// RFC 6455 section 5.7.
    #[test]
    fn rfc_examples_unmasked() {
        let mut out = BytesMut::new();
        let mut writer = Writer::server();
        writer.chunk(&mut out, Some(whole(TEXT, 5)), b"Hello").unwrap();
        assert_eq!(&out[..], [0x81, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);

        let mut out = BytesMut::new();
        writer.ping(&mut out, b"Hello").unwrap();
        assert_eq!(&out[..], [0x89, 0x05, 0x48, 0x65, 0x6c, 0x6c, 0x6f]);
    }

    #[test]
    fn each_frame_of_a_client_has_its_own_key() {
        let mut out = BytesMut::new();
        let mut writer = Writer::client([7; 32]);
        writer.ping(&mut out, b"").unwrap();
        writer.ping(&mut out, b"").unwrap();
        assert_eq!(out.len(), 12);
        assert_eq!(out[1] & 0x80, 0x80);
        assert_ne!(out[2..6], out[8..12]);
    }

    #[test]
    fn refuses_what_makes_no_frame_and_writes_nothing() {
        let mut out = BytesMut::new();
        let mut writer = Writer::server();
        assert_eq!(writer.chunk(&mut out, None, b"x"), Err(WriteError::NoFrame));
        assert_eq!(
            writer.chunk(&mut out, Some(whole(TEXT, 2)), b"xyz"),
            Err(WriteError::PastFrame { len: 3, remaining: 2 })
        );
        assert_eq!(
            writer.chunk(&mut out, Some(whole(0x9, 0)), b""),
            Err(WriteError::NotData { first_byte: 0x89 })
        );
        assert_eq!(writer.ping(&mut out, &[0; 126]), Err(WriteError::ControlTooLong { len: 126 }));
        assert_eq!(
            writer.close(&mut out, Some((1006, ""))),
            Err(WriteError::CloseCode { code: 1006 })
        );
        assert!(out.is_empty() && !writer.inside_frame());

        writer.chunk(&mut out, Some(whole(TEXT, 3)), b"x").unwrap();
        let written = out.len();
        assert!(writer.inside_frame());
        let inside = Err(WriteError::InsideFrame { remaining: 2 });
        assert_eq!(writer.pong(&mut out, b""), inside);
        assert_eq!(writer.close(&mut out, None), inside);
        assert_eq!(writer.chunk(&mut out, Some(whole(TEXT, 1)), b"x"), inside);
        assert_eq!(out.len(), written);
        writer.chunk(&mut out, None, b"yz").unwrap();
        assert!(!writer.inside_frame());
    }

    #[test]
    fn a_close_with_a_long_reason_still_fits() {
        let mut out = BytesMut::new();
        Writer::server().close(&mut out, Some((1000, &"x".repeat(500)))).unwrap();
        assert_eq!(out.len(), 2 + CONTROL_BYTES_MAX);
    }

    fn whole(opcode: u8, frame_len: u64) -> FrameStart {
        FrameStart { first_byte: FIN | opcode, frame_len }
    }
}
