//! The lanes of one trunk: which class each is of, and how one comes up and goes down.

use std::sync::Arc;

use antipode_proto::session::Session;
use antipode_runtime::clock;
use antipode_tunnel::Class;
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio_util::sync::CancellationToken;

use super::Sessions;
use super::admit::reset;
use crate::fan_out::announce::Announcer;
use crate::queue::{LaneQueue, Writer};

/// How many lanes a trunk has: those for chat are numbered first, then come those for bulk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Lanes {
    /// For what somebody waits for.
    pub chat: u32,
    /// For what is large, over a carrier of their own.
    pub bulk: u32,
}

impl From<u32> for Lanes {
    fn from(chat: u32) -> Self {
        Self { chat, bulk: 0 }
    }
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) queue: Arc<LaneQueue>,
    /// Tells the call that carries the lane to go. Held while the lane goes up or down.
    pub(super) revoked: Mutex<CancellationToken>,
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

/// The lanes of a trunk, all down.
pub(super) fn make(count: Lanes, announcer: &Arc<Announcer>) -> Vec<Lane> {
    let bulk_up = Arc::default();
    let chat = count.chat.max(1);
    let lane = |index| {
        let class = if index < chat { Class::Chat } else { Class::Bulk };
        let (announcer, bulk_up) = (Arc::clone(announcer), Arc::clone(&bulk_up));
        let queue = LaneQueue::of_class(index, class, announcer, bulk_up);
        Lane { queue, revoked: Mutex::default() }
    };
    (0..chat.saturating_add(count.bulk)).map(lane).collect()
}

impl Sessions {
    pub(crate) fn queue(&self, lane: u32) -> Option<&Arc<LaneQueue>> {
        usize::try_from(lane).ok().and_then(|index| self.lanes.get(index)).map(|lane| &lane.queue)
    }

    /// Lanes for chat that are up: without one nothing begins.
    pub(crate) fn lanes_up(&self) -> u32 {
        let up = self.of_class(Class::Chat).iter().filter(|lane| lane.queue.is_up()).count();
        u32::try_from(up).unwrap_or(u32::MAX)
    }

    pub(crate) const fn count(&self) -> Lanes {
        self.count
    }

    /// The lane that a session's number falls on, or if that one is down the next one that is up.
    pub(super) fn pick(&self, class: Class, id: u64) -> Option<&Lane> {
        let lanes = self.of_class(class);
        let count = u64::try_from(lanes.len()).ok().filter(|count| *count > 0)?;
        let start = usize::try_from(spread(id) % count).ok()?;
        let from_start = lanes[start..].iter().chain(&lanes[..start]);
        from_start.into_iter().find(|lane| lane.queue.is_up())
    }

    pub(super) fn of_class(&self, class: Class) -> &[Lane] {
        let chat = usize::try_from(self.count.chat.max(1)).unwrap_or(usize::MAX);
        let (chat, bulk) = self.lanes.split_at(chat.min(self.lanes.len()));
        match class {
            Class::Chat => chat,
            Class::Bulk => bulk,
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
        self.gauge(lane).inc();
        drop(current);
        self.ask_again(waiting);
        if self.admission.is_none() {
            let over = self.untimely.lock().of_lane(index);
            over.into_iter().for_each(|(id, cause)| lane.queue.answer(reset(id, cause, "")));
            self.for_each_cell_on(index, Session::handle_link_up);
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

    /// Says who waits for what the lane may have been about to bring.
    pub(super) fn detach(&self, lane: &Lane, index: u32) -> Vec<(u64, u32)> {
        if !lane.queue.is_up() {
            return Vec::new();
        }
        lane.queue.set_up(false);
        self.gauge(lane).dec();
        let now = clock::now();
        self.for_each_cell_on(index, |machine| machine.handle_link_down(now));
        lane.queue.clear();
        self.announcer.forget_lane(index);
        self.fan_in.as_ref().map_or_else(Vec::new, |fan_in| fan_in.lane_down(index))
    }

    pub(super) fn lane(&self, index: u32) -> Option<&Lane> {
        usize::try_from(index).ok().and_then(|index| self.lanes.get(index))
    }

    /// Changes each machine that the lane carries. One that moves away meanwhile is left alone: it
    /// is looked at again under its lock.
    fn for_each_cell_on(&self, index: u32, act: impl Fn(&mut Session)) {
        self.for_each_cell(
            |cell| cell.is_on(index),
            |cell| {
                cell.change(|machine| {
                    if cell.is_on(index) {
                        act(machine);
                    }
                });
            },
        );
    }

    fn gauge(&self, lane: &Lane) -> &Gauge {
        match lane.queue.class {
            Class::Chat => &self.metrics.lanes_up,
            Class::Bulk => &self.metrics.bulk_lanes_up,
        }
    }
}

/// Spreads consecutive numbers over the lanes (the finaliser of SplitMix64).
const fn spread(id: u64) -> u64 {
    let mixed = (id ^ (id >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
