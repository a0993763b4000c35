//! The machine alone: what goes up, what reaches the client, when, and how it ends.

use std::time::Duration;

use antipode_proto::trunk::v1::{Chunk, ResponseHead};
use antipode_websocket::{Event, FrameStart};

use super::*;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn frames_go_both_ways_as_they_are() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.chunk(out, start(0x81, 5), b"hello"));
    let up = lab.up();
    assert_eq!(up, [chunk(Some(0x81), None, b"hello")]);

    lab.down(1, chunk(Some(0xc2), None, b"\x01\x02"));
    assert_eq!(lab.out(), b"\xc2\x02\x01\x02");
    assert_eq!(lab.relay.poll_consumed(), None, "nothing is acknowledged before it is written");
    lab.write(4);
    assert_eq!(lab.relay.poll_consumed(), Some(Seq::from(1)));
    assert_eq!(lab.relay.poll_consumed(), None);
}

#[test]
fn an_idle_machine_holds_no_buffer() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.chunk(out, start(0x82, 9000), &[7; 9000]));
    lab.up();
    lab.down(1, chunk(Some(0x82), None, &[7; 9000]));
    lab.write(usize::MAX);
    while lab.relay.poll_consumed().is_some() {}
    assert_eq!(lab.relay.input.capacity(), 0);
    assert_eq!(lab.relay.out.capacity(), 0);
    assert_eq!(lab.relay.owed.capacity(), 0);
}

#[test]
fn a_large_frame_travels_in_chunks_and_no_control_frame_stands_inside() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.chunk(out, start(0x82, 40_000), &[1; 40_000]));
    let up = lab.up();
    let Body::Chunk(first) = &up[0] else { panic!("{up:?}") };
    assert_eq!((first.frame, first.frame_len), (Some(0x82), Some(40_000)));
    let len: usize = up.iter().map(|body| payload(body).len()).sum();
    assert_eq!(len, 40_000);
    assert!(up.iter().all(|body| payload(body).len() <= CHUNK_BYTES_MAX));

    lab.down(1, chunk(Some(0x82), Some(10), b"12345"));
    lab.client(|w, out| w.ping(out, b"are you there"));
    assert!(lab.up().is_empty());
    assert_eq!(lab.out(), b"\x82\x0a12345");
    lab.down(2, chunk(None, None, b"67890"));
    assert_eq!(lab.out(), b"\x82\x0a1234567890\x8a\x0dare you there");
}

#[test]
fn each_ping_is_answered_until_the_client_stops_reading() {
    let mut lab = Lab::open();
    for _ in 0..10 {
        lab.client(|w, out| w.ping(out, b"p"));
    }
    lab.up();
    assert_eq!(lab.out(), b"\x8a\x01p".repeat(10));
    lab.write(usize::MAX);

    for n in 0..10_000u32 {
        lab.client(|w, out| w.ping(out, &n.to_be_bytes()));
        lab.up();
    }
    assert!(lab.relay.out.len() < PONG_ROOM_BYTES + 16, "a burst is bounded");
    lab.write(usize::MAX);
    assert_eq!(
        lab.out(),
        [&[0x8a, 4][..], &9_999u32.to_be_bytes()].concat(),
        "the last is answered"
    );
}

#[test]
fn a_client_s_close_waits_for_the_backend_s() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, Some((4001, "bye"))));
    assert_eq!(lab.up(), [end(Cause::ClientClosed, Some(4001), "bye")]);
    lab.down(1, chunk(Some(0x81), None, b"last"));
    lab.down(2, end(Cause::BackendClosed, Some(4001), "bye"));
    assert_eq!(lab.out(), b"\x81\x04last\x88\x05\x0f\xa1bye");
    assert!(!lab.relay.is_over());
    lab.write(usize::MAX);
    assert!(lab.relay.is_over() && lab.relay.wants_shutdown());
    assert_eq!(lab.relay.cause(), Cause::ClientClosed);
}

#[test]
fn a_client_s_close_is_echoed_if_the_backend_says_nothing() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, Some((1000, "x"))));
    lab.up();
    lab.wait(9 * SECOND);
    assert!(lab.out().is_empty());
    lab.wait(2 * SECOND);
    assert_eq!(lab.out(), b"\x88\x03\x03\xe8x");

    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, None));
    assert_eq!(lab.up(), [end(Cause::ClientClosed, None, "")]);
    lab.relay.handle_reset(Cause::TrunkLost, lab.now);
    assert_eq!(lab.out(), b"\x88\x00");
}

