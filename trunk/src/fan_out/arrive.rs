//! A batch that came: payloads put back where they belong, and copied out of the batch.

use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::segment::Body;
use antipode_proto::trunk::v1::{Chunk, Segment};
use bytes::Bytes;

use super::wait::{FanIn, Go};

/// A payload below this is copied out of its batch, and a larger one if its session is behind. A
/// slice would keep the whole batch alive for as long as a slow session holds on to its share of
/// it.
pub(crate) const COPIED_BYTES_MAX: usize = 4096;

/// A chunk, or a batch, that can't be made sense of.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum BadShare {
    /// A chunk points beyond the batch's shared payloads.
    #[error("chunk refers to shared payload {index} of {count}")]
    Missing {
        /// As the chunk has it, from 1.
        index: u32,
        /// What the batch has.
        count: usize,
    },
    /// Each shared payload has a number, or none has.
    #[error("{numbers} numbers for {count} shared payloads")]
    Uneven {
        /// What the batch has.
        numbers: usize,
        /// Payloads.
        count: usize,
    },
    /// This end did not say that it keeps payloads.
    #[error("the peer numbers payloads, which this end does not keep")]
    NotKept,
}

/// The shared payloads of one batch.
#[derive(Debug)]
pub(crate) struct Shares {
    slots: Vec<Slot>,
}

#[derive(Debug)]
enum Slot {
    Here(Bytes),
    /// To come on another lane under this number.
    Elsewhere(u64),
}

impl Shares {
    /// Reads what a batch shares, and keeps what it numbers. Says who may go on now.
    pub(crate) fn read(
        shared: Vec<Bytes>,
        numbers: &[u64],
        fan_in: Option<&FanIn>,
    ) -> Result<(Self, Vec<Go>), BadShare> {
        if !numbers.is_empty() && numbers.len() != shared.len() {
            return Err(BadShare::Uneven { numbers: numbers.len(), count: shared.len() });
        }
        let (mut slots, mut moving) = (Vec::with_capacity(shared.len()), Vec::new());
        let numbers = numbers.iter().copied().chain(std::iter::repeat(0));
        for (payload, number) in shared.into_iter().zip(numbers) {
            let slot = match (number, fan_in) {
                (0, _) => Slot::Here(Bytes::copy_from_slice(&payload)),
                (_, None) => return Err(BadShare::NotKept),
                (_, Some(fan_in)) if payload.is_empty() => {
                    fan_in.kept(number).map_or(Slot::Elsewhere(number), Slot::Here)
                }
                (_, Some(fan_in)) => {
                    let payload = Bytes::copy_from_slice(&payload);
                    moving.append(&mut fan_in.keep(number, payload.clone()));
                    Slot::Here(payload)
                }
            };
            slots.push(slot);
        }
        Ok((Self { slots }, moving))
    }

    /// Makes a frame whole; `is_behind` says whether its session may hold on to it for long. If it
    /// takes a payload that is yet to come, its number.
    pub(crate) fn complete(
        &self,
        kind: &mut Kind,
        is_behind: impl FnOnce() -> bool,
    ) -> Result<Option<u64>, BadShare> {
        let Some(chunk) = chunk_of(kind) else { return Ok(None) };
        if chunk.shared == 0 {
            if chunk.payload.len() < COPIED_BYTES_MAX || is_behind() {
                chunk.payload = Bytes::copy_from_slice(&chunk.payload);
            }
            return Ok(None);
        }
        let index = std::mem::take(&mut chunk.shared);
        let slot = usize::try_from(index - 1).ok().and_then(|index| self.slots.get(index));
        match slot.ok_or(BadShare::Missing { index, count: self.slots.len() })? {
            Slot::Here(payload) => {
                chunk.payload = payload.clone();
                Ok(None)
            }
            Slot::Elsewhere(number) => {
                chunk.payload = Bytes::new();
                Ok(Some(*number))
            }
        }
    }
}

