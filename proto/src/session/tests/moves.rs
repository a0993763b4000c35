//! A session that goes on over another lane while the one before still lives.

use super::*;

const SHARE: u64 = 32 * 1024;

#[test]
fn what_is_on_its_way_stays_within_the_share() {
    let (mut node, _core) = settled();
    node.set_in_flight_max(SHARE);
    (0..10).for_each(|_| node.send(chunk(16 * 1024)));
    assert_eq!(drain(&mut node), 2, "a third one would begin beyond it");
    node.handle_frame(Kind::Ack(Ack { ack: 2, credit: 0 })).expect("one arrived");
    assert_eq!(drain(&mut node), 1);
    node.set_in_flight_max(u64::MAX);
    assert_eq!(drain(&mut node), 7, "a lane that it has for itself takes all");
}

/// Or a head larger than the share would never go.
#[test]
fn one_segment_may_always_go() {
    let (mut node, _core) = settled();
    node.set_in_flight_max(0);
    node.send(chunk(100));
    node.send(chunk(100));
    assert_eq!(drain(&mut node), 1);
    node.handle_frame(Kind::Ack(Ack { ack: 2, credit: 0 })).expect("it arrived");
    assert_eq!(drain(&mut node), 1);
}

#[test]
fn who_has_nothing_on_its_way_goes_on_behind_the_question() {
    let (mut node, mut core) = settled();
    assert!(node.can_move());
    node.handle_link_moved(start());
    node.send(chunk(1));
    let question = node.poll_transmit().expect("the question");
    assert!(matches!(question, Kind::Attach(_)));
    let follower = node.poll_transmit().expect("and what follows it");
    assert!(matches!(&follower, Kind::Segment(Segment { seq: 2, .. })));
    core.handle_frame(question).expect("newer");
    core.handle_frame(follower).expect("in order");
    let answer = core.poll_transmit().expect("the answer");
    node.handle_frame(answer).expect("awaited");
    assert_eq!(node.poll_transmit(), None, "nothing goes twice");
    assert_eq!((node.replayed(), core.poll_deliver().map(|(seq, _)| seq.get())), (0, Some(2)));
}

#[test]
fn who_has_something_on_its_way_waits_for_the_answer() {
    let (mut node, mut core) = settled();
    node.send(chunk(1));
    let late = node.poll_transmit().expect("on the old lane");
    node.send(chunk(2));
    node.handle_link_moved(start());
    let question = node.poll_transmit().expect("the question");
    assert_eq!(node.poll_transmit(), None, "what overtook the old lane would be thrown away");
    core.handle_frame(question).expect("newer");
    core.handle_frame(late).expect("in order");
    let answer = core.poll_transmit().expect("the answer");
    node.handle_frame(answer).expect("awaited");
    while let Some(kind) = node.poll_transmit() {
        core.handle_frame(kind).expect("a copy, and the next one");
    }
    let delivered: Vec<_> = std::iter::from_fn(|| core.poll_deliver()).collect();
    assert_eq!(delivered, [(2.into(), chunk(1)), (3.into(), chunk(2))]);
}

/// The new lane breaks before the question was answered: what followed it may be lost.
#[test]
fn a_break_behind_a_move_is_a_break() {
    let (mut node, mut core) = settled();
    node.handle_link_moved(start());
    node.send(chunk(1));
    assert_eq!(drain(&mut node), 2, "and both are lost");
    node.handle_link_down(start());
    node.handle_link_up();
    let question = node.poll_transmit().expect("the next question");
    assert_eq!(node.poll_transmit(), None);
    core.handle_frame(question).expect("newer");
    node.handle_frame(core.poll_transmit().expect("the answer")).expect("awaited");
    assert!(matches!(node.poll_transmit(), Some(Kind::Segment(Segment { seq: 2, .. }))));
}

#[test]
fn neither_a_stranger_nor_who_is_done_moves() {
    let mut node = attached(Side::Node, start());
    node.send(request());
    let _ = node.poll_transmit();
    assert!(!node.can_move(), "a late copy of the head would begin it again");
    let (mut node, mut core) = settled();
    core.send(response());
    core.send(end());
    while let Some(kind) = core.poll_transmit() {
        node.handle_frame(kind).expect("in order");
    }
    assert!(!node.can_move(), "the core may be done with it");
}

/// It has to ask anyway, and where its lane was there may never be one again.
#[test]
fn who_has_no_lane_may_move() {
    let mut node = attached(Side::Node, start());
    node.send(request());
    let _ = node.poll_transmit();
    node.handle_link_down(start());
    assert!(node.can_move());
    node.handle_link_moved(start());
    assert!(matches!(node.poll_transmit(), Some(Kind::Attach(Attach { received: 0, .. }))));
    assert!(!node.can_move(), "it has asked there");
    node.reset(Cause::Policy, "over");
    node.handle_link_down(start());
    assert!(!node.can_move());
}

/// Both have heard of each other, and nothing is on its way.
fn settled() -> (Session, Session) {
    let now = start();
    let mut node = attached(Side::Node, now);
    let mut core = Session::new(Side::Core, Config::default(), now);
    node.send(request());
    core.handle_frame(node.poll_transmit().expect("the head")).expect("the first");
    let (seq, _) = core.poll_deliver().expect("the head");
    core.handle_consumed(seq, now);
    core.handle_timeout(core.poll_timeout().expect("it owes an ack"));
    node.handle_frame(core.poll_transmit().expect("the ack")).expect("in order");
    (node, core)
}

fn drain(session: &mut Session) -> usize {
    std::iter::from_fn(|| session.poll_transmit()).count()
}
