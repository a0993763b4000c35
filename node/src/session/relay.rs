//! One WebSocket at the node, as a pure machine: frames up, frames down, pings, closes, deadlines.
//!
//! The driver feeds bytes and deliveries in ([`Relay::handle_read`], `handle_*`), then drains
//! [`Relay::poll_up`], [`Relay::poll_consumed`] and [`Relay::socket_buffers`], then waits until
//! [`Relay::poll_timeout`]. While a session idles the machine holds no buffer.

mod down;
mod stage;
#[cfg(test)]
mod tests;
mod up;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use antipode_proto::body::Body;
use antipode_proto::seq::Seq;
use antipode_proto::trunk::v1::{Cause, End};
use antipode_websocket::{Policy, Reader, Side, Writer};
use bytes::{Bytes, BytesMut};

use crate::config::SessionLimits;
pub use down::DeliveryError;
use stage::Stage;

/// Most payload bytes in one chunk of a frame.
pub use antipode_proto::body::CHUNK_BYTES_MAX;

/// Pongs are written at once while less than this waits for the client; beyond, only the answer to
/// the last ping is kept (RFC 6455 section 5.5.3 allows it), so a burst of pings can't fill memory.
const PONG_ROOM_BYTES: usize = 4 * 1024;

/// Whether the upgrade was answered before the backend answered it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Answered {
    /// The response head has been delivered already.
    AfterBackend,
    /// The response head is still to come.
    Early,
}

/// Both ways of one client's WebSocket.
#[derive(Debug)]
pub struct Relay {
    limits: Arc<SessionLimits>,
    reader: Reader,
    writer: Writer,
    stage: Stage,
    /// What the client sent and the reader has not taken.
    input: BytesMut,
    /// What waits for the client's socket.
    out: BytesMut,
    /// Bytes ever put into `out`, and ever taken from it.
    queued: u64,
    written: u64,
    /// Segments and the position in `queued` at which each one is on the socket.
    owed: VecDeque<(u64, Seq)>,
    /// The end of the way up, to be sent next.
    end_due: Option<Box<End>>,
    pong_due: Option<Bytes>,
    up_ended: bool,
    eof: bool,
    head_due: bool,
    /// Why it ended, the first reason.
    cause: Option<Cause>,
    heard: Instant,
    pinged: Instant,
    /// Since when the socket has taken nothing though something waits.
    stalled: Option<Instant>,
    drain_at: Option<Instant>,
    invite_at: Option<Instant>,
    invite_due: bool,
}

impl Relay {
    /// A WebSocket whose upgrade is answered; `deflate` says that RSV1 has a meaning.
    pub fn new(
        limits: Arc<SessionLimits>,
        answered: Answered,
        rsv1_allowed: bool,
        now: Instant,
    ) -> Self {
        let policy = Policy {
            frame_bytes_max: limits.frame_bytes_max,
            chunk_bytes_max: CHUNK_BYTES_MAX,
            rsv1_allowed,
        };
        Self {
            limits,
            reader: Reader::new(Side::Server, policy),
            writer: Writer::server(),
            stage: Stage::Open,
            input: BytesMut::new(),
            out: BytesMut::new(),
            queued: 0,
            written: 0,
            owed: VecDeque::new(),
            end_due: None,
            pong_due: None,
            up_ended: false,
            eof: false,
            head_due: answered == Answered::Early,
            cause: None,
            heard: now,
            pinged: now,
            stalled: None,
            drain_at: None,
            invite_at: None,
            invite_due: false,
        }
    }

    /// The bytes that wait for the client's socket, and the buffer that takes what it sends.
    pub fn socket_buffers(&mut self) -> (&[u8], &mut BytesMut) {
        (&self.out, &mut self.input)
    }

    /// Whether bytes wait for the client's socket.
    pub fn has_output(&self) -> bool {
        !self.out.is_empty()
    }

    /// Whether the driver should read the client's socket: all that came before is taken.
    pub fn wants_input(&self) -> bool {
        self.input.is_empty() && !self.eof && !self.is_over()
    }

    /// Whether [`Relay::poll_up`] may have a chunk, and so needs room in the trunk first.
    pub fn has_input(&self) -> bool {
        !self.input.is_empty()
    }

    /// Whether the way up is over: what is read from now on is thrown away.
    pub fn is_up_ended(&self) -> bool {
        self.up_ended
    }

    /// Whether the next delivery may come.
    pub fn wants_delivery(&self) -> bool {
        self.out.len() < self.limits.client_queue_bytes_max
    }

    /// Nothing is left to do at the client's socket but to shut it.
    pub fn is_over(&self) -> bool {
        match self.stage {
            Stage::Open
            | Stage::ClientClosed { .. }
            | Stage::Refused { .. }
            | Stage::Closing(_) => false,
            Stage::Flushing { .. } => self.out.is_empty(),
            Stage::Over => true,
        }
    }

    /// Why the session ended, once it has.
    pub fn cause(&self) -> Cause {
        self.cause.unwrap_or(Cause::Unspecified)
    }

    /// `n` bytes of [`Relay::socket_buffers`] are on the socket.
    pub fn handle_written(&mut self, n: usize, now: Instant) {
        let taken = self.out.split_to(n.min(self.out.len()));
        self.written += u64::try_from(taken.len()).expect("a length fits 64 bits");
        if self.out.is_empty() {
            self.out = BytesMut::new();
        }
        self.stalled = self.has_output().then_some(now);
        self.write_controls(now);
    }

    /// The next segment whose last byte is on the client's socket.
    #[must_use]
    pub fn poll_consumed(&mut self) -> Option<Seq> {
        let &(position, _) = self.owed.front()?;
        if position > self.written {
            return None;
        }
        let (_, seq) = self.owed.pop_front()?;
        if self.owed.is_empty() {
            self.owed = VecDeque::new();
        }
        Some(seq)
    }

    /// Books what the writer appended to `out`, whose length was `before`.
    fn book(&mut self, before: usize, now: Instant) {
        let added = self.out.len() - before;
        self.queued += u64::try_from(added).expect("a length fits 64 bits");
        if added > 0 {
            self.stalled.get_or_insert(now);
        }
    }

    /// Queues the end of the way up, once.
    fn end_up(&mut self, end: End) {
        if !self.up_ended {
            self.up_ended = true;
            self.end_due = Some(Box::new(end));
        }
    }

    fn take_end(&mut self) -> Option<Body> {
        self.end_due.take().map(Body::End)
    }
}

/// An end that says only why.
fn end_of(cause: Cause) -> End {
    End { cause: i32::from(cause), ..End::default() }
}
