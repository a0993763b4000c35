//! One session's machine, and the wakers of those who wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

use antipode_proto::session::Session;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Cause, GoAway};
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tracing::debug;

use crate::budget::{Budget, Strain};
use crate::invitation::Invitations;
use crate::peer::NodeIdentity;
use crate::queue::LaneQueue;
use crate::sessions::Sessions;

/// Shared by the lane, which moves frames, and the port, which moves bodies.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: u64,
    machine: Mutex<Session>,
    reading: AtomicWaker,
    writing: AtomicWaker,
    finishing: AtomicWaker,
    pub(crate) invitations: Invitations,
    /// In the lane's round of turns already.
    pub(crate) queued: AtomicBool,
    /// In the lane's list of acknowledgements to come already.
    pub(crate) ack_armed: AtomicBool,
    pub(crate) queue: Arc<LaneQueue>,
    sessions: Weak<Sessions>,
    pub(crate) budget: Budget,
    /// What the machine holds, as the budget has it.
    held: AtomicU64,
    /// Something was let go since the last sweep.
    moved: AtomicBool,
    /// Sweeps in a row that found bytes held and nothing moved.
    still: AtomicU32,
}

impl Cell {
    pub(crate) fn new(
        id: u64,
        machine: Session,
        queue: Arc<LaneQueue>,
        sessions: Weak<Sessions>,
        budget: Budget,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            machine: Mutex::new(machine),
            reading: AtomicWaker::new(),
            writing: AtomicWaker::new(),
            finishing: AtomicWaker::new(),
            invitations: Invitations::default(),
            queued: AtomicBool::new(false),
            ack_armed: AtomicBool::new(false),
            queue,
            sessions,
            budget,
            held: AtomicU64::new(0),
            moved: AtomicBool::new(false),
            still: AtomicU32::new(0),
        })
    }

    /// Changes the machine, then sees to whatever follows from it: a turn on the lane, an
    /// acknowledgement to come, the session's removal.
    pub(crate) fn change<R>(self: &Arc<Self>, change: impl FnOnce(&mut Session) -> R) -> R {
        let mut machine = self.machine.lock();
        machine.set_pressure(self.budget.strain() >= Strain::Pressed);
        let result = change(&mut machine);
        let is_over = self.charge(machine.held_bytes());
        let wants_transmit = machine.wants_transmit();
        let ack_deadline = machine.ack_deadline();
        let (finished, ended) = (machine.is_finished(), machine.ended().is_some());
        let heard_out = machine.is_heard_out();
        drop(machine);

        if wants_transmit {
            self.queue.enqueue(self);
        } else if let Some(due) = ack_deadline {
            self.queue.arm_ack(self, due);
        }
        if finished {
            self.forget();
        }
        if finished || ended {
            self.wake_all();
        } else if heard_out {
            self.finishing.wake();
        }
        if is_over {
            self.budget.relieve();
        }
        result
    }

    /// Looks at the machine without changing it.
    pub(crate) fn look<R>(&self, look: impl FnOnce(&Session) -> R) -> R {
        look(&self.machine.lock())
    }

    /// Changes the machine without side effects: the lane's own turn.
    pub(crate) fn turn<R>(&self, turn: impl FnOnce(&mut Session) -> R) -> R {
        turn(&mut self.machine.lock())
    }

    /// Takes a frame that the lane brought.
    pub(crate) fn handle_frame(self: &Arc<Self>, kind: Kind) {
        if let Kind::GoAway(go_away) = kind {
            return self.invitations.handle(go_away);
        }
        self.change(|machine| {
            if let Err(error) = machine.handle_frame(kind) {
                debug!(session.id = self.id, %error, "the peer broke the trunk's protocol");
                machine.reset(error.cause(), &error.to_string());
            }
        });
        self.reading.wake();
        self.writing.wake();
    }

    pub(crate) fn handle_timeout(self: &Arc<Self>, now: Instant) {
        self.change(|machine| machine.handle_timeout(now));
    }

    pub(crate) fn wait_reading(&self, waker: &Waker) {
        self.reading.register(waker);
    }

    pub(crate) fn wait_writing(&self, waker: &Waker) {
        self.writing.register(waker);
    }

    pub(crate) fn wait_finishing(&self, waker: &Waker) {
        self.finishing.register(waker);
    }

    /// What the session puts on its lane next.
    pub(crate) fn next_frame(&self, machine: &mut Session) -> Option<Kind> {
        let invitation = self.invitations.next_outward().filter(|_| machine.ended().is_none());
        invitation.map(Kind::GoAway).or_else(|| machine.poll_transmit())
    }

    /// Sees to an invitation that waits for the session's next turn.
    pub(crate) fn invite(self: &Arc<Self>, go_away: GoAway) {
        self.invitations.invite(go_away);
        self.queue.enqueue(self);
    }

    /// The node at the other end of its trunk, if this is a core's end of one.
    pub(crate) fn node(&self) -> Option<NodeIdentity> {
        self.sessions.upgrade()?.node().cloned()
    }

    /// Takes the session off its trunk's register; a lane of its own has nothing more to carry.
    pub(crate) fn forget(&self) {
        match self.sessions.upgrade() {
            Some(sessions) => sessions.forget(self.id),
            None => self.queue.close(),
        }
        self.ack_armed.store(false, Ordering::Release);
        self.finishing.wake();
    }

    /// What the session holds: unacknowledged, or received and not yet consumed.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Whether two sweeps in a row found that it holds something and lets go of nothing.
    pub(crate) fn is_stalled(&self) -> bool {
        self.still.load(Ordering::Relaxed) >= 2
    }

    /// A sweep comes by.
    pub(crate) fn mark(&self) {
        let moved = self.moved.swap(false, Ordering::Relaxed);
        match moved || self.held() == 0 {
            true => self.still.store(0, Ordering::Relaxed),
            false => drop(self.still.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Ends the session for the sake of the others; says whose slowness it was.
    pub(crate) fn shed(self: &Arc<Self>, detail: &str) -> Option<Cause> {
        let faces_client = self.sessions.upgrade().is_some_and(|sessions| sessions.is_node());
        self.change(|machine| {
            if machine.ended().is_some() {
                return None;
            }
            let unread = machine.held_bytes() - machine.unacked_bytes();
            let here = unread >= machine.unacked_bytes();
            let cause = if here == faces_client { Cause::ClientSlow } else { Cause::BackendSlow };
            machine.reset(cause, detail);
            Some(cause)
        })
    }

    /// Under the machine's lock. Whether the budget is over.
    fn charge(&self, held: u64) -> bool {
        let before = self.held.swap(held, Ordering::Relaxed);
        if held < before {
            self.moved.store(true, Ordering::Relaxed);
        }
        self.budget.charge(before, held)
    }

    fn wake_all(&self) {
        self.reading.wake();
        self.writing.wake();
        self.finishing.wake();
    }
}

impl Drop for Cell {
    fn drop(&mut self) {
        self.charge(0);
    }
}
