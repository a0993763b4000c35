//! From the trunk's chunks to whole messages: a resume frame is one binary message.

use antipode_proto::handover::v1::HandedAttachment;
pub use antipode_proto::resume::MESSAGE_BYTES_MAX;
use antipode_proto::trunk::v1::Chunk;
use antipode_websocket::{BINARY, CONTINUATION, FIN, TEXT};
use bytes::{Bytes, BytesMut};

/// Puts messages together. Holds at most [`MESSAGE_BYTES_MAX`], and nothing between messages.
#[derive(Debug, Default)]
pub struct Assembler {
    /// What has come of a message in several chunks.
    begun: BytesMut,
    /// A message is open: its last frame has not begun, or is not complete.
    is_open: bool,
    /// The frame at hand is the message's last.
    is_last: bool,
    /// Bytes that the frame at hand still lacks.
    lacking: usize,
}

/// Why a message is no resume frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadMessage {
    /// Frames are binary.
    #[error("a text message")]
    Text,
    /// Longer than [`MESSAGE_BYTES_MAX`].
    #[error("a message of more than {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    /// A reserved bit is set, and there is no extension that could say why.
    #[error("a reserved bit is set")]
    Reserved,
    /// The chunks make no frames. That is a fault of the node's.
    #[error("a chunk that belongs to no frame")]
    Misplaced,
}

impl BadMessage {
    /// One of a fixed set, for a counter.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::TooLarge => "too_large",
            Self::Reserved => "reserved_bit",
            Self::Misplaced => "misplaced",
        }
    }
}

impl Assembler {
    /// Takes a chunk, and returns the message that it completes. A message of one chunk is not
    /// copied.
    ///
    /// # Errors
    ///
    /// What is wrong with the message; nothing after it may be taken.
    pub fn handle_chunk(&mut self, chunk: Chunk) -> Result<Option<Bytes>, BadMessage> {
        let Chunk { frame, frame_len, payload, .. } = chunk;
        match frame {
            Some(first_byte) => {
                let whole = u64::try_from(payload.len()).unwrap_or(u64::MAX);
                self.begin_frame(first_byte, frame_len.unwrap_or(whole))?;
            }
            None if self.lacking == 0 => return Err(BadMessage::Misplaced),
            None => {}
        }
        self.lacking = self.lacking.checked_sub(payload.len()).ok_or(BadMessage::Misplaced)?;
        let is_whole = self.is_last && self.lacking == 0;
        if is_whole && self.begun.is_empty() {
            self.is_open = false;
            return Ok(Some(payload));
        }
        self.begun.extend_from_slice(&payload);
        if !is_whole {
            return Ok(None);
        }
        self.is_open = false;
        Ok(Some(std::mem::take(&mut self.begun).freeze()))
    }

    /// Where it stands, into what another process is told.
    pub(crate) fn export(&self, into: &mut HandedAttachment) {
        into.begun = Bytes::copy_from_slice(&self.begun);
        into.is_open = self.is_open;
        into.is_last = self.is_last;
        into.lacking = u64::try_from(self.lacking).expect("a length fits 64 bits");
    }

    /// Goes on where another process stopped.
    ///
    /// # Errors
    ///
    /// The message would be too long.
    pub(crate) fn import(from: &HandedAttachment) -> Result<Self, BadMessage> {
        let HandedAttachment { begun, is_open, is_last, lacking, .. } = from;
        let room = MESSAGE_BYTES_MAX.checked_sub(begun.len()).ok_or(BadMessage::TooLarge)?;
        let lacking = usize::try_from(*lacking).ok().filter(|lacking| *lacking <= room);
        let lacking = lacking.ok_or(BadMessage::TooLarge)?;
        let begun = BytesMut::from(&begun[..]);
        Ok(Self { begun, is_open: *is_open, is_last: *is_last, lacking })
    }

