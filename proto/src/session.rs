//! One session: numbering, credit, cumulative acks, and replay after its lane broke.
//!
//! The same machine runs at both ends of a trunk, and at both ends of what a resumable client and
//! a core say through it. It knows no socket and no clock: the driver calls a `handle_*` method or
//! [`Session::send`], then drains [`Session::poll_transmit`] towards the lane and
//! [`Session::poll_deliver`] towards its own socket, then waits until [`Session::poll_timeout`].

mod config;
mod error;
mod link;
mod receiver;
mod sender;
mod state;
#[cfg(test)]
mod tests;

use std::time::Instant;

use crate::body::Body;
use crate::seq::Seq;
use crate::trunk::v1::frame::Kind;
use crate::trunk::v1::{Ack, Attach, Attached, Cause, Reset, Segment};

pub use config::{Config, PRESSURE_WINDOW_BYTES};
pub use error::{Ended, ProtocolError};
use link::Link;
use receiver::Receiver;
use sender::Sender;
pub use state::BadState;

/// The end at which the machine runs.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// Of a trunk: sends the request head, receives the response head, asks after a break.
    Node,
    /// The other end of the trunk: the reverse.
    Core,
    /// Of `antipode.resume.v1`: neither direction has a head. Asks after a break.
    Client,
    /// The other end of it, in the core: is asked.
    Server,
}

/// Reliable, ordered delivery both ways over lanes that come and go.
#[derive(Debug)]
pub struct Session {
    side: Side,
    config: Config,
    link: Link,
    /// Segments may follow the question without waiting for its answer.
    follows_question: bool,
    /// The attachment that counts; 0 before the first.
    epoch: u64,
    /// Whether the peer has ever said anything.
    confirmed: bool,
    sender: Sender,
    receiver: Receiver,
    ended: Option<Ended>,
    reset_unsent: bool,
}

impl Session {
    /// A session that no lane carries yet.
    #[must_use]
    pub fn new(side: Side, config: Config, now: Instant) -> Self {
        Self {
            side,
            config,
            link: Link::Detached { since: now },
            follows_question: false,
            epoch: 0,
            confirmed: false,
            sender: Sender::new(config.unacked_bytes_max),
            receiver: Receiver::new(side, &config, now),
            ended: None,
            reset_unsent: false,
        }
    }

    /// Queues one segment. It is kept until the peer has acknowledged it.
    ///
    /// The machine takes what it is given: the driver asks [`Session::has_room`] before each chunk.
    pub fn send(&mut self, body: Body) {
        debug_assert!(!self.sender.is_ended(), "nothing follows an end");
        if self.ended.is_none() {
            self.sender.push(body);
        }
    }

