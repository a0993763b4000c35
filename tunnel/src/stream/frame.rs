//! Datagrams as binary WebSocket messages, one each: bytes in, datagrams out, and back.

use antipode_websocket::{
    BINARY, Event, FIN, FrameStart, Policy, ReadError, Reader, Side, TEXT, Writer, close,
};
use bytes::{Bytes, BytesMut};

/// Most bytes of a datagram, and so of a message: above any of WireGuard's, or of ours.
pub const STREAM_DATAGRAM_BYTES_MAX: usize = 2048;

/// The far end sent what no stream carries.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(super) enum DecodeError {
    /// Against RFC 6455, or a frame larger than any datagram.
    #[error(transparent)]
    Frame(#[from] ReadError),
    /// A message of several frames, larger than any datagram.
    #[error("message is larger than a datagram")]
    TooLarge,
    /// Datagrams are binary.
    #[error("text message")]
    Text,
}

impl DecodeError {
    /// The code to close with, [RFC 6455
    /// §7.4.1](https://www.rfc-editor.org/rfc/rfc6455#section-7.4.1).
    pub(super) fn close_code(self) -> u16 {
        match self {
            Self::Frame(error) => error.close_code(),
            Self::TooLarge => close::TOO_BIG,
            Self::Text => UNSUPPORTED_DATA,
        }
    }
}

/// A kind of data that the receiver does not take.
const UNSUPPORTED_DATA: u16 = 1003;

/// What the far end sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Received {
    /// A datagram.
    Datagram(Bytes),
    /// A ping: an intermediary may send them. To be answered with the same.
    Ping(Bytes),
    /// It closes the stream.
    Close,
}

/// Reads messages; holds at most one incomplete datagram.
#[derive(Debug)]
pub(super) struct Decoder {
    reader: Reader,
    /// What has arrived of a message that is not whole.
    open: BytesMut,
    /// The frame that is being read is its message's last.
    last_of_message: bool,
}

impl Decoder {
    /// For a stream on which we play `side`.
    pub(super) fn new(side: Side) -> Self {
        let max = STREAM_DATAGRAM_BYTES_MAX;
        let frame_bytes_max = u64::try_from(max).expect("a small number");
        let policy = Policy { frame_bytes_max, chunk_bytes_max: max, rsv1_allowed: false };
        let reader = Reader::new(side, policy);
        Self { reader, open: BytesMut::new(), last_of_message: false }
    }

    /// Takes bytes off the front of `input` and returns what they say; `None` once more of them are
    /// needed.
    ///
    /// # Errors
    /// What the far end did wrong. The stream must be closed.
    pub(super) fn read(&mut self, input: &mut BytesMut) -> Result<Option<Received>, DecodeError> {
        while let Some(event) = self.reader.read(input)? {
            match event {
                Event::Chunk { start, payload, last_of_frame } => {
                    if let Some(whole) = self.chunk(start, payload, last_of_frame)? {
                        return Ok(Some(Received::Datagram(whole)));
                    }
                }
                Event::Ping(payload) => return Ok(Some(Received::Ping(payload))),
                Event::Pong(_) => {}
                Event::Close(_) => return Ok(Some(Received::Close)),
            }
        }
        Ok(None)
    }

    /// Adds to the open message; intermediaries may cut one into several frames ([RFC 6455
    /// §5.4](https://www.rfc-editor.org/rfc/rfc6455#section-5.4)).
    fn chunk(
        &mut self,
        start: Option<FrameStart>,
        payload: Bytes,
        last_of_frame: bool,
    ) -> Result<Option<Bytes>, DecodeError> {
        if let Some(FrameStart { first_byte, .. }) = start {
            if first_byte & 0x0f == TEXT {
                return Err(DecodeError::Text);
            }
            self.last_of_message = first_byte & FIN != 0;
        }
        let is_whole = last_of_frame && self.last_of_message;
        if is_whole && self.open.is_empty() {
            return Ok(Some(payload));
        }
        if self.open.len() + payload.len() > STREAM_DATAGRAM_BYTES_MAX {
            return Err(DecodeError::TooLarge);
        }
        self.open.extend_from_slice(&payload);
        Ok(is_whole.then(|| self.open.split().freeze()))
    }
}

/// Writes messages.
#[derive(Debug)]
pub(super) struct Encoder(Writer);

impl Encoder {
    /// For a stream on which we play `side`; a client masks what it sends, with keys from `seed`.
    pub(super) fn new(side: Side, seed: [u8; 32]) -> Self {
        Self(match side {
            Side::Client => Writer::client(seed),
            Side::Server => Writer::server(),
        })
    }

    /// Appends a datagram. One that is too large for the far end is left out: `false`.
    #[must_use]
    pub(super) fn datagram(&mut self, out: &mut BytesMut, datagram: &[u8]) -> bool {
        if datagram.len() > STREAM_DATAGRAM_BYTES_MAX {
            return false;
        }
        let frame_len = u64::try_from(datagram.len()).expect("checked above");
        let start = FrameStart { first_byte: FIN | BINARY, frame_len };
        self.0.chunk(out, Some(start), datagram).is_ok()
    }

