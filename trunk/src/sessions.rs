//! All sessions of one trunk at one end, and where the lane's frames go.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use antipode_proto::body::{Body, INITIAL_CREDIT_BYTES};
use antipode_proto::session::{Config, Ended, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{
    Attach, Attached, Batch, Cause, Frame, RequestHead, Reset, Segment,
};
use antipode_runtime::clock;
use dashmap::{DashMap, Entry};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::batch::{BadShare, resolve_shared};
use crate::cell::Cell;
use crate::metrics::{Direction, Metrics};
use crate::peer::{Incoming, NodeIdentity};
use crate::port::SessionPort;
use crate::queue::{LaneQueue, Writer};

/// One trunk's sessions at one end.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: Config,
    cells: DashMap<u64, Arc<Cell>>,
    lanes: Vec<Lane>,
    next_id: AtomicU64,
    /// The run of the process at the other end, once it has said hello.
    peer_run: Mutex<Option<Vec<u8>>>,
    /// At the core: where new sessions go.
    admission: Option<Admission>,
    /// At the core: what a predecessor had taken on, or we had when a successor was to take over.
    settled: Mutex<BTreeSet<u64>>,
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

/// How the core takes in new sessions.
#[derive(Debug)]
pub(crate) struct Admission {
    pub(crate) incoming: mpsc::Sender<Incoming>,
    pub(crate) node: NodeIdentity,
    pub(crate) limit: Arc<SessionLimit>,
    pub(crate) pause: Arc<Pause>,
}

/// A count of sessions that all trunks of a core share.
#[derive(Debug)]
pub(crate) struct SessionLimit {
    open: AtomicUsize,
    max: usize,
}

impl SessionLimit {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Self { open: AtomicUsize::new(0), max })
    }

    fn take(&self) -> bool {
        let taken = self.open.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
            (open < self.max).then_some(open + 1)
        });
        taken.is_ok()
    }

    fn give_back(&self) {
        self.open.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Sessions {
    pub(crate) fn new(
        lanes: u32,
        config: Config,
        admission: Option<Admission>,
        metrics: Metrics,
    ) -> Arc<Self> {
        let lanes = (0..lanes.max(1))
            .map(|index| Lane { queue: LaneQueue::new(index), revoked: Mutex::default() })
            .collect();
        Arc::new(Self {
            config,
            cells: DashMap::new(),
            lanes,
            next_id: AtomicU64::new(1),
            peer_run: Mutex::new(None),
            admission,
            settled: Mutex::default(),
            metrics,
        })
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
        let cell = Cell::new(id, machine, Arc::clone(&lane.queue), Arc::downgrade(self));
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
            self.for_each_cell(|_| true, |cell| cell.change(Session::handle_peer_restart));
        }
    }

    /// A gRPC call carries the lane now; whatever carried it before is told to go.
    pub(crate) fn lane_up(self: &Arc<Self>, index: u32) -> Option<HeldLane> {
        let lane = self.lane(index)?;
        let mut current = lane.revoked.lock();
        if self.admission.as_ref().is_some_and(|admission| admission.pause.is_halted()) {
            return None;
        }
        current.cancel();
        *current = CancellationToken::new();
        let revoked = current.clone();
        let writer = lane.queue.writer();
        self.detach(lane, index);
        lane.queue.set_up(true);
        self.metrics.lanes_up.inc();
        drop(current);
        if self.admission.is_none() {
            self.for_each_cell(
                |cell| cell.queue.index == index,
                |cell| cell.change(Session::handle_link_up),
            );
        }
        Some(HeldLane { sessions: Arc::clone(self), index, writer, revoked })
    }

    fn lane_down(&self, index: u32, generation: u64) {
        let Some(lane) = self.lane(index) else { return };
        let _current = lane.revoked.lock();
        if lane.queue.generation() == generation {
            self.detach(lane, index);
        }
    }

    /// Tells every call that carries one of the lanes to go.
    pub(crate) fn revoke_lanes(&self) {
        self.lanes.iter().for_each(|lane| lane.revoked.lock().cancel());
    }

    /// Takes everything a batch brought.
    pub(crate) fn handle_batch(self: &Arc<Self>, batch: Batch, lane: u32) -> Result<(), BadShare> {
        let Batch { frames, shared, .. } = batch;
        self.metrics.count_frames(Direction::In, frames.len());
        for mut frame in frames {
            resolve_shared(&mut frame, &shared)?;
            let Some(kind) = frame.kind else { continue };
            let cell = self.cells.get(&frame.session).map(|cell| Arc::clone(&cell));
            match cell {
                Some(cell) => cell.handle_frame(kind),
                None => self.handle_unknown(frame.session, kind, lane),
            }
        }
        Ok(())
    }

    /// Ends sessions that have been without a lane for too long. Whether their lane is up says
    /// nothing: at the core a session stays without one until its node asks for it, and a node that
    /// has given it up never does.
    pub(crate) fn handle_timeout(&self, now: Instant) {
        let is_due =
            |machine: &Session| machine.poll_timeout().is_some_and(|timeout| timeout <= now);
        self.for_each_cell(|cell| cell.look(is_due), |cell| cell.handle_timeout(now));
    }

    /// The earliest time that any session names.
    pub(crate) fn earliest(&self, due: impl Fn(&Session) -> Option<Instant>) -> Option<Instant> {
        self.cells.iter().filter_map(|entry| entry.value().look(&due)).min()
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
        let (replayed, ended) =
            cell.look(|machine| (machine.replayed(), machine.ended().map(|ended| ended.cause)));
        self.metrics.count_end(ended, replayed);
        if let Some(admission) = &self.admission {
            admission.limit.give_back();
            self.remember(admission, id);
        }
    }

    fn lane(&self, index: u32) -> Option<&Lane> {
        usize::try_from(index).ok().and_then(|index| self.lanes.get(index))
    }

    fn detach(&self, lane: &Lane, index: u32) {
        if !lane.queue.is_up() {
            return;
        }
        lane.queue.set_up(false);
        self.metrics.lanes_up.dec();
        let now = clock::now();
        self.for_each_cell(
            |cell| cell.queue.index == index,
            |cell| cell.change(|machine| machine.handle_link_down(now)),
        );
        lane.queue.clear();
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

    fn handle_unknown(self: &Arc<Self>, id: u64, kind: Kind, lane: u32) {
        let (Some(admission), Some(queue)) = (&self.admission, self.queue(lane)) else { return };
        if self.is_handed_over(admission, id, &kind, queue) {
            return;
        }
        match kind {
            Kind::Segment(Segment { seq: 1, ref body, .. })
                if matches!(body, Some(Body::Request(_))) =>
            {
                self.admit(admission, id, kind, queue);
            }
            Kind::Segment(_) => queue.answer(reset(id, Cause::SessionLost, "unknown session")),
            // Nothing of it has arrived here: the node may start from the beginning.
            Kind::Attach(Attach { epoch, received: 0, .. }) => {
                let attached = Attached { epoch, received: 0, credit: INITIAL_CREDIT_BYTES };
                queue.answer(Frame { session: id, kind: Some(Kind::Attached(attached)) });
            }
            Kind::Attach(_) => queue.answer(reset(id, Cause::SessionLost, "unknown session")),
            Kind::Ack(_) | Kind::Attached(_) | Kind::Reset(_) | Kind::GoAway(_) => {}
        }
    }

    fn admit(self: &Arc<Self>, admission: &Admission, id: u64, kind: Kind, queue: &Arc<LaneQueue>) {
        let Ok(permit) = admission.incoming.try_reserve() else {
            self.metrics.refused.inc();
            return queue.answer(reset(id, Cause::CoreFull, "the core is busy"));
        };
        if !admission.limit.take() {
            self.metrics.refused.inc();
            return queue.answer(reset(id, Cause::CoreFull, "the core is full"));
        }
        let machine = Session::new(Side::Core, self.config, clock::now());
        let cell = Cell::new(id, machine, Arc::clone(queue), Arc::downgrade(self));
        if !self.insert(Arc::clone(&cell)) {
            // Only a node that opens one number on two lanes at once: the first one has it.
            return admission.limit.give_back();
        }
        cell.handle_frame(kind);
        let port = SessionPort::new(cell);
        let Ok(Some(first)) = port.try_deliver() else { return };
        port.consumed(first.seq);
        if let Body::Request(head) = first.body {
            permit.send(Incoming { head: *head, port, node: admission.node.clone() });
        }
    }
}

fn reset(session: u64, cause: Cause, detail: &str) -> Frame {
    let Ended { cause, detail } = Ended::new(cause, detail);
    let reset = Reset { cause: cause.into(), detail };
    Frame { session, kind: Some(Kind::Reset(reset)) }
}

/// Spreads consecutive numbers over the lanes (the finaliser of SplitMix64).
const fn spread(id: u64) -> u64 {
    let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

mod handover;
#[cfg(test)]
mod tests;

pub(crate) use handover::Pause;
