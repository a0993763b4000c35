//! The node's side: sessions whose next segment names a payload that another lane has yet to bring.
//!
//! Such a session is held up, alone: its later segments line up behind the one that waits, while
//! its acknowledgements and every other session pass. Once the payload is here they follow in
//! order. If it does not come in time, or too much lines up, the line is thrown away and the
//! session asks the core where it stands, as after a break: a replay names nothing.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use antipode_proto::body::{Body, SEGMENT_OVERHEAD_BYTES};
use antipode_proto::trunk::v1::Segment;
use antipode_proto::trunk::v1::frame::Kind;
use bytes::Bytes;
use parking_lot::Mutex;

use super::keep::Kept;
use crate::metrics::FanOutMetrics;

/// How long a session waits for a payload. A lost packet is sent again within a round trip or two;
/// what takes longer is no longer "already on its way".
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// What may line up over all sessions of a trunk, overhead included.
pub(crate) const LINED_UP_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// One trunk's kept payloads, and who waits for one.
#[derive(Debug)]
pub(crate) struct FanIn {
    state: Mutex<State>,
    /// How many sessions are not to be passed by. Most of the time none is, and then no frame needs
    /// the lock.
    held_up: AtomicUsize,
    metrics: FanOutMetrics,
}

#[derive(Debug, Default)]
struct State {
    kept: Kept,
    held_up: BTreeMap<u64, HeldUp>,
    /// By the number of the payload that the first in a session's line names.
    wanted: BTreeMap<u64, BTreeSet<u64>>,
    bytes: u64,
    last_go: u64,
}

#[derive(Debug)]
struct HeldUp {
    lane: u32,
    stage: Stage,
    /// What lines up, each with the number it names.
    line: VecDeque<(Kind, Option<u64>)>,
    bytes: u64,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stage {
    /// For the payload of this number.
    Waiting { number: u64, since: Instant },
    /// The payload is here, and whoever holds this [`Go`] hands on the line.
    Moving(Go),
    /// It asks the core where it stands. What comes before the answer was sent too early.
    Asking,
}

/// Says who hands on a session's line: one task at a time, or its segments would overtake each
/// other.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Go {
    pub(crate) session: u64,
    pub(crate) lane: u32,
    count: u64,
}

/// What to do with a frame that came.
#[derive(Debug, PartialEq)]
pub(crate) enum Passage {
    /// It goes to its session.
    Through(Kind),
    /// It is in line, or came too early to be of use.
    Held,
    /// Too much lines up: the session has to ask the core where it stands.
    Lost,
}

impl FanIn {
    pub(crate) fn new(metrics: FanOutMetrics) -> Self {
        Self { state: Mutex::default(), held_up: AtomicUsize::new(0), metrics }
    }

    /// Keeps a payload under its number; who waited for it may go on.
    pub(crate) fn keep(&self, number: u64, payload: Bytes) -> Vec<Go> {
        let mut state = self.state.lock();
        state.kept.keep(number, payload);
        let waiting = state.wanted.remove(&number).unwrap_or_default();
        waiting.into_iter().filter_map(|session| state.go(session)).collect()
    }

    /// The payload kept under a number.
    pub(crate) fn kept(&self, number: u64) -> Option<Bytes> {
        self.state.lock().kept.get(number).cloned()
    }

    /// Takes a frame that came on `lane`; `names` is the number of the payload that it lacks.
    pub(crate) fn pass(
        &self,
        session: u64,
        mut kind: Kind,
        names: Option<u64>,
        lane: u32,
        now: Instant,
    ) -> Passage {
        if names.is_none() && self.held_up.load(Ordering::Acquire) == 0 {
            return Passage::Through(kind);
        }
        let mut state = self.state.lock();
        let stage = state.held_up.get(&session).map(|held_up| held_up.stage);
        let passage = match (stage, &kind) {
            // These say where the session stands, or that it is over: what lines up is of no use.
            (Some(_), Kind::Attached(_) | Kind::Reset(_)) => {
                state.remove(session);
                Passage::Through(kind)
            }
            (_, Kind::Ack(_) | Kind::Attach(_) | Kind::Attached(_) | Kind::Reset(_))
            | (_, Kind::GoAway(_)) => Passage::Through(kind),
            (Some(Stage::Asking), Kind::Segment(_)) => Passage::Held,
            (Some(Stage::Waiting { .. } | Stage::Moving(_)), Kind::Segment(_)) => {
                state.line_up(session, kind, names)
            }
            (None, Kind::Segment(_)) => match names {
                Some(number) if !state.fill(&mut kind, number) => {
                    self.metrics.waits.inc();
                    state.hold_up(session, number, lane, now);
                    state.line_up(session, kind, names)
                }
                Some(_) | None => Passage::Through(kind),
            },
        };
        self.count(&state);
        passage
    }

    /// The next in line. `None` ends the task's part: the line is empty, waits again, or is
    /// somebody else's now.
    pub(crate) fn next(&self, go: Go) -> Option<Kind> {
        let mut state = self.state.lock();
        let held_up = state.held_up.get(&go.session)?;
        if held_up.stage != Stage::Moving(go) {
            return None;
        }
        let next = match held_up.line.front() {
            None => {
                state.remove(go.session);
                None
            }
            Some(&(_, names)) => state.step(go, names),
        };
        self.count(&state);
        next
    }

    /// Sessions that have waited for too long. They have to ask the core where they stand.
    pub(crate) fn handle_timeout(&self, now: Instant) -> Vec<(u64, u32)> {
        self.give_up(|_, since| since + PATIENCE <= now)
    }