#[test]
fn a_backend_s_close_waits_for_the_client_s() {
    let mut lab = Lab::open();
    lab.down(1, end(Cause::BackendClosed, Some(4002), "go"));
    assert_eq!(lab.out(), b"\x88\x04\x0f\xa2go");
    lab.write(usize::MAX);
    lab.client(|w, out| w.chunk(out, start(0x81, 4), b"late"));
    assert_eq!(lab.up(), [chunk(Some(0x81), None, b"late")], "the client could not know yet");
    lab.client(|w, out| w.close(out, Some((4002, ""))));
    assert_eq!(lab.up(), [end(Cause::BackendClosed, Some(4002), "go")]);
    assert!(lab.relay.is_over());

    let mut lab = Lab::open();
    lab.down(1, end(Cause::BackendClosed, None, ""));
    assert_eq!(lab.out(), b"\x88\x00", "no code stays no code");
    lab.write(usize::MAX);
    lab.wait(11 * SECOND);
    assert!(lab.relay.is_over(), "a client that never answers is left");
    assert_eq!(lab.up(), [end(Cause::BackendClosed, None, "")]);
}

#[test]
fn every_other_end_has_its_close_code() {
    for (cause, code) in [
        (Cause::BackendLost, 1014),
        (Cause::BackendTimeout, 1014),
        (Cause::CoreDraining, 1012),
        (Cause::SessionLost, 1012),
        (Cause::TrunkLost, 1013),
        (Cause::Internal, 1011),
        (Cause::Policy, 1008),
    ] {
        let mut lab = Lab::open();
        lab.down(1, end(cause, None, ""));
        assert_eq!(lab.close_code(), Some(code), "{cause:?} as an end");
        let mut lab = Lab::open();
        lab.relay.handle_reset(cause, lab.now);
        assert_eq!(lab.close_code(), Some(code), "{cause:?} as a reset");
        assert_eq!(lab.relay.cause(), cause);
    }
    let mut lab = Lab::open();
    lab.down(1, end(Cause::BackendClosed, Some(1006), ""));
    assert_eq!(lab.close_code(), Some(1014), "a code that may not be sent becomes another");
}

#[test]
fn a_frame_that_never_ends_gets_no_close_inside() {
    let mut lab = Lab::open();
    lab.down(1, chunk(Some(0x82), Some(10), b"12345"));
    lab.down(2, end(Cause::BackendLost, None, ""));
    assert!(lab.relay.is_over());
    assert!(lab.out().is_empty());
    assert_eq!(lab.up(), [end(Cause::BackendLost, None, "")]);
}

#[test]
fn a_bad_frame_is_told_and_read_off() {
    let mut lab = Lab::open();
    lab.raw(b"\x81\x05hello");
    let up = lab.up();
    let Body::End(told) = &up[0] else { panic!("{up:?}") };
    assert_eq!((told.cause(), told.close_code), (Cause::ClientProtocol, Some(1002)));
    assert_eq!(lab.close_code(), Some(1002));
    lab.write(usize::MAX);
    assert!(lab.relay.wants_shutdown() && !lab.relay.is_over());
    lab.raw(&[0xff; 5000]);
    assert!(lab.up().is_empty());
    assert_eq!(lab.relay.input.capacity(), 0);
    lab.down(1, chunk(Some(0x81), None, b"late"));
    assert!(lab.out().is_empty());
    assert_eq!(lab.relay.poll_consumed(), Some(Seq::from(1)), "thrown away is consumed");
    lab.wait(2 * SECOND);
    assert!(lab.relay.is_over());
}

#[test]
fn a_bad_frame_during_a_frame_down_waits_for_its_end() {
    let mut lab = Lab::open();
    lab.down(1, chunk(Some(0x82), Some(4), b"12"));
    lab.raw(b"\x81\x05hello");
    lab.up();
    assert_eq!(lab.out(), b"\x82\x0412");
    lab.down(2, chunk(None, None, b"34"));
    assert!(lab.out().starts_with(b"\x82\x041234\x88"));
    lab.down(3, chunk(Some(0x81), None, b"more"));
    assert!(!lab.out().ends_with(b"more"));
}

#[test]
fn a_socket_that_ends_without_a_close_is_lost() {
    let mut lab = Lab::open();
    lab.down(1, chunk(Some(0x81), None, b"unread"));
    lab.relay.handle_eof();
    assert_eq!(lab.up(), [end(Cause::ClientLost, None, "")]);
    assert!(lab.relay.is_over());
    assert_eq!(lab.relay.poll_consumed(), Some(Seq::from(1)));
}

