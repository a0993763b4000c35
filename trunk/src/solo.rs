//! A lane of its own for one session, driven by whoever holds its other side.
//!
//! What is relayed over a trunk shares lanes with others. A session whose far end comes and goes on
//! sockets of its own does not, and yet the task that reads its [`SessionPort`] should not know the
//! difference: it gets an ordinary port, and the driver of the sockets gets a [`Solo`].
//!
//! ```text
//! bridge ── SessionPort ── machine ── Solo ── driver ── whatever attachment there is right now
//! ```
//!
//! The driver, once around: take what the attachment brought ([`Solo::handle_frame`]), then send
//! what there is ([`Solo::next_frame`] until `None`), then wait for the first of: the attachment,
//! [`Solo::ready`], and the time that [`Solo::poll_timeout`] names.

use std::sync::{Arc, Weak};
use std::time::Instant;

use antipode_proto::session::{Ended, Session};
use antipode_proto::trunk::v1::Cause;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_runtime::clock;

use crate::budget::Budget;
use crate::cell::Cell;
use crate::fan_out::announce::Announcer;
use crate::metrics::FanOutMetrics;
use crate::port::SessionPort;
use crate::queue::{LaneQueue, Writer};

/// The lane's side of a session that has its lane to itself.
///
/// Dropping it before the session has come to its end ends it: nobody could go on with it.
#[derive(Debug)]
pub struct Solo {
    cell: Arc<Cell>,
    writer: Writer,
}

/// Joins a machine's two users. `id` is for the log only.
#[must_use]
pub fn solo(machine: Session, id: u64) -> (SessionPort, Solo) {
    solo_within(machine, id, &Budget::unlimited())
}

/// As [`solo`]; what the session holds counts against the budget.
#[must_use]
pub fn solo_within(machine: Session, id: u64, budget: &Budget) -> (SessionPort, Solo) {
    let queue = LaneQueue::new(0, Arc::new(Announcer::new(FanOutMetrics::default())));
    let writer = queue.writer();
    let cell = Cell::new(id, machine, queue, Weak::new(), budget.clone(), None);
    budget.add_solo(&cell);
    cell.change(|_| ());
    (SessionPort::new(Arc::clone(&cell)), Solo { cell, writer })
}

impl Solo {
    /// Takes a frame that the attachment brought. One that breaks the protocol resets the session,
    /// which [`Solo::next_frame`] then says.
    pub fn handle_frame(&self, kind: Kind) {
        self.cell.handle_frame(kind);
    }

    /// There is an attachment.
    pub fn link_up(&self) {
        self.cell.change(Session::handle_link_up);
    }

    /// There is none any more.
    pub fn link_down(&self, now: Instant) {
        self.cell.change(|machine| machine.handle_link_down(now));
    }

    /// Runs whatever is due at `now`. A spurious call does nothing.
    pub fn handle_timeout(&self, now: Instant) {
        self.cell.handle_timeout(now);
    }

    /// When [`Solo::handle_timeout`] is next of use. [`Solo::ready`] sees to acknowledgements by
    /// itself; what is left is how long the session waits for an attachment, and that changes only
    /// with the calls made here.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.cell.look(Session::poll_timeout)
    }

    /// Waits until [`Solo::next_frame`] may have something or the session is over. Cancel-safe.
    pub async fn ready(&self) {
        self.writer.ready().await;
    }

    /// The next frame for the attachment, or `None` once drained.
    #[must_use]
    pub fn next_frame(&self) -> Option<Kind> {
        self.writer.next_frame(&self.cell, clock::now())
    }

    /// Why the session ended before its time; `None` while it lives and after an orderly end.
    #[must_use]
    pub fn ended(&self) -> Option<Ended> {
        self.cell.look(|machine| machine.ended().cloned())
    }

    /// Whether nothing has to be sent, awaited or delivered any more.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.cell.look(Session::is_finished)
    }

    /// Looks at the machine without changing it.
    pub fn look<R>(&self, look: impl FnOnce(&Session) -> R) -> R {
        self.cell.look(look)
    }

    /// Changes the machine, for what has no method of its own here.
    pub fn change<R>(&self, change: impl FnOnce(&mut Session) -> R) -> R {
        self.cell.change(change)
    }
}

impl Drop for Solo {
    fn drop(&mut self) {
        self.cell.change(|machine| {
            if !machine.is_finished() {
                machine.abandon(Cause::Internal, "the relay dropped the session");
            }
        });
    }
}

#[cfg(test)]
mod tests;
