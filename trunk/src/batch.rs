//! A lane's message: frames gathered up to a size, and shared payloads put back in their places.

use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::segment::Body;
use antipode_proto::trunk::v1::{Batch, Frame, Hello};
use bytes::Bytes;
use prost::Message;

/// A batch goes once it holds this much. Larger ones would keep small frames of other sessions
/// waiting longer without saving more: from 64 frames on, the cost a frame is flat.
pub(crate) const BATCH_BYTES_MAX: usize = 32 * 1024;

/// The largest batch that is read: a full one, and the largest head behind it.
pub(crate) const BATCH_BYTES_READ_MAX: usize = 1024 * 1024;

/// A batch in the making.
#[derive(Debug, Default)]
pub(crate) struct Draft {
    frames: Vec<Frame>,
    len_bytes: usize,
}

impl Draft {
    pub(crate) fn push(&mut self, frame: Frame) {
        self.len_bytes += frame.encoded_len() + 4;
        self.frames.push(frame);
    }

    pub(crate) const fn len_bytes(&self) -> usize {
        self.len_bytes
    }

    pub(crate) fn frames_count(&self) -> usize {
        self.frames.len()
    }

    pub(crate) fn finish(self) -> Batch {
        Batch { hello: None, frames: self.frames, shared: Vec::new() }
    }
}

/// The first batch of a direction.
pub(crate) fn greeting(hello: Hello) -> Batch {
    Batch { hello: Some(hello), frames: Vec::new(), shared: Vec::new() }
}

/// A chunk pointed to a shared payload that its batch does not have.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("chunk refers to shared payload {index} of {count}")]
pub(crate) struct BadShare {
    index: u32,
    count: usize,
}

/// Puts a shared payload into the chunk that refers to it, without a copy.
pub(crate) fn resolve_shared(frame: &mut Frame, shared: &[Bytes]) -> Result<(), BadShare> {
    let Some(Kind::Segment(segment)) = &mut frame.kind else { return Ok(()) };
    let Some(Body::Chunk(chunk)) = &mut segment.body else { return Ok(()) };
    if chunk.shared == 0 {
        return Ok(());
    }
    let found = usize::try_from(chunk.shared - 1).ok().and_then(|index| shared.get(index));
    let payload = found.ok_or(BadShare { index: chunk.shared, count: shared.len() })?;
    chunk.payload = payload.clone();
    chunk.shared = 0;
    Ok(())
}

#[cfg(test)]
mod tests {
    use antipode_proto::trunk::v1::{Chunk, Segment};

    use super::*;

    #[test]
    fn a_shared_payload_is_put_in_place() {
        let shared = [Bytes::from_static(b"to all")];
        let mut frame = frame(1);
        assert_eq!(resolve_shared(&mut frame, &shared), Ok(()));
        let Some(Kind::Segment(Segment { body: Some(Body::Chunk(chunk)), .. })) = frame.kind else {
            panic!("still a chunk")
        };
        assert_eq!((chunk.payload.as_ref(), chunk.shared), (&b"to all"[..], 0));
    }

    #[test]
    fn a_share_that_is_not_there_is_refused() {
        let shared = [Bytes::from_static(b"to all")];
        assert_eq!(resolve_shared(&mut frame(2), &shared), Err(BadShare { index: 2, count: 1 }));
    }

    fn frame(shared: u32) -> Frame {
        let chunk = Chunk { shared, ..Chunk::default() };
        let segment = Segment { seq: 1, ack: 0, credit: 0, body: Some(Body::Chunk(chunk)) };
        Frame { session: 1, kind: Some(Kind::Segment(segment)) }
    }
}
