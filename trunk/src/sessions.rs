//! All sessions of one trunk at one end, and where the lane's frames go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use antipode_proto::body::Body;
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::{Cause, RequestHead};
use antipode_runtime::clock;
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::budget::Budget;
use crate::cell::Cell;
use crate::fan_out::announce::Announcer;
use crate::fan_out::wait::FanIn;
use crate::metrics::Metrics;
use crate::port::SessionPort;
use crate::queue::{LaneQueue, Writer};

/// One trunk's sessions at one end.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: Config,
    budget: Budget,
    cells: DashMap<u64, Arc<Cell>>,
    lanes: Vec<Lane>,
    next_id: AtomicU64,
    /// The run of the process at the other end, once it has said hello.
    peer_run: Mutex<Option<Vec<u8>>>,
    /// At the core: where new sessions go.
    admission: Option<Admission>,
    /// What is over here, and not known to be over at the other end.
    untimely: Mutex<Untimely>,
    /// No lane comes up any more, and no session begins.
    closed: AtomicBool,
    /// What this end has just sent.
    announcer: Arc<Announcer>,
    /// At the node: what the core numbered, and who waits for it.
    fan_in: Option<FanIn>,
    pub(crate) metrics: Metrics,
}

#[derive(Debug)]
struct Lane {
    queue: Arc<LaneQueue>,
    /// Tells the call that carries the lane to go. Held while the lane goes up or down.
    revoked: Mutex<CancellationToken>,
}

/// What a gRPC call holds while it carries a lane. Dropping it puts the lane down, unless a newer
/// call carries it already.
#[derive(Debug)]
pub(crate) struct HeldLane {
    sessions: Arc<Sessions>,
    index: u32,
    pub(crate) writer: Writer,
    revoked: CancellationToken,
}

impl HeldLane {
    /// Resolves when a newer call carries the lane, or the trunk is closed.
    pub(crate) async fn revoked(&self) {
        self.revoked.cancelled().await;
    }
}

impl Drop for HeldLane {
    fn drop(&mut self) {
        self.sessions.lane_down(self.index, self.writer.generation());
    }
}

impl Sessions {
    pub(crate) fn new(
        lanes: u32,
        config: Config,
        admission: Option<Admission>,
        budget: Budget,
        metrics: Metrics,
    ) -> Arc<Self> {
        let announcer = Arc::new(Announcer::new(metrics.fan_out.clone()));
        let lane = |index| Lane {
            queue: LaneQueue::new(index, Arc::clone(&announcer)),
            revoked: Mutex::default(),
        };
        let lanes = (0..lanes.max(1)).map(lane).collect();
        budget.export(&metrics.budget);
        let sessions = Arc::new(Self {
            config,
            budget,
            cells: DashMap::new(),
            lanes,
            next_id: AtomicU64::new(1),
            peer_run: Mutex::new(None),
            fan_in: admission.is_none().then(|| FanIn::new(metrics.fan_out.clone())),
            admission,
            untimely: Mutex::default(),
            closed: AtomicBool::new(false),
            announcer,
            metrics,
        });
        sessions.budget.add_trunk(&sessions);
        sessions
    }

    /// Starts a session at the node, on the lane that its number falls on or, if that one is down,
    /// on the next one that is up. `None` if all are down.
    pub(crate) fn open(self: &Arc<Self>, head: RequestHead) -> Option<SessionPort> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let count = self.lanes.len();
        let start = usize::try_from(spread(id) % u64::try_from(count).ok()?).ok()?;
        let lane = (0..count)
            .map(|step| &self.lanes[(start + step) % count])
            .find(|lane| lane.queue.is_up())?;

