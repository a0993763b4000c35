//! One end of a trunk without tasks, timers or a network, for who moves batches by hand.
//!
//! A simulation, a fuzz target or a benchmark gets the sessions, queues and writers that the
//! programs run, and calls them one at a time: what happens depends on the calls and on nothing
//! else. Time comes with the calls; where the trunk asks for it by itself it asks
//! [`antipode_runtime::clock`], which a test may set.

use std::sync::Arc;
use std::time::Instant;

use antipode_proto::session::{Config, Session};
use antipode_proto::trunk::v1::{Batch, Cause, Hello, RequestHead};
use tokio::sync::mpsc;

use crate::batch::Draft;
use crate::budget::Budget;
use crate::fan_out::arrive::BadShare;
use crate::metrics::{Direction, Metrics};
use crate::peer::{Incoming, NodeIdentity};
use crate::port::SessionPort;
use crate::sessions::{Admission, HeldLane, Lanes, SessionLimit, Sessions};

/// New sessions that may wait to be taken with [`Bare::next_incoming`].
const INCOMING_MAX: usize = 1024;

/// One end of one trunk.
#[derive(Debug)]
pub struct Bare {
    sessions: Arc<Sessions>,
    held: Vec<Option<HeldLane>>,
    incoming: Option<mpsc::Receiver<Incoming>>,
}

impl Bare {
    /// A node's end.
    #[must_use]
    pub fn node(lanes: impl Into<Lanes>, config: Config, metrics: Metrics) -> Self {
        Self::node_within(lanes, config, metrics, Budget::unlimited())
    }

    /// A node's end whose sessions count against a budget.
    #[must_use]
    pub fn node_within(
        lanes: impl Into<Lanes>,
        config: Config,
        metrics: Metrics,
        budget: Budget,
    ) -> Self {
        Self::with(Sessions::new(lanes, config, None, budget, metrics), None)
    }

    /// A core's end of the trunk to `node`.
    #[must_use]
    pub fn core(
        lanes: impl Into<Lanes>,
        config: Config,
        metrics: Metrics,
        node: NodeIdentity,
        sessions_max: usize,
    ) -> Self {
        Self::core_within(lanes, config, metrics, node, sessions_max, Budget::unlimited())
    }

    /// A core's end whose sessions count against a budget.
    #[must_use]
    pub fn core_within(
        lanes: impl Into<Lanes>,
        config: Config,
        metrics: Metrics,
        node: NodeIdentity,
        sessions_max: usize,
        budget: Budget,
    ) -> Self {
        let (incoming, accepted) = mpsc::channel(INCOMING_MAX);
        let (limit, pause) = (SessionLimit::new(sessions_max), Arc::default());
        let admission = Admission { incoming, node, limit, pause };
        let sessions = Sessions::new(lanes, config, Some(admission), budget, metrics);
        sessions.handle_hello(&Hello { keeps_payloads: true, ..Hello::default() });
        Self::with(sessions, Some(accepted))
    }

    fn with(sessions: Arc<Sessions>, incoming: Option<mpsc::Receiver<Incoming>>) -> Self {
        let Lanes { chat, bulk } = sessions.count();
        Self { sessions, held: (0..chat.max(1) + bulk).map(|_| None).collect(), incoming }
    }

    /// At a node: starts a session. `None` if no lane is up.
    #[must_use]
    pub fn open(&self, head: RequestHead) -> Option<SessionPort> {
        self.sessions.open(head).ok()
    }

    /// At a core: the next session that a node opened.
    #[must_use]
    pub fn next_incoming(&mut self) -> Option<Incoming> {
        self.incoming.as_mut()?.try_recv().ok()
    }

    /// A call carries the lane now, instead of whatever carried it before.
    ///
    /// # Panics
    ///
    /// If there is no such lane.
    pub fn lane_up(&mut self, lane: u32) {
        let held = self.sessions.lane_up(lane).expect("the lane is one of those made");
        *self.slot(lane) = Some(held);
    }

    /// The lane broke.
    ///
    /// # Panics
    ///
    /// If there is no such lane.
    pub fn lane_down(&mut self, lane: u32) {
        *self.slot(lane) = None;
    }

    /// Takes a batch that the lane brought.
    ///
    /// # Errors
    ///
    /// The peer broke the protocol; the programs end the lane.
    pub fn handle_batch(&self, lane: u32, batch: Batch) -> Result<(), BadShare> {
        self.sessions.handle_batch(batch, lane)
    }

