//! Frames as JSON, and back.

use antipode_proto::body::Body;
use antipode_proto::resume::{Frame, Position, Welcome};
use antipode_proto::trunk::v1::{Ack, Attach, Attached, Chunk, End, GoAway, Reset};
use bytes::Bytes;
use serde_json::{Map, Value, json};

pub(crate) fn from_frame(frame: &Frame) -> Value {
    match frame {
        Frame::Welcome(welcome) => json!({
            "kind": "welcome",
            "credit": welcome.credit,
            "window_ms": welcome.window_ms,
            "ping_ms": welcome.ping_ms,
            "token": to_hex(&welcome.token),
            "core": welcome.core,
            "protocol": welcome.protocol,
        }),
        Frame::Attach(Attach { epoch, received, credit, token }) => json!({
            "kind": "attach",
            "epoch": epoch,
            "received": received,
            "credit": credit,
            "token": to_hex(token),
        }),
        Frame::Attached(Attached { epoch, received, credit }) => {
            json!({ "kind": "attached", "epoch": epoch, "received": received, "credit": credit })
        }
        Frame::Refused(reset) => from_reset("refused", reset),
        Frame::Chunk(position, chunk) => {
            numbered("chunk", position, from_body(&Body::Chunk(chunk.clone())))
        }
        Frame::End(position, end) => numbered("end", position, from_body(&Body::End(end.clone()))),
        Frame::Ack(Ack { ack, credit }) => json!({ "kind": "ack", "ack": ack, "credit": credit }),
        Frame::Reset(reset) => from_reset("reset", reset),
        Frame::GoAway(GoAway { url, after_ms, grace_ms, token }) => json!({
            "kind": "go_away",
            "after_ms": after_ms,
            "grace_ms": grace_ms,
            "url": url,
            "token": to_hex(token),
        }),
        Frame::Ping(number) => json!({ "kind": "ping", "n": number }),
        Frame::Pong(number) => json!({ "kind": "pong", "n": number }),
        Frame::Moved(epoch) => json!({ "kind": "moved", "epoch": epoch }),
    }
}

pub(crate) fn to_frame(value: &Value) -> Frame {
    match text(value, "kind").as_str() {
        "welcome" => Frame::Welcome(Welcome {
            credit: number(value, "credit"),
            window_ms: number(value, "window_ms"),
            ping_ms: number(value, "ping_ms"),
            token: bytes(value, "token"),
            core: text(value, "core"),
            protocol: text(value, "protocol"),
        }),
        "attach" => Frame::Attach(Attach {
            epoch: number(value, "epoch"),
            received: number(value, "received"),
            credit: number(value, "credit"),
            token: bytes(value, "token"),
        }),
        "attached" => Frame::Attached(Attached {
            epoch: number(value, "epoch"),
            received: number(value, "received"),
            credit: number(value, "credit"),
        }),
        "refused" => Frame::Refused(to_reset(value)),
        "chunk" | "end" => to_numbered(value),
        "ack" => Frame::Ack(Ack { ack: number(value, "ack"), credit: number(value, "credit") }),
        "reset" => Frame::Reset(to_reset(value)),
        "go_away" => Frame::GoAway(GoAway {
            url: text(value, "url"),
            after_ms: number(value, "after_ms"),
            grace_ms: number(value, "grace_ms"),
            token: bytes(value, "token"),
        }),
        "ping" => Frame::Ping(number(value, "n")),
        "pong" => Frame::Pong(number(value, "n")),
        "moved" => Frame::Moved(number(value, "epoch")),
        unknown => panic!("unknown kind {unknown:?}"),
    }
}

