//! Inputs that reach deep, to start from: `ANTIPODE_BLESS=1` writes them to the corpora.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use antipode_core::resume::token::{KEY_BYTES, SessionId, TokenKey};
use antipode_proto::body::Body;
use antipode_proto::registry::v1::{Introduction, Location};
use antipode_proto::resume::{self, Frame, Position, Welcome};
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{
    Ack, Attach, Attached, Batch, Chunk, End, Frame as TrunkFrame, GoAway, RequestHead, Reset,
    Segment,
};
use antipode_runtime::clock;
use antipode_runtime::member::token::{JoinToken, Pin};
use antipode_tunnel::packet::write_udp;
use antipode_websocket::{FrameStart, Writer};
use bytes::{Bytes, BytesMut};
use prost::Message;
use secrecy::ExposeSecret;

#[test]
fn the_corpora_hold_the_seeds() {
    let bless = std::env::var_os("ANTIPODE_BLESS").is_some();
    for (target, seeds) in seeds() {
        let directory = root().join(target);
        if bless {
            fs::create_dir_all(&directory).expect("writable");
        }
        for (number, seed) in seeds.into_iter().enumerate() {
            let path = directory.join(format!("seed-{number:02}"));
            if bless {
                fs::write(&path, &seed).expect("writable");
            }
            let found = fs::read(&path).expect("ANTIPODE_BLESS=1 writes it");
            assert_eq!(found, seed, "{}: ANTIPODE_BLESS=1 writes it anew", path.display());
        }
    }
}

fn seeds() -> Vec<(&'static str, Vec<Vec<u8>>)> {
    vec![
        ("resume_frame", resume_frames()),
        ("resume_message", vec![batch(chunks()).encode_to_vec()]),
        ("trunk_batch", trunk_batches()),
        ("websocket_reader", websocket_inputs()),
        ("websocket_state", websocket_states()),
        ("websocket_handshake", vec![HANDSHAKE.to_vec(), b"upgrade: h2c\n\n:".to_vec()]),
        ("http_headers", vec![HEADERS.to_vec(), b"/\n\nhost: a, b\n".to_vec()]),
        ("join_token", join_tokens()),
        ("resume_token", vec![resume_token(), vec![1; 49], Vec::new()]),
        ("cidr", [&b"10.0.0.0/8"[..], b"fd00::/48", b"::1", b"1.2.3.4/33"].map(Vec::from).into()),
        ("member_words", vec![introduction(), b"node-1".to_vec()]),
        ("tunnel_packet", vec![packet(), vec![0x60; 48]]),
        ("tunnel_device", tunnel_datagrams()),
        ("tunnel_forward", forwarding()),
        ("tunnel_probe", probing()),
        ("tunnel_stream", streams()),
        ("tunnel_upgrade", upgrades()),
        ("session_state", session_states()),
        ("session_calls", session_calls()),
    ]
}

fn resume_frames() -> Vec<Vec<u8>> {
    let position = Position { seq: 7, ack: 300, credit: 262_144 };
    let token = Bytes::from_static(&[9; 49]);
    let welcome = Welcome {
        credit: 262_144,
        window_ms: 120_000,
        ping_ms: 10_000,
        token: token.clone(),
        core: "core".to_owned(),
        protocol: "chat".to_owned(),
    };
    let chunk = Chunk {
        frame: Some(0x82),
        frame_len: Some(70_000),
        payload: Bytes::from_static(b"some of it"),
        shared: 0,
    };
    let end = End { cause: 2, close_code: Some(1000), reason: "bye".to_owned(), ..End::default() };
    let url = "wss://sg.relay.example".to_owned();
    let frames = [
        Frame::Welcome(welcome),
        Frame::Attach(Attach { epoch: 2, received: 9, credit: 1 << 20, token: token.clone() }),
        Frame::Attached(Attached { epoch: 2, received: 4, credit: 1 << 21 }),
        Frame::Refused(Reset { cause: 17, detail: "the session is over".to_owned() }),
        Frame::Chunk(position, chunk),
        Frame::Chunk(position, Chunk { payload: Bytes::from_static(b"rest"), ..Chunk::default() }),
        Frame::End(position, Box::new(end)),
        Frame::Ack(Ack { ack: 1 << 40, credit: (1 << 53) - 1 }),
        Frame::Reset(Reset { cause: 8, detail: String::new() }),
        Frame::GoAway(GoAway { url, after_ms: 5, grace_ms: 600_000, token }),
        Frame::Ping(127),
        Frame::Pong(128),
        Frame::Moved(16_384),
    ];
    let encoded = |frame: &Frame| {
        let mut out = BytesMut::new();
        resume::encode(frame, &mut out);
        out.to_vec()
    };
    frames.iter().map(encoded).collect()
}

