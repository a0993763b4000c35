//! What a state must look like to be taken over; that a session goes on from it is in
//! `tests/session_prop`.

use super::*;
use crate::handover::v1::SessionState;

#[test]
fn a_state_that_no_session_left_behind_is_refused() {
    check("no side", |state| state.side = 0);
    check("a side of later", |state| state.side = 9);
    check("no sender", |state| state.sender = None);
    check("no receiver", |state| state.receiver = None);
    let check_sender = |what, spoil: fn(&mut crate::handover::v1::SenderState)| {
        check(what, |state| spoil(state.sender.as_mut().expect("a sender")));
    };
    check_sender("a gap in what is kept", |sender| drop(sender.unacked.remove(0)));
    check_sender("no body", |sender| sender.unacked[0].body = None);
    check_sender("costs more than was queued", |sender| sender.queued_bytes = 10);
    check_sender("sent more than was queued", |sender| sender.transmitted_max = 99);
    check_sender("sent less than was acknowledged", |sender| sender.transmitted_max = 0);
    check_sender("an end that is not there", |sender| sender.ended = true);
    check_sender("a number that overflows", |sender| sender.acked = u64::MAX);
    check_sender("bytes that overflow", |sender| sender.queued_bytes = u64::MAX);
    check_sender("something after the end", |sender| sender.unacked[0].body = Some(end()));
    let check_receiver = |what, spoil: fn(&mut crate::handover::v1::ReceiverState)| {
        check(what, |state| spoil(state.receiver.as_mut().expect("a receiver")));
    };
    check_sender("more gone than was kept", |sender| sender.transmitted = 4);
    check_receiver("no stage", |receiver| receiver.stage = 0);
    check_receiver("a gap in what came", |receiver| receiver.inbox[0].seq += 1);
    check_receiver("what came without a body", |receiver| receiver.inbox[0].body = None);
    check_receiver("an end before the end", |receiver| receiver.inbox[0].body = Some(end()));
    check_receiver("acknowledged what is not written", |receiver| receiver.ack_sent = 3);
    check_receiver("a number that overflows", |receiver| receiver.consumed = u64::MAX);
    check_receiver("bytes that overflow", |receiver| receiver.consumed_bytes = u64::MAX);
    check_receiver("a cost that overflows", |receiver| receiver.delivered_costs[0] = u64::MAX);
}

#[test]
fn a_session_that_ended_is_handed_over_as_ended() {
    let now = start();
    let mut server = busy(now);
    server.handle_link_down(now);
    server.reset(Cause::BackendLost, "gone");
    let state = server.export();
    assert_eq!((&state.sender, &state.receiver), (&None, &None));
    let mut server = Session::import(state, Config::default(), now).expect("a session's state");
    let attach = Attach { epoch: 2, ..Attach::default() };
    server.handle_frame(Kind::Attach(attach)).expect("a question");
    let Some(Kind::Reset(Reset { cause, detail })) = server.poll_transmit() else {
        panic!("the client has not been told yet")
    };
    assert_eq!((cause, detail.as_str()), (Cause::BackendLost.into(), "gone"));
}

/// A state goes through whole, numbers and all.
#[test]
fn what_is_imported_exports_the_same() {
    let now = start();
    let mut state = busy(now).export();
    state.receiver.as_mut().expect("a receiver").window = 4 * INITIAL_CREDIT_BYTES; // It grew.
    let imported = Session::import(state.clone(), Config::default(), now).expect("a good state");
    assert_eq!(imported.export(), state);
    assert_eq!(imported.replayed(), 1);
}

/// The attachment moves with the session: it neither asks nor gets anything twice.
#[test]
fn an_attachment_that_is_kept_goes_on_where_it_was() {
    let now = start();
    let mut stayed = busy(now);
    let mut moved = Session::import(stayed.export(), Config::default(), now).expect("good");
    moved.handle_link_kept(false);
    for _ in 0..3 {
        assert_eq!(moved.poll_transmit(), stayed.poll_transmit());
    }
    assert_eq!(moved.poll_transmit(), None);

    let attach = Attach { epoch: 3, received: 2, credit: 300_000, ..Attach::default() };
    stayed.handle_frame(Kind::Attach(attach)).expect("a new attachment");
    let state = stayed.export();
    let mut moved = Session::import(state.clone(), Config::default(), now).expect("good");
    moved.handle_link_kept(state.answering);
    for _ in 0..4 {
        assert_eq!(moved.poll_transmit(), stayed.poll_transmit(), "the answer first");
    }
}

#[test]
fn what_the_older_process_consumed_does_not_make_the_window_grow() {
    let now = start();
    let mut state = busy(now).export();
    let receiver = state.receiver.as_mut().expect("a receiver");
    receiver.consumed_bytes = 8 * INITIAL_CREDIT_BYTES;
    receiver.granted = 9 * INITIAL_CREDIT_BYTES;
    let mut server = Session::import(state, Config::default(), now).expect("a good state");
    server.handle_consumed(3.into(), now);
    let receiver = server.export().receiver.expect("a receiver");
    assert_eq!((receiver.consumed, receiver.window), (3, INITIAL_CREDIT_BYTES));
}

#[track_caller]
fn check(what: &str, spoil: impl FnOnce(&mut SessionState)) {
    let now = start();
    let mut state = busy(now).export();
    spoil(&mut state);
    assert!(Session::import(state, Config::default(), now).is_err(), "{what}");
}

/// A server in the middle of everything: acknowledged, transmitted and queued; consumed, delivered
/// and received; one acknowledgement sent, one due; resumed once.
fn busy(now: Instant) -> Session {
    let mut server = attached(Side::Server, now);
    for _ in 0..3 {
        server.send(chunk(10));
        let _ = server.poll_transmit();
    }
    server.handle_frame(Kind::Ack(Ack { ack: 1, credit: 300_000 })).expect("the first came");
    server.send(chunk(20));
    for seq in 1..=4 {
        let segment = Segment { seq, ack: 1, credit: 300_000, body: Some(chunk(30)) };
        server.handle_frame(Kind::Segment(segment)).expect("in place");
    }
    for _ in 0..3 {
        let _ = server.poll_deliver();
    }
    server.handle_consumed(1.into(), now);
    let attach = Attach { epoch: 2, received: 1, credit: 300_000, ..Attach::default() };
    server.handle_frame(Kind::Attach(attach)).expect("a new attachment");
    let _ = server.poll_transmit();
    let _ = server.poll_transmit();
    server.handle_consumed(2.into(), now);
    server
}
