//! What a directed life does again and again.

use antipode_proto::handover::v1::{ReceiverState, SenderState};
use antipode_proto::resume::{Frame, Position};
use antipode_proto::trunk::v1::{Ack, Attach, Attached, Chunk};
use serde_json::json;

use crate::json::from_body;
use crate::world::World;

impl World<'_> {
    /// Every call once more: what has ended stays so, what lives goes on.
    pub(crate) fn linger(&mut self) {
        let seq = self.next_seq();
        self.deliver();
        self.consume_all();
        self.now += 40;
        self.call(json!({ "do": "timeout" }));
        self.drain();
        self.chunk_at(Position { seq, ..Position::default() }, 20);
        self.call(json!({ "do": "link_down" }));
        self.transmit();
        self.due();
        self.transmit();
    }

    pub(crate) fn sender(&self) -> SenderState {
        self.runner.session.export().sender.unwrap_or_default()
    }

    pub(crate) fn receiver(&self) -> ReceiverState {
        self.runner.session.export().receiver.unwrap_or_default()
    }

    pub(crate) fn next_seq(&self) -> u64 {
        let ReceiverState { consumed, delivered_costs, inbox, .. } = self.receiver();
        let held = delivered_costs.len() + inbox.len();
        consumed + u64::try_from(held).expect("few") + 1
    }

    pub(crate) fn send(&mut self, len: usize) {
        let payload = vec![0x61; len].into();
        let chunk = Chunk { frame: Some(0x82), payload, ..Chunk::default() };
        self.call(json!({ "do": "send", "body": from_body(&chunk.into()) }));
    }

    pub(crate) fn drain(&mut self) {
        while self.runner.session.wants_transmit() {
            self.transmit();
        }
        self.transmit();
    }

    pub(crate) fn ack(&mut self, ack: u64) {
        self.frame(Frame::Ack(Ack { ack, credit: 0 }));
    }

    pub(crate) fn attach(&mut self, epoch: u64, received: u64) {
        self.frame(Frame::Attach(Attach { epoch, received, ..Attach::default() }));
    }

    pub(crate) fn attached(&mut self, epoch: u64, received: u64) {
        self.frame(Frame::Attached(Attached { epoch, received, credit: 300_000 }));
    }

    pub(crate) fn chunk_at(&mut self, position: Position, len: usize) {
        let chunk = Chunk { payload: vec![0x62; len].into(), ..Chunk::default() };
        self.frame(Frame::Chunk(position, chunk));
    }

    pub(crate) fn acknowledge_some(&mut self) {
        self.send(10);
        self.send(10);
        self.drain();
        let sent = self.sender().transmitted_max;
        self.ack(sent);
    }

    pub(crate) fn ask(&mut self) {
        self.call(json!({ "do": "link_down" }));
        self.call(json!({ "do": "link_up" }));
        self.transmit();
    }

    /// Takes in so much, in whole chunks, and consumes it at once.
    pub(crate) fn take(&mut self, cost: usize) {
        let mut rest = cost;
        while rest > 0 {
            let piece = rest.min(16_384);
            rest -= piece;
            let seq = self.next_seq();
            self.chunk_at(Position { seq, ..Position::default() }, piece - 64);
        }
        self.consume_all();
        self.drain();
    }

    pub(crate) fn consume_all(&mut self) {
        while self.runner.session.ended().is_none() && !self.receiver().inbox.is_empty() {
            self.deliver();
        }
        let seq = self.next_seq() - 1;
        if self.runner.session.ended().is_none() {
            self.call(json!({ "do": "consumed", "seq": seq }));
        }
    }
}
