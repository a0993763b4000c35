//! A stream's bytes without TCP, for who moves them by hand: a fuzz target.

use antipode_websocket::Side;
use bytes::{Bytes, BytesMut};

use super::frame::{Decoder, Encoder, Received};
use super::upgrade;

pub use super::frame::STREAM_DATAGRAM_BYTES_MAX;
pub use super::upgrade::UPGRADE_HEAD_BYTES_MAX;

/// Reads a far end that plays the other side.
#[derive(Debug)]
pub struct BareDecoder(Decoder);

/// What the far end sent.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BareReceived {
    /// A datagram.
    Datagram(Bytes),
    /// A ping.
    Ping(Bytes),
    /// It closes the stream.
    Close,
}

impl BareDecoder {
    /// For a stream on which we play `side`.
    #[must_use]
    pub fn new(side: Side) -> Self {
        Self(Decoder::new(side))
    }

    /// Takes bytes off the front of `input` and returns what they say; `None` once more of them are
    /// needed.
    ///
    /// # Errors
    /// The code to close with.
    pub fn read(&mut self, input: &mut BytesMut) -> Result<Option<BareReceived>, u16> {
        let received = self.0.read(input).map_err(|error| error.close_code())?;
        Ok(received.map(|received| match received {
            Received::Datagram(datagram) => BareReceived::Datagram(datagram),
            Received::Ping(payload) => BareReceived::Ping(payload),
            Received::Close => BareReceived::Close,
        }))
    }
}

/// Writes to a far end that plays the other side.
#[derive(Debug)]
pub struct BareEncoder(Encoder);

impl BareEncoder {
    /// For a stream on which we play `side`; a client masks with keys from `seed`.
    #[must_use]
    pub fn new(side: Side, seed: [u8; 32]) -> Self {
        Self(Encoder::new(side, seed))
    }

    /// Appends a datagram; `false` if it is too large.
    #[must_use]
    pub fn datagram(&mut self, out: &mut BytesMut, datagram: &[u8]) -> bool {
        self.0.datagram(out, datagram)
    }

    /// Appends the answer to a ping.
    pub fn pong(&mut self, out: &mut BytesMut, payload: &[u8]) {
        self.0.pong(out, payload);
    }
}

/// The request of whoever opens a stream on `host`.
#[must_use]
pub fn request(host: &str, key: &str) -> Vec<u8> {
    upgrade::request(host, key)
}

/// Reads a request: how long it is and what to answer, or `None` if there is more of it to come.
///
/// # Errors
/// The refusal, as it is sent.
pub fn read_request(bytes: &[u8]) -> Result<Option<(usize, Vec<u8>)>, Vec<u8>> {
    upgrade::read_request(bytes).map_err(|error| upgrade::refusal(&error))
}

/// Reads the answer to a request with `key`: how long it is, or `None` if there is more to come.
///
/// # Errors
/// Why there is no stream.
pub fn read_answer(bytes: &[u8], key: &str) -> Result<Option<usize>, String> {
    upgrade::read_answer(bytes, key).map_err(|error| error.to_string())
}
