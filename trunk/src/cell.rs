//! One session's machine, and the wakers of those who wait for it.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::task::Waker;
use std::time::Instant;

use antipode_proto::body::Body;
use antipode_proto::session::Session;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Cause, GoAway};
use antipode_runtime::clock;
use antipode_tunnel::Class;
use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use tracing::debug;

use crate::budget::{Budget, Strain};
use crate::invitation::Invitations;
use crate::peer::NodeIdentity;
use crate::queue::LaneQueue;
use crate::sessions::Sessions;
use crate::weight::Weight;

/// In no lane's round of turns.
const NOWHERE: u32 = u32::MAX;

/// Shared by the lane, which moves frames, and the port, which moves bodies.
#[derive(Debug)]
pub(crate) struct Cell {
    pub(crate) id: u64,
    machine: Mutex<Session>,
    reading: AtomicWaker,
    writing: AtomicWaker,
    finishing: AtomicWaker,
    pub(crate) invitations: Invitations,
    /// The lane in whose round of turns it is.
    queued: AtomicU32,
    /// In the lane's list of acknowledgements to come already.
    pub(crate) ack_armed: AtomicBool,
    /// The lane that carries it. Changes under the machine's lock.
    queue: Mutex<Arc<LaneQueue>>,
    /// At a node, if its trunk may have lanes for bulk.
    weight: Option<Mutex<Weight>>,
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
        weight: Option<Weight>,
    ) -> Arc<Self> {
        Arc::new(Self {
            id,
            machine: Mutex::new(machine),
            reading: AtomicWaker::new(),
            writing: AtomicWaker::new(),
            finishing: AtomicWaker::new(),
            invitations: Invitations::default(),
            queued: AtomicU32::new(NOWHERE),
            ack_armed: AtomicBool::new(false),
            queue: Mutex::new(queue),
            weight: weight.map(Mutex::new),
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
        let queue = self.queue();
        machine.set_in_flight_max(queue.in_flight_max());
        let is_over = self.charge(machine.held_bytes());
        let wants_transmit = machine.wants_transmit();
        let ack_deadline = machine.ack_deadline();
        let (finished, ended) = (machine.is_finished(), machine.ended().is_some());
        let heard_out = machine.is_heard_out();
        drop(machine);

        if wants_transmit {
            queue.enqueue(self);
        } else if let Some(due) = ack_deadline {
            queue.arm_ack(self, due);
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

    /// The lane that carries it right now.
    pub(crate) fn queue(&self) -> Arc<LaneQueue> {
        Arc::clone(&self.queue.lock())
    }

    pub(crate) fn is_on(&self, lane: u32) -> bool {
        self.queue.lock().index == lane
    }

    pub(crate) fn class(&self) -> Class {
        self.queue.lock().class
    }

    /// Another lane carries it from here on. Only under the machine's lock.
    pub(crate) fn put_on(&self, queue: &Arc<LaneQueue>) {
        *self.queue.lock() = Arc::clone(queue);
        // An acknowledgement that waits on the older lane might wait for long.
        self.ack_armed.store(false, Ordering::Release);
    }

    /// Says that it is in this lane's round of turns; whether that is news.
    pub(crate) fn set_queued(&self, lane: u32) -> bool {
        self.queued.swap(lane, Ordering::AcqRel) != lane
    }

    /// It has left this lane's round of turns.
    pub(crate) fn unset_queued(&self, lane: u32) {
        let order = (Ordering::AcqRel, Ordering::Acquire);
        let _ = self.queued.compare_exchange(lane, NOWHERE, order.0, order.1);
    }

    /// At a node: weighs what crosses.
    pub(crate) fn weigh(&self, body: &Body) {
        if let Some(weight) = &self.weight {
            weight.lock().note(body, clock::now());
        }
    }

    /// At a node: moves the session to a lane for bulk, if it is bulk and there is one.
    pub(crate) fn heed_weight(self: &Arc<Self>) {
        if self.is_heavy()
            && self.class() == Class::Chat
            && let Some(sessions) = self.sessions.upgrade()
        {
            sessions.shift(self, Class::Bulk);
        }
    }

    /// Whether it belongs on a lane for bulk.
    pub(crate) fn is_heavy(&self) -> bool {
        self.weight.as_ref().is_some_and(|weight| weight.lock().is_bulk())
    }

    /// Whether it belongs on a lane for bulk at `now`, if nothing has come since.
    pub(crate) fn is_heavy_still(&self, now: Instant) -> bool {
        self.weight.as_ref().is_some_and(|weight| {
            let mut weight = weight.lock();
            weight.handle_timeout(now);
            weight.is_bulk()
        })
    }

    /// Takes a frame that the lane brought.
    pub(crate) fn handle_frame(self: &Arc<Self>, kind: Kind) {
        self.take(kind, None);
    }

    /// At a core: takes a frame that came over `queue`'s lane. A question where the session stands
    /// puts it on that lane, unless it is an older attachment's.
    pub(crate) fn handle_frame_of(self: &Arc<Self>, queue: &Arc<LaneQueue>, kind: Kind) {
        self.take(kind, Some(queue));
    }

    fn take(self: &Arc<Self>, kind: Kind, from: Option<&Arc<LaneQueue>>) {
        if let Kind::GoAway(go_away) = kind {
            return self.invitations.handle(go_away);
        }
        self.change(|machine| {
            if let (Kind::Attach(attach), Some(queue)) = (&kind, from)
                && (machine.attach_is_newer(attach) || machine.ended().is_some())
            {
                self.put_on(queue);
            }
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
        self.queue().enqueue(self);
    }

    /// The node at the other end of its trunk, if this is a core's end of one.
    pub(crate) fn node(&self) -> Option<NodeIdentity> {
        self.sessions.upgrade()?.node().cloned()
    }

    /// Takes the session off its trunk's register; a lane of its own has nothing more to carry.
    pub(crate) fn forget(&self) {
        match self.sessions.upgrade() {
            Some(sessions) => sessions.forget(self.id),
            None => self.queue().close(),
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
