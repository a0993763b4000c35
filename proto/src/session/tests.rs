//! Tables for the single rules; the history under faults is in `tests/session_prop`.

mod attachments;
mod moves;
mod states;

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::*;
use crate::body::{INITIAL_CREDIT_BYTES, SEGMENT_OVERHEAD_BYTES};
use crate::trunk::v1::{Chunk, End, RequestHead, ResponseHead};

#[test]
fn an_ack_beyond_what_was_sent_is_an_error() {
    let now = start();
    let mut node = attached(Side::Node, now);
    node.send(request());
    assert_eq!(
        node.handle_frame(Kind::Ack(Ack { ack: 1, credit: 0 })),
        Err(ProtocolError::AckBeyondSent { ack: 1, last_sent: 0 }),
        "queued is not sent"
    );
    let _ = node.poll_transmit();
    assert_eq!(node.handle_frame(Kind::Ack(Ack { ack: 1, credit: 0 })), Ok(()));
    assert_eq!(node.unacked_bytes(), 0);
}

#[test]
fn credit_stops_the_sender_and_convicts_the_peer() {
    let now = start();
    let mut node = attached(Side::Node, now);
    let mut core = Session::new(Side::Core, Config::default(), now);
    node.send(request());
    while node.has_room() {
        node.send(chunk(16 * 1024));
    }
    let mut sent = 0;
    while let Some(kind) = node.poll_transmit() {
        core.handle_frame(kind).expect("within the credit");
        sent += 1;
    }
    assert!(sent > 10, "{sent} segments fit in {INITIAL_CREDIT_BYTES} bytes");
    assert!(node.unacked_bytes() < INITIAL_CREDIT_BYTES + 16 * 1024 + SEGMENT_OVERHEAD_BYTES);

    let seq = sent + 1;
    let greedy = Segment { seq, ack: 0, credit: 0, body: Some(chunk(1)) };
    assert_eq!(
        core.handle_frame(Kind::Segment(greedy)),
        Err(ProtocolError::CreditExceeded { seq })
    );
}

#[test]
fn consuming_gives_credit_back_and_the_window_grows() {
    let now = start();
    let mut node = attached(Side::Node, now);
    let mut core = Session::new(Side::Core, Config::default(), now);
    node.send(request());
    let mut consumed = 0_u64;
    for _ in 0..1000 {
        if node.has_room() {
            node.send(chunk(16 * 1024));
        }
        while let Some(kind) = node.poll_transmit() {
            core.handle_frame(kind).expect("within the credit");
        }
        while let Some((seq, body)) = core.poll_deliver() {
            consumed += body.cost();
            core.handle_consumed(seq, now);
        }
        while let Some(kind) = core.poll_transmit() {
            node.handle_frame(kind).expect("an ack");
        }
    }
    assert!(consumed > 8 * INITIAL_CREDIT_BYTES, "only {consumed} bytes went through");
    assert_eq!(core.receiver.credit(), consumed + Config::default().credit_bytes_max);
}

#[test]
fn an_ack_waits_for_a_ride_and_goes_alone_when_due() {
    let now = start();
    let mut core = with_request(now);
    let (seq, _) = core.poll_deliver().expect("the request");
    core.handle_consumed(seq, now);
    assert_eq!(core.poll_transmit(), None, "not at once");

    let due = core.poll_timeout().expect("an ack is due");
    assert_eq!(due, now + Config::default().ack_delay);
    core.handle_timeout(due);
    assert!(core.poll_timeout().is_none(), "a timeout that does not move spins the driver");
    assert!(matches!(core.poll_transmit(), Some(Kind::Ack(Ack { ack: 1, .. }))));
    assert_eq!(core.poll_transmit(), None);

    let mut core = with_request(now);
    let (seq, _) = core.poll_deliver().expect("the request");
    core.handle_consumed(seq, now);
    core.send(response());
    assert!(matches!(core.poll_transmit(), Some(Kind::Segment(Segment { ack: 1, .. }))));
    assert_eq!(core.poll_timeout(), None, "the response carried the ack");
}