    fn begin_frame(&mut self, first_byte: u32, frame_len: u64) -> Result<(), BadMessage> {
        let first_byte = u8::try_from(first_byte).map_err(|_| BadMessage::Misplaced)?;
        if self.lacking > 0 {
            return Err(BadMessage::Misplaced);
        }
        if first_byte & 0x70 != 0 {
            return Err(BadMessage::Reserved);
        }
        match (first_byte & 0x0f, self.is_open) {
            (BINARY, false) | (CONTINUATION, true) => {}
            (TEXT, false) => return Err(BadMessage::Text),
            _ => return Err(BadMessage::Misplaced),
        }
        let frame_len = usize::try_from(frame_len).map_err(|_| BadMessage::TooLarge)?;
        if frame_len > MESSAGE_BYTES_MAX - self.begun.len() {
            return Err(BadMessage::TooLarge);
        }
        self.is_open = true;
        self.is_last = first_byte & FIN != 0;
        self.lacking = frame_len;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: u32 = 0x82;

    #[test]
    fn a_message_of_one_chunk_is_the_chunk() {
        let payload = Bytes::from_static(b"hello");
        let mut assembler = Assembler::default();
        let message = assembler.handle_chunk(chunk(WHOLE, None, &payload)).unwrap().unwrap();
        assert_eq!(message, payload);
        assert_eq!(assembler.begun.capacity(), 0);
        assert_eq!(assembler.handle_chunk(chunk(WHOLE, None, b"")).unwrap().unwrap(), "");
    }

    #[test]
    fn chunks_and_fragments_become_one_message() {
        let mut assembler = Assembler::default();
        for (given, expected) in [
            (chunk(WHOLE, Some(4), b"ab"), None),
            (rest(b"cd"), Some("abcd")),
            (chunk(0x02, None, b"one "), None),
            (chunk(0x00, Some(4), b"tw"), None),
            (rest(b"o "), None),
            (chunk(0x80, None, b"three"), Some("one two three")),
            (chunk(0x02, None, b""), None),
            (chunk(0x80, None, b""), Some("")),
            (chunk(WHOLE, None, b"next"), Some("next")),
        ] {
            assert_eq!(
                assembler.handle_chunk(given).unwrap().as_deref(),
                expected.map(str::as_bytes)
            );
            assert!(expected.is_none() || assembler.begun.capacity() == 0);
        }
    }

    #[test]
    fn the_largest_message_passes_and_no_larger_one() {
        let max = MESSAGE_BYTES_MAX;
        let mut assembler = Assembler::default();
        let first = chunk(WHOLE, u64::try_from(max).ok(), &[7; 16 * 1024]);
        assert_eq!(assembler.handle_chunk(first), Ok(None));
        let message = assembler.handle_chunk(rest(&vec![7; max - 16 * 1024])).unwrap().unwrap();
        assert_eq!(message.len(), max);

        let len = u64::try_from(max + 1).ok();
        refuse("at its length", &[chunk(WHOLE, len, b"")], BadMessage::TooLarge);
        refuse("2^63", &[chunk(WHOLE, Some(1 << 63), b"")], BadMessage::TooLarge);
        let half = vec![0; max / 2];
        let halves = [chunk(0x02, None, &half), chunk(0, None, &half), chunk(0x80, None, b"!!")];
        refuse("in fragments", &halves, BadMessage::TooLarge);
    }

    #[test]
    fn what_is_no_frame_of_ours() {
        refuse("text", &[chunk(0x81, None, b"hi")], BadMessage::Text);
        refuse("compressed", &[chunk(0xc2, None, b"hi")], BadMessage::Reserved);
        refuse("a rest of nothing", &[rest(b"x")], BadMessage::Misplaced);
        refuse("a continuation of nothing", &[chunk(0x80, None, b"x")], BadMessage::Misplaced);
        refuse("too much", &[chunk(WHOLE, Some(1), b"xx")], BadMessage::Misplaced);
        let twice = [chunk(0x02, None, b"x"), chunk(WHOLE, None, b"y")];
        refuse("two messages in one", &twice, BadMessage::Misplaced);
        let cut = [chunk(WHOLE, Some(9), b"x"), chunk(WHOLE, None, b"y")];
        refuse("a frame in a frame", &cut, BadMessage::Misplaced);
        refuse("no byte", &[chunk(0x182, None, b"x")], BadMessage::Misplaced);
        let over = [chunk(WHOLE, None, b"x"), rest(b"y")];
        refuse("a rest of what is whole", &over, BadMessage::Misplaced);
    }

    #[track_caller]
    fn refuse(what: &str, chunks: &[Chunk], expected: BadMessage) {
        let mut assembler = Assembler::default();
        let (last, before) = chunks.split_last().unwrap();
        for chunk in before {
            assembler.handle_chunk(chunk.clone()).unwrap();
        }
        assert_eq!(assembler.handle_chunk(last.clone()), Err(expected), "{what}");
    }

    fn chunk(frame: u32, frame_len: Option<u64>, payload: &[u8]) -> Chunk {
        let payload = Bytes::copy_from_slice(payload);
        Chunk { frame: Some(frame), frame_len, payload, ..Chunk::default() }
    }

    fn rest(payload: &[u8]) -> Chunk {
        Chunk { payload: Bytes::copy_from_slice(payload), ..Chunk::default() }
    }
}
