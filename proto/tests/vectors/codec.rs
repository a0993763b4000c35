//! `resume_codec.json`: messages and the frames they are, and messages that are none.

use antipode_proto::body::CHUNK_BYTES_MAX;
use antipode_proto::resume::{
    CORE_BYTES_MAX, Frame, INTEGER_MAX, MESSAGE_BYTES_MAX, PROTOCOL_BYTES_MAX, Position,
    REASON_BYTES_MAX, TOKEN_BYTES_MAX, URL_BYTES_MAX, Welcome, decode, encode,
};
use antipode_proto::trunk::v1::{Ack, Attach, Attached, Cause, Chunk, End, GoAway, Reset};
use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use serde_json::{Value, json};

use crate::json::{filled, from_frame, from_hex, object, text, to_frame, to_hex};
use crate::{rows, vectors};

#[test]
fn every_message_is_what_it_was() {
    let vectors = vectors("resume_codec.json", make, write);
    for row in vectors["good"].as_array().expect("rows") {
        let name = text(row, "name");
        let (message, frame) = (message(row), to_frame(&row["frame"]));
        let mut encoded = BytesMut::new();
        encode(&frame, &mut encoded);
        assert_eq!(encoded, message, "{name}");
        assert_eq!(decode(message), Ok(frame), "{name}");
    }
    for row in vectors["bad"].as_array().expect("rows") {
        let name = text(row, "name");
        let error = decode(message(row)).expect_err(&name);
        assert_eq!(error.label(), row["error"], "{name}");
    }
}

proptest! {
    #[test]
    fn perturbed_messages_never_panic(
        which in any::<prop::sample::Index>(),
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
    ) {
        let frames = frames();
        let (_, frame) = &frames[which.index(frames.len())];
        let mut bytes = BytesMut::new();
        encode(frame, &mut bytes);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        check_one_encoding(bytes.freeze())?;
    }

    #[test]
    fn what_decodes_has_one_encoding(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        check_one_encoding(bytes.into())?;
    }
}

fn check_one_encoding(message: Bytes) -> Result<(), TestCaseError> {
    let Ok(frame) = decode(message.clone()) else { return Ok(()) };
    prop_assert!(message.len() <= MESSAGE_BYTES_MAX);
    let mut again = BytesMut::new();
    encode(&frame, &mut again);
    prop_assert_eq!(again, message);
    Ok(())
}

/// `message` in hex, then `then`: so many times that byte.
fn message(row: &Value) -> Bytes {
    let mut bytes = from_hex(&text(row, "message"));
    bytes.extend(row.get("then").map(filled).unwrap_or_default());
    bytes.into()
}

fn write(vectors: &Value) -> String {
    let [good, bad] =
        ["good", "bad"].map(|which| rows(vectors[which].as_array().expect("rows"), "  "));
    format!("{{\n\"good\": [\n{good}\n],\n\"bad\": [\n{bad}\n]\n}}\n")
}

fn make() -> Value {
    let mut good = Vec::new();
    let mut bad: Vec<Value> = bad_messages()
        .into_iter()
        .map(|(name, hex, then)| bad_row(name, &from_hex(&hex), then))
        .collect();
    for (name, frame) in frames() {
        let mut bytes = BytesMut::new();
        encode(&frame, &mut bytes);
        good.push(good_row(name, &frame, &bytes));
        if has_rest(&frame) || bytes.len() > 80 {
            continue;
        }
        for len in 1..bytes.len() {
            bad.push(bad_row(&format!("{name}, cut at {len}"), &bytes[..len], Value::Null));
        }
        let longer = [&bytes[..], &[0]].concat();
        bad.push(bad_row(&format!("{name}, and a byte"), &longer, Value::Null));
    }
    json!({ "good": good, "bad": bad })
}

fn good_row(name: &str, frame: &Frame, bytes: &[u8]) -> Value {
    let mut then = Value::Null;
    if let Frame::Chunk(_, chunk) = frame
        && chunk.payload.len() > 64
    {
        then = json!([chunk.payload[0], chunk.payload.len()]);
    }
    let head = bytes.len() - then.get(1).map_or(0, |_| filled(&then).len());
    object([
        ("name", name.into()),
        ("message", to_hex(&bytes[..head]).into()),
        ("then", then),
        ("frame", from_frame(frame)),
    ])
}

