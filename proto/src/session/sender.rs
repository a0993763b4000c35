//! The outgoing half: what is kept until it is acknowledged, and where the next transmission
//! starts.

use std::collections::VecDeque;

use super::error::ProtocolError;
use super::state::{BadState, checked_count, from_segment, to_segment};
use crate::body::{Body, INITIAL_CREDIT_BYTES};
use crate::handover::v1::SenderState;
use crate::seq::Seq;

#[derive(Debug)]
pub(super) struct Sender {
    /// Queued and not yet acknowledged, oldest first.
    unacked: VecDeque<Kept>,
    unacked_bytes: u64,
    unacked_bytes_max: u64,
    /// How many at the front of `unacked` have gone to the lane since the last resume.
    transmitted: usize,
    last_queued: Seq,
    acked: Seq,
    /// The highest segment that ever went to a lane.
    transmitted_max: Seq,
    /// Cost of everything queued so far.
    queued_bytes: u64,
    /// What the peer allows in all since the session began.
    credit: u64,
    /// What may be on its way at a time, whatever the credit.
    in_flight_bytes_max: u64,
    ended: bool,
    replayed: u64,
}

#[derive(Debug)]
struct Kept {
    seq: Seq,
    /// Cost of all segments before this one since the session began.
    offset: u64,
    body: Body,
}

impl Sender {
    pub(super) fn new(unacked_bytes_max: u64) -> Self {
        Self {
            unacked: VecDeque::new(),
            unacked_bytes: 0,
            unacked_bytes_max,
            transmitted: 0,
            last_queued: Seq::ZERO,
            acked: Seq::ZERO,
            transmitted_max: Seq::ZERO,
            queued_bytes: 0,
            credit: INITIAL_CREDIT_BYTES,
            in_flight_bytes_max: u64::MAX,
            ended: false,
            replayed: 0,
        }
    }

    pub(super) fn push(&mut self, body: Body) {
        self.last_queued = self.last_queued.next();
        self.ended |= body.is_end();
        let cost = body.cost();
        self.unacked.push_back(Kept { seq: self.last_queued, offset: self.queued_bytes, body });
        self.queued_bytes += cost;
        self.unacked_bytes += cost;
    }

    pub(super) fn has_room(&self) -> bool {
        self.unacked_bytes < self.unacked_bytes_max && self.queued_bytes < self.credit
    }

    /// A segment may go while any credit is left: it overshoots by itself at most, so that no
    /// segment is too large ever to be sent.
    pub(super) fn wants_transmit(&self) -> bool {
        self.next().is_some()
    }

    pub(super) fn poll_transmit(&mut self) -> Option<(Seq, Body)> {
        let kept = self.next()?;
        let (seq, body) = (kept.seq, kept.body.clone());
        self.transmitted += 1;
        if seq <= self.transmitted_max {
            self.replayed += 1;
        }
        self.transmitted_max = self.transmitted_max.max(seq);
        Some((seq, body))
    }

    pub(super) const fn set_in_flight_max(&mut self, bytes: u64) {
        self.in_flight_bytes_max = bytes;
    }

    /// Whether all that ever went to a lane has arrived.
    pub(super) const fn is_settled(&self) -> bool {
        self.transmitted == 0 && self.transmitted_max.get() == self.acked.get()
    }

    /// Whether our first segment is acknowledged.
    pub(super) fn head_is_acked(&self) -> bool {
        self.acked > Seq::ZERO
    }

    /// Forgets what has arrived. Acks are cumulative, so an older one changes nothing.
    pub(super) fn handle_ack(&mut self, ack: Seq, credit: u64) -> Result<(), ProtocolError> {
        if ack > self.transmitted_max {
            let (ack, last_sent) = (ack.get(), self.transmitted_max.get());
            return Err(ProtocolError::AckBeyondSent { ack, last_sent });
        }
        self.credit = self.credit.max(credit);
        while self.unacked.front().is_some_and(|kept| kept.seq <= ack) {
            let Some(kept) = self.unacked.pop_front() else { break };
            self.unacked_bytes -= kept.body.cost();
            self.transmitted = self.transmitted.saturating_sub(1);
        }
        self.acked = self.acked.max(ack);
        Ok(())
    }