/// The chunk of a frame that has one.
pub(crate) const fn chunk_of(kind: &mut Kind) -> Option<&mut Chunk> {
    let Kind::Segment(Segment { body: Some(Body::Chunk(chunk)), .. }) = kind else { return None };
    Some(chunk)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::FanOutMetrics;

    #[test]
    fn a_shared_payload_is_put_in_place() {
        let (shares, _) = Shares::read(vec![Bytes::from_static(b"to all")], &[], None).unwrap();
        let mut kind = kind(1);
        assert_eq!(shares.complete(&mut kind, || false), Ok(None));
        let chunk = chunk_of(&mut kind).expect("still a chunk");
        assert_eq!((chunk.payload.as_ref(), chunk.shared), (&b"to all"[..], 0));
    }

    #[test]
    fn nonsense_is_refused() {
        let all = || vec![Bytes::from_static(b"to all")];
        let (shares, _) = Shares::read(all(), &[], None).unwrap();
        assert_eq!(
            shares.complete(&mut kind(2), || false),
            Err(BadShare::Missing { index: 2, count: 1 }),
            "there is one"
        );
        let fan_in = FanIn::new(FanOutMetrics::default());
        let read = |numbers: &[u64], fan_in| Shares::read(all(), numbers, fan_in).err();
        assert_eq!(read(&[5], None), Some(BadShare::NotKept), "a core keeps nothing");
        assert_eq!(read(&[5, 6], Some(&fan_in)), Some(BadShare::Uneven { numbers: 2, count: 1 }));
        assert_eq!(read(&[5], Some(&fan_in)), None);
    }

    #[test]
    fn what_is_numbered_is_known_to_the_next_batch() {
        let fan_in = FanIn::new(FanOutMetrics::default());
        let (early, _) = Shares::read(vec![Bytes::new()], &[5], Some(&fan_in)).unwrap();
        assert_eq!(early.complete(&mut kind(1), || false), Ok(Some(5)), "it is yet to come");
        Shares::read(vec![Bytes::from_static(b"to all")], &[5], Some(&fan_in)).unwrap();
        let (late, _) = Shares::read(vec![Bytes::new()], &[5], Some(&fan_in)).unwrap();
        let mut kind = kind(1);
        assert_eq!(late.complete(&mut kind, || false), Ok(None));
        assert_eq!(chunk_of(&mut kind).unwrap().payload, "to all");
    }

    /// Else a slow session would hold on to batches of 32 KiB for the sake of a few bytes each.
    #[test]
    fn small_payloads_are_copied_out_of_the_batch() {
        let batch = Bytes::from(vec![0; 32 * 1024]);
        let (shares, _) = Shares::read(vec![batch.slice(..100)], &[], None).unwrap();
        let mut shared = kind(1);
        shares.complete(&mut shared, || false).unwrap();
        let mut plain = kind(0);
        chunk_of(&mut plain).unwrap().payload = batch.slice(100..200);
        shares.complete(&mut plain, || false).unwrap();
        for mut kind in [shared, plain] {
            let payload = &chunk_of(&mut kind).unwrap().payload;
            assert_eq!(payload.len(), 100);
            assert!(!batch.as_ptr_range().contains(&payload.as_ptr()), "a slice of the batch");
        }
    }

    #[test]
    fn who_is_behind_holds_on_to_no_batch() {
        let batch = Bytes::from(vec![0; 32 * 1024]);
        let (shares, _) = Shares::read(vec![], &[], None).unwrap();
        for is_behind in [false, true] {
            let mut kind = kind(0);
            chunk_of(&mut kind).unwrap().payload = batch.slice(..16 * 1024);
            shares.complete(&mut kind, || is_behind).unwrap();
            let payload = &chunk_of(&mut kind).unwrap().payload;
            assert_ne!(batch.as_ptr_range().contains(&payload.as_ptr()), is_behind);
        }
    }

    fn kind(shared: u32) -> Kind {
        let chunk = Chunk { shared, ..Chunk::default() };
        Kind::Segment(Segment { seq: 1, ack: 0, credit: 0, body: Some(Body::Chunk(chunk)) })
    }
}