    /// Whether the next chunk would stay within the peer's credit and our replay buffer.
    ///
    /// Changes after `handle_frame` and `send`.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.sender.has_room()
    }

    /// Ends the session at once and tells the peer. Whatever was under way is dropped.
    pub fn reset(&mut self, cause: Cause, detail: &str) {
        if self.ended.is_none() {
            self.reset_unsent = !self.is_complete();
            self.end(Ended::new(cause, detail));
        }
    }

    /// Ends the session without a word: the peer is known to be gone.
    pub fn abandon(&mut self, cause: Cause, detail: &str) {
        if self.ended.is_none() {
            self.end(Ended::new(cause, detail));
        }
    }

    /// Takes one frame of this session from the lane.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol; the driver should [`Session::reset`] with
    /// [`Cause::TrunkProtocol`]. A duplicate or a gap is no error: late frames of an older lane
    /// look so.
    pub fn handle_frame(&mut self, kind: Kind) -> Result<(), ProtocolError> {
        self.confirmed = true;
        if self.ended.is_some() {
            // A peer that asks where we stand has to hear of the reset that found no lane.
            if matches!(kind, Kind::Attach(_)) && self.reset_unsent {
                self.link = Link::Attached;
            }
            return Ok(());
        }
        match kind {
            Kind::Segment(segment) => self.handle_segment(segment),
            Kind::Ack(Ack { ack, credit }) => self.sender.handle_ack(ack.into(), credit),
            Kind::Attach(attach) => self.handle_attach(&attach),
            Kind::Attached(attached) => self.handle_attached(&attached),
            Kind::Reset(Reset { cause, detail }) => {
                let cause = Cause::try_from(cause).unwrap_or(Cause::Unspecified);
                self.end(Ended::new(cause, &detail));
                Ok(())
            }
            // An invitation to a resumable client: nothing for the machine to do.
            Kind::GoAway(_) => Ok(()),
        }
    }

    /// The driver has written everything up to `seq` to its own socket, or has thrown it away for
    /// good.
    pub fn handle_consumed(&mut self, seq: Seq, now: Instant) {
        self.receiver.handle_consumed(seq, now);
    }

    /// Runs whatever is due at `now`. A spurious call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.receiver.handle_timeout(now);
        if self.detached_deadline().is_some_and(|due| due <= now) {
            self.expire();
        }
    }

    /// Tells the machine whether memory is short. Under pressure its window shrinks to
    /// [`PRESSURE_WINDOW_BYTES`] as fast as what was granted before is consumed, and does not grow.
    pub fn set_pressure(&mut self, pressed: bool) {
        self.receiver.set_pressure(pressed);
    }

    /// Most bytes that may be on their way at a time, whatever the credit: a session that shares
    /// its lane with others must not fill it. A segment may go while less than that is on its way,
    /// so it overshoots by one.
    pub const fn set_in_flight_max(&mut self, bytes: u64) {
        self.sender.set_in_flight_max(bytes);
    }

    /// The next frame for the lane, or `None` once drained. Changes after every `handle_*`, `send`
    /// and `reset`.
    #[must_use]
    pub fn poll_transmit(&mut self) -> Option<Kind> {
        if self.may_reset() {
            self.reset_unsent = false;
            let ended = self.ended.as_ref()?;
            return Some(Kind::Reset(ended.to_reset()));
        }
        match self.link {
            Link::Asking { since } if self.may_ask() => {
                self.link = Link::Asked { since };
                self.epoch = self.epoch.saturating_add(1);
                Some(Kind::Attach(self.attach()))
            }
            Link::Answering if self.ended.is_none() => {
                self.link = Link::Attached;
                let Attach { epoch, received, credit, .. } = self.attach();
                Some(Kind::Attached(Attached { epoch, received, credit }))
            }
            Link::Attached if self.ended.is_none() => self.poll_attached(),
            Link::Asked { .. } if self.ended.is_none() && self.follows_question => {
                self.poll_attached()
            }
            Link::Detached { .. }
            | Link::Asking { .. }
            | Link::Asked { .. }
            | Link::Answering
            | Link::Attached => None,
        }
    }

    /// Whether [`Session::poll_transmit`] has something.
    #[must_use]
    pub fn wants_transmit(&self) -> bool {
        if self.may_reset() {
            return true;
        }
        match self.link {
            Link::Detached { .. } => false,
            Link::Asking { .. } => self.may_ask(),
            Link::Answering => self.ended.is_none(),
            Link::Asked { .. } => self.follows_question && self.speaks(),
            Link::Attached => self.speaks(),
        }
    }

    /// The next segment for our own socket, in order, once. Changes after `handle_frame`.
    #[must_use]
    pub fn poll_deliver(&mut self) -> Option<(Seq, Body)> {
        if self.ended.is_some() {
            return None;
        }
        self.receiver.poll_deliver()
    }

    /// When [`Session::handle_timeout`] is next of use. Changes after every other method.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.ack_deadline(), self.detached_deadline()].into_iter().flatten().min()
    }

    /// When an acknowledgement is due, if one waits. Changes as [`Session::poll_timeout`] does.
    #[must_use]
    pub fn ack_deadline(&self) -> Option<Instant> {
        self.receiver.ack_due()
    }

    /// Why the session ended before its time; `None` while it lives and after an orderly end.
    #[must_use]
    pub const fn ended(&self) -> Option<&Ended> {
        self.ended.as_ref()
    }

    /// Whether both directions have come to their end here: ours is queued, the peer's is consumed.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.sender.is_ended() && self.receiver.end_is_consumed()
    }

    /// Whether the peer has acknowledged everything we had to say, our end included.
    #[must_use]
    pub fn is_heard_out(&self) -> bool {
        self.sender.is_ended() && self.sender.is_empty()
    }

    /// Whether the machine can be dropped: nothing has to be sent, awaited or delivered any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        if self.ended.is_some() {
            return !self.reset_unsent;
        }
        self.is_complete() && self.is_heard_out() && !self.receiver.owes_ack()
    }

    /// The attachment that counts now.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Bytes kept for a replay, overhead included.
    #[must_use]
    pub const fn unacked_bytes(&self) -> u64 {
        self.sender.unacked_bytes()
    }

    /// Bytes held for this session, overhead included: kept for a replay, or received and not yet
    /// consumed. This is what a budget counts.
    #[must_use]
    pub fn held_bytes(&self) -> u64 {
        if self.ended.is_some() {
            return 0;
        }
        self.sender.unacked_bytes() + self.receiver.unconsumed_bytes()
    }

    /// Segments sent again since the session began.
    #[must_use]
    pub const fn replayed(&self) -> u64 {
        self.sender.replayed()
    }

    fn handle_segment(&mut self, segment: Segment) -> Result<(), ProtocolError> {
        let Segment { seq, ack, credit, body } = segment;
        self.sender.handle_ack(ack.into(), credit)?;
        let body = body.ok_or(ProtocolError::EmptySegment)?;
        if self.epoch == 0 && self.side == Side::Core {
            // It hears of the session for the first time.
            self.epoch = 1;
            self.link = Link::Attached;
        }
        self.receiver.handle_segment(seq.into(), body)
    }

    fn speaks(&self) -> bool {
        let speaks = self.sender.wants_transmit() || self.receiver.ack_is_ready();
        self.ended.is_none() && speaks
    }

    fn poll_attached(&mut self) -> Option<Kind> {
        if let Some((seq, body)) = self.sender.poll_transmit() {
            let (ack, credit) = self.receiver.take_ack();
            let (seq, ack) = (seq.get(), ack.get());
            return Some(Kind::Segment(Segment { seq, ack, credit, body: Some(body) }));
        }
        if self.receiver.ack_is_ready() {
            let (ack, credit) = self.receiver.take_ack();
            return Some(Kind::Ack(Ack { ack: ack.get(), credit }));
        }
        None
    }

    fn end(&mut self, ended: Ended) {
        self.ended = Some(ended);
        self.sender.clear();
        self.receiver.clear();
    }
}