fn bad_row(name: &str, bytes: &[u8], then: Value) -> Value {
    let row = object([("name", name.into()), ("message", to_hex(bytes).into()), ("then", then)]);
    let error = decode(message(&row)).expect_err(name).label();
    object([
        ("name", row["name"].clone()),
        ("message", row["message"].clone()),
        ("then", row.get("then").cloned().unwrap_or_default()),
        ("error", error.into()),
    ])
}

fn has_rest(frame: &Frame) -> bool {
    matches!(frame, Frame::Chunk(..) | Frame::End(..) | Frame::Reset(_) | Frame::Refused(_))
}

fn frames() -> Vec<(&'static str, Frame)> {
    let mut frames = session_frames();
    frames.extend(numbered_frames());
    frames.extend([
        ("an integer of 7 bits", Frame::Ping(127)),
        ("an integer of 8 bits", Frame::Ping(128)),
        ("an integer of 14 bits", Frame::Ping(16_383)),
        ("an integer of 15 bits", Frame::Ping(16_384)),
        ("an integer of 32 bits", Frame::Ping(u32::MAX.into())),
        ("an integer of 33 bits", Frame::Ping(1 << 32)),
        ("an integer of 49 bits", Frame::Ping((1 << 49) - 1)),
        ("an integer of 50 bits", Frame::Ping(1 << 49)),
        ("the largest integer", Frame::Ping(INTEGER_MAX)),
    ]);
    frames
}

fn session_frames() -> Vec<(&'static str, Frame)> {
    let token = || Bytes::from_static(b"\x01token\xff");
    let welcome = Welcome {
        credit: 262_144,
        window_ms: 120_000,
        ping_ms: 10_000,
        token: token(),
        core: "c4f1".into(),
        protocol: "chat".into(),
    };
    let largest = Welcome {
        token: vec![9; TOKEN_BYTES_MAX].into(),
        core: "c".repeat(CORE_BYTES_MAX),
        protocol: "p".repeat(PROTOCOL_BYTES_MAX),
        ..Welcome::default()
    };
    let go_away = GoAway {
        url: "wss://sg2.relay.example".into(),
        after_ms: 1_500,
        grace_ms: 600_000,
        token: token(),
    };
    let far = GoAway { url: "u".repeat(URL_BYTES_MAX), ..GoAway::default() };
    let reset = |cause: i32, detail: &str| Reset { cause, detail: detail.into() };
    let lost = Cause::SessionLost.into();
    vec![
        ("welcome", Frame::Welcome(welcome)),
        ("welcome of nothing", Frame::Welcome(Welcome::default())),
        ("welcome, as large as may be", Frame::Welcome(largest)),
        (
            "attach",
            Frame::Attach(Attach { epoch: 2, received: 9, credit: 300_000, token: token() }),
        ),
        ("attach of nothing", Frame::Attach(Attach::default())),
        ("attached", Frame::Attached(Attached { epoch: 2, received: 8, credit: 400_000 })),
        ("refused", Frame::Refused(reset(lost, "unknown session"))),
        ("refused without a word", Frame::Refused(reset(0, ""))),
        ("ack", Frame::Ack(Ack { ack: 7, credit: 1 << 20 })),
        ("reset", Frame::Reset(reset(lost, "größer als erlaubt"))),
        ("reset for a cause of later", Frame::Reset(reset(i32::MAX, ""))),
        ("reset with a long detail", Frame::Reset(reset(1, &"d".repeat(REASON_BYTES_MAX)))),
        ("go-away", Frame::GoAway(go_away)),
        ("go-away to the gateway", Frame::GoAway(GoAway::default())),
        ("go-away to a long address", Frame::GoAway(far)),
        ("ping", Frame::Ping(0)),
        ("pong", Frame::Pong(1)),
        ("moved", Frame::Moved(3)),
    ]
}

