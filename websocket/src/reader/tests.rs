//! Tables for the reader: what each rule refuses, and that its neighbour passes.

use super::*;
use crate::reader::ReadError::{
    CloseBody, CloseCode, CloseReason, ControlFragmented, ControlTooLong, FrameTooLarge,
    LengthInvalid, LengthNotShortest, Masked, MessageOpen, NotMasked, NotUtf8, NothingToContinue,
    ReservedBits, ReservedOpcode,
};

#[test]
fn frame_order() {
    check("whole text", b"\x81\x02hi", Ok(1));
    check("two fragments", b"\x01\x02hi\x80\x01!", Ok(2));
    check("three fragments, a ping between", b"\x01\x01a\x89\x00\x00\x01b\x80\x01c", Ok(4));
    check("empty fragments", b"\x01\x00\x00\x00\x80\x00", Ok(3));
    check("continuation of nothing", b"\x80\x00", Err(NothingToContinue));
    check("continuation after the end", b"\x81\x00\x80\x00", Err(NothingToContinue));
    check("text inside text", b"\x01\x01a\x81\x01b", Err(MessageOpen));
    check("binary inside text", b"\x01\x01a\x02\x01b", Err(MessageOpen));
}

#[test]
fn bits_and_opcodes() {
    for opcode in [3, 4, 5, 6, 7, 11, 12, 13, 14, 15] {
        check("reserved", &[0x80 | opcode, 0], Err(ReservedOpcode));
        check("reserved, at its first byte", &[0x80 | opcode], Err(ReservedOpcode));
    }
    check("rsv1", b"\xc1\x00", Err(ReservedBits));
    check("rsv2", b"\xa1\x00", Err(ReservedBits));
    check("rsv3", b"\x91\x00", Err(ReservedBits));
}

#[test]
fn rsv1_with_deflate() {
    let check = |what: &str, bytes: &[u8], expected| {
        let policy = Policy { rsv1_allowed: true, ..Policy::default() };
        assert_eq!(count(policy, bytes), expected, "{what}");
    };
    check("compressed text is not checked as text", b"\xc1\x01\xff", Ok(1));
    check("nor are its fragments", b"\x41\x01\xff\x80\x01\xfe", Ok(2));
    check("uncompressed text is", b"\x81\x01\xff", Err(NotUtf8));
    check("not on a continuation", b"\x41\x00\xc0\x00", Err(ReservedBits));
    check("not on a ping", b"\xc9\x00", Err(ReservedBits));
    check("not on a close", b"\xc8\x00", Err(ReservedBits));
    check("rsv2 is not agreed", b"\xa2\x00", Err(ReservedBits));
}

#[test]
fn control_frames() {
    check("125 bytes", &[&b"\x89\x7d"[..], &[b'x'; 125]].concat(), Ok(1));
    check("126 bytes", b"\x89\x7e\x00\x7e", Err(ControlTooLong));
    check("a long form of a short length", b"\x8a\x7e\x00\x01x", Err(ControlTooLong));
    check("fragmented ping", b"\x09\x00", Err(ControlFragmented));
    check("fragmented close", b"\x08\x00", Err(ControlFragmented));
}

#[test]
fn lengths() {
    check("126 in its form", &[&b"\x82\x7e\x00\x7e"[..], &[0; 126]].concat(), Ok(1));
    check("125 in 16 bits", b"\x82\x7e\x00\x7d", Err(LengthNotShortest));
    check("65535 in 64 bits", b"\x82\x7f\0\0\0\0\0\0\xff\xff", Err(LengthNotShortest));
    check("64 bits", b"\x82\x7f\x80\0\0\0\0\0\0\0", Err(LengthInvalid));
    check("above the limit", b"\x82\x7f\0\0\0\0\x08\0\0\x01", Err(FrameTooLarge));
    check("the limit", b"\x82\x7f\0\0\0\0\x08\0\0\0", Ok(0));
}

#[test]
fn closes() {
    check("empty", b"\x88\x00", Ok(1));
    check("code", b"\x88\x02\x03\xe8", Ok(1));
    check("half a code", b"\x88\x01\x03", Err(CloseBody));
    check("1005", b"\x88\x02\x03\xed", Err(CloseCode));
    check("1006", b"\x88\x02\x03\xee", Err(CloseCode));
    check("reason not text", b"\x88\x03\x03\xe8\xff", Err(CloseReason));
    check("what follows is thrown away", b"\x88\x00\xff\xff\xff", Ok(1));
    check("inside a fragmented message", b"\x01\x01a\x88\x00", Ok(2));
}

