//! Lives that go on by intent: each meets one rule.

use antipode_proto::handover::v1::SenderState;
use antipode_proto::resume::{Frame, Position};
use antipode_proto::trunk::v1::{Ack, Attached, Cause, GoAway, Reset};
use serde_json::json;

use crate::world::{World, end_of};

pub(crate) fn first_words(world: &mut World<'_>) {
    world.transmit(); // The acknowledgement of the welcome.
    world.transmit();
    world.send(100);
    world.transmit();
}

pub(crate) fn ack_beyond(world: &mut World<'_>) {
    world.send(1);
    world.drain();
    world.send(1); // Queued is not sent.
    let sent = world.sender().transmitted_max;
    world.ack(sent);
    world.ack(sent + 1);
    world.linger();
}

pub(crate) fn chunk_acks_beyond(world: &mut World<'_>) {
    let seq = world.next_seq();
    let ack = world.sender().transmitted_max + 1;
    world.chunk_at(Position { seq, ack, credit: 0 }, 10);
    world.linger();
}

/// The last one within the credit is the one that passes it.
pub(crate) fn exceed_credit(world: &mut World<'_>) {
    for seq in 1..=17 {
        world.chunk_at(Position { seq, ..Position::default() }, 16_320);
    }
    world.linger();
}

pub(crate) fn chunk_after_end(world: &mut World<'_>) {
    let seq = world.next_seq();
    let position = Position { seq, ..Position::default() };
    world.frame(Frame::End(position, Box::new(end_of(Cause::Complete, Some(1000), "done"))));
    world.chunk_at(position, 10); // A copy is no offence.
    world.chunk_at(Position { seq: seq + 1, ..Position::default() }, 10);
    world.linger();
}

pub(crate) fn copies_and_gaps(world: &mut World<'_>) {
    let seq = world.next_seq();
    for offset in [0, 0, 2, 1, 1, 2, 9, 3] {
        world.chunk_at(Position { seq: seq + offset, ..Position::default() }, 1_000);
        world.deliver();
    }
    world.linger();
}

pub(crate) fn stale_answer(world: &mut World<'_>) {
    world.send(10);
    world.ask();
    world.ask();
    let epoch = world.runner.session.epoch();
    let received = world.sender().acked;
    world.attached(epoch - 1, received);
    world.transmit();
    world.attached(epoch + 1, received);
    world.transmit();
    world.attached(epoch, received);
    world.drain();
    world.linger();
}

pub(crate) fn forgetful_answer(world: &mut World<'_>) {
    world.acknowledge_some();
    world.ask();
    let (epoch, acked) = (world.runner.session.epoch(), world.sender().acked);
    world.attached(epoch, acked - 1);
    world.linger();
}

pub(crate) fn answer_beyond(world: &mut World<'_>) {
    world.acknowledge_some();
    world.send(10);
    world.ask();
    let (epoch, sent) = (world.runner.session.epoch(), world.sender().transmitted_max);
    world.attached(epoch, sent + 1);
    world.linger();
}

pub(crate) fn unasked_answer(world: &mut World<'_>) {
    world.acknowledge_some();
    let epoch = world.runner.session.epoch();
    world.attached(epoch, 0);
    world.call(json!({ "do": "link_down" }));
    world.attached(epoch, 0);
    world.call(json!({ "do": "link_up" }));
    world.call(json!({ "do": "link_up" }));
    world.attached(epoch, 0);
    world.drain();
    world.call(json!({ "do": "link_up" }));
    world.drain();
    world.linger();
}

/// What the peer holds is forgotten, what it lacks goes again, what it has no credit for waits.
pub(crate) fn resume_at_credit(world: &mut World<'_>) {
    while world.runner.session.has_room() {
        world.send(16_320);
    }
    world.drain();
    let SenderState { acked, transmitted_max, credit, .. } = world.sender();
    world.ask();
    let epoch = world.runner.session.epoch();
    let received = acked + (transmitted_max - acked) / 2;
    world.frame(Frame::Attached(Attached { epoch, received, credit: 0 }));
    world.drain();
    world.frame(Frame::Ack(Ack { ack: received, credit: credit + 16_384 }));
    world.send(16_320);
    world.send(16_320);
    world.drain();
    world.linger();
}

