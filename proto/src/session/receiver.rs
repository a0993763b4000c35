//! The incoming half: order, credit, and when an acknowledgement is due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Side;
use super::config::{Config, PRESSURE_WINDOW_BYTES};
use super::error::ProtocolError;
use super::state::{BadState, checked_count, from_segment, to_segment};
use crate::body::{Body, INITIAL_CREDIT_BYTES};
use crate::handover::v1::{ReceiverStage, ReceiverState};
use crate::seq::Seq;

/// A window spent within this time doubles.
const GROWTH_PERIOD: Duration = Duration::from_secs(1);

/// An acknowledgement goes at once when this share of the window has been consumed since the last.
const ACK_SHARE: u64 = 4;

#[derive(Debug)]
pub(super) struct Receiver {
    side: Side,
    stage: Stage,
    /// Received and not yet handed to the driver.
    inbox: VecDeque<(Seq, Body)>,
    /// Received and not yet consumed: number and cost.
    unconsumed: VecDeque<(Seq, u64)>,
    received: Seq,
    received_bytes: u64,
    consumed: Seq,
    consumed_bytes: u64,
    end_consumed: bool,
    window: u64,
    window_max: u64,
    pressed: bool,
    growth: Growth,
    /// Credit that was told to the peer last: the most there ever was.
    granted: u64,
    ack: AckState,
}

/// What may come next.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    Head,
    Flow,
    Ended,
}

/// When the window was last looked at, and how much had been consumed then.
#[derive(Debug)]
struct Growth {
    since: Instant,
    consumed_bytes: u64,
}

#[derive(Debug)]
struct AckState {
    delay: Duration,
    /// Told to the peer last.
    sent: Seq,
    due: Option<Instant>,
    ready: bool,
}

impl Receiver {
    pub(super) fn new(side: Side, config: &Config, now: Instant) -> Self {
        Self {
            side,
            stage: match side {
                Side::Node | Side::Core => Stage::Head,
                Side::Client | Side::Server => Stage::Flow,
            },
            inbox: VecDeque::new(),
            unconsumed: VecDeque::new(),
            received: Seq::ZERO,
            received_bytes: 0,
            consumed: Seq::ZERO,
            consumed_bytes: 0,
            end_consumed: false,
            window: INITIAL_CREDIT_BYTES,
            window_max: config.credit_bytes_max.max(INITIAL_CREDIT_BYTES),
            pressed: false,
            growth: Growth { since: now, consumed_bytes: 0 },
            granted: INITIAL_CREDIT_BYTES,
            ack: AckState { delay: config.ack_delay, sent: Seq::ZERO, due: None, ready: false },
        }
    }

    pub(super) fn handle_segment(&mut self, seq: Seq, body: Body) -> Result<(), ProtocolError> {
        if seq != self.received.next() {
            // A copy, or beyond a gap: a late frame of an older lane. A resume told the peer where
            // we stand.
            return Ok(());
        }
        if self.received_bytes >= self.granted {
            return Err(ProtocolError::CreditExceeded { seq: seq.get() });
        }
        self.stage =
            self.next_stage(&body).ok_or_else(|| ProtocolError::OutOfPlace { seq: seq.get() })?;
        let cost = body.cost();
        self.received = seq;
        self.received_bytes += cost;
        self.unconsumed.push_back((seq, cost));
        self.inbox.push_back((seq, body));
        Ok(())
    }

    pub(super) fn handle_consumed(&mut self, seq: Seq, now: Instant) {
        debug_assert!(seq <= self.received, "consumed what was never received");
        let before = self.consumed;
        while self.unconsumed.front().is_some_and(|&(front, _)| front <= seq) {
            let Some((front, cost)) = self.unconsumed.pop_front() else { break };
            self.consumed = front;
            self.consumed_bytes += cost;
        }
        if self.consumed == before {
            return;
        }
        if self.unconsumed.is_empty() {
            self.unconsumed = VecDeque::new(); // An idle session holds no buffer.
        }
        self.end_consumed = self.stage == Stage::Ended && self.consumed == self.received;
        self.grow_window(now);
        if self.end_consumed || self.renewal_is_due() {
            self.ack_at_once();
        } else if !self.ack.ready {
            self.ack.due.get_or_insert(now + self.ack.delay);
        }
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.ack.due.is_some_and(|due| due <= now) {
            self.ack.due = None;
            self.ack.ready = true;
        }
    }

    pub(super) fn set_pressure(&mut self, pressed: bool) {
        self.pressed = pressed;
        if self.renewal_is_due() {
            self.ack_at_once(); // The pressure is off, and the peer may be waiting.
        }
    }

    pub(super) fn ack_at_once(&mut self) {
        self.ack.ready = true;
        self.ack.due = None;
    }

    pub(super) fn poll_deliver(&mut self) -> Option<(Seq, Body)> {
        let delivery = self.inbox.pop_front();
        if self.inbox.is_empty() && self.inbox.capacity() > 0 {
            self.inbox = VecDeque::new();
        }
        delivery
    }

    /// What an acknowledgement says now; it counts as said.
    pub(super) fn take_ack(&mut self) -> (Seq, u64) {
        self.grant();
        self.ack.sent = self.consumed;
        self.ack.due = None;
        self.ack.ready = false;
        (self.consumed, self.granted)
    }

    /// Where this end stands, for a resume: what it holds, consumed or not, and the credit.
    pub(super) fn take_position(&mut self) -> (Seq, u64) {
        self.grant();
        (self.received, self.granted)
    }

    pub(super) const fn ack_is_ready(&self) -> bool {
        self.ack.ready
    }

    pub(super) const fn ack_due(&self) -> Option<Instant> {
        self.ack.due
    }

