//! The bytes of every frame as version 1 puts them on the wire: what was released decodes for ever.
//!
//! A new field gets a new row; no row is ever changed.

use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::segment::Body;
use antipode_proto::trunk::v1::{
    Ack, Attach, Attached, Batch, Cause, Chunk, End, Frame, GoAway, Header, Hello, RequestHead,
    Reset, ResponseHead, Segment, SessionKind,
};
use bytes::Bytes;
use proptest::prelude::*;
use prost::Message;

#[test]
fn every_frame_keeps_its_bytes() {
    check("hello", hello(), include_str!("golden/hello.hex"));
    check("request", segment(request()), include_str!("golden/request.hex"));
    check("response", segment(response()), include_str!("golden/response.hex"));
    check("chunk", segment(chunk()), include_str!("golden/chunk.hex"));
    check("end", segment(end()), include_str!("golden/end.hex"));
    check("ack", frame(Kind::Ack(Ack { ack: 7, credit: 1 << 20 })), include_str!("golden/ack.hex"));
    check("attach", frame(Kind::Attach(attach())), include_str!("golden/attach.hex"));
    check("attached", frame(Kind::Attached(attached())), include_str!("golden/attached.hex"));
    check("reset", frame(Kind::Reset(reset())), include_str!("golden/reset.hex"));
    check("go_away", frame(Kind::GoAway(go_away())), include_str!("golden/go_away.hex"));
    check("shared", shared(), include_str!("golden/shared.hex"));
    check("hello_keeps", hello_keeps(), include_str!("golden/hello_keeps.hex"));
    check("shared_ids", shared_ids(), include_str!("golden/shared_ids.hex"));
}

proptest! {
    #[test]
    fn perturbed_bytes_never_panic(
        place in any::<prop::sample::Index>(),
        byte in any::<u8>(),
        cut in any::<prop::sample::Index>(),
        which in 0..6_usize,
    ) {
        let (request, response) = (segment(request()), segment(response()));
        let all = [hello(), request, response, segment(end()), shared(), shared_ids()];
        let mut bytes = all[which].encode_to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        bytes.truncate(cut.index(bytes.len()) + 1);
        let _ = Batch::decode(Bytes::from(bytes));
    }
}

#[track_caller]
fn check(what: &str, batch: Batch, golden: &str) {
    let bytes = batch.encode_to_vec();
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, golden.trim(), "{what}: the bytes on the wire changed");
    let golden: Vec<u8> = (0..golden.trim().len() / 2)
        .map(|at| u8::from_str_radix(&golden[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    assert_eq!(Batch::decode(&*golden).expect("released bytes decode"), batch, "{what}");
}

fn frame(kind: Kind) -> Batch {
    let frames = vec![Frame { session: 300, kind: Some(kind) }];
    Batch { frames, ..Batch::default() }
}

fn segment(body: Body) -> Batch {
    frame(Kind::Segment(Segment { seq: 5, ack: 4, credit: 262_144, body: Some(body) }))
}

fn hello() -> Batch {
    let hello = Hello {
        version: 1,
        run: Bytes::from_static(&[0xab; 16]),
        lane: 3,
        lanes: 64,
        software: "antipode-node/0.1.0".into(),
        ..Hello::default()
    };
    Batch { hello: Some(hello), ..Batch::default() }
}

fn request() -> Body {
    RequestHead {
        kind: SessionKind::Websocket.into(),
        method: "GET".into(),
        target: "/chat?room=1".into(),
        authority: "chat.example".into(),
        scheme: "https".into(),
        headers: vec![header("cookie", "a=b")],
        client_ip: "2001:db8::7".into(),
        answered_early: true,
        resumable: true,
    }
    .into()
}

fn response() -> Body {
    ResponseHead {
        status: 101,
        headers: vec![header("sec-websocket-protocol", "chat")],
        resume_token: Bytes::from_static(b"token"),
    }
    .into()
}

fn chunk() -> Body {
    let payload = Bytes::from_static(b"hello");
    Chunk { frame: Some(0x81), frame_len: Some(70_000), payload, shared: 0 }.into()
}

fn end() -> Body {
    End {
        cause: Cause::BackendClosed.into(),
        close_code: Some(1000),
        reason: "bye".into(),
        trailers: vec![header("x-checksum", "1")],
    }
    .into()
}

fn attach() -> Attach {
    Attach { epoch: 2, received: 9, credit: 300_000, token: Bytes::from_static(b"token") }
}

fn attached() -> Attached {
    Attached { epoch: 2, received: 8, credit: 400_000 }
}

fn reset() -> Reset {
    Reset { cause: Cause::SessionLost.into(), detail: "unknown session".into() }
}

fn go_away() -> GoAway {
    GoAway {
        url: "wss://sg2.relay.example".into(),
        after_ms: 1_500,
        grace_ms: 600_000,
        token: Bytes::from_static(b"token"),
    }
}

fn shared() -> Batch {
    let to = |session| {
        let chunk = Chunk { frame: Some(0x81), shared: 1, ..Chunk::default() };
        let body = Some(chunk.into());
        let kind = Some(Kind::Segment(Segment { seq: 2, ack: 1, credit: 262_144, body }));
        Frame { session, kind }
    };
    let shared = vec![Bytes::from_static(b"to all")];
    Batch { frames: vec![to(1), to(2)], shared, ..Batch::default() }
}

fn hello_keeps() -> Batch {
    let Batch { hello: Some(hello), .. } = hello() else { unreachable!("a greeting") };
    Batch { hello: Some(Hello { keeps_payloads: true, ..hello }), ..Batch::default() }
}

/// One payload for this batch only, one to be kept, and one that is kept already.
fn shared_ids() -> Batch {
    let payloads = ["here", "and to keep", ""].map(|text| Bytes::from_static(text.as_bytes()));
    let shared_ids = vec![0, (1 << 41) + 5, (1 << 41) + 4];
    Batch { shared: payloads.to_vec(), shared_ids, ..shared() }
}

fn header(name: &str, value: &'static str) -> Header {
    Header { name: name.into(), value: Bytes::from_static(value.as_bytes()) }
}
