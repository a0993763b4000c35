//! What applications say: numbered messages whose every byte can be checked.

use std::fmt;

use bytes::{BufMut, Bytes, BytesMut};

/// Bytes that every message has: who says it, its number, its length.
pub const HEADER_BYTES: usize = 12;

/// Which way a message goes.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Direction {
    /// From the client.
    Up,
    /// To the client.
    Down,
}

/// One message of a talk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Message {
    /// The talk.
    pub talk: u16,
    /// Which of the talk's upgrades it belongs to: each opens a socket of its own at the backend.
    pub attempt: u16,
    /// Which way.
    pub direction: Direction,
    /// Counts from 0 in each direction of an attempt.
    pub number: u32,
    /// All its bytes.
    pub len: usize,
}

/// A payload that no application of ours has said.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mangled(pub String);

impl Message {
    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        let len = self.len.max(HEADER_BYTES);
        let mut bytes = BytesMut::with_capacity(len);
        bytes.put_u16(self.talk);
        let direction = u16::from(self.direction == Direction::Down) << 15;
        bytes.put_u16(self.attempt | direction);
        bytes.put_u32(self.number);
        bytes.put_u32(u32::try_from(len).expect("messages are small"));
        let mut fill = filler(self.talk, self.number);
        while bytes.len() < len {
            bytes.put_u8(fill);
            fill = fill.wrapping_mul(5).wrapping_add(3);
        }
        bytes.freeze()
    }

    /// Reads it back.
    ///
    /// # Errors
    ///
    /// It is not, to the byte, what [`Message::bytes`] makes.
    pub fn read(bytes: &[u8]) -> Result<Self, Mangled> {
        let short = || Mangled(format!("{} bytes are no message", bytes.len()));
        let head: &[u8; HEADER_BYTES] =
            bytes.get(..HEADER_BYTES).and_then(|head| head.try_into().ok()).ok_or_else(short)?;
        let word = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([0, 1, 2, 3].map(|step| head[at + step]));
        let message = Self {
            talk: word(0),
            attempt: word(2) & 0x7fff,
            direction: if word(2) >> 15 == 1 { Direction::Down } else { Direction::Up },
            number: long(4),
            len: usize::try_from(long(8)).map_err(|_| short())?,
        };
        if message.len != bytes.len() || message.bytes() != bytes {
            return Err(Mangled(format!("{message} came as {} other bytes", bytes.len())));
        }
        Ok(message)
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { talk, attempt, direction, number, len } = self;
        write!(f, "{direction:?} {number} of talk {talk}.{attempt} ({len} bytes)")
    }
}

fn filler(talk: u16, number: u32) -> u8 {
    let [.., low] = number.wrapping_mul(31).wrapping_add(u32::from(talk)).to_be_bytes();
    low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_reads_back_and_a_changed_one_does_not() {
        let message =
            Message { talk: 3, attempt: 2, direction: Direction::Down, number: 77, len: 4000 };
        let bytes = message.bytes();
        assert_eq!(Message::read(&bytes), Ok(message));
        for at in [0, 5, 9, 2000, 3999] {
            let mut other = bytes.to_vec();
            other[at] ^= 1;
            assert_ne!(Message::read(&other), Ok(message), "byte {at}");
        }
        assert!(Message::read(&bytes[..3999]).is_err());
    }
}
