//! One end of a lab: its machine, what its application gave and got.

use std::collections::VecDeque;
use std::time::Instant;

use antipode_proto::body::{Body, SEGMENT_OVERHEAD_BYTES};
use antipode_proto::handover::v1::SessionState;
use antipode_proto::seq::Seq;
use antipode_proto::session::{Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Ack, Cause, Chunk, End as LastWord, Segment};
use bytes::Bytes;
use prost::Message;

use crate::config;

#[derive(Debug)]
pub(crate) struct End {
    pub(crate) session: Session,
    pub(crate) sent: Vec<Bytes>,
    pub(crate) delivered: Vec<Bytes>,
    consumed: Seq,
    /// Taken out of the machine, not yet written to the far socket.
    pending: VecDeque<(Seq, u64)>,
}

impl End {
    pub(crate) fn new(side: Side, now: Instant) -> Self {
        Self {
            session: Session::new(side, config(), now),
            sent: Vec::new(),
            delivered: Vec::new(),
            consumed: Seq::ZERO,
            pending: VecDeque::new(),
        }
    }

    /// Sends a chunk, if there is room.
    pub(crate) fn send(&mut self, payload: Bytes) {
        if self.session.has_room() {
            self.sent.push(payload.clone());
            self.session.send(Chunk { payload, ..Chunk::default() }.into());
        }
    }

    pub(crate) fn send_end(&mut self) {
        self.session.send(LastWord { cause: Cause::Complete.into(), ..LastWord::default() }.into());
    }

    pub(crate) fn transmit(&mut self) -> Option<Kind> {
        let wants = self.session.wants_transmit();
        let kind = self.session.poll_transmit();
        assert_eq!(wants, kind.is_some(), "it wants to send {kind:?}");
        if let Some(Kind::Segment(Segment { ack, .. }) | Kind::Ack(Ack { ack, .. })) = kind {
            assert!(Seq::from(ack) <= self.consumed, "acknowledged what was not written");
        }
        kind
    }

    pub(crate) fn take(&mut self, kind: Kind) {
        self.session.handle_frame(kind).expect("both ends keep the protocol");
        while let Some((seq, body)) = self.session.poll_deliver() {
            self.pending.push_back((seq, body.cost()));
            if let Body::Chunk(chunk) = body {
                self.delivered.push(chunk.payload);
            }
        }
    }

    pub(crate) fn consume(&mut self, count: usize, now: Instant) {
        for (seq, _) in self.pending.drain(..count.min(self.pending.len())) {
            self.session.handle_consumed(seq, now);
            self.consumed = seq;
        }
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.session.handle_timeout(now);
        let next = self.session.poll_timeout();
        assert!(next.is_none_or(|next| next > now), "the timeout has to move");
    }

    /// Another process goes on with the session; what was delivered is handed over beside it.
    pub(crate) fn hand_over(&mut self, now: Instant) {
        let bytes = self.session.export().encode_to_vec();
        let state = SessionState::decode(&*bytes).expect("what was encoded");
        let held = (self.session.held_bytes(), self.session.unacked_bytes());
        let (epoch, room) = (self.session.epoch(), self.session.has_room());
        self.session = Session::import(state, config(), now).expect("what was exported");
        assert_eq!((self.session.held_bytes(), self.session.unacked_bytes()), held);
        assert_eq!((self.session.epoch(), self.session.has_room()), (epoch, room));
        assert_eq!(self.session.poll_transmit(), None, "nothing carries it yet");
    }

    /// The same, but what carries the session outlives the older process too.
    pub(crate) fn hand_over_attached(&mut self, now: Instant) {
        let (attached, answering) = (self.session.is_attached(), self.session.export().answering);
        if attached || answering {
            self.hand_over(now);
            self.session.handle_link_kept(answering);
        }
    }

    pub(crate) fn acked(&self) -> Seq {
        self.session.export().sender.unwrap_or_default().acked.into()
    }

    pub(crate) fn check(&self) {
        let pending: u64 = self.pending.iter().map(|(_, cost)| cost).sum();
        let most = config().credit_bytes_max + 60_000 + SEGMENT_OVERHEAD_BYTES;
        assert!(pending <= most, "holds {pending} bytes against a credit of {most}");
        let unacked = self.session.unacked_bytes();
        let most = config().unacked_bytes_max + 60_000 + 2 * SEGMENT_OVERHEAD_BYTES;
        assert!(unacked <= most, "replay buffer over its limit");
        assert_eq!(self.session.held_bytes(), unacked + pending);
    }
}