        let generation = lane.queue.generation();
        let mut machine = Session::new(Side::Node, self.config, clock::now());
        machine.handle_link_up();
        let cell = self.make(id, machine, &lane.queue);
        let is_new = self.insert(Arc::clone(&cell));
        debug_assert!(is_new, "a number is given once");
        cell.change(|machine| machine.send(Body::from(head)));
        // The lane may have broken, and even come back, between the look and the insertion.
        if !lane.queue.is_up() || lane.queue.generation() != generation {
            cell.change(|machine| machine.handle_link_down(clock::now()));
            if lane.queue.is_up() {
                cell.change(Session::handle_link_up);
            }
        }
        if self.is_closed() {
            cell.change(|machine| machine.abandon(Cause::SessionLost, "the core has left"));
        }
        Some(SessionPort::new(cell))
    }

    pub(crate) fn queue(&self, lane: u32) -> Option<&Arc<LaneQueue>> {
        usize::try_from(lane).ok().and_then(|index| self.lanes.get(index)).map(|lane| &lane.queue)
    }

    pub(crate) fn lanes_up(&self) -> u32 {
        let up = self.lanes.iter().filter(|lane| lane.queue.is_up()).count();
        u32::try_from(up).unwrap_or(u32::MAX)
    }

    /// The other end said hello: if it is a new process, what it was told before is gone.
    pub(crate) fn handle_peer_run(&self, run: &[u8]) {
        let mut known = self.peer_run.lock();
        let restarted = known.as_deref().is_some_and(|known| known != run);
        *known = Some(run.to_vec());
        drop(known);
        if restarted {
            self.fan_in.iter().for_each(FanIn::clear);
            self.for_each_cell(|_| true, |cell| cell.change(Session::handle_peer_restart));
            // The new process knows of none of these.
            *self.untimely.lock() = Untimely::default();
        }
    }

    /// A gRPC call carries the lane now; whatever carried it before is told to go.
    pub(crate) fn lane_up(self: &Arc<Self>, index: u32) -> Option<HeldLane> {
        let lane = self.lane(index)?;
        let mut current = lane.revoked.lock();
        let is_halted = self.admission.as_ref().is_some_and(|core| core.pause.is_halted());
        if is_halted || self.is_closed() {
            return None;
        }
        current.cancel();
        *current = CancellationToken::new();
        let revoked = current.clone();
        let writer = lane.queue.writer();
        let waiting = self.detach(lane, index);
        lane.queue.set_up(true);
        self.metrics.lanes_up.inc();
        drop(current);
        self.ask_again(waiting);
        if self.admission.is_none() {
            let over = self.untimely.lock().of_lane(index);
            over.into_iter().for_each(|(id, cause)| lane.queue.answer(reset(id, cause, "")));
            self.for_each_cell(
                |cell| cell.queue.index == index,
                |cell| cell.change(Session::handle_link_up),
            );
        }
        Some(HeldLane { sessions: Arc::clone(self), index, writer, revoked })
    }

    fn lane_down(&self, index: u32, generation: u64) {
        let Some(lane) = self.lane(index) else { return };
        let current = lane.revoked.lock();
        if lane.queue.generation() == generation {
            let waiting = self.detach(lane, index);
            drop(current);
            self.ask_again(waiting);
        }
    }

    /// Ends sessions that have been without a lane for too long. Whether their lane is up says
    /// nothing: at the core a session stays without one until its node asks for it, and a node that
    /// has given it up never does.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        let is_due =
            |machine: &Session| machine.poll_timeout().is_some_and(|timeout| timeout <= now);
        self.for_each_cell(|cell| cell.look(is_due), |cell| cell.handle_timeout(now));
        self.budget.handle_timeout(now);
        self.announcer.handle_timeout(now);
        self.untimely.lock().expire(self.config.resume_window, now);
        if let Some(fan_in) = &self.fan_in {
            self.ask_again(fan_in.handle_timeout(now));
        }
    }

    /// The earliest time that any session names.
    pub(crate) fn earliest(&self, due: impl Fn(&Session) -> Option<Instant>) -> Option<Instant> {
        self.cells.iter().filter_map(|entry| entry.value().look(&due)).min()
    }

    /// The trunk is no more, and nobody else looks after what it has: lanes and sessions end here
    /// and now, and none comes after them.
    pub(crate) fn close(&self, cause: Cause, detail: &str) {
        // First this: whoever comes later sees it, and whoever came before is seen below.
        self.closed.store(true, Ordering::SeqCst);
        self.lanes.iter().for_each(|lane| lane.revoked.lock().cancel());
        self.end_all(cause, detail);
    }

    fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// The trunk is gone for good: its sessions end here and now.
    pub(crate) fn end_all(&self, cause: Cause, detail: &str) {
        self.for_each_cell(|_| true, |cell| cell.change(|machine| machine.abandon(cause, detail)));
    }

    pub(crate) fn len(&self) -> usize {
        self.cells.len()
    }

    pub(crate) fn forget(&self, id: u64) {
        let Some((_, cell)) = self.cells.remove(&id) else { return };
        self.fan_in.iter().for_each(|fan_in| fan_in.forget(id));
        let (replayed, ended) =
            cell.look(|machine| (machine.replayed(), machine.ended().map(|ended| ended.cause)));
        self.metrics.count_end(ended, replayed);
        self.remember(&cell, ended);
        if let Some(admission) = &self.admission {
            admission.limit.give_back();
        }
    }

    fn make(self: &Arc<Self>, id: u64, machine: Session, queue: &Arc<LaneQueue>) -> Arc<Cell> {
        let budget = self.budget.clone();
        Cell::new(id, machine, Arc::clone(queue), Arc::downgrade(self), budget)
    }

    /// All of them, in the order of their numbers.
    pub(crate) fn cells(&self) -> Vec<Arc<Cell>> {
        let mut cells: Vec<_> = self.cells.iter().map(|entry| Arc::clone(entry.value())).collect();
        cells.sort_unstable_by_key(|cell| cell.id);
        cells
    }

    /// Which end this is.
    pub(crate) const fn is_node(&self) -> bool {
        self.admission.is_none()
    }

    fn cell(&self, id: u64) -> Option<Arc<Cell>> {
        self.cells.get(&id).map(|cell| Arc::clone(&cell))
    }

    fn lane(&self, index: u32) -> Option<&Lane> {
        usize::try_from(index).ok().and_then(|index| self.lanes.get(index))
    }

    /// Says who waits for what the lane may have been about to bring.
    fn detach(&self, lane: &Lane, index: u32) -> Vec<(u64, u32)> {
        if !lane.queue.is_up() {
            return Vec::new();
        }
        lane.queue.set_up(false);
        self.metrics.lanes_up.dec();
        let now = clock::now();
        self.for_each_cell(
            |cell| cell.queue.index == index,
            |cell| cell.change(|machine| machine.handle_link_down(now)),
        );
        lane.queue.clear();
        self.announcer.forget_lane(index);
        self.fan_in.as_ref().map_or_else(Vec::new, |fan_in| fan_in.lane_down(index))
    }

    /// `false`, with nothing done, if the number is in use.
    fn insert(&self, cell: Arc<Cell>) -> bool {
        let Entry::Vacant(free) = self.cells.entry(cell.id) else { return false };
        free.insert(cell);
        self.metrics.sessions.inc();
        true
    }

    /// No guard of the map is held while a cell changes: a cell that ends takes itself off the map.
    /// In the order of their numbers, so that one cause has one course.
    fn for_each_cell(&self, pick: impl Fn(&Cell) -> bool, act: impl Fn(&Arc<Cell>)) {
        let mut picked: Vec<_> = self
            .cells
            .iter()
            .filter(|entry| pick(entry.value()))
            .map(|entry| Arc::clone(entry.value()))
            .collect();
        picked.sort_unstable_by_key(|cell| cell.id);
        picked.iter().for_each(act);
    }
}

/// Spreads consecutive numbers over the lanes (the finaliser of SplitMix64).
const fn spread(id: u64) -> u64 {
    let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

mod admit;
mod arrive;
mod handover;
#[cfg(test)]
mod tests;
mod untimely;

use admit::reset;
pub(crate) use admit::{Admission, SessionLimit};
pub(crate) use handover::Pause;
use untimely::Untimely;