#[test]
fn a_client_that_shuts_its_side_after_its_close_still_gets_the_answer() {
    let mut lab = Lab::open();
    lab.client(|w, out| w.close(out, Some((1000, ""))));
    lab.up();
    lab.relay.handle_eof();
    assert!(!lab.relay.is_over() && !lab.relay.wants_input());
    lab.down(1, end(Cause::BackendClosed, Some(1000), ""));
    assert_eq!(lab.close_code(), Some(1000));
}

#[test]
fn silence_is_pinged_then_closed() {
    let mut lab = Lab::open();
    lab.wait(19 * SECOND);
    assert!(lab.out().is_empty());
    lab.wait(SECOND);
    assert_eq!(lab.out(), b"\x89\x00");
    lab.write(usize::MAX);
    lab.client(|w, out| w.pong(out, b""));
    assert!(lab.up().is_empty());
    lab.wait(19 * SECOND);
    assert!(lab.out().is_empty());

    for _ in 0..41 {
        lab.wait(SECOND);
        if lab.relay.out.starts_with(b"\x89") {
            lab.write(usize::MAX);
        }
    }
    assert_eq!(lab.close_code(), Some(1001));
    assert_eq!(lab.up(), [end(Cause::ClientIdle, None, "")]);
}

#[test]
fn silence_of_our_own_making_is_no_silence() {
    let mut lab = Lab::open();
    for _ in 0..200 {
        lab.now += SECOND;
        lab.relay.handle_pause(lab.now);
        lab.relay.handle_timeout(lab.now);
    }
    assert_eq!(lab.relay.cause(), Cause::Unspecified);
}

#[test]
fn a_client_that_takes_nothing_is_closed_as_slow() {
    let mut lab = Lab::open();
    lab.down(1, chunk(Some(0x82), None, &[0; 1000]));
    for _ in 0..29 {
        lab.relay.handle_read(lab.now);
        lab.wait(SECOND);
    }
    lab.write(1);
    lab.relay.handle_read(lab.now);
    lab.wait(29 * SECOND);
    assert_eq!(lab.relay.cause(), Cause::Unspecified, "one byte is progress");
    lab.wait(SECOND);
    let up = lab.up();
    let Body::End(told) = &up[0] else { panic!("{up:?}") };
    assert_eq!((told.cause(), told.close_code), (Cause::ClientSlow, Some(1008)));
    lab.wait(2 * SECOND);
    assert!(lab.relay.is_over(), "a stuck socket is not waited for");
}

#[test]
fn what_waits_for_the_client_is_bounded() {
    let mut lab = Lab::open();
    let mut seq = 0;
    while lab.relay.wants_delivery() {
        seq += 1;
        lab.down(seq, chunk(Some(0x82), None, &[0; CHUNK_BYTES_MAX]));
    }
    assert!(lab.relay.out.len() <= lab.relay.limits.client_queue_bytes_max + CHUNK_BYTES_MAX + 10);
}

#[test]
fn a_drain_closes_politely() {
    let mut lab = Lab::open();
    lab.relay.handle_drain(lab.now + 3 * SECOND);
    lab.wait(2 * SECOND);
    assert!(lab.out().is_empty());
    lab.wait(SECOND);
    assert_eq!(lab.close_code(), Some(1001));
    lab.write(usize::MAX);
    lab.client(|w, out| w.close(out, Some((1001, ""))));
    let up = lab.up();
    let Body::End(told) = &up[0] else { panic!("{up:?}") };
    assert_eq!((told.cause(), told.close_code), (Cause::NodeDraining, Some(1001)));
    assert!(lab.relay.is_over());
}

#[test]
fn an_early_answer_takes_the_head_first() {
    let head = |status| Body::from(ResponseHead { status, ..ResponseHead::default() });
    let mut lab = Lab::answered(Answered::Early);
    lab.down(1, head(101));
    lab.down(2, chunk(Some(0x81), None, b"x"));
    assert_eq!(lab.out(), b"\x81\x01x");

    let mut lab = Lab::answered(Answered::Early);
    lab.down(1, head(404));
    lab.down(2, chunk(None, None, b"not found"));
    lab.down(3, end(Cause::Complete, None, ""));
    assert_eq!(lab.close_code(), Some(1014));

    let mut lab = Lab::answered(Answered::Early);
    assert!(
        lab.relay.handle_delivery(Seq::from(1), chunk(Some(0x81), None, b"x"), lab.now).is_err()
    );
    let mut lab = Lab::open();
    assert!(lab.relay.handle_delivery(Seq::from(1), head(101), lab.now).is_err());
}