    /// The peer holds everything up to `received`: transmission goes on from the next one.
    pub(super) fn handle_resume(
        &mut self,
        received: Seq,
        credit: u64,
    ) -> Result<(), ProtocolError> {
        self.handle_position(received, credit)?;
        self.transmitted = 0;
        Ok(())
    }

    /// The peer held everything up to `received` when it was asked, and what was sent since is on
    /// its way.
    pub(super) fn handle_position(
        &mut self,
        received: Seq,
        credit: u64,
    ) -> Result<(), ProtocolError> {
        if received < self.acked {
            let (received, acked) = (received.get(), self.acked.get());
            return Err(ProtocolError::StateLost { received, acked });
        }
        self.handle_ack(received, credit)
    }

    /// Whether nothing has ever gone to a lane.
    pub(super) fn is_untouched(&self) -> bool {
        self.transmitted_max == Seq::ZERO
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unacked.is_empty()
    }

    /// What goes next, if it may go now.
    fn next(&self) -> Option<&Kept> {
        let arrived_bytes = self.queued_bytes - self.unacked_bytes;
        let may_go = |kept: &&Kept| {
            let in_flight = kept.offset - arrived_bytes;
            kept.offset < self.credit && (in_flight == 0 || in_flight < self.in_flight_bytes_max)
        };
        self.unacked.get(self.transmitted).filter(may_go)
    }

    pub(super) const fn is_ended(&self) -> bool {
        self.ended
    }

    pub(super) const fn unacked_bytes(&self) -> u64 {
        self.unacked_bytes
    }

    pub(super) const fn replayed(&self) -> u64 {
        self.replayed
    }

    pub(super) fn clear(&mut self) {
        self.unacked = VecDeque::new();
        self.unacked_bytes = 0;
        self.transmitted = 0;
    }

    pub(super) fn export(&self) -> SenderState {
        SenderState {
            unacked: self.unacked.iter().map(|kept| to_segment(kept.seq, &kept.body)).collect(),
            acked: self.acked.get(),
            transmitted_max: self.transmitted_max.get(),
            queued_bytes: self.queued_bytes,
            credit: self.credit,
            ended: self.ended,
            replayed: self.replayed,
            transmitted: u64::try_from(self.transmitted).unwrap_or(u64::MAX),
        }
    }

    pub(super) fn import(state: SenderState, unacked_bytes_max: u64) -> Result<Self, BadState> {
        let acked = Seq::from(checked_count(state.acked)?);
        let mut sender = Self {
            last_queued: acked,
            acked,
            transmitted_max: state.transmitted_max.into(),
            credit: state.credit,
            replayed: state.replayed,
            ..Self::new(unacked_bytes_max)
        };
        let mut bodies = Vec::with_capacity(state.unacked.len());
        for (seq, segment) in (state.acked + 1..).zip(state.unacked) {
            if bodies.last().is_some_and(Body::is_end) {
                return Err(BadState::Contradiction("segment after the end"));
            }
            bodies.push(from_segment(segment, seq.into())?);
        }
        let unacked_bytes = bodies.iter().map(Body::cost).sum();
        let acked_bytes = checked_count(state.queued_bytes)?.checked_sub(unacked_bytes);
        sender.queued_bytes = acked_bytes.ok_or(BadState::Contradiction("cost of what is kept"))?;
        bodies.into_iter().for_each(|body| sender.push(body));

        let keeps_end = sender.ended;
        sender.ended = state.ended;
        let ended_before = state.ended && sender.unacked.is_empty();
        let range = sender.acked..=sender.last_queued;
        if keeps_end != state.ended && !ended_before {
            return Err(BadState::Contradiction("end"));
        }
        if !range.contains(&sender.transmitted_max) {
            return Err(BadState::Contradiction("number of the last transmission"));
        }
        let gone = sender.transmitted_max.get() - sender.acked.get();
        let transmitted = usize::try_from(state.transmitted).ok();
        sender.transmitted = transmitted
            .filter(|_| state.transmitted <= gone)
            .ok_or(BadState::Contradiction("count of what has gone"))?;
        Ok(sender)
    }
}