    /// Appends the answer to a ping.
    pub(super) fn pong(&mut self, out: &mut BytesMut, payload: &[u8]) {
        // Frames are written whole, and a ping's payload fits: it can't be refused.
        let _ = self.0.pong(out, payload);
    }

    /// Appends a close frame.
    pub(super) fn close(&mut self, out: &mut BytesMut, code: u16) {
        let _ = self.0.close(out, Some((code, "")));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(side: Side, wire: &[u8], step: usize) -> Result<Vec<Received>, DecodeError> {
        let (mut decoder, mut received) = (Decoder::new(side), Vec::new());
        let mut input = BytesMut::new();
        for piece in wire.chunks(step.max(1)) {
            input.extend_from_slice(piece);
            while let Some(event) = decoder.read(&mut input)? {
                received.push(event);
            }
        }
        Ok(received)
    }

    fn datagrams(of: &[&[u8]]) -> Vec<Received> {
        of.iter().map(|bytes| Received::Datagram(Bytes::copy_from_slice(bytes))).collect()
    }

    proptest! {
        /// However the network cuts the bytes, the far end gets the datagrams, each whole.
        #[test]
        fn datagrams_come_out_as_they_went_in(
            sent in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..2048), 1..8),
            step in 1_usize..3000,
            seed: [u8; 32],
            masked: bool,
        ) {
            let (ours, theirs) =
                if masked { (Side::Client, Side::Server) } else { (Side::Server, Side::Client) };
            let (mut encoder, mut wire) = (Encoder::new(ours, seed), BytesMut::new());
            for datagram in &sent {
                prop_assert!(encoder.datagram(&mut wire, datagram));
            }
            let sent: Vec<&[u8]> = sent.iter().map(Vec::as_slice).collect();
            prop_assert_eq!(decode(theirs, &wire, step), Ok(datagrams(&sent)));
        }

        /// Whatever arrives: no panic, and nothing larger than a datagram.
        #[test]
        fn nothing_breaks_the_decoder(
            wire in prop::collection::vec(any::<u8>(), 0..4096),
            step in 1_usize..600,
        ) {
            for received in decode(Side::Client, &wire, step).unwrap_or_default() {
                if let Received::Datagram(datagram) = received {
                    prop_assert!(datagram.len() <= STREAM_DATAGRAM_BYTES_MAX);
                }
            }
        }
    }

    #[test]
    fn a_message_in_several_frames_is_one_datagram() {
        let wire = [0x02, 2, b'a', b'b', 0x89, 1, b'!', 0x00, 0, 0x80, 1, b'c', 0x82, 1, b'd'];
        let ping = Received::Ping(Bytes::from_static(b"!"));
        let mut expected = vec![ping];
        expected.extend(datagrams(&[b"abc", b"d"]));
        for step in 1..wire.len() {
            assert_eq!(
                decode(Side::Client, &wire, step),
                Ok(expected.clone()),
                "in steps of {step}"
            );
        }
    }

    #[test]
    fn what_is_too_large_goes_nowhere() {
        let mut encoder = Encoder::new(Side::Server, [0; 32]);
        let mut wire = BytesMut::new();
        assert!(!encoder.datagram(&mut wire, &[0; STREAM_DATAGRAM_BYTES_MAX + 1]));
        assert!(wire.is_empty());

        let frame = decode(Side::Client, &[0x82, 126, 0x08, 0x01], 9).unwrap_err();
        assert_eq!(frame.close_code(), close::TOO_BIG, "{frame}");
        let mut wire = vec![0x02, 126, 0x08, 0x00];
        wire.extend([7; 2048]);
        wire.extend([0x80, 1, 7]);
        let message = decode(Side::Client, &wire, 500).unwrap_err();
        assert_eq!((message, message.close_code()), (DecodeError::TooLarge, close::TOO_BIG));
    }

    #[test]
    fn what_is_no_datagram_ends_the_stream() {
        let text = decode(Side::Client, &[0x81, 1, b'x'], 9).unwrap_err();
        assert_eq!((text, text.close_code()), (DecodeError::Text, 1003));
        let unmasked = decode(Side::Server, &[0x82, 1, b'x'], 9).unwrap_err();
        assert_eq!(unmasked.close_code(), close::PROTOCOL_ERROR);
    }

    #[test]
    fn ends_and_pongs_are_read_back() {
        let (mut encoder, mut wire) = (Encoder::new(Side::Server, [0; 32]), BytesMut::new());
        encoder.pong(&mut wire, b"!");
        encoder.close(&mut wire, close::GOING_AWAY);
        assert_eq!(decode(Side::Client, &wire, 1), Ok(vec![Received::Close]));
    }
}