    /// Whether something consumed has not been acknowledged yet.
    pub(super) fn owes_ack(&self) -> bool {
        self.ack.sent < self.consumed
    }

    pub(super) const fn received(&self) -> Seq {
        self.received
    }

    /// What the peer should be allowed in all, as of now; under pressure less than it was granted.
    pub(super) fn credit(&self) -> u64 {
        self.consumed_bytes + self.open_window()
    }

    pub(super) const fn unconsumed_bytes(&self) -> u64 {
        self.received_bytes - self.consumed_bytes
    }

    pub(super) fn end_has_come(&self) -> bool {
        self.stage == Stage::Ended
    }

    pub(super) const fn end_is_consumed(&self) -> bool {
        self.end_consumed
    }

    pub(super) fn export(&self) -> ReceiverState {
        let stage = match self.stage {
            Stage::Head => ReceiverStage::Head,
            Stage::Flow => ReceiverStage::Flow,
            Stage::Ended => ReceiverStage::Ended,
        };
        let delivered = self.unconsumed.len() - self.inbox.len();
        ReceiverState {
            stage: stage.into(),
            consumed: self.consumed.get(),
            consumed_bytes: self.consumed_bytes,
            delivered_costs: self
                .unconsumed
                .iter()
                .take(delivered)
                .map(|&(_, cost)| cost)
                .collect(),
            inbox: self.inbox.iter().map(|(seq, body)| to_segment(*seq, body)).collect(),
            window: self.window,
            granted: self.granted,
            ack_sent: self.ack.sent.get(),
            ack_waits: self.ack.ready || self.ack.due.is_some(),
        }
    }

    pub(super) fn import(
        state: ReceiverState,
        side: Side,
        config: &Config,
        now: Instant,
    ) -> Result<Self, BadState> {
        let mut receiver = Self::new(side, config, now);
        receiver.consumed = checked_count(state.consumed)?.into();
        receiver.received = receiver.consumed;
        for cost in state.delivered_costs {
            receiver.received = receiver.received.next();
            receiver.unconsumed.push_back((receiver.received, cost));
        }
        for segment in state.inbox {
            receiver.received = receiver.received.next();
            let body = from_segment(segment, receiver.received)?;
            receiver.unconsumed.push_back((receiver.received, body.cost()));
            receiver.inbox.push_back((receiver.received, body));
        }
        receiver.stage = match ReceiverStage::try_from(state.stage) {
            Ok(ReceiverStage::Head) => Stage::Head,
            Ok(ReceiverStage::Flow) => Stage::Flow,
            Ok(ReceiverStage::Ended) => Stage::Ended,
            Ok(ReceiverStage::Unspecified) | Err(_) => return Err(BadState::Missing("stage")),
        };
        receiver.consumed_bytes = state.consumed_bytes;
        receiver.received_bytes = checked_count(state.consumed_bytes)?;
        for &(_, cost) in &receiver.unconsumed {
            receiver.received_bytes =
                checked_count(receiver.received_bytes + checked_count(cost)?)?;
        }
        receiver.end_consumed =
            receiver.stage == Stage::Ended && receiver.consumed == receiver.received;
        receiver.growth.consumed_bytes = state.consumed_bytes;
        receiver.window = state.window.clamp(INITIAL_CREDIT_BYTES, receiver.window_max);
        receiver.granted = state.granted;
        receiver.ack.sent = state.ack_sent.into();
        receiver.ack.ready = state.ack_waits;
        let ends = receiver.inbox.iter().position(|(_, body)| body.is_end());
        let ends_last = ends.is_none_or(|at| at + 1 == receiver.inbox.len());
        if !ends_last || (ends.is_some() && receiver.stage != Stage::Ended) {
            return Err(BadState::Contradiction("end"));
        }
        if receiver.ack.sent > receiver.consumed {
            return Err(BadState::Contradiction("acknowledgement"));
        }
        Ok(receiver)
    }

    pub(super) fn clear(&mut self) {
        self.inbox = VecDeque::new();
        self.unconsumed = VecDeque::new();
        self.ack.due = None;
        self.ack.ready = false;
    }

    fn open_window(&self) -> u64 {
        if self.pressed { self.window.min(PRESSURE_WINDOW_BYTES) } else { self.window }
    }

    fn renewal_is_due(&self) -> bool {
        self.credit().saturating_sub(self.granted) >= self.open_window() / ACK_SHARE
    }

    /// What was granted once is never taken back.
    fn grant(&mut self) {
        self.granted = self.granted.max(self.credit());
    }

    fn next_stage(&self, body: &Body) -> Option<Stage> {
        match (self.stage, self.side, body) {
            (Stage::Head, Side::Core, Body::Request(_))
            | (Stage::Head, Side::Node, Body::Response(_))
            | (Stage::Flow, _, Body::Chunk(_)) => Some(Stage::Flow),
            (Stage::Head | Stage::Flow, _, Body::End(_)) => Some(Stage::Ended),
            (Stage::Head, _, Body::Request(_) | Body::Response(_) | Body::Chunk(_))
            | (Stage::Flow, _, Body::Request(_) | Body::Response(_))
            | (Stage::Ended, _, _) => None,
        }
    }

    fn grow_window(&mut self, now: Instant) {
        let consumed = self.consumed_bytes - self.growth.consumed_bytes;
        let elapsed = now.saturating_duration_since(self.growth.since);
        if elapsed < GROWTH_PERIOD && consumed < self.window {
            return;
        }
        if elapsed < GROWTH_PERIOD && !self.pressed {
            self.window = (self.window * 2).min(self.window_max);
        }
        self.growth = Growth { since: now, consumed_bytes: self.consumed_bytes };
    }
}