#[test]
fn what_is_out_of_place_is_refused() {
    let check = |what, side, bodies: Vec<Body>, bad: u64| {
        let now = start();
        let mut session = Session::new(side, Config::default(), now);
        for (seq, body) in (1..).zip(bodies) {
            let segment = Segment { seq, ack: 0, credit: 0, body: Some(body) };
            let outcome = session.handle_frame(Kind::Segment(segment));
            if seq == bad {
                assert_eq!(outcome, Err(ProtocolError::OutOfPlace { seq }), "{what}");
            } else {
                assert_eq!(outcome, Ok(()), "{what}: segment {seq}");
            }
        }
    };
    check("a chunk before the head", Side::Core, vec![chunk(1)], 1);
    check("a response at the core", Side::Core, vec![response()], 1);
    check("a request at the node", Side::Node, vec![request()], 1);
    check("two heads", Side::Core, vec![request(), request()], 2);
    check("a chunk after the end", Side::Node, vec![response(), end(), chunk(1)], 3);
    check("an end in place of a head is fine", Side::Node, vec![end()], 0);
}

#[test]
fn a_stale_attach_changes_nothing() {
    let now = start();
    let mut core = with_request(now);
    core.send(response());
    let _ = core.poll_transmit();
    let attach = |epoch, received| Kind::Attach(Attach { epoch, received, ..Attach::default() });

    core.handle_frame(attach(1, 0)).expect("ignored");
    assert!(!core.wants_transmit(), "epoch 1 is the one it has");
    core.handle_frame(attach(2, 0)).expect("a new attachment");
    assert!(matches!(core.poll_transmit(), Some(Kind::Attached(Attached { epoch: 2, .. }))));
    assert!(matches!(core.poll_transmit(), Some(Kind::Segment(Segment { seq: 1, .. }))));
    assert_eq!(core.replayed(), 1);
}

#[test]
fn a_peer_that_forgot_is_not_told_the_request_again() {
    let now = start();
    let mut node = attached(Side::Node, now);
    node.send(request());
    let _ = node.poll_transmit();
    // The response came, but by chance no ack with it.
    let segment = Segment { seq: 1, ack: 0, credit: 0, body: Some(response()) };
    node.handle_frame(Kind::Segment(segment)).expect("in place");

    node.handle_link_down(now);
    node.handle_link_up();
    let Some(Kind::Attach(Attach { epoch, .. })) = node.poll_transmit() else {
        panic!("the node asks first")
    };
    let attached = Attached { epoch, received: 0, credit: INITIAL_CREDIT_BYTES };
    let error = node.handle_frame(Kind::Attached(attached)).expect_err("state lost");
    assert_eq!(error.cause(), Cause::SessionLost);
}

#[test]
fn a_request_that_never_arrived_is_sent_again() {
    let now = start();
    let mut node = attached(Side::Node, now);
    node.send(request());
    let _ = node.poll_transmit();
    node.handle_link_down(now);
    node.handle_link_up();
    let _ = node.poll_transmit();
    let attached = Attached { epoch: 2, received: 0, credit: INITIAL_CREDIT_BYTES };
    node.handle_frame(Kind::Attached(attached)).expect("nothing was acknowledged");
    assert!(matches!(node.poll_transmit(), Some(Kind::Segment(Segment { seq: 1, .. }))));
}

#[test]
fn a_late_answer_to_an_older_attach_changes_nothing() {
    let now = start();
    let mut node = attached(Side::Node, now);
    node.send(request());
    node.send(chunk(1));
    while node.poll_transmit().is_some() {}
    node.handle_frame(Kind::Ack(Ack { ack: 2, credit: 0 })).expect("both arrived");
    for _ in 0..2 {
        node.handle_link_down(now);
        node.handle_link_up();
        let _ = node.poll_transmit();
    }
    let answer = |epoch, received| {
        Kind::Attached(Attached { epoch, received, credit: INITIAL_CREDIT_BYTES })
    };
    node.handle_frame(answer(2, 1)).expect("ignored: the second attach is epoch 3");
    node.send(chunk(1));
    assert_eq!(node.poll_transmit(), None, "still asking");
    node.handle_frame(answer(3, 2)).expect("the answer");
    assert!(matches!(node.poll_transmit(), Some(Kind::Segment(Segment { seq: 3, .. }))));
}

