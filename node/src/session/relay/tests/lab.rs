//! What the tests have in hand.

use std::time::Duration;

use antipode_proto::trunk::v1::Chunk;
use antipode_websocket::{Event, FrameStart};

use super::super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);

/// The machine with a client whose frames are masked, and a clock that the test turns.
pub(super) struct Lab {
    pub(super) relay: Relay,
    pub(super) now: Instant,
    client: Writer,
}

impl Lab {
    pub(super) fn open() -> Self {
        Self::answered(Answered::AfterBackend)
    }

    pub(super) fn answered(answered: Answered) -> Self {
        let now = antipode_runtime::clock::now();
        let relay = Relay::new(Arc::new(SessionLimits::default()), answered, true, now);
        Self { relay, now, client: Writer::client([3; 32]) }
    }

    /// The client sends what `write` writes.
    pub(super) fn client<E: std::fmt::Debug>(
        &mut self,
        write: impl FnOnce(&mut Writer, &mut BytesMut) -> Result<(), E>,
    ) {
        let mut bytes = BytesMut::new();
        write(&mut self.client, &mut bytes).unwrap();
        self.raw(&bytes);
    }

    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.relay.socket_buffers().1.extend_from_slice(bytes);
        self.relay.handle_read(self.now);
    }

    pub(super) fn up(&mut self) -> Vec<Body> {
        std::iter::from_fn(|| self.relay.poll_up(self.now)).collect()
    }

    pub(super) fn down(&mut self, seq: u64, body: Body) {
        self.relay.handle_delivery(Seq::from(seq), body, self.now).unwrap();
    }

    pub(super) fn out(&self) -> &[u8] {
        &self.relay.out
    }

    pub(super) fn write(&mut self, n: usize) {
        self.relay.handle_written(n, self.now);
    }

    /// Time passes, and what is due is done.
    pub(super) fn wait(&mut self, time: Duration) {
        self.now += time;
        self.relay.handle_timeout(self.now);
    }

    /// The code of the close frame among what waits for the client.
    pub(super) fn close_code(&self) -> Option<u16> {
        let mut reader = Reader::new(Side::Client, Policy::default());
        let mut bytes = self.relay.out.clone();
        std::iter::from_fn(|| reader.read(&mut bytes).unwrap()).find_map(|event| match event {
            Event::Close(close) => close.map(|(code, _)| code),
            Event::Chunk { .. } | Event::Ping(_) | Event::Pong(_) => None,
        })
    }
}

pub(super) fn start(first_byte: u8, frame_len: u64) -> Option<FrameStart> {
    Some(FrameStart { first_byte, frame_len })
}

pub(super) fn chunk(frame: Option<u32>, frame_len: Option<u64>, payload: &[u8]) -> Body {
    let payload = Bytes::copy_from_slice(payload);
    Body::from(Chunk { frame, frame_len, payload, shared: 0 })
}

pub(super) fn end(cause: Cause, code: Option<u32>, reason: &str) -> Body {
    Body::from(End { close_code: code, reason: reason.to_owned(), ..end_of(cause) })
}

pub(super) fn payload(body: &Body) -> &[u8] {
    match body {
        Body::Chunk(chunk) => &chunk.payload,
        Body::Request(_) | Body::Response(_) | Body::End(_) => panic!("{body:?}"),
    }
}