/// A server may have spoken before it heard the first chunk.
pub(crate) fn resume_from_nothing(world: &mut World<'_>) {
    world.drain();
    for seq in 1..=3 {
        world.chunk_at(Position { seq, ..Position::default() }, 50);
    }
    world.send(10);
    world.ask();
    let epoch = world.runner.session.epoch();
    world.attached(epoch, 0);
    world.drain();
    world.linger();
}

pub(crate) fn forgotten_when_complete(world: &mut World<'_>) {
    world.acknowledge_some();
    world.end();
    world.drain();
    let position = Position { seq: world.next_seq(), ..Position::default() };
    world.frame(Frame::End(position, Box::new(end_of(Cause::BackendClosed, None, ""))));
    world.consume_all();
    world.ask();
    let epoch = world.runner.session.epoch();
    world.attached(epoch, 0);
    world.linger();
}

/// There is nothing left that the peer would have to hear.
pub(crate) fn reset_when_complete(world: &mut World<'_>) {
    world.end();
    world.drain();
    let position = Position { seq: world.next_seq(), ..Position::default() };
    world.frame(Frame::End(position, Box::new(end_of(Cause::BackendClosed, None, ""))));
    world.consume_all();
    world.call(json!({ "do": "reset", "cause": 20, "detail": "too late" }));
    world.linger();
}

pub(crate) fn peer_resets(world: &mut World<'_>) {
    let reset = Reset { cause: Cause::BackendLost.into(), detail: "gone".into() };
    world.frame(Frame::Reset(reset));
    world.linger();
    world.call(json!({ "do": "reset", "cause": 2, "detail": "too late" }));
    world.linger();
    world.ask(); // There is nothing to ask for.
}

pub(crate) fn peer_resets_unknown(world: &mut World<'_>) {
    world.frame(Frame::Reset(Reset { cause: 999, detail: "é".repeat(60) }));
    world.linger();
}

/// 123 bytes, and not in the middle of a character.
pub(crate) fn reset_with_long_detail(world: &mut World<'_>) {
    let detail = "é".repeat(80);
    world.call(json!({ "do": "reset", "cause": i32::from(Cause::Policy), "detail": detail }));
    world.transmit();
    world.linger();
}

pub(crate) fn reset_while_detached(world: &mut World<'_>) {
    world.break_link();
    world.call(json!({ "do": "reset", "cause": 2, "detail": "enough" }));
    world.transmit();
    world.call(json!({ "do": "link_up" }));
    world.drain(); // First which session, then that it is over.
    world.linger();
}

pub(crate) fn reset_and_expire(world: &mut World<'_>) {
    world.break_link();
    world.call(json!({ "do": "reset", "cause": 2, "detail": "enough" }));
    world.due();
    world.ask();
}

pub(crate) fn reset_while_asking(world: &mut World<'_>) {
    world.ask();
    world.call(json!({ "do": "reset", "cause": 2, "detail": "" }));
    world.drain();
    world.linger();
}

/// Without an attachment from the first.
pub(crate) fn reset_at_once(world: &mut World<'_>) {
    world.send(10);
    world.call(json!({ "do": "reset", "cause": 2, "detail": "never mind" }));
    world.drain();
    world.call(json!({ "do": "link_up" }));
    world.drain();
    world.linger();
}

pub(crate) fn expire_at_once(world: &mut World<'_>) {
    world.now = 1_000;
    world.send(10);
    world.call(json!({ "do": "link_down" }));
    world.transmit();
    world.due();
    world.linger();
}

pub(crate) fn abandon(world: &mut World<'_>) {
    world.call(json!({ "do": "abandon", "cause": 17, "detail": "refused" }));
    world.linger();
}

pub(crate) fn expire(world: &mut World<'_>) {
    world.call(json!({ "do": "link_down" }));
    world.due();
    world.due();
    world.linger();
}

/// The window counts from when the last attachment was lost, not from the last attempt.
pub(crate) fn expire_over_attempts(world: &mut World<'_>) {
    world.call(json!({ "do": "link_down" }));
    world.now += 100_000;
    world.call(json!({ "do": "link_up" }));
    world.transmit();
    world.now += 10_000;
    world.call(json!({ "do": "link_down" }));
    world.now += 5_000;
    world.call(json!({ "do": "link_up" }));
    world.call(json!({ "do": "link_down" }));
    world.due();
    world.due();
    world.linger();
}

pub(crate) fn go_away(world: &mut World<'_>) {
    let go_away = GoAway { after_ms: 10, grace_ms: 20, ..GoAway::default() };
    world.frame(Frame::GoAway(go_away));
    world.linger();
}

