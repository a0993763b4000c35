//! Who carries a resumable session: at most one attachment, and the newest wins.
//!
//! The machine knows no socket and no clock. With [`Registry`](super::registry::Registry), which
//! finds sessions by their tokens, and the session's own machine
//! ([`antipode_proto::session::Session`]), which numbers and replays, it decides everything that a
//! core decides about a resume:
//!
//! | happens | seat | session |
//! |---|---|---|
//! | `welcome` is sent | [`Seat::new`] | `handle_link_up` |
//! | an attachment brings a frame | [`Seat::is_held_by`] says whether it counts | `handle_frame` |
//! | an attachment asks for the session | [`Seat::handle_attach`] | `handle_frame(Attach)` |
//! | an attachment ends | [`Seat::handle_lost`] | `handle_link_down` if it is vacant now |
//!
//! Only who holds the seat may take frames out of the session: what an older attachment takes is
//! lost.

use antipode_proto::resume::FIRST_EPOCH;

/// One WebSocket of a resumable client, as this core counts them.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct AttachmentId(u64);

impl AttachmentId {
    /// The number must not have been used before in this process.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }
}

/// The seat of one session.
#[derive(Clone, Debug)]
pub struct Seat {
    epoch: u64,
    holder: Option<AttachmentId>,
}

/// The attachment that asked is not newer than the one that is known.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("attachment {asked} is not newer than {known}")]
pub struct Stale {
    /// The epoch that was asked for.
    pub asked: u64,
    /// The epoch that counts.
    pub known: u64,
}

/// What an attachment leaves behind.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Left {
    /// Nothing changes: a newer attachment has the session.
    ToNewer,
    /// Nobody carries the session now.
    Vacant,
}

impl Seat {
    /// The seat of a session whose first attachment has just been sent its `welcome`.
    #[must_use]
    pub const fn new(first: AttachmentId) -> Self {
        Self { epoch: FIRST_EPOCH, holder: Some(first) }
    }

    /// The seat of a session that another process handed over together with its attachment.
    #[must_use]
    pub const fn taken(epoch: u64, holder: AttachmentId) -> Self {
        Self { epoch, holder: Some(holder) }
    }

    /// The seat of a session that another process handed over: its client is yet to come back.
    #[must_use]
    pub const fn vacant(epoch: u64) -> Self {
        Self { epoch, holder: None }
    }

    /// The attachment that counts, by the client's number.
    #[must_use]
    pub const fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether nobody carries the session now.
    #[must_use]
    pub const fn is_vacant(&self) -> bool {
        self.holder.is_none()
    }

    /// Whether `attachment` carries the session. What comes late over an older one does not count.
    #[must_use]
    pub fn is_held_by(&self, attachment: AttachmentId) -> bool {
        self.holder == Some(attachment)
    }

    /// `attachment` asks for the session as its client's attachment `epoch`. It gets it from
    /// whoever carries it now, heard of lately or not, who is to be told: the answer.
    ///
    /// # Errors
    ///
    /// A newer one was here already.
    pub fn handle_attach(
        &mut self,
        attachment: AttachmentId,
        epoch: u64,
    ) -> Result<Option<AttachmentId>, Stale> {
        if epoch <= self.epoch {
            return Err(Stale { asked: epoch, known: self.epoch });
        }
        self.epoch = epoch;
        Ok(self.holder.replace(attachment))
    }

    /// `attachment` has ended, in whatever way.
    #[must_use]
    pub fn handle_lost(&mut self, attachment: AttachmentId) -> Left {
        if !self.is_held_by(attachment) {
            return Left::ToNewer;
        }
        self.holder = None;
        Left::Vacant
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: AttachmentId = AttachmentId::new(1);
    const B: AttachmentId = AttachmentId::new(2);

    #[test]
    fn the_newest_wins_and_the_older_is_named() {
        let mut seat = Seat::new(A);
        assert!(seat.is_held_by(A));
        assert_eq!(seat.handle_attach(B, 2), Ok(Some(A)), "alive or not");
        assert!(!seat.is_held_by(A), "the older is not heard any more");
        assert_eq!(seat.handle_lost(A), Left::ToNewer);
        assert!(seat.is_held_by(B));
    }

    #[test]
    fn an_attachment_that_is_not_newer_is_stale() {
        let mut seat = Seat::new(A);
        for asked in [0, 1] {
            assert_eq!(seat.handle_attach(B, asked), Err(Stale { asked, known: 1 }));
        }
        assert!(seat.is_held_by(A));
        assert_eq!(seat.handle_attach(B, 7), Ok(Some(A)), "epochs may skip");
        assert_eq!(seat.handle_attach(A, 7), Err(Stale { asked: 7, known: 7 }));
        assert_eq!(seat.epoch(), 7);
    }

    #[test]
    fn who_leaves_leaves_the_seat_vacant() {
        let mut seat = Seat::new(A);
        assert_eq!(seat.handle_lost(A), Left::Vacant);
        assert!(seat.is_vacant());
        assert_eq!(seat.handle_lost(A), Left::ToNewer, "once");
        assert_eq!(seat.handle_attach(B, 2), Ok(None), "nobody is to be told");
        assert!(seat.is_held_by(B));
    }

    #[test]
    fn a_session_handed_over_waits_for_its_client() {
        let mut seat = Seat::vacant(3);
        assert!(seat.is_vacant());
        assert_eq!(seat.handle_attach(B, 3), Err(Stale { asked: 3, known: 3 }));
        assert_eq!(seat.handle_attach(B, 4), Ok(None));
    }
}
