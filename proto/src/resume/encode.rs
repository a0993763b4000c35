//! Frames to bytes.

use bytes::{BufMut, BytesMut};

use super::{FIRST_EPOCH, Frame, INTEGER_MAX, Position, VERSION, Welcome, flag, kind};
use crate::trunk::v1::{Ack, Attach, Attached, Chunk, End, GoAway, Reset};

/// Appends one message.
pub fn encode(frame: &Frame, out: &mut BytesMut) {
    match frame {
        Frame::Welcome(welcome) => put_welcome(out, welcome),
        Frame::Attach(Attach { epoch, received, credit, token }) => {
            out.put_u8(kind::ATTACH);
            put_integers(out, &[VERSION, *epoch, *received, *credit]);
            put_bytes(out, token);
        }
        Frame::Attached(Attached { epoch, received, credit }) => {
            out.put_u8(kind::ATTACHED);
            put_integers(out, &[*epoch, *received, *credit]);
        }
        Frame::Refused(reset) => put_reset(out, kind::REFUSED, reset),
        Frame::Chunk(position, chunk) => {
            encode_chunk_header(*position, chunk, out);
            out.put_slice(&chunk.payload);
        }
        Frame::End(position, end) => put_end(out, *position, end),
        Frame::Ack(Ack { ack, credit }) => {
            out.put_u8(kind::ACK);
            put_integers(out, &[*ack, *credit]);
        }
        Frame::Reset(reset) => put_reset(out, kind::RESET, reset),
        Frame::GoAway(GoAway { url, after_ms, grace_ms, token }) => {
            out.put_u8(kind::GO_AWAY);
            put_integers(out, &[*after_ms, *grace_ms]);
            put_bytes(out, url.as_bytes());
            put_bytes(out, token);
        }
        Frame::Ping(number) => put_number(out, kind::PING, *number),
        Frame::Pong(number) => put_number(out, kind::PONG, *number),
        Frame::Moved(epoch) => put_number(out, kind::MOVED, *epoch),
    }
}

/// Appends all of a chunk but its payload, which follows to the end of the message: whoever can
/// send two buffers need not copy it.
pub fn encode_chunk_header(position: Position, chunk: &Chunk, out: &mut BytesMut) {
    out.put_u8(kind::CHUNK);
    put_position(out, position);
    let flag_if = |set: bool, flag| if set { flag } else { 0 };
    let has_frame = flag_if(chunk.frame.is_some(), flag::FRAME);
    out.put_u8(has_frame | flag_if(chunk.frame_len.is_some(), flag::FRAME_LEN));
    if let Some(frame) = chunk.frame {
        out.put_u8(frame.to_le_bytes()[0]);
    }
    if let Some(frame_len) = chunk.frame_len {
        put_integer(out, frame_len);
    }
}

fn put_welcome(out: &mut BytesMut, welcome: &Welcome) {
    let Welcome { credit, window_ms, ping_ms, token, core, protocol } = welcome;
    out.put_u8(kind::WELCOME);
    put_integers(out, &[VERSION, FIRST_EPOCH, *credit, *window_ms, *ping_ms]);
    put_bytes(out, token);
    put_bytes(out, core.as_bytes());
    put_bytes(out, protocol.as_bytes());
}

fn put_end(out: &mut BytesMut, position: Position, end: &End) {
    out.put_u8(kind::END);
    put_position(out, position);
    put_cause(out, end.cause);
    put_integer(out, end.close_code.unwrap_or(0).into());
    out.put_slice(end.reason.as_bytes());
}

fn put_reset(out: &mut BytesMut, kind: u8, reset: &Reset) {
    out.put_u8(kind);
    put_cause(out, reset.cause);
    out.put_slice(reset.detail.as_bytes());
}

fn put_position(out: &mut BytesMut, position: Position) {
    let Position { seq, ack, credit } = position;
    put_integers(out, &[seq, ack, credit]);
}

fn put_number(out: &mut BytesMut, kind: u8, number: u64) {
    out.put_u8(kind);
    put_integer(out, number);
}

/// A negative cause is none of ours; it goes as 0, which is `CAUSE_UNSPECIFIED`.
fn put_cause(out: &mut BytesMut, cause: i32) {
    put_integer(out, u64::try_from(cause).unwrap_or(0));
}

fn put_bytes(out: &mut BytesMut, bytes: &[u8]) {
    put_integer(out, bytes.len().try_into().expect("a length fits in 64 bits"));
    out.put_slice(bytes);
}

fn put_integers(out: &mut BytesMut, integers: &[u64]) {
    integers.iter().for_each(|&integer| put_integer(out, integer));
}

/// Unsigned LEB128: seven bits a byte, the lowest first, the top bit set on all but the last.
fn put_integer(out: &mut BytesMut, integer: u64) {
    debug_assert!(integer <= INTEGER_MAX, "{integer} is more than a peer may read");
    let mut rest = integer;
    while rest >= 0x80 {
        out.put_u8(rest.to_le_bytes()[0] | 0x80);
        rest >>= 7;
    }
    out.put_u8(rest.to_le_bytes()[0]);
}