fn segment(seq: u64, body: Body) -> Kind {
    Kind::Segment(Segment { seq, ack: 0, credit: 1 << 20, body: Some(body) })
}

fn chunk(frame: Option<u32>, frame_len: Option<u64>, payload: &'static [u8], shared: u32) -> Body {
    Chunk { frame, frame_len, payload: Bytes::from_static(payload), shared }.into()
}

fn chunks() -> Vec<Kind> {
    vec![
        segment(2, chunk(Some(0x82), Some(6), b"abc", 0)),
        segment(3, chunk(None, None, b"def", 0)),
        segment(4, chunk(Some(2), None, b"one", 0)),
        segment(5, chunk(Some(0x80), None, b"two", 0)),
    ]
}

fn batch(kinds: Vec<Kind>) -> Batch {
    let frames = kinds.into_iter().map(|kind| TrunkFrame { session: 1, kind: Some(kind) });
    let shared = vec![Bytes::from_static(b"for all"), Bytes::from_static(b"for some")];
    Batch { frames: frames.collect(), shared, ..Batch::default() }
}

fn trunk_batches() -> Vec<Vec<u8>> {
    let head = RequestHead { method: "GET".into(), target: "/".into(), ..RequestHead::default() };
    let opening = batch(vec![segment(1, head.into())]).encode_to_vec();
    let flow = [
        segment(2, chunk(Some(0x81), None, b"hello", 0)),
        segment(3, chunk(Some(0x82), None, b"", 1)),
        Kind::Ack(Ack { ack: 1, credit: 300_000 }),
        Kind::GoAway(GoAway { url: "wss://b".into(), ..GoAway::default() }),
        segment(4, End { cause: 2, ..End::default() }.into()),
    ];
    let flow = batch(flow.into()).encode_to_vec();
    let resume = [
        Kind::Attach(Attach { epoch: 2, received: 0, credit: 262_144, ..Attach::default() }),
        Kind::Attached(Attached { epoch: 2, received: 1, credit: 262_144 }),
        Kind::Reset(Reset { cause: 4, detail: "gone".into() }),
    ];
    let resume = batch(resume.into()).encode_to_vec();
    let bad = batch(vec![segment(1, chunk(None, None, b"", 9))]).encode_to_vec();
    let split: &[u8] = &[0xff, 0xff];
    vec![[&*opening, &*flow].join(split), [&*opening, &*resume, &*flow].join(split), bad]
}

fn websocket_inputs() -> Vec<Vec<u8>> {
    let talk = |mut writer: Writer| {
        let mut out = BytesMut::new();
        let start = |first_byte, frame_len| Some(FrameStart { first_byte, frame_len });
        writer.chunk(&mut out, start(0x01, 6), "gr\u{fc}\u{df}".as_bytes()).expect("a frame");
        writer.ping(&mut out, b"?").expect("outside a frame");
        writer.chunk(&mut out, start(0x80, 3), "\u{20ac}".as_bytes()).expect("a frame");
        writer.chunk(&mut out, start(0x82, 300), &[7; 300]).expect("a frame");
        writer.pong(&mut out, b"!").expect("outside a frame");
        writer.close(&mut out, Some((1000, "bye"))).expect("outside a frame");
        out.to_vec()
    };
    let with = |mode: u8, talk: &[u8]| [&[mode], talk].concat();
    let (masked, plain) = (talk(Writer::client([3; 32])), talk(Writer::server()));
    vec![with(0, &masked), with(4, &masked), with(1, &plain), with(8 | 1, b"\xc1\x02ab")]
}

fn websocket_states() -> Vec<Vec<u8>> {
    let state = |flags: u8, pending: u8, input: &[u8]| {
        let mut state = vec![flags, pending, 0xe2, 0x82, 0, 1, 2, 3, 4, 5, 0x81, 9];
        state.extend_from_slice(&3_u64.to_le_bytes());
        state.push(0);
        state.extend_from_slice(input);
        state
    };
    vec![
        state(64 | 16, 0, b"abc\x81\x80\0\0\0\0"),
        state(64 | 32 | 8, 2, b"\xad\x83\x84"),
        state(1 | 64 | 16 | 8, 0, b"abc\x81\x01x"),
        state(0, 0, b"\x89\x80\0\0\0\0"),
    ]
}

