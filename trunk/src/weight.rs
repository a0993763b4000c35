//! Whether a session is chat or bulk: a machine over what crosses in either direction.
//!
//! A session is bulk when it says so itself (a large frame, a body with a length) or when it has
//! brought much for a while. It is chat again once it has been light for [`QUIET`]; a body whose
//! length said that it is bulk stays what it is.

use std::time::{Duration, Instant};

use antipode_proto::body::Body;
use antipode_proto::trunk::v1::{Chunk, Header, RequestHead, SessionKind};

/// What one session may have on its way on a chat lane, if there are bulk lanes to move to: 32 KiB
/// and a segment, which a link of 10 Mbit/s carries in 40 ms.
pub(crate) const CHAT_IN_FLIGHT_BYTES_MAX: u64 = 32 * 1024;

/// A WebSocket frame of this length is bulk: beyond it, it would wait for its own share of a chat
/// lane.
const LARGE_FRAME_BYTES: u64 = 32 * 1024;

/// A body of this length is bulk: two shares of a chat lane, so that it gains from moving.
const LARGE_BODY_BYTES: u64 = 64 * 1024;

/// A chunk of this length is a piece of something larger.
const LARGE_CHUNK_BYTES: u64 = 4 * 1024;

/// What small frames count less than pieces of large ones: many of them are somebody's chat.
const SMALL_COUNTS: u64 = 4;

/// A level that makes a session bulk, and that drains by [`DRAIN_BYTES_PER_SECOND`].
const FLOOD_BYTES: u64 = 128 * 1024;

/// What a session may bring for ever and stay chat: half a megabit a second in large pieces, two in
/// small ones.
const DRAIN_BYTES_PER_SECOND: u64 = 64 * 1024;

/// A session that has been light for so long is chat again. A move costs a question and an answer.
const QUIET: Duration = Duration::from_secs(5);

/// How heavy one session is.
#[derive(Debug)]
pub(crate) struct Weight {
    is_http: bool,
    is_bulk: bool,
    /// A body with a length that is bulk.
    is_settled: bool,
    level_bytes: u64,
    /// When the level was last drained.
    drained: Instant,
    /// When something heavy last crossed.
    heavy: Instant,
}

impl Weight {
    pub(crate) fn new(head: &RequestHead, now: Instant) -> Self {
        let mut weight = Self {
            is_http: head.kind() == SessionKind::Http,
            is_bulk: false,
            is_settled: false,
            level_bytes: 0,
            drained: now,
            heavy: now,
        };
        weight.note_length(&head.headers);
        weight
    }

    pub(crate) const fn is_bulk(&self) -> bool {
        self.is_bulk
    }

    /// A segment crosses, whichever way.
    pub(crate) fn note(&mut self, body: &Body, now: Instant) {
        match body {
            Body::Chunk(chunk) => self.note_chunk(chunk, now),
            Body::Response(head) => self.note_length(&head.headers),
            Body::Request(_) | Body::End(_) => {}
        }
    }