fn numbered_frames() -> Vec<(&'static str, Frame)> {
    let chunk = |frame, frame_len, payload: Bytes| {
        let position = Position { seq: 5, ack: 4, credit: 262_144 };
        Frame::Chunk(position, Chunk { frame, frame_len, payload, shared: 0 })
    };
    let end = |close_code, reason: &str| {
        let cause = Cause::BackendClosed.into();
        let end = End { cause, close_code, reason: reason.into(), trailers: Vec::new() };
        Frame::End(Position { seq: 300, ack: 128, credit: 1 << 30 }, Box::new(end))
    };
    let full = Bytes::from(vec![7; CHUNK_BYTES_MAX]);
    vec![
        ("a text frame", chunk(Some(0x81), None, Bytes::from_static(b"hello"))),
        ("a binary frame", chunk(Some(0x82), None, Bytes::from_static(&[0, 255]))),
        ("an empty frame", chunk(Some(0x81), None, Bytes::new())),
        ("a fragment", chunk(Some(0x01), None, Bytes::from_static(b"hel"))),
        ("its end", chunk(Some(0x80), None, Bytes::from_static(b"lo"))),
        ("the first piece of a frame", chunk(Some(0x82), Some(70_000), full.clone())),
        ("another piece of it", chunk(None, None, full)),
        ("the last piece of it", chunk(None, None, Bytes::from_static(b"end"))),
        (
            "a frame of two bytes in two pieces",
            chunk(Some(0x82), Some(2), Bytes::from_static(b"a")),
        ),
        ("end", end(Some(1000), "bye")),
        ("end without a code", end(None, "")),
        ("end with the largest code", end(Some(4999), &"r".repeat(REASON_BYTES_MAX))),
        ("end with a byte order mark", end(Some(3000), "\u{feff}\u{1f600}")),
    ]
}

/// Name, hex, and what follows it.
fn bad_messages() -> Vec<(&'static str, String, Value)> {
    let none = || Value::Null;
    let row = |name, hex: &str| (name, hex.to_owned(), Value::Null);
    let invalid = "c328";
    vec![
        row("nothing", ""),
        row("kind 0", "0000"),
        row("kind 13", "0d00"),
        row("kind 255", "ff00"),
        row("kind 129: no varint", "8101"),
        row("zero in two bytes", "0a8000"),
        row("one in two bytes", "0a8100"),
        row("one in eight bytes", "0a8180808080808000"),
        row("2^53", "0a8080808080808010"),
        row("2^56 - 1", "0affffffffffffff7f"),
        row("nine bytes", "0aff8080808080808001"),
        row("ten bytes", "0affffffffffffffffff01"),
        row("welcome of version 0", "010001000000000000"),
        row("welcome of version 2", "010201000000000000"),
        row("welcome of epoch 2", "010102000000000000"),
        row("attach of version 0", "020002000000"),
        row("attach of version 2", "020202000000"),
        ("a token too long", "02010200008102".to_owned(), json!([0, 257])),
        row("a token beyond the message", "02010200000401"),
        row("a token of 2^53 - 1 bytes", "0201020000ffffffffffffff0f"),
        ("a core too long", "010101000000008102".to_owned(), json!([97, 258])),
        ("a protocol too long", "01010100000000008108".to_owned(), json!([97, 1025])),
        ("an address too long", "0900008110".to_owned(), json!([97, 2050])),
        ("core that is not UTF-8", format!("010101000000000002{invalid}00"), none()),
        ("protocol that is not UTF-8", format!("01010100000000000002{invalid}"), none()),
        ("url that is not UTF-8", format!("09000002{invalid}00"), none()),
        ("detail that is not UTF-8", format!("0811{invalid}"), none()),
        ("refused that is not UTF-8", format!("0411{invalid}"), none()),
        ("reason that is not UTF-8", format!("060100000200{invalid}"), none()),
        row("a surrogate in UTF-8", "0811eda080"),
        row("an overlong slash in UTF-8", "0811c0af"),
        ("a detail too long", "0811".to_owned(), json!([97, 124])),
        ("a refusal too long", "0411".to_owned(), json!([97, 124])),
        ("a reason too long", "060100000200".to_owned(), json!([97, 124])),
        row("a cause of 2^31", "088080808008"),
        row("a close code of 1", "06010000020161"),
        row("a close code of 999", "0601000002e707"),
        row("a close code of 5000", "06010000028827"),
        row("chunk without flags", "05010000"),
        row("a length without a frame", "050100000205"),
        row("an unknown flag", "0501000004"),
        row("the highest flag", "0501000080"),
        row("a frame byte that is missing", "0501000001"),
        row("a frame length that is missing", "050100000382"),
        row("a ping as data", "050100000189"),
        row("a close as data", "050100000188"),
        row("opcode 3", "050100000183"),
        row("a compressed frame", "0501000001c1"),
        row("RSV3", "050100000191"),
        row("a whole frame with its length", "05010000038201ff"),
        row("a frame shorter than its piece", "05010000038200ff"),
        ("a payload too long", "0501000000".to_owned(), json!([7, 16_385])),
        row("end without a cause", "06010000"),
        row("end without a code", "0601000002"),
        row("reset without a cause", "08"),
        row("refused without a cause", "04"),
    ]
}