fn join_tokens() -> Vec<Vec<u8>> {
    let pin = Pin::of_public_key_info(b"a key");
    let token = JoinToken::new("gateway.example:443".to_owned(), pin, "secret".into());
    let text = token.expect("good parts").expose().expose_secret().to_owned();
    vec![text.into_bytes(), b"antipode-join-v1.".to_vec(), b"secret@gw.example:443".to_vec()]
}

fn resume_token() -> Vec<u8> {
    TokenKey::new(&[42; KEY_BYTES]).sign(SessionId::new([5; 16])).as_bytes().to_vec()
}

fn introduction() -> Vec<u8> {
    let introduction = Introduction {
        run: vec![4; 16].into(),
        software: "antipode-node 0.1.0".to_owned(),
        region: "ap-southeast".to_owned(),
        location: Some(Location { latitude: 1.3, longitude: 103.8 }),
        public_urls: vec!["wss://sg.relay.example".to_owned()],
        sessions_max: 50_000,
        endpoints: vec!["192.0.2.1:51820".to_owned()],
        trunk_port: 7_400,
        ..Introduction::default()
    };
    introduction.encode_to_vec()
}

fn packet() -> Vec<u8> {
    let mut out = [0; 200];
    let a = "[fd00::1]:7400".parse().expect("an address");
    let b = "[fd00::2]:50000".parse().expect("an address");
    let len = write_udp(&mut out, a, b, b"payload").expect("it fits");
    out[..len].to_vec()
}

fn tunnel_datagrams() -> Vec<Vec<u8>> {
    let message = |kind: u8, len: usize| [&[kind, 0, 0, 0][..], &vec![kind; len - 4]].concat();
    let all = [message(1, 148), message(2, 92), message(3, 64), message(4, 32), message(4, 200)];
    vec![all.join(&0xfe), all[0].clone(), packet()]
}

/// Steps of `mesh::tunnel_forward`: the step, which node, and what the step wants.
fn forwarding() -> Vec<Vec<u8>> {
    let wrap = |node: u8, core: u8, counter: u8, payload: &[u8]| {
        let len = u8::try_from(payload.len()).expect("short");
        [&[2, node, core, counter, 0, len][..], payload].concat()
    };
    let back = |flow: u8, payload: &[u8]| {
        [&[3, 0, flow, u8::try_from(payload.len()).expect("short")][..], payload].concat()
    };
    let (message, wait, nobody, all) = ([4; 100], [5, 0, 0x60, 0xea], [6, 0, 0], [6, 0, 3]);
    let talk = [wrap(0, 0, 7, &message), back(0, &message), wrap(1, 1, 9, &[0xa1; 76])].concat();
    let again = [&wrap(0, 0, 7, &message)[..], &wait, &wrap(0, 0, 7, &message)].concat();
    let gone = [&talk[..], &nobody, &back(0, &message), &all, &wrap(0, 0, 7, &message)].concat();
    let moved = [&talk[..], &[7, 0, 0x13], &back(0, &message), &wrap(0, 0, 8, &[1; 148])].concat();
    let much: Vec<u8> = (0..12).flat_map(|count| wrap(0, 0, count, &[4; 250])).collect();
    // A header that says anything, as it is and signed; of either kind.
    let header = |kind: u8| [&[kind, 1, 0, 0][..], &[9; 40], &message].concat();
    let raw = |step: u8, header: Vec<u8>| [&[step, 0, 144][..], &header].concat();
    let lies = [raw(0, header(0xa3)), raw(1, header(0xa3)), raw(4, header(0xa4))].concat();
    vec![talk, again, gone, moved, much, lies]
}

/// Steps of `links::tunnel_probe`.
fn probing() -> Vec<Vec<u8>> {
    let (ask, due, wait) = ([2, 1, 2], [5], [4, 250, 0]);
    let echo =
        |of: u8, sent: u8| [&[3, of, sent][..], &[0; 7], &[sent], &[0; 15], &[7; 8]].concat();
    let probe = |number: u8| {
        let body = [&[0xa1, 1, 2, 0][..], &[0; 8], &[number], &[0; 47], &[0; 16]].concat();
        [&[1, 1, 76][..], &body].concat()
    };
    let talk: Vec<u8> = (0..6)
        .flat_map(|turn| [&ask[..], &echo(turn, 10 * turn), &wait, &probe(turn), &due].concat())
        .collect();
    let flood = (0..20).flat_map(probe).collect();
    let full = [&[0x85, 1, 76, 0xa1, 1, 3, 0][..], &[5; 72]].concat();
    vec![talk, flood, [probe(1), probe(1), full].concat()]
}

