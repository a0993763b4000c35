//! What carries a session: it comes, breaks, and comes back elsewhere.

use std::time::Instant;

use super::error::{Ended, ProtocolError};
use super::{Session, Side};
use crate::seq::Seq;
use crate::trunk::v1::{Attach, Attached, Cause};

/// Where the session stands with its lane, or with its attachment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Link {
    /// Segments flow.
    Attached,
    /// There is something to carry the session; the peer has to be asked where it stands.
    Asking {
        /// Since when nothing has flowed.
        since: Instant,
    },
    /// Asked; the answer says where the replay starts.
    Asked { since: Instant },
    /// The peer asked: answer, then replay.
    Answering,
    /// Nothing carries it.
    Detached { since: Instant },
}

impl Session {
    /// There is a lane to carry the session; of a client: an attachment.
    ///
    /// The first one needs no words, except that a client acknowledges its welcome at once. On a
    /// later one a node or a client asks ([`Attach`]); a server waits to be asked. A client that
    /// moves while its old attachment still lives calls [`Session::handle_link_down`] just before.
    pub fn handle_link_up(&mut self) {
        let Link::Detached { since } = self.link else { return };
        let first = match self.side {
            // The peer has never heard of the session: the first segment says it all.
            Side::Node | Side::Core => {
                self.sender.is_untouched() && self.receiver.received() == Seq::ZERO
            }
            Side::Client | Side::Server => self.epoch == 0,
        };
        if first {
            self.epoch = self.epoch.saturating_add(1);
            self.link = Link::Attached;
        } else if self.side != Side::Server {
            self.link = Link::Asking { since };
        }
        if first && self.side == Side::Client {
            self.receiver.ack_at_once();
        }
    }

    /// At a node: another lane carries the session from here on. The one before lives and may yet
    /// bring what is on its way.
    ///
    /// The peer is asked where it stands, as after a break. If all that was sent has arrived, what
    /// is sent now follows the question at once, and the move costs this direction no time.
    pub fn handle_link_moved(&mut self, now: Instant) {
        debug_assert_eq!(self.side, Side::Node, "it is the node that moves a session");
        let follows = self.link == Link::Attached && self.sender.is_settled();
        self.handle_link_down(now);
        self.handle_link_up();
        self.follows_question = follows && matches!(self.link, Link::Asking { .. });
    }

    /// Whether the session may move to another lane. The peer is known to have our head, so that no
    /// late copy of it can begin the session a second time; and its end has not come, so that it
    /// can't have forgotten the session when the question arrives.
    ///
    /// A session whose lane has died has to ask anyway, wherever it goes on; a core takes a head
    /// only from the lane on which the session asked last.
    #[must_use]
    pub fn can_move(&self) -> bool {
        let is_free = match self.link {
            Link::Detached { .. } => true,
            Link::Attached | Link::Asking { .. } | Link::Asked { .. } | Link::Answering => {
                self.sender.head_is_acked() && !self.receiver.end_has_come()
            }
        };
        self.ended.is_none() && is_free
    }

    /// After [`Session::import`]: what carries the session outlived the process that it was in.
    /// Nothing is asked and nothing is sent twice; an answer that the peer waits for is given.
    pub fn handle_link_kept(&mut self, answering: bool) {
        if let Link::Detached { .. } = self.link {
            self.link = if answering { Link::Answering } else { Link::Attached };
        }
    }

    /// What carried the session broke.
    ///
    /// A server whose client never said a word ends: that client may not have its token, so nobody
    /// could come back.
    pub fn handle_link_down(&mut self, now: Instant) {
        self.follows_question = false;
        self.link = match self.link {
            Link::Attached | Link::Answering => Link::Detached { since: now },
            Link::Asking { since } | Link::Asked { since } | Link::Detached { since } => {
                Link::Detached { since }
            }
        };
        if self.side == Side::Server && self.epoch > 0 && !self.confirmed {
            self.reset_unsent = false;
            self.abandon(Cause::ClientLost, "the client was gone before it had said anything");
        }
    }