#[test]
fn a_session_without_a_lane_expires() {
    let now = start();
    let mut node = attached(Side::Node, now);
    node.send(request());
    node.handle_link_down(now);
    let due = node.poll_timeout().expect("it expires");
    node.handle_timeout(due - Duration::from_millis(1));
    assert!(node.ended().is_none());
    node.handle_timeout(due);
    assert_eq!(node.ended().map(|ended| ended.cause), Some(Cause::TrunkLost));
    assert!(node.is_finished() && node.poll_timeout().is_none());
}

#[test]
fn a_reset_waits_for_a_lane_but_not_for_ever() {
    let now = start();
    let mut node = attached(Side::Node, now);
    node.send(request());
    let _ = node.poll_transmit();
    node.handle_link_down(now);
    node.reset(Cause::Policy, "enough");
    assert!(!node.is_finished(), "the peer has to be told");
    assert_eq!(node.poll_transmit(), None, "there is no lane");
    let mut expired = node;
    expired.handle_timeout(expired.poll_timeout().expect("not for ever"));
    assert!(expired.is_finished());

    let mut node = attached(Side::Node, now);
    node.send(request());
    let _ = node.poll_transmit();
    node.handle_link_down(now);
    node.reset(Cause::Policy, "enough");
    node.handle_link_up();
    assert!(matches!(node.poll_transmit(), Some(Kind::Reset(_))));
    assert!(node.is_finished());
}

/// The core waits to be asked: without an answer the node would ask for ever.
#[test]
fn a_core_that_reset_without_a_lane_says_so_when_asked() {
    let now = start();
    let mut core = with_request(now);
    core.handle_link_down(now);
    core.reset(Cause::BackendLost, "gone");
    assert_eq!(core.poll_transmit(), None, "there is no lane");
    let attach = Attach { epoch: 2, received: 0, ..Attach::default() };
    core.handle_frame(Kind::Attach(attach)).expect("a question");
    assert!(core.wants_transmit());
    let Some(Kind::Reset(Reset { cause, .. })) = core.poll_transmit() else {
        panic!("the node has to be told")
    };
    assert_eq!(cause, i32::from(Cause::BackendLost));
    assert!(core.is_finished());
}

#[test]
fn an_orderly_end_finishes_both() {
    let now = start();
    let mut node = attached(Side::Node, now);
    let mut core = Session::new(Side::Core, Config::default(), now);
    node.send(request());
    node.send(end());
    core.send(response());
    core.send(end());
    for _ in 0..4 {
        while let Some(kind) = node.poll_transmit() {
            core.handle_frame(kind).expect("in order");
        }
        while let Some((seq, _)) = core.poll_deliver() {
            core.handle_consumed(seq, now);
        }
        while let Some(kind) = core.poll_transmit() {
            node.handle_frame(kind).expect("in order");
        }
        while let Some((seq, _)) = node.poll_deliver() {
            node.handle_consumed(seq, now);
        }
    }
    assert!(node.is_finished() && core.is_finished(), "{node:?}\n{core:?}");
    assert_eq!((node.ended(), core.ended()), (None, None));
}

fn attached(side: Side, now: Instant) -> Session {
    let mut session = Session::new(side, Config::default(), now);
    session.handle_link_up();
    session
}

fn with_request(now: Instant) -> Session {
    let mut core = Session::new(Side::Core, Config::default(), now);
    let segment = Segment { seq: 1, ack: 0, credit: 0, body: Some(request()) };
    core.handle_frame(Kind::Segment(segment)).expect("the first segment");
    core
}

fn request() -> Body {
    RequestHead { target: "/chat".into(), ..RequestHead::default() }.into()
}

fn response() -> Body {
    ResponseHead { status: 101, ..ResponseHead::default() }.into()
}

fn chunk(len: usize) -> Body {
    Chunk { payload: Bytes::from(vec![7; len]), ..Chunk::default() }.into()
}

fn end() -> Body {
    End { cause: Cause::Complete.into(), ..End::default() }.into()
}

/// Any instant will do: the machine only compares.
#[allow(clippy::disallowed_methods, reason = "the one clock reading of these tests")]
fn start() -> Instant {
    Instant::now()
}