    /// Looks whether a bulk session has been light for long enough.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        if self.poll_timeout().is_some_and(|due| due <= now) {
            self.is_bulk = false;
        }
    }

    /// When the session is chat again if nothing heavy comes. Changes after `note`.
    #[must_use]
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        (self.is_bulk && !self.is_settled).then_some(self.heavy + QUIET)
    }

    fn note_chunk(&mut self, chunk: &Chunk, now: Instant) {
        let len = u64::try_from(chunk.payload.len()).unwrap_or(u64::MAX);
        let elapsed = now.saturating_duration_since(self.drained);
        let drain = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let drain = drain.saturating_mul(DRAIN_BYTES_PER_SECOND) / 1000;
        if drain > 0 {
            self.drained = now;
        }
        let is_large = len >= LARGE_CHUNK_BYTES;
        let counted = if is_large { len } else { len / SMALL_COUNTS };
        self.level_bytes = (self.level_bytes.saturating_sub(drain) + counted).min(2 * FLOOD_BYTES);
        let frame_len = chunk.frame_len.unwrap_or(0);
        if frame_len >= LARGE_FRAME_BYTES || self.level_bytes >= FLOOD_BYTES {
            self.is_bulk = true;
        }
        // A transfer over a slow link trickles, and is no lighter for it.
        if is_large || self.level_bytes >= FLOOD_BYTES / 2 {
            self.heavy = now;
        }
    }

    fn note_length(&mut self, headers: &[Header]) {
        let of_body = |header: &&Header| header.name.eq_ignore_ascii_case("content-length");
        let length = headers
            .iter()
            .find(of_body)
            .and_then(|header| std::str::from_utf8(&header.value).ok()?.trim().parse::<u64>().ok());
        if self.is_http && length.is_some_and(|length| length >= LARGE_BODY_BYTES) {
            (self.is_bulk, self.is_settled) = (true, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use antipode_proto::trunk::v1::ResponseHead;
    use antipode_runtime::clock;
    use bytes::Bytes;

    use super::*;

    #[test]
    fn chat_stays_chat() {
        let start = clock::now();
        let mut weight = Weight::new(&head(SessionKind::Websocket), start);
        for message in 0..10_000 {
            weight.note(&chunk(1024), start + Duration::from_millis(5) * message);
        }
        assert!(!weight.is_bulk(), "200 messages of a KiB a second");
        assert_eq!(weight.poll_timeout(), None);
    }

    #[test]
    fn a_large_frame_is_bulk_and_passes() {
        let start = clock::now();
        let mut weight = Weight::new(&head(SessionKind::Websocket), start);
        weight.note(&frame(LARGE_FRAME_BYTES - 1), start);
        assert!(!weight.is_bulk());
        weight.note(&frame(LARGE_FRAME_BYTES), start);
        assert!(weight.is_bulk());
        // The rest of it trickles, and then there is only chat.
        let last = start + Duration::from_secs(4);
        weight.note(&chunk(LARGE_CHUNK_BYTES.try_into().unwrap()), last);
        weight.note(&chunk(100), last + Duration::from_secs(4));
        let due = weight.poll_timeout().expect("it may become chat");
        assert_eq!(due, last + QUIET);
        weight.handle_timeout(due - Duration::from_millis(1));
        assert!(weight.is_bulk());
        weight.handle_timeout(due);
        assert_eq!((weight.is_bulk(), weight.poll_timeout()), (false, None));
    }

    #[test]
    fn a_body_is_bulk_by_its_length_and_to_its_end() {
        let now = clock::now();
        let length = |length: &str| {
            vec![Header { name: "Content-Length".into(), value: length.to_owned().into() }]
        };
        for (value, is_bulk) in [("65535", false), ("65536", true), ("1e9", false), ("-1", false)] {
            let mut weight = Weight::new(&head(SessionKind::Http), now);
            let response = ResponseHead { headers: length(value), ..ResponseHead::default() };
            weight.note(&response.into(), now);
            assert_eq!(weight.is_bulk(), is_bulk, "{value}");
            weight.handle_timeout(now + Duration::from_secs(3600));
            assert_eq!(weight.is_bulk(), is_bulk, "{value}, an hour later");
        }
        let upload = RequestHead { headers: length("100000000"), ..head(SessionKind::Http) };
        assert!(Weight::new(&upload, now).is_bulk(), "before its first byte");
        let socket = RequestHead { kind: SessionKind::Websocket.into(), ..upload };
        assert!(!Weight::new(&socket, now).is_bulk(), "an upgrade has no body");
    }

    #[test]
    fn much_for_a_while_is_bulk() {
        let start = clock::now();
        let mut weight = Weight::new(&head(SessionKind::Http), start);
        let mut now = start;
        let mut count = 0;
        while !weight.is_bulk() {
            now += Duration::from_millis(100);
            weight.note(&chunk(16 * 1024), now);
            count += 1;
        }
        assert!((8..20).contains(&count), "160 KiB a second, {count} chunks");
        let mut flood = Weight::new(&head(SessionKind::Websocket), start);
        for message in 0..4000 {
            flood.note(&chunk(1024), start + Duration::from_millis(1) * message);
        }
        assert!(flood.is_bulk(), "a MiB a second in small frames");
    }

    fn head(kind: SessionKind) -> RequestHead {
        RequestHead { kind: kind.into(), ..RequestHead::default() }
    }

    fn chunk(len: usize) -> Body {
        Chunk { payload: Bytes::from(vec![0; len]), ..Chunk::default() }.into()
    }

    fn frame(len: u64) -> Body {
        let payload = Bytes::from_static(b"the first of it");
        Chunk { frame: Some(0x82), frame_len: Some(len), payload, ..Chunk::default() }.into()
    }
}
