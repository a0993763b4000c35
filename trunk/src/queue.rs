//! What waits for a lane: sessions with something to send, acknowledgements to come, short answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use antipode_proto::session::Session;
use antipode_proto::trunk::v1::Frame;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::turns::{Turn, Turns};
use antipode_tunnel::Class;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::batch::{Announcing, Draft};
use crate::cell::Cell;
use crate::fan_out::announce::Announcer;
use crate::weight::CHAT_IN_FLIGHT_BYTES_MAX;

/// Answers to frames of unknown sessions that may wait. Beyond, the lane is not read until they
/// have gone: a peer that makes us owe more waits for what it is owed.
const ANSWERS_MAX: usize = 4096;

/// An acknowledgement that is due waits this much longer for a batch that goes anyway. Nobody waits
/// for it: one that gives new credit, or ends a session, goes at once. With 10,000 sessions of a
/// message a second each, every second batch to the core was one acknowledgement without this.
const ACK_RIDE: Duration = Duration::from_millis(60);

/// One lane's outgoing side. It outlives the gRPC calls that carry the lane.
#[derive(Debug)]
pub(crate) struct LaneQueue {
    pub(crate) index: u32,
    pub(crate) class: Class,
    /// How many of the trunk's lanes for bulk are up.
    bulk_up: Arc<AtomicU32>,
    waiting: Mutex<Waiting>,
    /// What all lanes of the trunk have just sent.
    announcer: Arc<Announcer>,
    up: AtomicBool,
    /// Counts the calls that carried the lane. Only the newest may take anything from here.
    generation: AtomicU64,
}

#[derive(Debug, Default)]
struct Waiting {
    turns: Turns<Arc<Cell>>,
    /// By deadline: the delay is the same for all, so the order of arrival is the order of
    /// deadlines.
    acks: VecDeque<(Instant, Arc<Cell>)>,
    answers: VecDeque<Frame>,
    /// Tells the lane's reader that answers have gone.
    answered: Arc<Notify>,
    /// Nothing will ever wait here again.
    closed: bool,
    /// Wakes the newest call's writer, and no other.
    wake: Arc<Notify>,
}

/// What one gRPC call takes from the lane with, for as long as no newer call carries it.
///
/// A call that was replaced may still run for a moment. Had it a share in the queue, it would take
/// the answer to the newer call's attach with it into nowhere.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Arc<LaneQueue>,
    generation: u64,
    wake: Arc<Notify>,
}

/// A newer call carries the lane.
#[derive(Debug)]
pub(crate) struct Replaced;

impl LaneQueue {
    /// A lane for chat, without others for bulk.
    pub(crate) fn new(index: u32, announcer: Arc<Announcer>) -> Arc<Self> {
        Self::of_class(index, Class::Chat, announcer, Arc::default())
    }