    /// What the lane sends next; `None` if it is down or has nothing to send.
    ///
    /// # Panics
    ///
    /// If there is no such lane.
    #[must_use]
    pub fn collect_batch(&mut self, lane: u32, now: Instant) -> Option<Batch> {
        let writer = &self.slot(lane).as_ref()?.writer;
        let mut draft = Draft::default();
        writer.collect(&mut draft, now).expect("an older call gives its lane up");
        let frames = draft.frames_count();
        if frames == 0 {
            return None;
        }
        self.sessions.metrics.count_frames(Direction::Out, frames);
        Some(draft.finish())
    }

    /// The greeting of the process at the other end: a new run has forgotten what the older knew.
    pub fn handle_peer_run(&self, run: &[u8; 16]) {
        self.sessions.handle_peer_run(run);
    }

    /// Ends every session here, without a word to the other end.
    pub fn end_all(&self, cause: Cause, detail: &str) {
        self.sessions.end_all(cause, detail);
    }

    /// When [`Bare::handle_timeout`] is next of use. Changes after every other call, and after
    /// those of the sessions' ports.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.sessions.earliest(Session::poll_timeout)
    }

    /// Runs whatever is due at `now`. The programs do so once a second; acknowledgements go when
    /// they are due, as [`Bare::collect_batch`] sees to.
    pub fn handle_timeout(&self, now: Instant) {
        self.sessions.handle_timeout(now);
    }

    #[cfg(test)]
    pub(crate) fn sessions(&self) -> &Arc<Sessions> {
        &self.sessions
    }

    /// Sessions held.
    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.sessions.len()
    }

    /// Lanes for chat that are up.
    #[must_use]
    pub fn lanes_up(&self) -> u32 {
        self.sessions.lanes_up()
    }

    fn slot(&mut self, lane: u32) -> &mut Option<HeldLane> {
        let slot = usize::try_from(lane).ok().and_then(|index| self.held.get_mut(index));
        slot.expect("the lane is one of those made")
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use antipode_proto::body::Body;
    use antipode_proto::trunk::v1::{Chunk, ResponseHead};
    use antipode_runtime::clock;
    use bytes::Bytes;

    use super::*;

    /// No runtime anywhere: what is moved by hand arrives, also after a break.
    #[test]
    fn batches_moved_by_hand_are_a_trunk() {
        let (mut node, mut core) = ends();
        let port = node.open(RequestHead { target: "/a".into(), ..RequestHead::default() });
        let port = port.expect("the lanes are up");
        carry(&mut node, &core);
        let incoming = core.next_incoming().expect("it was opened");
        assert_eq!(incoming.head.target, "/a");

        incoming.port.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
        let _lost = lanes().filter_map(|lane| core.collect_batch(lane, clock::now())).count();
        for lane in lanes() {
            core.lane_down(lane);
            node.lane_down(lane);
        }
        assert!(core.poll_timeout().is_some(), "nobody waits for ever");
        for lane in lanes() {
            core.lane_up(lane);
            node.lane_up(lane);
        }
        carry(&mut node, &core);
        carry(&mut core, &node);
        let delivery = port.try_deliver().expect("alive").expect("replayed");
        assert!(matches!(delivery.body, Body::Response(head) if head.status == 101));
        assert_eq!(node.sessions.metrics.lanes_up.get(), 4);
    }

    #[test]
    fn who_is_not_come_back_for_is_given_up() {
        let (mut node, _core) = ends();
        let port = node.open(RequestHead::default()).expect("the lanes are up");
        port.send(Chunk { payload: Bytes::from_static(b"up"), ..Chunk::default() }.into()).unwrap();
        lanes().for_each(|lane| node.lane_down(lane));
        let due = node.poll_timeout().expect("it does not wait for ever");
        node.handle_timeout(due + Duration::from_millis(1));
        assert_eq!((node.sessions_count(), node.poll_timeout()), (0, None));
    }

    fn ends() -> (Bare, Bare) {
        let identity = NodeIdentity::for_tests("node");
        let mut node = Bare::node(4, Config::default(), Metrics::default());
        let mut core = Bare::core(4, Config::default(), Metrics::default(), identity, 100);
        for lane in lanes() {
            core.lane_up(lane);
            node.lane_up(lane);
        }
        (node, core)
    }

    fn lanes() -> std::ops::Range<u32> {
        0..4
    }

    fn carry(from: &mut Bare, to: &Bare) {
        for lane in lanes() {
            while let Some(batch) = from.collect_batch(lane, clock::now()) {
                to.handle_batch(lane, batch).expect("both ends keep the protocol");
            }
        }
    }
}
