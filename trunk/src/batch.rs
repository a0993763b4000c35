//! A lane's message in the making: frames gathered up to a size, and what several of them carry put
//! in once.

use std::collections::HashMap;
use std::time::Instant;

use antipode_proto::trunk::v1::{Batch, Frame, Hello};
use bytes::Bytes;
use prost::Message;

use crate::fan_out::announce::{Announcer, Offer};
use crate::fan_out::arrive::chunk_of;
use crate::fan_out::{SHARED_BYTES_MIN, fingerprint};

/// A batch goes once it holds this much. Larger ones would keep small frames of other sessions
/// waiting longer without saving more: from 64 frames on, the cost a frame is flat.
pub(crate) const BATCH_BYTES_MAX: usize = 32 * 1024;

/// The largest batch that is read: a full one, and the largest head behind it.
pub(crate) const BATCH_BYTES_READ_MAX: usize = 1024 * 1024;

/// What an entry of `shared` takes beside its payload: its tag and length, and its number.
const SHARED_OVERHEAD_BYTES: usize = 4 + 6;

/// How much the first batch of a lane's call holds; each full one is followed by one of twice the
/// size. After a cut all lanes have a backlog, and the path carries a little of each in turn: of a
/// large batch nothing can be read until its end is there, and that is when all of them are.
pub(crate) const FIRST_BATCH_BYTES: usize = 1024;

/// A batch in the making.
#[derive(Debug)]
pub(crate) struct Draft {
    /// It is full when it holds this much.
    bytes_max: usize,
    frames: Vec<Frame>,
    shared: Vec<Bytes>,
    numbers: Vec<u64>,
    /// By fingerprint: where a payload stands already.
    places: HashMap<u64, Place>,
    len_bytes: usize,
    saved_bytes: usize,
}

#[derive(Debug)]
enum Place {
    /// In the chunk of this frame.
    Frame(usize),
    /// In `shared`, counted from 1.
    Shared { index: u32, payload: Bytes },
}

/// What a chunk that goes for the first time is shown to, so that other lanes may name its payload.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Announcing<'a> {
    pub(crate) announcer: &'a Announcer,
    pub(crate) lane: u32,
    pub(crate) now: Instant,
}

impl Default for Draft {
    fn default() -> Self {
        Self::up_to(BATCH_BYTES_MAX)
    }
}

impl Draft {
    /// An empty one that is full at `bytes_max`.
    pub(crate) fn up_to(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            frames: Vec::new(),
            shared: Vec::new(),
            numbers: Vec::new(),
            places: HashMap::new(),
            len_bytes: 0,
            saved_bytes: 0,
        }
    }

    /// Adds a frame; says what it takes. A payload that is in the batch already, or that the peer
    /// can know by its number, is not put in again. What is replayed comes without `announcing`: it
    /// must not depend on any other lane.
    pub(crate) fn push(&mut self, mut frame: Frame, announcing: Option<Announcing<'_>>) -> usize {
        let before = self.len_bytes;
        if let Some(chunk) = frame.kind.as_mut().and_then(chunk_of)
            && chunk.payload.len() >= SHARED_BYTES_MIN
        {
            let fingerprint = fingerprint(&chunk.payload);
            match self.place(fingerprint, &chunk.payload, announcing) {
                Some(index) => {
                    chunk.shared = index;
                    chunk.payload = Bytes::new();
                }
                None => {
                    self.places.insert(fingerprint, Place::Frame(self.frames.len()));
                }
            }
        }
        self.len_bytes += frame.encoded_len() + 4;
        self.frames.push(frame);
        self.len_bytes - before
    }

    pub(crate) const fn is_full(&self) -> bool {
        self.len_bytes >= self.bytes_max
    }

    /// It is one of the first of a lane's call.
    pub(crate) const fn is_growing(&self) -> bool {
        self.bytes_max < BATCH_BYTES_MAX
    }

    #[cfg(test)]
    pub(crate) const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    /// Payload that did not have to go in.
    pub(crate) fn saved_bytes(&self) -> u64 {
        u64::try_from(self.saved_bytes).unwrap_or(u64::MAX)
    }

    pub(crate) fn frames_count(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn finish(mut self) -> Batch {
        // Without numbers a batch is what it was before there were any.
        if self.numbers.iter().all(|number| *number == 0) {
            self.numbers = Vec::new();
        }
        let Self { frames, shared, numbers, .. } = self;
        Batch { hello: None, frames, shared, shared_ids: numbers }
    }

    /// Where the payload is to be found; `None` if it has to go in its chunk.
    fn place(
        &mut self,
        fingerprint: u64,
        payload: &Bytes,
        announcing: Option<Announcing<'_>>,
    ) -> Option<u32> {
        match self.places.get(&fingerprint) {
            Some(Place::Shared { index, payload: known }) if known == payload => {
                self.saved_bytes += payload.len();
                return Some(*index);
            }
            Some(&Place::Frame(at)) => {
                if let Some(index) = self.move_out(at, payload) {
                    let payload = payload.clone();
                    self.saved_bytes += payload.len();
                    self.places.insert(fingerprint, Place::Shared { index, payload });
                    return Some(index);
                }
            }
            Some(Place::Shared { .. }) | None => {}
        }
        let Announcing { announcer, lane, now } = announcing?;
        let index = match announcer.offer(fingerprint, payload, lane, now) {
            Offer::Plain => return None,
            Offer::Announced(number) => self.share(payload.clone(), number)?,
            Offer::Named(number) => {
                self.saved_bytes += payload.len();
                self.share(Bytes::new(), number)?
            }
        };
        self.places.insert(fingerprint, Place::Shared { index, payload: payload.clone() });
        Some(index)
    }

    /// Moves the payload of a chunk that is in the batch to where others can share it.
    fn move_out(&mut self, at: usize, payload: &Bytes) -> Option<u32> {
        let chunk = self.frames.get_mut(at)?.kind.as_mut().and_then(chunk_of)?;
        if chunk.payload != payload {
            return None;
        }
        let index = u32::try_from(self.shared.len() + 1).ok()?;
        chunk.shared = index;
        let payload = std::mem::take(&mut chunk.payload);
        self.len_bytes -= payload.len();
        self.share(payload, 0)
    }

    fn share(&mut self, payload: Bytes, number: u64) -> Option<u32> {
        self.len_bytes += payload.len() + SHARED_OVERHEAD_BYTES;
        self.shared.push(payload);
        self.numbers.push(number);
        u32::try_from(self.shared.len()).ok()
    }
}