    /// The lane broke: whoever came on it asks again anyway, and what the others wait for may have
    /// been lost with it. Those others have to ask the core where they stand.
    pub(crate) fn lane_down(&self, lane: u32) -> Vec<(u64, u32)> {
        {
            let mut state = self.state.lock();
            let of_lane = state.held_up.iter().filter(|(_, held_up)| held_up.lane == lane);
            let of_lane: Vec<_> = of_lane.map(|(session, _)| *session).collect();
            of_lane.iter().for_each(|session| state.remove(*session));
            self.count(&state);
        }
        self.give_up(|held_up, _| held_up.lane != lane)
    }

    /// The session is over here.
    pub(crate) fn forget(&self, session: u64) {
        if self.held_up.load(Ordering::Acquire) > 0 {
            let mut state = self.state.lock();
            state.remove(session);
            self.count(&state);
        }
    }

    /// The process at the other end is a new one: its numbers mean something else.
    pub(crate) fn clear(&self) {
        self.state.lock().kept.clear();
    }

    fn give_up(&self, pick: impl Fn(&HeldUp, Instant) -> bool) -> Vec<(u64, u32)> {
        if self.held_up.load(Ordering::Acquire) == 0 {
            return Vec::new();
        }
        let mut state = self.state.lock();
        let picked = state.held_up.iter().filter(|(_, held_up)| match held_up.stage {
            Stage::Waiting { since, .. } => pick(held_up, since),
            Stage::Moving(_) | Stage::Asking => false,
        });
        let picked: Vec<_> = picked.map(|(session, held_up)| (*session, held_up.lane)).collect();
        picked.iter().for_each(|(session, _)| state.ask(*session));
        picked
    }

    fn count(&self, state: &State) {
        self.held_up.store(state.held_up.len(), Ordering::Release);
    }
}

impl State {
    /// Puts a kept payload where it belongs.
    fn fill(&self, kind: &mut Kind, number: u64) -> bool {
        let Some(payload) = self.kept.get(number) else { return false };
        put(kind, payload.clone());
        true
    }

    fn hold_up(&mut self, session: u64, number: u64, lane: u32, since: Instant) {
        let stage = Stage::Waiting { number, since };
        let held_up = HeldUp { lane, stage, line: VecDeque::new(), bytes: 0 };
        self.held_up.insert(session, held_up);
        self.wanted.entry(number).or_default().insert(session);
    }

    fn line_up(&mut self, session: u64, kind: Kind, names: Option<u64>) -> Passage {
        let cost = cost(&kind);
        if self.bytes + cost > LINED_UP_BYTES_MAX {
            self.ask(session);
            return Passage::Lost;
        }
        let Some(held_up) = self.held_up.get_mut(&session) else { return Passage::Held };
        held_up.line.push_back((kind, names));
        held_up.bytes += cost;
        self.bytes += cost;
        Passage::Held
    }

    fn go(&mut self, session: u64) -> Option<Go> {
        let held_up = self.held_up.get_mut(&session)?;
        self.last_go += 1;
        let go = Go { session, lane: held_up.lane, count: self.last_go };
        held_up.stage = Stage::Moving(go);
        Some(go)
    }

    fn step(&mut self, go: Go, names: Option<u64>) -> Option<Kind> {
        let payload = names.and_then(|number| self.kept.get(number)).cloned();
        let held_up = self.held_up.get_mut(&go.session)?;
        if let (Some(number), None) = (names, &payload) {
            held_up.stage = Stage::Waiting { number, since: antipode_runtime::clock::now() };
            self.wanted.entry(number).or_default().insert(go.session);
            return None;
        }
        let (mut kind, _) = held_up.line.pop_front()?;
        let cost = cost(&kind);
        held_up.bytes -= cost;
        self.bytes -= cost;
        if let Some(payload) = payload {
            put(&mut kind, payload);
        }
        Some(kind)
    }

    /// Throws the session's line away; until the core has answered nothing lines up again.
    fn ask(&mut self, session: u64) {
        let Some(held_up) = self.held_up.remove(&session) else { return };
        self.unwant(session, &held_up);
        self.bytes -= held_up.bytes;
        let lane = held_up.lane;
        let asking = HeldUp { lane, stage: Stage::Asking, line: VecDeque::new(), bytes: 0 };
        self.held_up.insert(session, asking);
    }

    fn remove(&mut self, session: u64) {
        if let Some(held_up) = self.held_up.remove(&session) {
            self.unwant(session, &held_up);
            self.bytes -= held_up.bytes;
        }
    }

    fn unwant(&mut self, session: u64, held_up: &HeldUp) {
        let Stage::Waiting { number, .. } = held_up.stage else { return };
        if let Some(waiting) = self.wanted.get_mut(&number) {
            waiting.remove(&session);
            if waiting.is_empty() {
                self.wanted.remove(&number);
            }
        }
    }
}

fn put(kind: &mut Kind, payload: Bytes) {
    if let Kind::Segment(Segment { body: Some(Body::Chunk(chunk)), .. }) = kind {
        chunk.payload = payload;
    }
}

fn cost(kind: &Kind) -> u64 {
    match kind {
        Kind::Segment(Segment { body: Some(body), .. }) => body.cost(),
        Kind::Segment(Segment { body: None, .. })
        | Kind::Ack(_)
        | Kind::Attach(_)
        | Kind::Attached(_)
        | Kind::Reset(_)
        | Kind::GoAway(_) => SEGMENT_OVERHEAD_BYTES,
    }
}

#[cfg(test)]
mod tests;
