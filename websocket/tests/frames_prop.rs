//! Properties of reader and writer: cuts don't matter, writing then reading changes nothing, no
//! bytes panic, and tungstenite agrees.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panic")]

use antipode_websocket::{Event, FIN, FrameStart, Policy, ReadError, Reader, Side, Writer};
use bytes::BytesMut;
use proptest::prelude::*;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};
use tungstenite::{Error, Message};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn writing_then_reading_changes_nothing(
        frames in frames(), cuts in cuts(), client in any::<bool>(), chunk in 1..3000_usize,
    ) {
        let (mut writer, side) = if client {
            (Writer::client([3; 32]), Side::Server)
        } else {
            (Writer::server(), Side::Client)
        };
        let bytes = write(&mut writer, &frames, chunk);
        let policy = Policy { chunk_bytes_max: chunk, ..Policy::default() };
        let (read, error) = read_all(side, policy, &bytes, &cuts);
        prop_assert_eq!(error, None);
        prop_assert_eq!(read, frames);
    }

    #[test]
    fn cuts_do_not_matter(bytes in near_frames(), cuts in cuts(), rsv1_allowed in any::<bool>()) {
        let policy = Policy { rsv1_allowed, frame_bytes_max: 70_000, ..Policy::default() };
        for side in [Side::Client, Side::Server] {
            let (whole, whole_error) = read_all(side, policy, &bytes, &[]);
            let (cut, cut_error) = read_all(side, policy, &bytes, &cuts);
            prop_assert_eq!(cut_error, whole_error);
            if whole_error.is_none() {
                prop_assert_eq!(cut, whole);
            } else {
                // The frame that fails may have shown more of itself to one of them.
                prop_assert_eq!(complete(cut), complete(whole));
            }
        }
    }

    /// Another process goes on in the middle of anything, and reads what one reader would have.
    #[test]
    fn a_reader_that_is_handed_over_reads_the_same(
        bytes in near_frames(), cuts in cuts(), rsv1_allowed in any::<bool>(),
    ) {
        let policy = Policy { rsv1_allowed, frame_bytes_max: 70_000, ..Policy::default() };
        for side in [Side::Client, Side::Server] {
            let (stayed, error) = read_all(side, policy, &bytes, &cuts);
            let (moved, moved_error) = read_moving(side, policy, &bytes, &cuts);
            prop_assert_eq!(moved_error, error);
            prop_assert_eq!(complete(moved), complete(stayed));
        }
    }

    #[test]
    fn a_writer_that_is_handed_over_writes_frames(
        frames in frames(), client in any::<bool>(), chunk in 1..3000_usize,
    ) {
        let (make, side): (fn(u8) -> Writer, Side) = if client {
            (|seed| Writer::client([seed; 32]), Side::Server)
        } else {
            (|_| Writer::server(), Side::Client)
        };
        let mut writer = make(0);
        let bytes = write_with(&mut writer, &frames, chunk, |writer| {
            *writer = make(9).import(writer.export()).unwrap();
        });
        let policy = Policy { chunk_bytes_max: chunk, ..Policy::default() };
        prop_assert_eq!(read_all(side, policy, &bytes, &[]), (frames, None));
    }

    #[test]
    fn any_bytes_are_read_without_panic(
        bytes in prop::collection::vec(any::<u8>(), 0..300), cuts in cuts(),
    ) {
        for side in [Side::Client, Side::Server] {
            let _ = read_all(side, Policy::default(), &bytes, &cuts);
        }
    }

    /// tungstenite reads the same messages from the same bytes and refuses the same input. It
    /// looks at a frame once it is whole, so what we refuse early is filled up for it. It takes
    /// lengths that are not in their shortest form, which RFC 6455 section 5.2 forbids.
    #[test]
    fn tungstenite_agrees(bytes in near_frames(), client in any::<bool>()) {
        let (side, role) =
            if client { (Side::Client, Role::Client) } else { (Side::Server, Role::Server) };
        let policy = Policy { frame_bytes_max: 70_000, ..Policy::default() };
        let (frames, error) = read_all(side, policy, &bytes, &[]);
        prop_assume!(error != Some(ReadError::LengthNotShortest));
        let filler = if error.is_some() { 2 * FRAME_BYTES_MAX } else { 0 };
        let filled = [&bytes[..], &vec![0; filler]].concat();
        let (messages, refused) = tungstenite_reads(role, &filled);
        prop_assert_eq!(messages_of(&frames), messages, "{:?}", error);
        // tungstenite shows a bad code as a close frame with 1002.
        if error != Some(ReadError::CloseCode) {
            prop_assert_eq!(error.is_some(), refused, "{:?}", error);
        }
    }
}

