//! What waits for a lane: sessions with something to send, acknowledgements to come, short answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use antipode_proto::trunk::v1::Frame;
use antipode_proto::turns::Turns;
use parking_lot::Mutex;
use prost::Message;
use tokio::sync::Notify;

use crate::batch::{BATCH_BYTES_MAX, Draft};
use crate::cell::Cell;

/// Answers to frames of unknown sessions that may wait; a peer that makes us owe more gets none.
const ANSWERS_MAX: usize = 4096;

/// One lane's outgoing side. It outlives the gRPC calls that carry the lane.
#[derive(Debug)]
pub(crate) struct LaneQueue {
    pub(crate) index: u32,
    waiting: Mutex<Waiting>,
    wake: Notify,
    up: AtomicBool,
}

#[derive(Debug, Default)]
struct Waiting {
    turns: Turns<Arc<Cell>>,
    /// By deadline: the delay is the same for all, so the order of arrival is the order of
    /// deadlines.
    acks: VecDeque<(Instant, Arc<Cell>)>,
    answers: VecDeque<Frame>,
}

impl LaneQueue {
    pub(crate) fn new(index: u32) -> Arc<Self> {
        Arc::new(Self {
            index,
            waiting: Mutex::default(),
            wake: Notify::new(),
            up: AtomicBool::new(false),
        })
    }

    pub(crate) fn is_up(&self) -> bool {
        self.up.load(Ordering::Acquire)
    }

    pub(crate) fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Release);
    }

    /// The session has something to send.
    pub(crate) fn enqueue(&self, cell: &Arc<Cell>) {
        if !cell.queued.swap(true, Ordering::AcqRel) {
            self.waiting.lock().turns.enqueue(Arc::clone(cell));
            self.wake.notify_one();
        }
    }

    /// The session will owe an acknowledgement at `due`.
    pub(crate) fn arm_ack(&self, cell: &Arc<Cell>, due: Instant) {
        if !cell.ack_armed.swap(true, Ordering::AcqRel) {
            let mut waiting = self.waiting.lock();
            let first = waiting.acks.is_empty();
            waiting.acks.push_back((due, Arc::clone(cell)));
            drop(waiting);
            if first {
                self.wake.notify_one();
            }
        }
    }

    /// An answer to a frame whose session is not known.
    pub(crate) fn answer(&self, frame: Frame) {
        let mut waiting = self.waiting.lock();
        if waiting.answers.len() < ANSWERS_MAX {
            waiting.answers.push_back(frame);
            drop(waiting);
            self.wake.notify_one();
        }
    }

    /// Waits until something can go.
    pub(crate) async fn ready(&self) {
        loop {
            let due = {
                let waiting = self.waiting.lock();
                if !waiting.turns.is_empty() || !waiting.answers.is_empty() {
                    return;
                }
                waiting.acks.front().map(|(due, _)| *due)
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
    pub(crate) fn collect(&self, draft: &mut Draft, now: Instant) {
        self.release_acks(now);
        for frame in std::mem::take(&mut self.waiting.lock().answers) {
            draft.push(frame);
        }
        while draft.len_bytes() < BATCH_BYTES_MAX {
            let Some(mut turn) = self.waiting.lock().turns.next_turn() else { break };
            let cell = Arc::clone(&turn.session);
            cell.queued.store(false, Ordering::Release);
            let mut more = false;
            let after = cell.turn(|machine| {
                while turn.deficit > 0 && draft.len_bytes() < BATCH_BYTES_MAX {
                    let Some(kind) = machine.poll_transmit() else { break };
                    let frame = Frame { session: cell.id, kind: Some(kind) };
                    let bytes = frame.encoded_len();
                    turn.deficit -= i64::try_from(bytes).unwrap_or(i64::MAX);
                    draft.push(frame);
                }
                more = machine.wants_transmit();
                (machine.is_finished(), machine.ack_deadline())
            });
            if more && !cell.queued.swap(true, Ordering::AcqRel) {
                self.waiting.lock().turns.again(turn);
            }
            match after {
                (true, _) => cell.forget(),
                (false, Some(due)) => self.arm_ack(&cell, due),
                (false, None) => {}
            }
        }
    }

    /// The lane broke: nobody waits for it now. Attaching again puts the sessions back.
    pub(crate) fn clear(&self) {
        let mut waiting = self.waiting.lock();
        while let Some(turn) = waiting.turns.next_turn() {
            turn.session.queued.store(false, Ordering::Release);
        }
        waiting.answers.clear();
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
