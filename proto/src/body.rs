//! What a segment carries, and what it costs in credit.

use crate::trunk::v1::{Chunk, End, Header, RequestHead, ResponseHead};

pub use crate::trunk::v1::segment::Body;

/// Credit that each segment costs beside its bytes.
///
/// A queued segment takes about this much memory besides its payload, so a peer that sends empty
/// chunks can't make the other end hold more than its credit says.
pub const SEGMENT_OVERHEAD_BYTES: u64 = 64;

/// Most bytes of payload in one chunk: larger frames and bodies travel in several, so that they
/// hold up no other session of the lane for long (16 KiB takes 13 ms at 10 Mbit/s).
pub const CHUNK_BYTES_MAX: usize = 16 * 1024;

/// Credit in bytes that each end may take for granted before it has heard from the other.
pub const INITIAL_CREDIT_BYTES: u64 = 256 * 1024;

impl Body {
    /// What the segment counts against credit, in bytes. Both ends must agree on it to the byte
    /// (docs/protocol.md, "Credit").
    #[must_use]
    pub fn cost(&self) -> u64 {
        let bytes = match self {
            Self::Request(head) => request_bytes(head),
            Self::Response(head) => response_bytes(head),
            Self::Chunk(chunk) => chunk.payload.len(),
            Self::End(end) => end_bytes(end),
        };
        SEGMENT_OVERHEAD_BYTES + u64::try_from(bytes).unwrap_or(u64::MAX / 2)
    }

    /// Whether this is the first segment of a direction.
    #[must_use]
    pub const fn is_head(&self) -> bool {
        matches!(self, Self::Request(_) | Self::Response(_))
    }

    /// Whether nothing follows this one.
    #[must_use]
    pub const fn is_end(&self) -> bool {
        matches!(self, Self::End(_))
    }
}

impl From<RequestHead> for Body {
    fn from(head: RequestHead) -> Self {
        Self::Request(Box::new(head))
    }
}

impl From<ResponseHead> for Body {
    fn from(head: ResponseHead) -> Self {
        Self::Response(Box::new(head))
    }
}

impl From<Chunk> for Body {
    fn from(chunk: Chunk) -> Self {
        Self::Chunk(chunk)
    }
}

impl From<End> for Body {
    fn from(end: End) -> Self {
        Self::End(Box::new(end))
    }
}

fn request_bytes(head: &RequestHead) -> usize {
    head.method.len() + head.target.len() + head.authority.len() + header_bytes(&head.headers)
}

fn response_bytes(head: &ResponseHead) -> usize {
    header_bytes(&head.headers) + head.resume_token.len()
}

fn end_bytes(end: &End) -> usize {
    end.reason.len() + header_bytes(&end.trailers)
}

fn header_bytes(headers: &[Header]) -> usize {
    headers.iter().map(|header| header.name.len() + header.value.len()).sum()
}