const FRAME_BYTES_MAX: usize = 70_000;

/// A frame put together again from its chunks.
#[derive(Clone, Debug, Eq, PartialEq)]
enum Frame {
    Data { first_byte: u8, payload: Vec<u8>, whole: bool },
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

fn read_all(
    side: Side,
    policy: Policy,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<Frame>, Option<ReadError>) {
    let mut reader = Reader::new(side, policy);
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(usize::MAX));
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
        rest = later;
        let mut input = BytesMut::from(now);
        loop {
            match reader.read(&mut input) {
                Ok(Some(event)) => collect(&mut frames, event, policy),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        assert!(input.is_empty(), "the reader asks for more and leaves some");
    }
    (frames, None)
}

/// As [`read_all`], but after each cut the rest is read by a new reader, which gets one byte that
/// the old one had not looked at.
fn read_moving(
    side: Side,
    policy: Policy,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<Frame>, Option<ReadError>) {
    let mut reader = Reader::new(side, policy);
    let mut frames = Vec::new();
    let mut rest = bytes;
    let mut cuts = cuts.iter().copied().chain(std::iter::repeat(usize::MAX));
    let mut input = BytesMut::new();
    while !rest.is_empty() {
        let (now, later) = rest.split_at(cuts.next().unwrap().min(rest.len()));
        rest = later;
        input.extend_from_slice(now);
        loop {
            match reader.read(&mut input) {
                Ok(Some(event)) => collect(&mut frames, event, policy),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
        let (unlooked, later) = rest.split_at(rest.len().min(1));
        rest = later;
        let Some(state) = reader.export(unlooked) else { return (frames, None) };
        let other = Policy { rsv1_allowed: !policy.rsv1_allowed, ..policy };
        reader = Reader::import(side, other, &state).unwrap();
        input = state.unread;
    }
    while let Ok(Some(event)) = reader.read(&mut input) {
        collect(&mut frames, event, policy);
    }
    let error = reader.read(&mut input).err();
    (frames, error)
}

fn collect(frames: &mut Vec<Frame>, event: Event, policy: Policy) {
    match event {
        Event::Chunk { start, payload, last_of_frame } => {
            assert!(payload.len() <= policy.chunk_bytes_max);
            if let Some(FrameStart { first_byte, .. }) = start {
                frames.push(Frame::Data { first_byte, payload: Vec::new(), whole: false });
            }
            let Some(Frame::Data { payload: so_far, whole, .. }) = frames.last_mut() else {
                panic!("a chunk of no frame")
            };
            so_far.extend_from_slice(&payload);
            *whole = last_of_frame;
        }
        Event::Ping(payload) => frames.push(Frame::Ping(payload.to_vec())),
        Event::Pong(payload) => frames.push(Frame::Pong(payload.to_vec())),
        Event::Close(close) => frames.push(Frame::Close(close)),
    }
}

fn complete(frames: Vec<Frame>) -> Vec<Frame> {
    frames.into_iter().filter(|f| !matches!(f, Frame::Data { whole: false, .. })).collect()
}

fn write(writer: &mut Writer, frames: &[Frame], chunk: usize) -> BytesMut {
    write_with(writer, frames, chunk, |_| {})
}

/// Calls `between` before each chunk that goes on with a frame.
fn write_with(
    writer: &mut Writer,
    frames: &[Frame],
    chunk: usize,
    between: impl Fn(&mut Writer),
) -> BytesMut {
    let mut out = BytesMut::new();
    for frame in frames {
        match frame {
            Frame::Data { first_byte, payload, .. } => {
                let mut start =
                    Some(FrameStart { first_byte: *first_byte, frame_len: payload.len() as u64 });
                if payload.is_empty() {
                    writer.chunk(&mut out, start.take(), b"").unwrap();
                }
                for piece in payload.chunks(chunk) {
                    between(writer);
                    writer.chunk(&mut out, start.take(), piece).unwrap();
                }
            }
            Frame::Ping(payload) => writer.ping(&mut out, payload).unwrap(),
            Frame::Pong(payload) => writer.pong(&mut out, payload).unwrap(),
            Frame::Close(close) => {
                let close = close.as_ref().map(|(code, reason)| (*code, reason.as_str()));
                writer.close(&mut out, close).unwrap();
            }
        }
        assert!(!writer.inside_frame());
    }
    out
}

/// Messages and controls as an endpoint sees them; fragments joined, open ones left out.
fn messages_of(frames: &[Frame]) -> Vec<Message> {
    let mut messages = Vec::new();
    let mut open: Option<(bool, Vec<u8>)> = None;
    for frame in frames {
        match frame {
            Frame::Data { whole: false, .. } => break,
            Frame::Data { first_byte, payload, .. } => {
                let (_, so_far) = open.get_or_insert_with(|| (first_byte & 0xf == 1, Vec::new()));
                so_far.extend_from_slice(payload);
                if first_byte & FIN != 0 {
                    let (is_text, payload) = open.take().unwrap();
                    messages.push(if is_text {
                        Message::text(String::from_utf8(payload).unwrap())
                    } else {
                        Message::binary(payload)
                    });
                }
            }
            Frame::Ping(payload) => messages.push(Message::Ping(payload.clone().into())),
            Frame::Pong(payload) => messages.push(Message::Pong(payload.clone().into())),
            Frame::Close(_) => break,
        }
    }
    messages
}

fn tungstenite_reads(role: Role, bytes: &[u8]) -> (Vec<Message>, bool) {
    struct Input(std::io::Cursor<Vec<u8>>);
    impl std::io::Read for Input {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(std::io::ErrorKind::WouldBlock.into()),
                read => Ok(read),
            }
        }
    }
    impl std::io::Write for Input {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let config = WebSocketConfig::default().max_frame_size(Some(FRAME_BYTES_MAX));
    let input = Input(std::io::Cursor::new(bytes.to_vec()));
    let mut socket = WebSocket::from_raw_socket(input, role, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(Message::Close(_)) | Err(Error::ConnectionClosed) => return (messages, false),
            Ok(message) => messages.push(message),
            Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                return (messages, false);
            }
            Err(_) => return (messages, true),
        }
    }
}