    pub(crate) fn of_class(
        index: u32,
        class: Class,
        announcer: Arc<Announcer>,
        bulk_up: Arc<AtomicU32>,
    ) -> Arc<Self> {
        Arc::new(Self {
            index,
            class,
            bulk_up,
            announcer,
            waiting: Mutex::default(),
            up: AtomicBool::new(false),
            generation: AtomicU64::new(0),
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub(crate) fn set_up(&self, up: bool) {
        let was_up = self.up.swap(up, Ordering::AcqRel);
        match (self.class, was_up, up) {
            (Class::Bulk, false, true) => drop(self.bulk_up.fetch_add(1, Ordering::AcqRel)),
            (Class::Bulk, true, false) => drop(self.bulk_up.fetch_sub(1, Ordering::AcqRel)),
            (Class::Chat | Class::Bulk, _, _) => {}
        }
    }

    /// What one session may have on its way here.
    pub(crate) fn in_flight_max(&self) -> u64 {
        let is_shared = self.class == Class::Chat && self.bulk_up.load(Ordering::Acquire) > 0;
        if is_shared { CHAT_IN_FLIGHT_BYTES_MAX } else { u64::MAX }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// A new call carries the lane: from here on nobody else takes from it.
    pub(crate) fn writer(self: &Arc<Self>) -> Writer {
        let wake = Arc::new(Notify::new());
        let mut waiting = self.waiting.lock();
        waiting.wake = Arc::clone(&wake);
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        drop(waiting);
        Writer { queue: Arc::clone(self), generation, wake }
    }

    /// The session has something to send.
    pub(crate) fn enqueue(&self, cell: &Arc<Cell>) {
        if cell.set_queued(self.index) {
            let mut waiting = self.waiting.lock();
            waiting.turns.enqueue(Arc::clone(cell));
            waiting.wake.notify_one();
        }
    }

    /// The session will owe an acknowledgement at `due`.
    pub(crate) fn arm_ack(&self, cell: &Arc<Cell>, due: Instant) {
        if !cell.ack_armed.swap(true, Ordering::AcqRel) {
            let mut waiting = self.waiting.lock();
            waiting.acks.push_back((due, Arc::clone(cell)));
            if waiting.acks.len() == 1 {
                waiting.wake.notify_one();
            }
        }
    }

    /// An answer to a frame whose session is not known.
    pub(crate) fn answer(&self, frame: Frame) {
        let mut waiting = self.waiting.lock();
        waiting.answers.push_back(frame);
        waiting.wake.notify_one();
    }

    /// Waits while too many answers do. Whoever reads the lane asks before each batch, so that what
    /// waits is bounded by a batch beyond [`ANSWERS_MAX`].
    pub(crate) async fn answers_gone(&self) {
        loop {
            let answered = {
                let waiting = self.waiting.lock();
                if waiting.answers.len() <= ANSWERS_MAX {
                    return;
                }
                Arc::clone(&waiting.answered)
            };
            answered.notified().await;
        }
    }

    /// The lane broke: nobody waits for it now. Attaching again puts the sessions back.
    pub(crate) fn clear(&self) {
        let mut waiting = self.waiting.lock();
        let mut elsewhere = Vec::new();
        while let Some(turn) = waiting.turns.next_turn() {
            turn.session.unset_queued(self.index);
            if !turn.session.is_on(self.index) {
                elsewhere.push(turn.session);
            }
        }
        waiting.answers.clear();
        waiting.answered.notify_one();
        drop(waiting);
        elsewhere.iter().for_each(|cell| cell.queue().enqueue(cell));
    }

    /// The lane's only session is over: its writer has nothing more to wait for.
    pub(crate) fn close(&self) {
        let mut waiting = self.waiting.lock();
        waiting.closed = true;
        waiting.wake.notify_one();
    }

    /// Acknowledgements whose time has come become something to send.
    fn release_acks(&self, now: Instant) {
        loop {
            let cell = {
                let mut waiting = self.waiting.lock();
                match waiting.acks.front() {
                    Some((due, _)) if *due <= now => waiting.acks.pop_front(),
                    Some(_) | None => None,
                }
            };
            let Some((_, cell)) = cell else { return };
            cell.ack_armed.store(false, Ordering::Release);
            cell.handle_timeout(now);
        }
    }
}

impl Writer {
    pub(crate) const fn generation(&self) -> u64 {
        self.generation
    }

    /// Waits until something can go.
    pub(crate) async fn ready(&self) {
        loop {
            let due = {
                let waiting = self.queue.waiting.lock();
                if !waiting.turns.is_empty() || !waiting.answers.is_empty() || waiting.closed {
                    return;
                }
                waiting.acks.front().map(|(due, _)| *due + ACK_RIDE)
            };
            match due {
                None => self.wake.notified().await,
                Some(due) => tokio::select! {
                    () = self.wake.notified() => {}
                    () = tokio::time::sleep_until(due.into()) => return,
                },
            }
        }
    }

    /// Fills a batch: due acknowledgements, answers, then turn by turn.
    pub(crate) fn collect(&self, draft: &mut Draft, now: Instant) -> Result<(), Replaced> {
        self.queue.release_acks(now);
        while !draft.is_full() {
            let Some(frame) = self.next_answer()? else { break };
            draft.push(frame, None);
        }
        while !draft.is_full() {
            let Some(turn) = self.queue.waiting.lock().turns.next_turn() else { break };
            self.take_turn(turn, draft, now)?;
        }
        self.queue.announcer.metrics.saved_bytes.inc_by(draft.saved_bytes());
        Ok(())
    }

    /// One frame of the lane's only session.
    pub(crate) fn next_frame(&self, cell: &Arc<Cell>, now: Instant) -> Option<Kind> {
        self.queue.release_acks(now);
        let turn = self.queue.waiting.lock().turns.next_turn()?;
        cell.unset_queued(self.queue.index);
        let (kind, after) = cell.turn(|machine| (cell.next_frame(machine), After::of(machine)));
        self.settle(cell, turn, after);
        kind
    }

    fn next_answer(&self) -> Result<Option<Frame>, Replaced> {
        let mut waiting = self.queue.waiting.lock();
        self.check()?;
        let answer = waiting.answers.pop_front();
        if answer.is_some() && waiting.answers.len() == ANSWERS_MAX {
            waiting.answered.notify_one();
        }
        Ok(answer)
    }

    fn take_turn(
        &self,
        mut turn: Turn<Arc<Cell>>,
        draft: &mut Draft,
        now: Instant,
    ) -> Result<(), Replaced> {
        let queue = &self.queue;
        // What a lane for bulk announces may stand in line for long.
        let announces = queue.class == Class::Chat;
        let announcing = Announcing { announcer: &queue.announcer, lane: queue.index, now };
        let cell = Arc::clone(&turn.session);
        cell.unset_queued(queue.index);
        let (outcome, after) = cell.turn(|machine| {
            // Under the machine's lock: a newer call counts up before it changes any machine, and a
            // session moves.
            let outcome = self.check();
            let may_take = outcome.is_ok() && cell.is_on(queue.index);
            while may_take && turn.deficit > 0 && !draft.is_full() {
                let replayed = machine.replayed();
                let Some(kind) = cell.next_frame(machine) else { break };
                let frame = Frame { session: cell.id, kind: Some(kind) };
                let is_first = machine.replayed() == replayed && announces;
                let len_bytes = draft.push(frame, is_first.then_some(announcing));
                turn.deficit -= i64::try_from(len_bytes).unwrap_or(i64::MAX);
                // Behind a cut the first word of each session goes before the second of any.
                if draft.is_growing() {
                    break;
                }
            }
            (outcome, After::of(machine))
        });
        self.settle(&cell, turn, after);
        outcome
    }

    /// Sees to what follows from a turn.
    fn settle(&self, cell: &Arc<Cell>, turn: Turn<Arc<Cell>>, after: After) {
        if after.more && !cell.is_on(self.queue.index) {
            cell.queue().enqueue(cell);
        } else if after.more && cell.set_queued(self.queue.index) {
            let mut waiting = self.queue.waiting.lock();
            waiting.turns.again(turn);
            waiting.wake.notify_one();
        }
        match (after.finished, after.ack_due) {
            (true, _) => cell.forget(),
            (false, Some(due)) => cell.queue().arm_ack(cell, due),
            (false, None) => {}
        }
    }

    fn check(&self) -> Result<(), Replaced> {
        if self.queue.generation() == self.generation { Ok(()) } else { Err(Replaced) }
    }
}

/// How a turn left the session.
struct After {
    more: bool,
    finished: bool,
    ack_due: Option<Instant>,
}

impl After {
    fn of(machine: &Session) -> Self {
        let (more, finished) = (machine.wants_transmit(), machine.is_finished());
        Self { more, finished, ack_due: machine.ack_deadline() }
    }
}

#[cfg(test)]
mod tests;