#[test]
fn a_far_end_that_makes_no_frames_is_an_error() {
    for bad in
        [chunk(None, None, b"x"), chunk(Some(0x100), None, b"x"), chunk(Some(0x89), None, b"")]
    {
        let mut lab = Lab::open();
        assert!(lab.relay.handle_delivery(Seq::from(1), bad, lab.now).is_err());
    }
}

/// The known bug of this style: a timeout that does not move spins its driver.
#[test]
fn a_timeout_moves_or_goes() {
    type Set = fn(&mut Lab);
    let settings: [Set; 6] = [
        |_| {},
        |lab| lab.down(1, chunk(Some(0x82), Some(9), b"open frame")),
        |lab| lab.down(1, end(Cause::BackendClosed, None, "")),
        |lab| lab.relay.handle_drain(lab.now),
        |lab| lab.raw(b"\x81\x05hello"),
        |lab| lab.client(|w, out| w.close(out, None)),
    ];
    for (n, set) in settings.into_iter().enumerate() {
        let mut lab = Lab::open();
        if n == 1 {
            lab.down(1, chunk(Some(0x82), Some(900), b"open frame"));
        } else {
            set(&mut lab);
        }
        lab.up();
        for _ in 0..100 {
            let Some(due) = lab.relay.poll_timeout() else { break };
            lab.now = lab.now.max(due);
            lab.relay.handle_timeout(lab.now);
            let next = lab.relay.poll_timeout();
            assert!(next.is_none_or(|next| next > lab.now), "setting {n} spins");
        }
    }
}

struct Lab {
    relay: Relay,
    now: Instant,
    client: Writer,
}

impl Lab {
    fn open() -> Self {
        Self::answered(Answered::AfterBackend)
    }

    fn answered(answered: Answered) -> Self {
        let now = antipode_runtime::clock::now();
        let relay = Relay::new(Arc::new(SessionLimits::default()), answered, true, now);
        Self { relay, now, client: Writer::client([3; 32]) }
    }

    /// The client sends what `write` writes.
    fn client<E: std::fmt::Debug>(
        &mut self,
        write: impl FnOnce(&mut Writer, &mut BytesMut) -> Result<(), E>,
    ) {
        let mut bytes = BytesMut::new();
        write(&mut self.client, &mut bytes).unwrap();
        self.raw(&bytes);
    }

    fn raw(&mut self, bytes: &[u8]) {
        self.relay.socket_buffers().1.extend_from_slice(bytes);
        self.relay.handle_read(self.now);
    }

    fn up(&mut self) -> Vec<Body> {
        std::iter::from_fn(|| self.relay.poll_up(self.now)).collect()
    }

    fn down(&mut self, seq: u64, body: Body) {
        self.relay.handle_delivery(Seq::from(seq), body, self.now).unwrap();
    }

    fn out(&self) -> &[u8] {
        &self.relay.out
    }

    fn write(&mut self, n: usize) {
        self.relay.handle_written(n, self.now);
    }

    /// Time passes, and what is due is done.
    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.relay.handle_timeout(self.now);
    }

    /// The code of the close frame among what waits for the client.
    fn close_code(&self) -> Option<u16> {
        let mut reader = Reader::new(Side::Client, Policy::default());
        let mut bytes = self.relay.out.clone();
        std::iter::from_fn(|| reader.read(&mut bytes).unwrap()).find_map(|event| match event {
            Event::Close(close) => close.map(|(code, _)| code),
            Event::Chunk { .. } | Event::Ping(_) | Event::Pong(_) => None,
        })
    }
}

fn start(first_byte: u8, frame_len: u64) -> Option<FrameStart> {
    Some(FrameStart { first_byte, frame_len })
}

fn chunk(frame: Option<u32>, frame_len: Option<u64>, payload: &[u8]) -> Body {
    let payload = Bytes::copy_from_slice(payload);
    Body::from(Chunk { frame, frame_len, payload, shared: 0 })
}

fn end(cause: Cause, code: Option<u32>, reason: &str) -> Body {
    Body::from(End { close_code: code, reason: reason.to_owned(), ..end_of(cause) })
}

fn payload(body: &Body) -> &[u8] {
    match body {
        Body::Chunk(chunk) => &chunk.payload,
        Body::Request(_) | Body::Response(_) | Body::End(_) => panic!("{body:?}"),
    }
}
