//! Bytes to frames, strictly: each frame has one encoding, and nothing else is taken.

use bytes::{Buf, Bytes};

use super::{
    CORE_BYTES_MAX, DecodeError, FIRST_EPOCH, Frame, INTEGER_MAX, PROTOCOL_BYTES_MAX, Position,
    REASON_BYTES_MAX, TOKEN_BYTES_MAX, URL_BYTES_MAX, VERSION, Welcome, flag, kind,
};
use crate::body::CHUNK_BYTES_MAX;
use crate::trunk::v1::{Ack, Attach, Attached, Chunk, End, GoAway, Reset};

/// Reads one message. Payload and tokens are slices of it.
///
/// # Errors
///
/// The message is not the one encoding of a frame of this version. A driver closes the attachment:
/// a client that sends such a thing did not come from this protocol.
pub fn decode(message: Bytes) -> Result<Frame, DecodeError> {
    let mut fields = Fields(message);
    let frame = match fields.byte()? {
        kind::WELCOME => Frame::Welcome(fields.welcome()?),
        kind::ATTACH => Frame::Attach(fields.attach()?),
        kind::ATTACHED => Frame::Attached(Attached {
            epoch: fields.integer()?,
            received: fields.integer()?,
            credit: fields.integer()?,
        }),
        kind::REFUSED => Frame::Refused(fields.reset()?),
        kind::CHUNK => Frame::Chunk(fields.position()?, fields.chunk()?),
        kind::END => Frame::End(fields.position()?, Box::new(fields.end()?)),
        kind::ACK => Frame::Ack(Ack { ack: fields.integer()?, credit: fields.integer()? }),
        kind::RESET => Frame::Reset(fields.reset()?),
        kind::GO_AWAY => Frame::GoAway(GoAway {
            after_ms: fields.integer()?,
            grace_ms: fields.integer()?,
            url: fields.text("url", URL_BYTES_MAX)?,
            token: fields.bytes("token", TOKEN_BYTES_MAX)?,
        }),
        kind::PING => Frame::Ping(fields.integer()?),
        kind::PONG => Frame::Pong(fields.integer()?),
        kind::MOVED => Frame::Moved(fields.integer()?),
        unknown => return Err(DecodeError::Kind(unknown)),
    };
    if fields.0.has_remaining() {
        return Err(DecodeError::Trailing);
    }
    Ok(frame)
}

/// What has not been read of a message.
struct Fields(Bytes);

impl Fields {
    fn welcome(&mut self) -> Result<Welcome, DecodeError> {
        self.version()?;
        if self.integer()? != FIRST_EPOCH {
            return Err(DecodeError::Bounds("epoch"));
        }
        Ok(Welcome {
            credit: self.integer()?,
            window_ms: self.integer()?,
            ping_ms: self.integer()?,
            token: self.bytes("token", TOKEN_BYTES_MAX)?,
            core: self.text("core", CORE_BYTES_MAX)?,
            protocol: self.text("protocol", PROTOCOL_BYTES_MAX)?,
        })
    }

    fn attach(&mut self) -> Result<Attach, DecodeError> {
        self.version()?;
        Ok(Attach {
            epoch: self.integer()?,
            received: self.integer()?,
            credit: self.integer()?,
            token: self.bytes("token", TOKEN_BYTES_MAX)?,
        })
    }

    fn chunk(&mut self) -> Result<Chunk, DecodeError> {
        let flags = self.byte()?;
        let frame = match flags {
            0 => None,
            flag::FRAME => Some(self.frame_byte()?),
            _ if flags == flag::FRAME | flag::FRAME_LEN => Some(self.frame_byte()?),
            unknown => return Err(DecodeError::Flags(unknown)),
        };
        let frame_len = (flags & flag::FRAME_LEN != 0).then(|| self.integer()).transpose()?;
        let payload = self.rest("payload", CHUNK_BYTES_MAX)?;
        let len = u64::try_from(payload.len()).unwrap_or(u64::MAX);
        if frame_len.is_some_and(|frame_len| frame_len <= len) {
            return Err(DecodeError::Bounds("frame_len"));
        }
        Ok(Chunk { frame, frame_len, payload, shared: 0 })
    }

    /// Text, binary or continuation, final or not. Resumable sockets agree on no extension, so no
    /// other bit may be set (RFC 6455 §5.2).
    fn frame_byte(&mut self) -> Result<u32, DecodeError> {
        let byte = self.byte()?;
        if byte & 0x7f > 2 {
            return Err(DecodeError::Bounds("frame byte"));
        }
        Ok(byte.into())
    }

    fn end(&mut self) -> Result<End, DecodeError> {
        let cause = self.cause()?;
        let close_code = match self.integer()? {
            0 => None,
            code @ 1000..=4999 => u32::try_from(code).ok(),
            _ => return Err(DecodeError::Bounds("close code")),
        };
        let reason = to_text(self.rest("reason", REASON_BYTES_MAX)?)?;
        Ok(End { cause, close_code, reason, trailers: Vec::new() })
    }

    fn reset(&mut self) -> Result<Reset, DecodeError> {
        let cause = self.cause()?;
        let detail = to_text(self.rest("detail", REASON_BYTES_MAX)?)?;
        Ok(Reset { cause, detail })
    }

    fn position(&mut self) -> Result<Position, DecodeError> {
        Ok(Position { seq: self.integer()?, ack: self.integer()?, credit: self.integer()? })
    }

    fn version(&mut self) -> Result<(), DecodeError> {
        match self.integer()? {
            VERSION => Ok(()),
            other => Err(DecodeError::Version(other)),
        }
    }

    /// A cause that this release does not know is none the less a cause: the set may grow.
    fn cause(&mut self) -> Result<i32, DecodeError> {
        i32::try_from(self.integer()?).map_err(|_| DecodeError::Bounds("cause"))
    }

    fn text(&mut self, what: &'static str, max: usize) -> Result<String, DecodeError> {
        to_text(self.bytes(what, max)?)
    }

    fn bytes(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        let len = usize::try_from(self.integer()?).unwrap_or(usize::MAX);
        if len > max {
            return Err(DecodeError::Bounds(what));
        }
        if len > self.0.remaining() {
            return Err(DecodeError::Short);
        }
        Ok(self.0.split_to(len))
    }

    fn rest(&mut self, what: &'static str, max: usize) -> Result<Bytes, DecodeError> {
        if self.0.remaining() > max {
            return Err(DecodeError::Bounds(what));
        }
        Ok(self.0.split_to(self.0.remaining()))
    }

    fn integer(&mut self) -> Result<u64, DecodeError> {
        let mut integer = 0_u64;
        // Eight bytes carry 56 bits: the ninth could only go beyond the largest integer.
        for shift in (0..56).step_by(7) {
            let byte = self.byte()?;
            integer |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                let minimal = byte != 0 || shift == 0;
                let in_range = integer <= INTEGER_MAX;
                return (minimal && in_range).then_some(integer).ok_or(DecodeError::Integer);
            }
        }
        Err(DecodeError::Integer)
    }

    fn byte(&mut self) -> Result<u8, DecodeError> {
        self.0.try_get_u8().map_err(|_| DecodeError::Short)
    }
}

fn to_text(bytes: Bytes) -> Result<String, DecodeError> {
    String::from_utf8(bytes.into()).map_err(|_| DecodeError::Text)
}
