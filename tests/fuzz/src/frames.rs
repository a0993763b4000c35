//! Frames: of the resume protocol, of a trunk's batches, of WebSockets.

use std::net::Ipv6Addr;

use antipode_core::resume::message::{Assembler, MESSAGE_BYTES_MAX};
use antipode_proto::resume::{self, Frame};
use antipode_proto::session::Config;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::segment::Body;
use antipode_proto::trunk::v1::{Batch, RequestHead};
use antipode_runtime::clock::virtual_time;
use antipode_trunk::bare::Bare;
use antipode_trunk::{Metrics, NodeIdentity};
use antipode_websocket::reader::{MessageState, OpenFrame, ReaderState};
use antipode_websocket::{Event, FIN, FrameStart, Policy, Reader, Side, Writer};
use bytes::{Bytes, BytesMut};
use prost::Message;

/// A message that decodes encodes to itself.
///
/// # Panics
///
/// If it does not, which is a bug.
pub fn resume_frame(data: &[u8]) {
    let Ok(frame) = resume::decode(Bytes::copy_from_slice(data)) else { return };
    let mut again = BytesMut::new();
    resume::encode(&frame, &mut again);
    let back = resume::decode(again.freeze()).expect("what was encoded decodes");
    assert_eq!(back, frame, "a frame changed on its way");
    if let Ok(kind) = frame.into_kind() {
        let _ = Frame::from_kind(kind);
    }
}

/// A client's messages come in chunks of any shape; none is longer than its limit.
///
/// # Panics
///
/// If one is, which is a bug.
pub fn resume_message(data: &[u8]) {
    let mut assembler = Assembler::default();
    let Ok(batch) = Batch::decode(data) else { return };
    for frame in batch.frames {
        let Some(Kind::Segment(segment)) = frame.kind else { continue };
        let Some(Body::Chunk(chunk)) = segment.body else { continue };
        match assembler.handle_chunk(chunk) {
            Ok(Some(message)) => assert!(message.len() <= MESSAGE_BYTES_MAX, "too long"),
            Ok(None) => {}
            Err(_) => return,
        }
    }
}

/// Batches at both ends of a trunk: one end takes them after a session of its own has begun.
///
/// # Panics
///
/// On a bug.
pub fn trunk_batch(data: &[u8]) {
    let time = virtual_time::start();
    let identity = NodeIdentity {
        member_id: "node".to_owned(),
        name: "node".to_owned(),
        region: String::new(),
        address: Ipv6Addr::LOCALHOST,
    };
    let config = Config::default();
    let mut core = Bare::core(2, config, Metrics::default(), identity, 100);
    let mut node = Bare::node(2, config, Metrics::default());
    (0..2).for_each(|lane| {
        core.lane_up(lane);
        node.lane_up(lane);
    });
    let port = node.open(RequestHead::default());
    let mut incoming = Vec::new();
    for piece in pieces(data) {
        let Ok(batch) = Batch::decode(piece) else { continue };
        let _ = core.handle_batch(0, batch.clone());
        let _ = node.handle_batch(1, batch);
        incoming.extend(std::iter::from_fn(|| core.next_incoming()));
        for end in [&mut core, &mut node] {
            let now = antipode_runtime::clock::now();
            (0..2).for_each(|lane| while end.collect_batch(lane, now).is_some() {});
            end.handle_timeout(now);
        }
        for session in incoming.iter().map(|incoming| &incoming.port).chain(&port) {
            while let Ok(Some(delivery)) = session.try_deliver() {
                session.consumed(delivery.seq);
            }
        }
        time.advance(std::time::Duration::from_millis(50));
    }
    drop((incoming, port));
    core.lane_down(0);
    node.lane_down(1);
}