/// What a chunk or an end says beside its position.
pub(crate) fn from_body(body: &Body) -> Value {
    match body {
        Body::Chunk(chunk) => {
            let mut value = json!({ "kind": "chunk", "payload": from_payload(&chunk.payload) });
            if let Some(frame) = chunk.frame {
                value["frame"] = frame.into();
            }
            if let Some(frame_len) = chunk.frame_len {
                value["frame_len"] = frame_len.into();
            }
            value
        }
        Body::End(end) => json!({
            "kind": "end",
            "cause": end.cause,
            "close_code": end.close_code.unwrap_or(0),
            "reason": end.reason,
        }),
        Body::Request(_) | Body::Response(_) => panic!("resumable sessions have no heads"),
    }
}

pub(crate) fn to_body(value: &Value) -> Body {
    match text(value, "kind").as_str() {
        "chunk" => Chunk {
            frame: value.get("frame").map(|frame| small(frame.as_u64())),
            frame_len: value.get("frame_len").and_then(Value::as_u64),
            payload: to_payload(&value["payload"]),
            shared: 0,
        }
        .into(),
        "end" => End {
            cause: to_cause(value),
            close_code: Some(small(value["close_code"].as_u64())).filter(|&code| code > 0),
            reason: text(value, "reason"),
            trailers: Vec::new(),
        }
        .into(),
        unknown => panic!("unknown body {unknown:?}"),
    }
}

pub(crate) fn number(value: &Value, key: &str) -> u64 {
    value[key].as_u64().unwrap_or_else(|| panic!("no number {key} in {value}"))
}

pub(crate) fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no text {key} in {value}")).to_owned()
}

pub(crate) fn to_cause(value: &Value) -> i32 {
    i32::try_from(number(value, "cause")).expect("a cause")
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hex"))
        .collect()
}

fn numbered(kind: &str, position: &Position, body: Value) -> Value {
    let Value::Object(mut fields) = body else { panic!("a body is an object") };
    let Position { seq, ack, credit } = *position;
    let position = [("seq", seq), ("ack", ack), ("credit", credit)];
    fields.extend(position.map(|(key, number)| (key.to_owned(), number.into())));
    fields.insert("kind".to_owned(), kind.into());
    Value::Object(fields)
}

fn to_numbered(value: &Value) -> Frame {
    let [seq, ack, credit] = ["seq", "ack", "credit"].map(|key| number(value, key));
    let position = Position { seq, ack, credit };
    match to_body(value) {
        Body::Chunk(chunk) => Frame::Chunk(position, chunk),
        Body::End(end) => Frame::End(position, end),
        Body::Request(_) | Body::Response(_) => panic!("resumable sessions have no heads"),
    }
}

fn from_reset(kind: &str, reset: &Reset) -> Value {
    json!({ "kind": kind, "cause": reset.cause, "detail": reset.detail })
}

fn to_reset(value: &Value) -> Reset {
    Reset { cause: to_cause(value), detail: text(value, "detail") }
}

/// Payload of one byte over and over is `[byte, len]`, any other is hex.
fn from_payload(payload: &Bytes) -> Value {
    let byte = payload.first().copied().unwrap_or(0);
    if payload.iter().all(|&other| other == byte) {
        return json!([byte, payload.len()]);
    }
    to_hex(payload).into()
}

fn to_payload(value: &Value) -> Bytes {
    if let Some(hex) = value.as_str() {
        return from_hex(hex).into();
    }
    filled(value)
}

/// `[byte, len]`: so many times that byte.
pub(crate) fn filled(value: &Value) -> Bytes {
    let byte = u8::try_from(small(value[0].as_u64())).expect("a byte");
    vec![byte; usize::try_from(small(value[1].as_u64())).expect("a length")].into()
}

fn bytes(value: &Value, key: &str) -> Bytes {
    from_hex(&text(value, key)).into()
}

fn small(number: Option<u64>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).expect("a small number")
}

/// An object of those pairs that are not null.
pub(crate) fn object<const N: usize>(pairs: [(&str, Value); N]) -> Value {
    let given = pairs.into_iter().filter(|(_, value)| !value.is_null());
    Value::Object(given.map(|(key, value)| (key.to_owned(), value)).collect::<Map<_, _>>())
}