/// A window that is consumed within a second doubles: not in a second, which begins the next one,
/// and not when a byte is left, but just under and to the byte.
pub(crate) fn growth_edges(world: &mut World<'_>) {
    let window = 262_144;
    let moments =
        [(1_000, window), (1_000, 64), (999, window - 64), (0, 64), (500, window), (499, window)];
    for (wait, cost) in moments {
        world.now += wait;
        world.take(cost);
    }
    world.linger();
}

/// An acknowledgement goes at once for a quarter of the window, and for less when it is due.
pub(crate) fn quarter_edges(world: &mut World<'_>) {
    world.drain();
    for share in [65_536, 65_536 - 64, 64, 64] {
        world.now += 2_000;
        world.take(share);
    }
    world.due();
    world.drain();
    world.call(json!({ "do": "pressure", "on": true }));
    for share in [131_072, 98_304, 8_128, 64, 16_384] {
        world.now += 2_000;
        world.take(share);
    }
    world.call(json!({ "do": "pressure", "on": false }));
    world.drain();
    world.linger();
}

/// A buffer of 64 KiB has room while one byte of it is free.
pub(crate) fn buffer_edges(world: &mut World<'_>) {
    world.drain();
    for len in [16_320, 16_320, 16_320, 16_320 - 64, 0] {
        world.send(len);
    }
    world.drain();
    world.ack(1);
    world.send(16_320 + 64);
    world.linger();
}

/// Credit is spent when its last byte is taken, not before.
pub(crate) fn room_edges(world: &mut World<'_>) {
    world.drain();
    for _ in 0..15 {
        world.send(16_320);
    }
    world.send(16_320 - 64);
    world.send(0);
    world.send(1);
    world.drain();
    world.frame(Frame::Ack(Ack { ack: 3, credit: 262_145 }));
    world.drain();
    world.frame(Frame::Ack(Ack { ack: 2, credit: 262_000 })); // Late.
    world.drain();
    world.linger();
}

pub(crate) fn unconfirmed(world: &mut World<'_>) {
    world.send(10);
    world.drain();
    world.call(json!({ "do": "link_down" }));
    world.linger();
}

pub(crate) fn unconfirmed_reset(world: &mut World<'_>) {
    world.call(json!({ "do": "reset", "cause": 5, "detail": "gone" }));
    world.call(json!({ "do": "link_down" }));
    world.attach(2, 0);
    world.drain();
}

pub(crate) fn older_attach(world: &mut World<'_>) {
    world.send(10);
    let epoch = world.runner.session.epoch();
    for epoch in [epoch - 1, epoch] {
        world.attach(epoch, 0);
        world.drain();
    }
    let acked = world.sender().acked;
    world.attach(epoch + 5, acked);
    world.attach(epoch + 5, acked);
    world.attach(epoch + 4, acked);
    world.drain();
    world.linger();
}

pub(crate) fn forgetful_attach(world: &mut World<'_>) {
    world.acknowledge_some();
    let (epoch, acked) = (world.runner.session.epoch(), world.sender().acked);
    world.attach(epoch + 1, acked - 1);
    world.linger();
}

pub(crate) fn attach_beyond(world: &mut World<'_>) {
    let (epoch, sent) = (world.runner.session.epoch(), world.sender().transmitted_max);
    world.attach(epoch + 1, sent + 1);
    world.linger();
}

/// The newest gets the only answer.
pub(crate) fn two_attaches(world: &mut World<'_>) {
    world.send(10);
    world.call(json!({ "do": "link_down" }));
    let (epoch, acked) = (world.runner.session.epoch(), world.sender().acked);
    world.attach(epoch + 1, acked);
    world.attach(epoch + 2, acked);
    world.drain();
    world.linger();
}

pub(crate) fn server_resets_detached(world: &mut World<'_>) {
    world.ack(0);
    world.call(json!({ "do": "link_down" }));
    let cause = i32::from(Cause::BackendLost);
    world.call(json!({ "do": "reset", "cause": cause, "detail": "gone" }));
    world.drain();
    world.call(json!({ "do": "link_up" }));
    world.drain();
    world.ack(0); // Late, from the older attachment: it asks for nothing.
    world.drain();
    let epoch = world.runner.session.epoch();
    for epoch in [epoch + 1, epoch + 2] {
        world.attach(epoch, 0);
        world.drain();
    }
    world.linger();
}
