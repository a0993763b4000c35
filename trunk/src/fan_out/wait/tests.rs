//! Who waits, for what, and for how long.

use antipode_proto::trunk::v1::{Ack, Attached, Chunk};

use super::*;

const NEWS: u64 = 7;

#[test]
fn only_the_session_that_lacks_something_waits() {
    let (fan_in, now) = (fan_in(), now());
    assert_eq!(pass(&fan_in, 1, 5, Some(NEWS), now), Passage::Held);
    assert_eq!(pass(&fan_in, 1, 6, None, now), Passage::Held, "it stays in order");
    assert_eq!(pass(&fan_in, 2, 5, None, now), Passage::Through(segment(5, "")), "another");
    let ack = Kind::Ack(Ack { ack: 3, credit: 9 });
    assert_eq!(fan_in.pass(1, ack.clone(), None, 0, now), Passage::Through(ack), "no part of it");

    let go = fan_in.keep(NEWS, Bytes::from_static(b"news"));
    assert_eq!(go.len(), 1);
    assert_eq!(fan_in.next(go[0]), Some(segment(5, "news")));
    assert_eq!(pass(&fan_in, 1, 7, None, now), Passage::Held, "the line is still moving");
    assert_eq!(fan_in.next(go[0]), Some(segment(6, "")));
    assert_eq!(fan_in.next(go[0]), Some(segment(7, "")));
    assert_eq!(fan_in.next(go[0]), None);
    assert_eq!(pass(&fan_in, 1, 8, None, now), Passage::Through(segment(8, "")));
    assert_eq!(pass(&fan_in, 1, 9, Some(NEWS), now), Passage::Through(segment(9, "news")));
    nothing_is_left(&fan_in);
}

#[test]
fn a_line_may_wait_twice() {
    let (fan_in, now) = (fan_in(), now());
    pass(&fan_in, 1, 5, Some(NEWS), now);
    pass(&fan_in, 1, 6, Some(NEWS + 1), now);
    let go = fan_in.keep(NEWS, Bytes::from_static(b"one"))[0];
    assert_eq!(fan_in.next(go), Some(segment(5, "one")));
    assert_eq!(fan_in.next(go), None, "the second payload is not here");
    let again = fan_in.keep(NEWS + 1, Bytes::from_static(b"two"))[0];
    assert_eq!(fan_in.next(go), None, "somebody else hands it on now");
    assert_eq!(fan_in.next(again), Some(segment(6, "two")));
    assert_eq!(fan_in.next(again), None);
    nothing_is_left(&fan_in);
}

#[test]
fn who_waited_too_long_asks_the_core() {
    let (fan_in, start) = (fan_in(), now());
    pass(&fan_in, 1, 5, Some(NEWS), start);
    assert_eq!(fan_in.handle_timeout(start + PATIENCE / 2), []);
    assert_eq!(fan_in.handle_timeout(start + PATIENCE), [(1, 0)]);
    assert_eq!(fan_in.handle_timeout(start + 2 * PATIENCE), [], "it has asked already");

    assert_eq!(pass(&fan_in, 1, 6, None, start), Passage::Held, "sent before the answer");
    assert_eq!(fan_in.keep(NEWS, Bytes::from_static(b"late")), [], "nobody wants it now");
    let answer = Kind::Attached(Attached { epoch: 2, received: 0, credit: 0 });
    assert_eq!(fan_in.pass(1, answer.clone(), None, 0, start), Passage::Through(answer));
    assert_eq!(pass(&fan_in, 1, 5, None, start), Passage::Through(segment(5, "")), "a replay");
    nothing_is_left(&fan_in);
}

#[test]
fn what_lines_up_is_bounded() {
    let (fan_in, now) = (fan_in(), now());
    let mut held = 0;
    let mut large = segment(6, "");
    put(&mut large, Bytes::from(vec![0; 16 * 1024]));
    pass(&fan_in, 1, 5, Some(NEWS), now);
    while fan_in.pass(1, large.clone(), None, 0, now) == Passage::Held {
        held += 1;
        assert!(held < 1000, "nothing bounds it");
    }
    assert_eq!(held, 255);
    assert_eq!(fan_in.state.lock().bytes, 0, "it was thrown away");
    let empty = Kind::Segment(Segment::default());
    pass(&fan_in, 2, 5, Some(NEWS), now);
    let held =
        (0..1_000_000).take_while(|_| fan_in.pass(2, empty.clone(), None, 0, now) == Passage::Held);
    assert!(held.count() < 100_000, "empty segments are not free");
}

#[test]
fn a_broken_lane_takes_its_lines_with_it() {
    let (fan_in, now) = (fan_in(), now());
    pass(&fan_in, 1, 5, Some(NEWS), now);
    fan_in.pass(2, segment(5, ""), Some(NEWS), 1, now);
    assert_eq!(fan_in.lane_down(0), [(2, 1)], "what it waits for may be lost");
    assert_eq!(pass(&fan_in, 1, 9, None, now), Passage::Through(segment(9, "")));
    fan_in.forget(2);
    nothing_is_left(&fan_in);
}

#[test]
fn a_lane_that_breaks_while_its_line_moves_stops_it() {
    let (fan_in, now) = (fan_in(), now());
    pass(&fan_in, 1, 5, Some(NEWS), now);
    pass(&fan_in, 1, 6, None, now);
    let go = fan_in.keep(NEWS, Bytes::from_static(b"news"))[0];
    assert!(fan_in.next(go).is_some());
    fan_in.lane_down(0);
    pass(&fan_in, 1, 7, Some(NEWS + 1), now);
    assert_eq!(fan_in.next(go), None, "what waits now came on a newer lane");
    fan_in.forget(1);
    nothing_is_left(&fan_in);
}

#[track_caller]
fn nothing_is_left(fan_in: &FanIn) {
    let state = fan_in.state.lock();
    assert_eq!((state.held_up.len(), state.wanted.len(), state.bytes), (0, 0, 0));
    assert_eq!(fan_in.held_up.load(Ordering::Acquire), 0);
}

fn fan_in() -> FanIn {
    FanIn::new(FanOutMetrics::default())
}

fn pass(fan_in: &FanIn, session: u64, seq: u64, names: Option<u64>, now: Instant) -> Passage {
    fan_in.pass(session, segment(seq, ""), names, 0, now)
}

fn segment(seq: u64, payload: &'static str) -> Kind {
    let chunk = Chunk { payload: payload.into(), ..Chunk::default() };
    Kind::Segment(Segment { seq, ack: 0, credit: 0, body: Some(Body::Chunk(chunk)) })
}

fn now() -> Instant {
    antipode_runtime::clock::now()
}
