//! All sessions of one trunk at one end, and where the lane's frames go.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use antipode_proto::body::Body;
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::{Cause, RequestHead};
use antipode_runtime::clock;
use antipode_tunnel::Class;
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::budget::Budget;
use crate::cell::Cell;
use crate::fan_out::announce::Announcer;
use crate::fan_out::wait::FanIn;
use crate::metrics::Metrics;
use crate::port::SessionPort;
use crate::queue::LaneQueue;
use crate::weight::Weight;

/// One trunk's sessions at one end.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: Config,
    budget: Budget,
    cells: DashMap<u64, Arc<Cell>>,
    count: Lanes,
    /// Those for chat, then those for bulk.
    lanes: Vec<Lane>,
    /// When the other end last had no place for a session.
    refused: Mutex<Option<Instant>>,
    /// Sweeps in a row that found no lane for bulk up.
    bulk_missing: AtomicU32,
    next_id: AtomicU64,
    /// The run of the process at the other end, once it has said hello.
    peer_run: Mutex<Option<Vec<u8>>>,
    /// At the node: whether the core takes lanes for bulk.
    takes_bulk: watch::Sender<bool>,
    /// At the core: where new sessions go.
    admission: Option<Admission>,
    /// What is over here, and not known to be over at the other end.
    untimely: Mutex<Untimely>,
    /// At the core: where a session that asked may begin.
    fences: Mutex<Fences>,
    /// No lane comes up any more, and no session begins.
    closed: AtomicBool,
    /// What this end has just sent.
    announcer: Arc<Announcer>,
    /// At the node: what the core numbered, and who waits for it.
    fan_in: Option<FanIn>,
    pub(crate) metrics: Metrics,
}

impl Sessions {
    pub(crate) fn new(
        lanes: impl Into<Lanes>,
        config: Config,
        admission: Option<Admission>,
        budget: Budget,
        metrics: Metrics,
    ) -> Arc<Self> {
        let announcer = Arc::new(Announcer::new(metrics.fan_out.clone()));
        let count = lanes.into();
        let lanes = lanes::make(count, &announcer);
        budget.export(&metrics.budget);
        let sessions = Arc::new(Self {
            config,
            budget,
            cells: DashMap::new(),
            count,
            lanes,
            refused: Mutex::new(None),
            bulk_missing: AtomicU32::new(0),
            next_id: AtomicU64::new(1),
            peer_run: Mutex::new(None),
            takes_bulk: watch::Sender::new(false),
            fan_in: admission.is_none().then(|| FanIn::new(metrics.fan_out.clone())),
            admission,
            untimely: Mutex::default(),
            fences: Mutex::default(),
            closed: AtomicBool::new(false),
            announcer,
            metrics,
        });
        sessions.budget.add_trunk(&sessions);
        sessions
    }

    /// Starts a session at the node, on a lane of the class it is of from the start.
    ///
    /// # Errors
    ///
    /// All lanes for chat are down: the head comes back, for another trunk.
    pub(crate) fn open(
        self: &Arc<Self>,
        head: RequestHead,
    ) -> Result<SessionPort, Box<RequestHead>> {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let weight = (self.count.bulk > 0).then(|| Weight::new(&head, clock::now()));
        let is_bulk = weight.as_ref().is_some_and(Weight::is_bulk);
        let bulk = is_bulk.then(|| self.pick(Class::Bulk, id)).flatten();
        let Some(chat) = self.pick(Class::Chat, id) else { return Err(head.into()) };
        let lane = bulk.unwrap_or(chat);

        let generation = lane.queue.generation();
        let mut machine = Session::new(Side::Node, self.config, clock::now());
        machine.handle_link_up();
        let cell = self.make(id, machine, &lane.queue, weight);
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
        Ok(SessionPort::new(cell))
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
            *self.fences.lock() = Fences::default();
        }
    }

    /// Ends sessions that have been without a lane for too long. Whether their lane is up says
    /// nothing: at the core a session stays without one until its node asks for it, and a node that
    /// has given it up never does.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        let is_due =
            |machine: &Session| machine.poll_timeout().is_some_and(|timeout| timeout <= now);
        self.for_each_cell(|cell| cell.look(is_due), |cell| cell.handle_timeout(now));
        self.settle_classes(now);
        self.budget.handle_timeout(now);
        self.announcer.handle_timeout(now);
        self.untimely.lock().expire(self.config.resume_window, now);
        self.fences.lock().expire(self.config.resume_window, now);
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
        if self.is_node() && ended.is_some_and(admit::is_refusal) {
            *self.refused.lock() = Some(clock::now());
        }
        self.remember(&cell, ended);
        if let Some(admission) = &self.admission {
            admission.limit.give_back();
        }
    }

    fn make(
        self: &Arc<Self>,
        id: u64,
        machine: Session,
        queue: &Arc<LaneQueue>,
        weight: Option<Weight>,
    ) -> Arc<Cell> {
        let budget = self.budget.clone();
        Cell::new(id, machine, Arc::clone(queue), Arc::downgrade(self), budget, weight)
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

mod admit;
mod arrive;
mod fences;
mod handover;
mod lanes;
mod moves;
#[cfg(test)]
mod tests;
mod untimely;

pub(crate) use admit::{Admission, SessionLimit};
use fences::Fences;
pub(crate) use handover::Pause;
pub(crate) use lanes::HeldLane;
use lanes::Lane;
pub use lanes::Lanes;
use untimely::Untimely;