/// Valid conversations: messages in fragments with control frames between them.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let message = (any::<bool>(), prop::collection::vec((".{0,40}", any::<bool>()), 1..5), bulk())
        .prop_map(|(is_text, pieces, bulk)| {
            let count = pieces.len();
            let mut frames = Vec::new();
            for (i, (text, ping)) in pieces.into_iter().enumerate() {
                let opcode = if i > 0 { 0 } else { 2 - u8::from(is_text) };
                let fin = if i + 1 == count { FIN } else { 0 };
                let mut payload = text.into_bytes();
                payload.extend(std::iter::repeat_n(b'x', bulk));
                if ping {
                    frames.push(Frame::Ping(payload[..payload.len().min(125)].to_vec()));
                }
                frames.push(Frame::Data { first_byte: fin | opcode, payload, whole: true });
            }
            frames
        });
    let close = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Frame::Close(None))),
        1 => "[a-zé]{0,40}".prop_map(|reason| Some(Frame::Close(Some((4001, reason))))),
    ];
    (prop::collection::vec(message, 0..4), close)
        .prop_map(|(messages, close)| messages.into_iter().flatten().chain(close).collect())
}

fn bulk() -> impl Strategy<Value = usize> {
    prop_oneof![6 => Just(0_usize), 2 => 100..200_usize, 1 => 65_500..65_600_usize]
}

/// Valid bytes with a few of them changed: close enough to get past the first header.
fn near_frames() -> impl Strategy<Value = Vec<u8>> {
    let change = (any::<prop::sample::Index>(), any::<u8>());
    (frames(), any::<bool>(), prop::collection::vec(change, 0..3)).prop_map(
        |(frames, client, changes)| {
            let mut writer = if client { Writer::client([9; 32]) } else { Writer::server() };
            let mut bytes = write(&mut writer, &frames, usize::MAX).to_vec();
            for (at, byte) in changes {
                if !bytes.is_empty() {
                    let at = at.index(bytes.len());
                    bytes[at] = byte;
                }
            }
            bytes
        },
    )
}

fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![3 => 1..4_usize, 1 => 1..2000_usize], 0..200)
}
