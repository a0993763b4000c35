//! One end of a session, for the task that owns the client's or the backend's socket.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

use antipode_proto::body::Body;
use antipode_proto::seq::Seq;
use antipode_proto::session::{Ended, Session};
use antipode_proto::trunk::v1::{Cause, GoAway};
use antipode_runtime::clock;

use crate::cell::Cell;

/// One end of a session.
///
/// One future may read ([`SessionPort::deliver`]) while another writes ([`SessionPort::ready`]) and
/// a third waits for the end ([`SessionPort::finished`]); two of one kind would steal each other's
/// wake-up.
///
/// Dropping the port before both directions have come to their end resets the session.
#[derive(Debug)]
pub struct SessionPort {
    cell: Arc<Cell>,
}

/// The next segment in order.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// To be given to [`SessionPort::consumed`] once it is written.
    pub seq: Seq,
    /// What the far end sent.
    pub body: Body,
}

impl SessionPort {
    pub(crate) const fn new(cell: Arc<Cell>) -> Self {
        Self { cell }
    }

    pub(crate) const fn cell(&self) -> &Arc<Cell> {
        &self.cell
    }

    /// The node's number for the session within its trunk.
    #[must_use]
    pub fn id(&self) -> u64 {
        self.cell.id
    }

    /// Waits until another chunk may be sent: the far end allows it, and the process has the bytes
    /// to keep it. Cancel-safe.
    ///
    /// # Errors
    ///
    /// The session was reset, or its trunk did not come back in time.
    pub async fn ready(&self) -> Result<(), Ended> {
        loop {
            let room = poll_fn(|task| {
                self.cell.wait_writing(task.waker());
                self.cell.look(|machine| match check_alive(machine) {
                    Err(ended) => Poll::Ready(Err(ended)),
                    Ok(()) if machine.has_room() => Poll::Ready(Ok(self.room(machine))),
                    Ok(()) => Poll::Pending,
                })
            });
            if room.await? {
                return Ok(());
            }
            self.relieved().await;
        }
    }

    /// Sends one segment. Never waits: [`SessionPort::ready`] comes before each chunk.
    ///
    /// # Errors
    ///
    /// As [`SessionPort::ready`].
    pub fn send(&self, body: Body) -> Result<(), Ended> {
        self.cell.weigh(&body);
        self.cell.change(|machine| {
            check_alive(machine)?;
            machine.send(body);
            Ok(())
        })?;
        self.cell.heed_weight();
        Ok(())
    }

    /// Waits for the next segment. Cancel-safe. After the end of the far direction it waits for
    /// ever.
    ///
    /// # Errors
    ///
    /// As [`SessionPort::ready`].
    pub async fn deliver(&self) -> Result<Delivery, Ended> {
        poll_fn(|task| {
            self.cell.wait_reading(task.waker());
            self.cell.turn(|machine| {
                if let Some(ended) = machine.ended() {
                    return Poll::Ready(Err(ended.clone()));
                }
                match machine.poll_deliver() {
                    Some((seq, body)) => Poll::Ready(Ok(Delivery { seq, body })),
                    None => Poll::Pending,
                }
            })
        })
        .await
    }

    /// The next segment, if one is there.
    ///
    /// # Errors
    ///
    /// As [`SessionPort::ready`].
    pub fn try_deliver(&self) -> Result<Option<Delivery>, Ended> {
        self.cell.turn(|machine| {
            check_alive(machine)?;
            Ok(machine.poll_deliver().map(|(seq, body)| Delivery { seq, body }))
        })
    }

    /// Everything up to `seq` is written to our socket, or thrown away for good: acknowledges it.
    pub fn consumed(&self, seq: Seq) {
        let now = clock::now();
        self.cell.change(|machine| machine.handle_consumed(seq, now));
    }

    /// Ends the session at once, at both ends.
    pub fn reset(&self, cause: Cause, detail: &str) {
        self.cell.change(|machine| machine.reset(cause, detail));
    }

    /// Invites the far end to go on elsewhere: a node to its core, which tells a resumable client.
    ///
    /// The latest invitation counts. One that a break swallows is not repeated, and a session that
    /// is over sends none.
    pub fn invite(&self, go_away: GoAway) {
        self.cell.invite(go_away);
    }

    /// Waits for the latest invitation of the far end. Cancel-safe; waits for ever if none comes.
    pub async fn invited(&self) -> GoAway {
        poll_fn(|task| self.cell.invitations.poll_invited(task)).await
    }

    /// The latest invitation of the far end, if there is a new one.
    #[must_use]
    pub fn try_invited(&self) -> Option<GoAway> {
        self.cell.invitations.try_invited()
    }

    /// Whether another chunk may be sent, as [`SessionPort::ready`] but without waiting.
    ///
    /// # Errors
    ///
    /// As [`SessionPort::ready`].
    pub fn try_ready(&self) -> Result<bool, Ended> {
        self.cell.look(|machine| check_alive(machine).map(|()| self.room(machine)))
    }

    /// Looks at the machine without changing it.
    pub fn look<R>(&self, look: impl FnOnce(&Session) -> R) -> R {
        self.cell.look(look)
    }

    /// Waits until the far end has acknowledged everything that was sent here, the end included: it
    /// is written to the far socket, however slowly that is read. Resolves too when the session is
    /// over.
    ///
    /// Shares its wake-up with [`SessionPort::finished`].
    pub async fn heard_out(&self) {
        poll_fn(|task| {
            self.cell.wait_finishing(task.waker());
            match self.cell.look(|machine| machine.is_heard_out() || machine.ended().is_some()) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    /// Waits until nothing has to be sent, awaited or delivered any more.
    pub async fn finished(&self) {
        poll_fn(|task| {
            self.cell.wait_finishing(task.waker());
            match self.cell.look(Session::is_finished) {
                true => Poll::Ready(()),
                false => Poll::Pending,
            }
        })
        .await;
    }

    fn room(&self, machine: &Session) -> bool {
        machine.has_room() && self.cell.budget.has_room(machine.held_bytes())
    }

    /// Waits while it is the process that has no room, and not the far end.
    async fn relieved(&self) {
        // Before the look: room that comes in between is not missed.
        let mut roomy = pin!(self.cell.budget.roomy());
        roomy.as_mut().enable();
        poll_fn(|task| {
            self.cell.wait_writing(task.waker());
            let only_budget = |machine: &Session| {
                machine.ended().is_none() && machine.has_room() && !self.room(machine)
            };
            match self.cell.look(only_budget) {
                true => roomy.as_mut().poll(task),
                false => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl Drop for SessionPort {
    fn drop(&mut self) {
        self.cell.change(|machine| {
            if !machine.is_complete() {
                machine.reset(Cause::Internal, "the relay dropped the session");
            }
        });
    }
}

fn check_alive(machine: &Session) -> Result<(), Ended> {
    machine.ended().map_or(Ok(()), |ended| Err(ended.clone()))
}