#[test]
fn text() {
    check("a character over two frames", b"\x01\x01\xc2\x80\x01\xb5", Ok(2));
    check("a character cut by the end", b"\x81\x01\xc2", Err(NotUtf8));
    check("cut by an empty last frame", b"\x01\x01\xc2\x80\x00", Err(NotUtf8));
    check(
        "impossible before its frame is whole",
        b"\x81\x7e\x01\x00\xce\xba\xed\xa0",
        Err(NotUtf8),
    );
    check("binary is free", b"\x82\x01\xff", Ok(1));
    check("a continued binary too", b"\x02\x01\xff\x80\x01\xff", Ok(2));
}

#[test]
fn masks() {
    let mut input = BytesMut::from(&b"\x81\x00"[..]);
    let mut server = Reader::new(Side::Server, Policy::default());
    assert_eq!(server.read(&mut input), Err(NotMasked));
    let mut input = BytesMut::from(&b"\x81\x80\0\0\0\0"[..]);
    let mut client = Reader::new(Side::Client, Policy::default());
    assert_eq!(client.read(&mut input), Err(Masked));
}

/// RFC 6455 section 5.7: a masked "Hello", one byte at a time.
#[test]
fn unmasks_across_reads() {
    let mut reader = Reader::new(Side::Server, Policy::default());
    let bytes = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
    let mut text = Vec::new();
    for byte in bytes {
        let mut input = BytesMut::from(&[byte][..]);
        while let Some(event) = reader.read(&mut input).unwrap() {
            let Event::Chunk { start, payload, last_of_frame } = event else { panic!("{event:?}") };
            assert_eq!(start.is_some(), text.is_empty());
            text.extend_from_slice(&payload);
            assert_eq!(last_of_frame, text.len() == 5);
        }
        assert!(input.is_empty());
    }
    assert_eq!(text, b"Hello");
    assert!(reader.between_messages());
}

#[test]
fn a_large_frame_comes_in_chunks_that_share_the_buffer() {
    let policy = Policy { chunk_bytes_max: 2000, ..Policy::default() };
    let mut reader = Reader::new(Side::Client, policy);
    let mut input = BytesMut::from(&[&b"\x82\x7e\x0f\xa1"[..], &[7; 4001]].concat()[..]);
    let at = input.as_ptr() as usize;
    let mut lens = Vec::new();
    while let Some(Event::Chunk { start, payload, last_of_frame }) =
        reader.read(&mut input).unwrap()
    {
        if payload.len() > COPY_BYTES_MAX {
            assert_eq!(payload.as_ptr() as usize, at + 4 + lens.iter().sum::<usize>());
        }
        lens.push(payload.len());
        assert_eq!(start.is_some(), lens.len() == 1);
        assert_eq!(last_of_frame, lens.len() == 3);
    }
    assert_eq!(lens, [2000, 2000, 1]);
}

#[test]
fn an_error_stays() {
    let mut reader = Reader::new(Side::Client, Policy::default());
    let mut input = BytesMut::from(&b"\x83\x00\x81\x00"[..]);
    assert_eq!(reader.read(&mut input), Err(ReservedOpcode));
    assert!(input.is_empty());
    assert_eq!(reader.read(&mut BytesMut::from(&b"\x81\x00"[..])), Err(ReservedOpcode));
}

/// A session idles with its reader: keep it small.
#[test]
fn a_reader_is_small() {
    assert!(size_of::<Reader>() <= 160, "{}", size_of::<Reader>());
}

/// Unmasked `bytes`, as a server sends them; expects so many events, then the error if any.
#[track_caller]
fn check(what: &str, bytes: &[u8], expected: Result<usize, ReadError>) {
    assert_eq!(count(Policy::default(), bytes), expected, "{what}");
}

fn count(policy: Policy, bytes: &[u8]) -> Result<usize, ReadError> {
    let mut reader = Reader::new(Side::Client, policy);
    let mut input = BytesMut::from(bytes);
    let mut events = 0;
    while reader.read(&mut input)?.is_some() {
        events += 1;
    }
    Ok(events)
}