    /// The peer's process was replaced: it knows nothing of what it was told before.
    ///
    /// What is attached may have been told to the new process already: that one is told of the end.
    pub fn handle_peer_restart(&mut self) {
        if !self.sender.is_untouched() || self.receiver.received() > Seq::ZERO {
            self.reset_unsent = self.ended.is_none() && self.is_attached();
            self.abandon(Cause::SessionLost, "the other end was restarted");
        }
    }

    /// Whether there is something that carries the session, and both ends know where they stand.
    #[must_use]
    pub const fn is_attached(&self) -> bool {
        matches!(self.link, Link::Attached)
    }

    /// Whether this attachment would replace the one that counts. One that would not is the older:
    /// it is to be refused with [`Cause::Replaced`].
    #[must_use]
    pub const fn attach_is_newer(&self, attach: &Attach) -> bool {
        attach.epoch > self.epoch
    }

    pub(super) fn handle_attach(&mut self, attach: &Attach) -> Result<(), ProtocolError> {
        if !self.attach_is_newer(attach) {
            return Ok(()); // A late word from an older attachment.
        }
        self.sender.handle_resume(attach.received.into(), attach.credit)?;
        self.epoch = attach.epoch;
        self.link = Link::Answering;
        Ok(())
    }

    pub(super) fn handle_attached(&mut self, attached: &Attached) -> Result<(), ProtocolError> {
        let Link::Asked { .. } = self.link else { return Ok(()) };
        if attached.epoch != self.epoch {
            return Ok(());
        }
        let received = Seq::from(attached.received);
        let resumed = if self.is_forgotten(received) {
            Err(ProtocolError::StateLost { received: 0, acked: 0 })
        } else if std::mem::take(&mut self.follows_question) {
            self.sender.handle_position(received, attached.credit)
        } else {
            self.sender.handle_resume(received, attached.credit)
        };
        match resumed {
            Ok(()) => self.link = Link::Attached,
            // The peer has forgotten a session in which nothing was left to say.
            Err(ProtocolError::StateLost { .. }) if self.is_complete() => {
                self.end(Ended::new(Cause::Complete, ""));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// A core that has spoken had the request: if it starts from nothing, it is not to be told all
    /// again, or a request would be carried out twice. A server may well speak first.
    fn is_forgotten(&self, received: Seq) -> bool {
        let spoke = self.receiver.received() > Seq::ZERO;
        self.side == Side::Node && received == Seq::ZERO && spoke
    }

    pub(super) fn attach(&mut self) -> Attach {
        let (received, credit) = self.receiver.take_position();
        Attach { epoch: self.epoch, received: received.get(), credit, token: Default::default() }
    }

    /// Whether the question can go. A client has to say which session it speaks of before it can
    /// say that it is over.
    pub(super) fn may_ask(&self) -> bool {
        self.ended.is_none() || (self.side == Side::Client && self.reset_unsent)
    }

    pub(super) fn may_reset(&self) -> bool {
        let ready = match self.link {
            Link::Detached { .. } => false,
            Link::Asking { .. } => self.side != Side::Client,
            Link::Attached | Link::Asked { .. } | Link::Answering => true,
        };
        self.reset_unsent && ready
    }

    pub(super) fn detached_deadline(&self) -> Option<Instant> {
        match self.link {
            Link::Detached { since } if self.ended.is_none() || self.reset_unsent => {
                Some(since + self.config.resume_window)
            }
            Link::Detached { .. }
            | Link::Attached
            | Link::Asking { .. }
            | Link::Asked { .. }
            | Link::Answering => None,
        }
    }

    /// The window is over.
    pub(super) fn expire(&mut self) {
        self.reset_unsent = false;
        match self.side {
            Side::Node | Side::Core => {
                self.abandon(Cause::TrunkLost, "the trunk did not come back in time");
            }
            Side::Client => {
                self.abandon(Cause::SessionLost, "the session could not be resumed in time");
            }
            Side::Server => self.abandon(Cause::ClientLost, "the client did not come back"),
        }
    }
}
