//! A session machine as a message, for the process that takes over.

use std::time::Instant;

use super::config::Config;
use super::error::Ended;
use super::link::Link;
use super::receiver::Receiver;
use super::sender::Sender;
use super::{Session, Side};
use crate::body::Body;
use crate::handover::v1::{SessionSide, SessionState};
use crate::seq::Seq;
use crate::trunk::v1::{Cause, Segment};

/// What is wrong with a session's state: it can't be taken over.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum BadState {
    /// A part is missing, or of a kind that this release does not know.
    #[error("no {0}")]
    Missing(&'static str),
    /// A segment out of sequence.
    #[error("segment {found} where {expected} should be")]
    Gap {
        /// The number that comes next.
        expected: Seq,
        /// The number that stands there.
        found: Seq,
    },
    /// Two parts contradict each other.
    #[error("contradictory {0}")]
    Contradiction(&'static str),
}

impl Session {
    /// The whole machine, to be told to another process. The session goes on there: this one is to
    /// be dropped without another word to the peer.
    ///
    /// What was delivered and not consumed stays with the driver, which hands it over itself and
    /// calls [`Session::handle_consumed`] in the new process as it would have done here.
    #[must_use]
    pub fn export(&self) -> SessionState {
        let side = match self.side {
            Side::Node => SessionSide::Node,
            Side::Core => SessionSide::Core,
            Side::Client => SessionSide::Client,
            Side::Server => SessionSide::Server,
        };
        let lives = self.ended.is_none();
        SessionState {
            side: side.into(),
            epoch: self.epoch,
            confirmed: self.confirmed,
            sender: lives.then(|| self.sender.export()),
            receiver: lives.then(|| self.receiver.export()),
            ended: self.ended.as_ref().map(Ended::to_reset),
            reset_unsent: self.reset_unsent,
            answering: self.link == Link::Answering,
        }
    }

    /// Goes on where another process stopped; nothing carries the session since `now`.
    ///
    /// # Errors
    ///
    /// The state can't be one that [`Session::export`] made.
    pub fn import(state: SessionState, config: Config, now: Instant) -> Result<Self, BadState> {
        let side = match SessionSide::try_from(state.side) {
            Ok(SessionSide::Node) => Side::Node,
            Ok(SessionSide::Core) => Side::Core,
            Ok(SessionSide::Client) => Side::Client,
            Ok(SessionSide::Server) => Side::Server,
            Ok(SessionSide::Unspecified) | Err(_) => return Err(BadState::Missing("side")),
        };
        let mut session = Self {
            link: Link::Detached { since: now },
            epoch: state.epoch,
            confirmed: state.confirmed,
            reset_unsent: state.reset_unsent,
            ..Self::new(side, config, now)
        };
        if let Some(ended) = state.ended {
            let cause = Cause::try_from(ended.cause).unwrap_or(Cause::Unspecified);
            session.ended = Some(Ended::new(cause, &ended.detail));
            return Ok(session);
        }
        let sender = state.sender.ok_or(BadState::Missing("sender"))?;
        let receiver = state.receiver.ok_or(BadState::Missing("receiver"))?;
        session.sender = Sender::import(sender, config.unacked_bytes_max)?;
        session.receiver = Receiver::import(receiver, side, &config, now)?;
        Ok(session)
    }
}

/// No session comes near this many bytes or segments (at 100 GB/s, after 1.4 years); what is beyond
/// would overflow a sum.
const COUNT_MAX: u64 = 1 << 62;

pub(super) fn checked_count(count: u64) -> Result<u64, BadState> {
    let ok = count <= COUNT_MAX;
    ok.then_some(count).ok_or(BadState::Contradiction("count that no session reaches"))
}

/// A kept segment, with the fields that only a transmission fills left out.
pub(super) fn to_segment(seq: Seq, body: &Body) -> Segment {
    Segment { seq: seq.get(), ack: 0, credit: 0, body: Some(body.clone()) }
}

/// The body of the segment that has to be the next one.
pub(super) fn from_segment(segment: Segment, expected: Seq) -> Result<Body, BadState> {
    let found = Seq::from(segment.seq);
    if found != expected {
        return Err(BadState::Gap { expected, found });
    }
    segment.body.ok_or(BadState::Missing("body of a segment"))
}
