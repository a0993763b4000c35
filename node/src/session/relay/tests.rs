//! The machine alone: what goes up, what reaches the client, and when.

mod ends;
mod lab;

use antipode_proto::trunk::v1::ResponseHead;

use super::*;
use lab::{Lab, SECOND, chunk, end, payload, start};

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
    assert_eq!((told.cause(), told.close_code), (Cause::ClientSlow, Some(4409)));
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
