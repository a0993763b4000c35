//! The incoming half: order, credit, and when an acknowledgement is due.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::Side;
use super::config::Config;
use super::error::ProtocolError;
use crate::body::{Body, INITIAL_CREDIT_BYTES};
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
    growth: Growth,
    /// Most credit that may have been told to the peer.
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
    sent_credit: u64,
    due: Option<Instant>,
    ready: bool,
}

impl Receiver {
    pub(super) fn new(side: Side, config: &Config, now: Instant) -> Self {
        Self {
            side,
            stage: Stage::Head,
            inbox: VecDeque::new(),
            unconsumed: VecDeque::new(),
            received: Seq::ZERO,
            received_bytes: 0,
            consumed: Seq::ZERO,
            consumed_bytes: 0,
            end_consumed: false,
            window: INITIAL_CREDIT_BYTES,
            window_max: config.credit_bytes_max.max(INITIAL_CREDIT_BYTES),
            growth: Growth { since: now, consumed_bytes: 0 },
            granted: INITIAL_CREDIT_BYTES,
            ack: AckState {
                delay: config.ack_delay,
                sent: Seq::ZERO,
                sent_credit: INITIAL_CREDIT_BYTES,
                due: None,
                ready: false,
            },
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
        let unsaid = self.credit().saturating_sub(self.ack.sent_credit);
        if self.end_consumed || unsaid >= self.window / ACK_SHARE {
            self.ack.ready = true;
            self.ack.due = None;
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

    pub(super) fn poll_deliver(&mut self) -> Option<(Seq, Body)> {
        let delivery = self.inbox.pop_front();
        if self.inbox.is_empty() && self.inbox.capacity() > 0 {
            self.inbox = VecDeque::new();
        }
        delivery
    }

    /// What an acknowledgement says now; it counts as said.
    pub(super) fn take_ack(&mut self) -> (Seq, u64) {
        let credit = self.credit();
        self.granted = self.granted.max(credit);
        self.ack.sent = self.consumed;
        self.ack.sent_credit = credit;
        self.ack.due = None;
        self.ack.ready = false;
        (self.consumed, credit)
    }

    /// Where this end stands, for a resume: what it holds, consumed or not, and the credit.
    pub(super) fn take_position(&mut self) -> (Seq, u64) {
        let credit = self.credit();
        self.granted = self.granted.max(credit);
        self.ack.sent_credit = credit;
        (self.received, credit)
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

    /// What the peer may have sent in all, as of now.
    pub(super) const fn credit(&self) -> u64 {
        self.consumed_bytes + self.window
    }

    pub(super) const fn end_is_consumed(&self) -> bool {
        self.end_consumed
    }

    pub(super) fn clear(&mut self) {
        self.inbox = VecDeque::new();
        self.unconsumed = VecDeque::new();
        self.ack.due = None;
        self.ack.ready = false;
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
        if elapsed < GROWTH_PERIOD {
            self.window = (self.window * 2).min(self.window_max);
        }
        self.growth = Growth { since: now, consumed_bytes: self.consumed_bytes };
    }
}
