//! How far a WebSocket's end has come, and its deadlines.

use std::time::{Duration, Instant};

use antipode_proto::trunk::v1::{Cause, End};

use super::{Relay, end_of};
use crate::session::cause::telling;

/// How long a socket is read off after a fault, so that the close frame is not lost to a reset.
const READ_OFF: Duration = Duration::from_secs(2);

/// An invitation may be lost with a broken trunk, and the place it names may be full by then.
const INVITE_AGAIN: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) enum Stage {
    /// Frames flow both ways.
    Open,
    /// The client closed, and the far end was told; the backend's close is awaited.
    ClientClosed {
        deadline: Instant,
        /// What the client said, to be echoed should the backend not answer.
        close: Option<Box<(u16, String)>>,
    },
    /// The client broke the protocol, and the far end was told. What the backend still answers to
    /// what came before goes out first, as it would without us between; then `closing` begins.
    Refused { deadline: Instant, closing: Box<Closing> },
    /// We close.
    Closing(Box<Closing>),
    /// Both have closed: the last bytes go out.
    Flushing { deadline: Instant },
    /// Nothing more to do.
    Over,
}

/// A close from our side.
#[derive(Debug)]
pub(super) struct Closing {
    pub(super) cause: Cause,
    close: Option<(u16, String)>,
    /// The close frame is not written yet: the writer stands inside a frame.
    is_due: bool,
    pub(super) after: After,
    deadline: Option<Instant>,
}

/// What follows our close frame.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum After {
    /// The client's frames go up until its own close.
    AwaitClient,
    /// What the client sends is thrown away.
    ReadOff,
}

impl Closing {
    pub(super) fn new(cause: Cause, close: Option<(u16, String)>, after: After) -> Self {
        Self { cause, close, is_due: true, after, deadline: None }
    }

    /// With the close code and the reason that the cause has in the table.
    pub(super) fn told(cause: Cause, after: After) -> Self {
        let telling = telling(cause);
        Self::new(cause, Some((telling.close_code, telling.text.to_owned())), after)
    }

    /// The code and the reason of the close frame.
    pub(super) fn close(&self) -> Option<(u16, &str)> {
        self.close.as_ref().map(|(code, reason)| (*code, reason.as_str()))
    }

    /// What the far end is told when the client has answered.
    pub(super) fn end(&self) -> End {
        let (code, reason) = self.close.clone().unzip();
        End {
            close_code: code.map(u32::from),
            reason: reason.unwrap_or_default(),
            ..end_of(self.cause)
        }
    }
}