fn streams() -> Vec<Vec<u8>> {
    let talk = |mut writer: Writer| {
        let mut out = BytesMut::new();
        let start = |first_byte, frame_len| Some(FrameStart { first_byte, frame_len });
        writer.chunk(&mut out, start(0x82, 100), &[4; 100]).expect("a frame");
        writer.chunk(&mut out, start(0x02, 3), b"in ").expect("a frame");
        writer.ping(&mut out, b"?").expect("outside a frame");
        writer.chunk(&mut out, start(0x80, 3), b"two").expect("a frame");
        writer.close(&mut out, Some((1000, ""))).expect("outside a frame");
        out.to_vec()
    };
    let with = |mode: u8, talk: &[u8]| [&[mode], talk].concat();
    let (masked, plain) = (talk(Writer::client([3; 32])), talk(Writer::server()));
    vec![with(0, &masked), with(1, &plain), with(1, b"\x82\x7e\x08\x01a"), with(1, b"\x81\x01a")]
}

fn upgrades() -> Vec<Vec<u8>> {
    let key = antipode_websocket::handshake::request_key([0; 16]);
    let request = antipode_tunnel::stream::bare::request("core.example.com:443", &key);
    let taken = antipode_tunnel::stream::bare::read_request(&request);
    let (_, answer) = taken.expect("good words").expect("all of them");
    let more = [&request[..], b"\x82\x80\0\0\0\0"].concat();
    let portal = b"HTTP/1.1 302 Found\r\nlocation: http://login.example/\r\n\r\n".to_vec();
    vec![request, answer, more, portal]
}

fn session_states() -> Vec<Vec<u8>> {
    let now = clock::now();
    let mut states = Vec::new();
    for side in [Side::Node, Side::Core, Side::Client, Side::Server] {
        let mut session = Session::new(side, Config::default(), now);
        states.push(session.export().encode_to_vec());
        session.handle_link_up();
        if side == Side::Node {
            session.send(RequestHead::default().into());
        }
        session.send(chunk(Some(0x82), None, b"unacknowledged", 0));
        let _ = std::iter::from_fn(|| session.poll_transmit()).count();
        session.handle_link_down(now);
        session.handle_timeout(now + Duration::from_secs(1));
        states.push(session.export().encode_to_vec());
    }
    states
}

fn session_calls() -> Vec<Vec<u8>> {
    // Say, transmit, arrive, consume; break, say, come back; hand over; end.
    let talk = [0, 9, 4, 0, 9, 0, 13, 3, 1, 200, 5, 0, 8, 0, 12, 3];
    let gap = [14, 0, 0, 50, 16, 0, 4, 0, 9, 0, 5, 0, 8, 0, 4, 0, 9, 0];
    let more = [14, 0, 18, 1, 19, 1, 20, 2, 21, 2, 16, 0, 20, 0, 21, 0, 20, 99];
    let calls = [&talk[..], &gap, &talk, &more, &talk, &talk].concat();
    (0..4).map(|mode| [&[mode], &*calls].concat()).collect()
}

const HANDSHAKE: &[u8] = b"host: chat.example\nupgrade: websocket\nconnection: keep-alive, \
Upgrade\nsec-websocket-version: 13\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\n\
sec-websocket-protocol: chat, antipode.resume.v1\nsec-websocket-extensions: \
permessage-deflate; client_max_window_bits\n\nupgrade: websocket\nconnection: Upgrade\n\
sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nsec-websocket-protocol: chat\n\
sec-websocket-extensions: permessage-deflate; server_no_context_takeover\n";

const HEADERS: &[u8] = b"http://chat.example:8443/a?b\n\nhost: chat.example\nconnection: x-mine, \
close\nx-mine: 1\nforwarded: for=\"[2001:db8::1]:4711\";proto=https, for=192.0.2.9;host=b\n\
x-forwarded-for: 203.0.113.7, 10.0.0.1\nx-forwarded-proto: http\nte: trailers\n";

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus")
}