/// The first batch of a direction.
pub(crate) fn greeting(hello: Hello) -> Batch {
    Batch { hello: Some(hello), ..Batch::default() }
}

#[cfg(test)]
mod tests {
    use antipode_proto::trunk::v1::frame::Kind;
    use antipode_proto::trunk::v1::segment::Body;
    use antipode_proto::trunk::v1::{Chunk, Segment};

    use super::*;
    use crate::metrics::FanOutMetrics;

    #[test]
    fn what_two_carry_goes_once() {
        let mut draft = Draft::default();
        let news = Bytes::from(vec![b'n'; 1000]);
        let plain = draft.push(frame(1, &news), None);
        assert!(plain > 1000);
        assert!(draft.push(frame(2, &news), None) < 100);
        assert!(draft.push(frame(3, &news), None) < 100);
        draft.push(frame(4, &Bytes::from(vec![b'o'; 1000])), None);
        let len_bytes = draft.len_bytes();
        assert_eq!(draft.saved_bytes(), 2000);
        let batch = draft.finish();
        assert_eq!((batch.shared.as_slice(), batch.shared_ids.len()), (&[news][..], 0));
        let shared: Vec<_> = batch.frames.iter().map(|frame| chunk(frame).shared).collect();
        assert_eq!(shared, [1, 1, 1, 0]);
        assert!(len_bytes.abs_diff(batch.encoded_len()) < 100, "{len_bytes}");
    }

    #[test]
    fn what_another_lane_announced_goes_as_a_number() {
        let (announcer, now) =
            (Announcer::new(FanOutMetrics::default()), antipode_runtime::clock::now());
        announcer.enable();
        let news = Bytes::from(vec![b'n'; 1000]);
        let on = |lane| Some(Announcing { announcer: &announcer, lane, now });
        let mut one = Draft::default();
        one.push(frame(1, &news), on(0));
        one.push(frame(2, &news), on(0));
        let one = one.finish();
        let mut two = Draft::default();
        two.push(frame(3, &news), on(1));
        two.push(frame(4, &news), on(1));
        let two = two.finish();
        assert_eq!((one.shared, two.shared), (vec![news], vec![Bytes::new()]));
        assert_eq!(one.shared_ids, two.shared_ids);
        assert!(two.frames.iter().all(|frame| chunk(frame).shared == 1));
    }

    #[test]
    fn a_replay_depends_on_no_other_lane() {
        let (announcer, now) =
            (Announcer::new(FanOutMetrics::default()), antipode_runtime::clock::now());
        announcer.enable();
        let news = Bytes::from(vec![b'n'; 1000]);
        let mut one = Draft::default();
        one.push(frame(1, &news), Some(Announcing { announcer: &announcer, lane: 0, now }));
        let mut replay = Draft::default();
        replay.push(frame(2, &news), None);
        replay.push(frame(3, &news), None);
        let replay = replay.finish();
        assert_eq!((replay.shared, replay.shared_ids), (vec![news], vec![]));
    }

    #[test]
    fn small_ones_stay_where_they_are() {
        let mut draft = Draft::default();
        let small = Bytes::from(vec![b's'; SHARED_BYTES_MIN - 1]);
        draft.push(frame(1, &small), None);
        draft.push(frame(2, &small), None);
        assert_eq!(draft.finish().shared, Vec::<Bytes>::new());
    }

    fn frame(session: u64, payload: &Bytes) -> Frame {
        let chunk = Chunk { payload: payload.clone(), ..Chunk::default() };
        let body = Some(Body::Chunk(chunk));
        Frame { session, kind: Some(Kind::Segment(Segment { seq: 1, ack: 0, credit: 0, body })) }
    }

    fn chunk(frame: &Frame) -> &Chunk {
        let Some(Kind::Segment(Segment { body: Some(Body::Chunk(chunk)), .. })) = &frame.kind
        else {
            panic!("a chunk went in")
        };
        chunk
    }
}