impl Relay {
    /// When [`Relay::handle_timeout`] is next of use. Changes after every `handle_*` and `poll_*`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        let limits = &self.limits;
        let stall = self.stalled.map(|since| since + limits.client_stall_timeout);
        match &self.stage {
            Stage::Open => {
                let ping = self.heard.max(self.pinged) + limits.ping_interval;
                let silence = self.heard + limits.ping_timeout;
                let leave = [self.drain_at, self.invite_at].into_iter().flatten().min();
                [Some(ping), Some(silence), stall, leave].into_iter().flatten().min()
            }
            Stage::ClientClosed { deadline, .. } | Stage::Refused { deadline, .. } => {
                [Some(*deadline), stall].into_iter().flatten().min()
            }
            Stage::Closing(closing) => closing.deadline,
            Stage::Flushing { deadline } => Some(*deadline),
            Stage::Over => None,
        }
    }

    /// Runs whatever is due at `now`. A spurious call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        let stall = self.stalled.map(|since| since + self.limits.client_stall_timeout);
        let is_stalled = stall.is_some_and(|due| due <= now);
        match &self.stage {
            Stage::Open => self.handle_open_timeout(is_stalled, now),
            Stage::ClientClosed { .. } if is_stalled => self.begin_slow(now),
            Stage::ClientClosed { deadline, .. } => {
                if *deadline <= now {
                    self.echo_close(now);
                }
            }
            Stage::Refused { deadline, .. } => {
                if is_stalled || *deadline <= now {
                    self.begin_refusal(now);
                }
            }
            Stage::Closing(closing) => {
                if closing.deadline.is_some_and(|due| due <= now) {
                    let cause = closing.cause;
                    self.lose(cause);
                }
            }
            Stage::Flushing { deadline } => {
                if *deadline <= now {
                    self.stage = Stage::Over;
                }
            }
            Stage::Over => {}
        }
    }

    /// The client is to be told to go at `at`, because the node drains.
    pub fn handle_drain(&mut self, at: Instant) {
        self.drain_at = Some(at);
    }

    /// The client is to be invited elsewhere at `at`, because the node drains; and again after a
    /// while, for as long as it is here.
    pub fn handle_invitation(&mut self, at: Instant) {
        self.invite_at = Some(at);
    }

    /// Whether the client is to be invited elsewhere now.
    #[must_use]
    pub fn poll_invite(&mut self) -> bool {
        std::mem::take(&mut self.invite_due)
    }

    fn handle_open_timeout(&mut self, is_stalled: bool, now: Instant) {
        let limits = self.limits.clone();
        if is_stalled {
            return self.begin_slow(now);
        }
        if self.invite_at.is_some_and(|due| due <= now) {
            self.invite_at = Some(now + INVITE_AGAIN);
            self.invite_due = true;
        }
        if self.drain_at.is_some_and(|due| due <= now) {
            return self.begin_close(Closing::told(Cause::NodeDraining, After::AwaitClient), now);
        }
        if self.heard + limits.ping_timeout <= now {
            self.end_up(end_of(Cause::ClientIdle));
            return self.begin_close(Closing::told(Cause::ClientIdle, After::ReadOff), now);
        }
        if self.heard.max(self.pinged) + limits.ping_interval <= now {
            self.pinged = now;
            if !self.writer.inside_frame() {
                let before = self.out.len();
                self.writer.ping(&mut self.out, b"").expect("outside a frame");
                self.book(before, now);
            }
        }
    }

    /// The client takes nothing: the far end is told at once, the client if it ever reads on.
    fn begin_slow(&mut self, now: Instant) {
        let closing = Closing::told(Cause::ClientSlow, After::ReadOff);
        self.end_up(closing.end());
        self.begin_close(closing, now);
    }

    /// Starts a close from our side; a close under way goes on as it is.
    pub(super) fn begin_close(&mut self, closing: Closing, now: Instant) {
        match &self.stage {
            Stage::Open => {}
            Stage::ClientClosed { .. } => return self.write_last_close(closing.close(), now),
            Stage::Refused { .. } => return self.begin_refusal(now),
            Stage::Closing(_) | Stage::Flushing { .. } | Stage::Over => return,
        }
        self.cause.get_or_insert(closing.cause);
        let patience = match closing.after {
            After::AwaitClient => self.limits.close_timeout,
            After::ReadOff => READ_OFF,
        };
        let deadline = Some(now + patience);
        self.stage = Stage::Closing(Box::new(Closing { deadline, ..closing }));
        self.write_controls(now);
    }

    /// The client broke the protocol: it is told once the backend has said what it had to say.
    pub(super) fn refuse_with(&mut self, closing: Closing, now: Instant) {
        let Stage::Open = self.stage else { return self.begin_close(closing, now) };
        self.cause.get_or_insert(closing.cause);
        self.stage = Stage::Refused { deadline: now + READ_OFF, closing: Box::new(closing) };
    }

    /// The backend has said what it had to say, or had its time.
    pub(super) fn begin_refusal(&mut self, now: Instant) {
        if !matches!(self.stage, Stage::Refused { .. }) {
            return;
        }
        if let Stage::Refused { closing, .. } = std::mem::replace(&mut self.stage, Stage::Open) {
            self.begin_close(*closing, now);
        }
    }

    /// Writes our close frame if it waits and no frame is open.
    pub(super) fn write_due_close(&mut self, now: Instant) {
        let Stage::Closing(closing) = &mut self.stage else { return };
        if !std::mem::take(&mut closing.is_due) {
            return;
        }
        let before = self.out.len();
        if self.writer.close(&mut self.out, closing.close()).is_err() {
            let internal = Some((antipode_websocket::close::INTERNAL_ERROR, ""));
            self.writer.close(&mut self.out, internal).expect("outside a frame, a good code");
        }
        self.book(before, now);
    }

    /// Whether our side of the socket should be shut now: the client was told, and is read off
    /// until it has gone.
    pub fn wants_shutdown(&self) -> bool {
        match &self.stage {
            Stage::Closing(closing) => {
                closing.after == After::ReadOff && !closing.is_due && self.out.is_empty()
            }
            Stage::Open | Stage::ClientClosed { .. } | Stage::Refused { .. } => false,
            Stage::Flushing { .. } | Stage::Over => self.out.is_empty(),
        }
    }

    /// Whether a frame may still be written to the client.
    pub(super) fn is_writable(&self) -> bool {
        match &self.stage {
            Stage::Open | Stage::ClientClosed { .. } | Stage::Refused { .. } => true,
            Stage::Closing(closing) => closing.is_due && self.writer.inside_frame(),
            Stage::Flushing { .. } | Stage::Over => false,
        }
    }

    /// Answers the client's close with its own code: the backend has not.
    pub(super) fn echo_close(&mut self, now: Instant) {
        let Stage::ClientClosed { close, .. } = &self.stage else { return };
        let close = close.as_deref().cloned();
        self.write_last_close(close.as_ref().map(|(code, reason)| (*code, reason.as_str())), now);
    }

    /// Writes the close frame that completes the handshake, if no frame is open.
    pub(super) fn write_last_close(&mut self, close: Option<(u16, &str)>, now: Instant) {
        if !self.writer.inside_frame() {
            let before = self.out.len();
            if self.writer.close(&mut self.out, close).is_err() {
                self.writer.close(&mut self.out, None).expect("outside a frame, no code");
            }
            self.book(before, now);
        }
        self.finish_writing(now);
    }

    /// Both have said that they close: only what waits for the socket is left.
    pub(super) fn finish_writing(&mut self, now: Instant) {
        self.stage = Stage::Flushing { deadline: now + self.limits.close_timeout };
    }

    /// The socket is of no more use.
    pub(super) fn lose(&mut self, cause: Cause) {
        self.cause.get_or_insert(cause);
        self.end_up(end_of(cause));
        self.written = self.queued;
        self.out = bytes::BytesMut::new();
        self.stalled = None;
        self.stage = Stage::Over;
    }
}