/// Bytes to a reader, in pieces: the same events whatever the pieces, and what it lets pass can be
/// written again.
///
/// # Panics
///
/// On a bug.
pub fn websocket_reader(data: &[u8]) {
    let Some((&mode, data)) = data.split_first() else { return };
    let side = if mode & 1 == 0 { Side::Server } else { Side::Client };
    let policy = Policy {
        frame_bytes_max: if mode & 2 == 0 { 1 << 20 } else { 200 },
        chunk_bytes_max: if mode & 4 == 0 { 16 << 10 } else { 7 },
        rsv1_allowed: mode & 8 != 0,
    };
    let half = data.len() / 2;
    let bytes: Vec<&[u8]> = data.chunks(1).collect();
    let (payload, events, error) = read(side, policy, &[data]);
    for pieces in [&[&data[..half], &data[half..]][..], &bytes] {
        let other = read(side, policy, pieces);
        assert_eq!((&other.1, &other.2), (&events, &error), "pieces change what is read");
        // How much passes before what is bad depends on the pieces.
        let is_prefix = other.0.starts_with(&payload) || payload.starts_with(&other.0);
        assert!(is_prefix, "pieces change what is read");
        assert!(error.is_some() || other.0.len() == payload.len(), "pieces change what is read");
    }
}

/// A reader in any state that another process may tell, with what is still to be read: 21 bytes
/// of state, then input.
///
/// # Panics
///
/// On a bug.
pub fn websocket_state(data: &[u8]) {
    let Some((head, input)) = data.split_first_chunk::<21>() else { return };
    let [flags, pending, p0, p1, p2, k0, k1, k2, k3, offset, numbers @ ..] = *head;
    let (side, masked) = match flags & 1 {
        0 => (Side::Server, flags & 2 == 0),
        _ => (Side::Client, flags & 2 != 0),
    };
    let start = FrameStart { first_byte: numbers[0], frame_len: numbers[1].into() };
    let remaining = numbers[2..10].try_into().map(u64::from_le_bytes).unwrap_or_default();
    let frame = OpenFrame {
        start: (flags & 4 != 0).then_some(start),
        last_of_message: flags & 8 != 0,
        key: masked.then_some([k0, k1, k2, k3]),
        offset: offset.into(),
        remaining,
    };
    let pending = [p0, p1, p2][..usize::from(pending % 4)].to_vec();
    let message = match flags >> 4 & 3 {
        0 => None,
        1 => Some(MessageState::Opaque),
        _ => Some(MessageState::Text { pending }),
    };
    let frame = (flags & 64 != 0).then_some(frame);
    let rsv1_allowed = flags & 128 != 0;
    let state = ReaderState { rsv1_allowed, message, frame, unread: BytesMut::from(input) };
    let policy = Policy::default();
    let Ok(mut reader) = Reader::import(side, policy, &state) else { return };
    let mut unread = state.unread;
    while let Ok(Some(_)) = reader.read(&mut unread) {}
    if let Some(again) = reader.export(&unread) {
        let back = Reader::import(side, policy, &again).expect("its own words are good");
        assert_eq!(back.export(&again.unread).as_ref(), Some(&again), "a state changed");
    }
}

/// Payload by message, controls, and how it ended.
fn read(side: Side, policy: Policy, pieces: &[&[u8]]) -> (Vec<u8>, Vec<Event>, Option<String>) {
    let mut reader = Reader::new(side, policy);
    let (mut payloads, mut events) = (Vec::new(), Vec::new());
    let mut writer = match side {
        Side::Server => Writer::client([1; 32]),
        Side::Client => Writer::server(),
    };
    let mut input = BytesMut::new();
    for piece in pieces {
        input.extend_from_slice(piece);
        loop {
            match reader.read(&mut input) {
                Err(error) => return (payloads, events, Some(error.to_string())),
                Ok(None) => break,
                Ok(Some(Event::Chunk { start, payload, last_of_frame })) => {
                    assert!(payload.len() <= policy.chunk_bytes_max, "a chunk over its limit");
                    let mut out = BytesMut::new();
                    writer.chunk(&mut out, start, &payload).expect("checked chunks make frames");
                    assert_eq!(writer.inside_frame(), !last_of_frame, "where a frame ends");
                    payloads.extend(start.map(|start| start.first_byte | FIN));
                    payloads.extend_from_slice(&payload);
                }
                Ok(Some(event)) => events.push(event),
            }
        }
    }
    (payloads, events, None)
}

/// Splits at every `ff ff`.
fn pieces(data: &[u8]) -> Vec<&[u8]> {
    let mut pieces = Vec::new();
    let mut rest = data;
    while let Some(at) = rest.windows(2).position(|pair| pair == [0xff, 0xff]) {
        pieces.push(&rest[..at]);
        rest = &rest[at + 2..];
    }
    pieces.push(rest);
    pieces
}
