//! From the client to the backend: chunks in, masked frames out, with pongs and pings between
//! frames.

use std::time::Duration;

use antipode_proto::body::Body;
use antipode_proto::trunk::v1::{Cause, Chunk, End};
use antipode_runtime::clock;
use antipode_trunk::{Delivery, Ended, Seq, SessionPort};
use antipode_websocket::{FrameStart, WriteError, Writer, close};
use bytes::{Buf, BytesMut};
use tokio::io::AsyncWriteExt;
use tokio::time::{sleep_until, timeout};

use super::down::Signs;
use crate::backend::stream::SharedStream;
use crate::bridge::buffers::Buffers;
use crate::config::WebSocketTable;
use crate::metrics::{Metrics, UP};

/// Written at once, at most, plus one chunk: small frames share a write.
const WRITE_BYTES: usize = 16 * 1024;

/// Writes to the backend. Cancel-safe: what is not written yet stays here.
pub(super) struct Up<'a> {
    pub(super) port: &'a SessionPort,
    pub(super) buffers: &'a Buffers,
    pub(super) metrics: &'a Metrics,
    pub(super) signs: &'a Signs,
    pub(super) table: &'a WebSocketTable,
    pub(super) write_timeout: Duration,
    pub(super) socket: SharedStream,
    pub(super) writer: Writer,
    /// Coded and not yet written.
    pub(super) output: BytesMut,
    /// Delivered, and to be acknowledged once `output` is written.
    pub(super) unwritten: Option<Seq>,
    /// The client's end; nothing is written after it.
    pub(super) end: Option<End>,
    /// When the next ping is due, if any are sent.
    pub(super) ping_at: Option<tokio::time::Instant>,
}

/// How the client's direction ended.
#[derive(Debug)]
pub(super) enum UpEnd {
    /// The backend has our close frame.
    Closed(Cause),
    /// There is to be none: the client was lost, or a frame is left half-way.
    Cut(Cause),
    /// The backend's socket takes no more.
    Lost,
    /// It took nothing for too long.
    Slow,
    /// The backend is silent, pings notwithstanding.
    Silent,
    /// The session was reset.
    Reset(Ended),
}

impl Up<'_> {
    /// Carries frames until the direction ends.
    pub(super) async fn run(&mut self) -> UpEnd {
        loop {
            if let Err(end) = self.flush().await {
                return end;
            }
            if let Some(end) = &self.end {
                let cause = end.cause();
                return if closes(cause) && !self.writer.inside_frame() {
                    UpEnd::Closed(cause)
                } else {
                    UpEnd::Cut(cause)
                };
            }
            let between_frames = !self.writer.inside_frame();
            let (port, signs, ping_at) = (self.port, self.signs, self.ping_at);
            let outcome = tokio::select! {
                biased;
                () = signs.pong_due(), if between_frames => self.add_pongs(),
                delivery = port.deliver() => match delivery {
                    Ok(delivery) => self.add(delivery),
                    Err(ended) => Err(UpEnd::Reset(ended)),
                },
                () = sleep_until(ping_at.unwrap_or_else(tokio::time::Instant::now)),
                    if ping_at.is_some() => self.add_ping(),
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    /// Takes what came before the backend had answered.
    pub(super) fn add_early(&mut self, early: Delivery) -> Result<(), UpEnd> {
        self.add(early)
    }

    /// Tells the backend of a reset what it would be told of an end with the same cause.
    pub(super) async fn say_reset(&mut self, ended: &Ended, patience: Duration) {
        if closes(ended.cause) {
            let code = code_for(ended.cause).unwrap_or(close::GOING_AWAY);
            self.say_close(code, &ended.detail, patience).await;
        }
    }

    /// Writes a close frame unless a frame is open; waits no longer than `patience`.
    pub(super) async fn say_close(&mut self, code: u16, reason: &str, patience: Duration) {
        if self.end.is_some() || self.writer.close(&mut self.output, Some((code, reason))).is_err()
        {
            return;
        }
        let _ = timeout(patience, self.flush()).await;
    }

    /// Ends our side of the socket, now that nothing follows.
    pub(super) async fn shut(&mut self, patience: Duration) {
        let _ = timeout(patience, self.socket.shutdown()).await;
    }

    /// What the backend never took is thrown away, and so acknowledged.
    pub(super) fn drop_unwritten(&mut self) {
        self.output.clear();
        if let Some(seq) = self.unwritten.take() {
            self.port.consumed(seq);
        }
    }

    async fn flush(&mut self) -> Result<(), UpEnd> {
        while self.output.has_remaining() {
            let write = timeout(self.write_timeout, self.socket.write(&self.output));
            match write.await {
                Err(_) => return Err(UpEnd::Slow),
                Ok(Ok(0) | Err(_)) => return Err(UpEnd::Lost),
                Ok(Ok(written)) => self.output.advance(written),
            }
        }
        let flushed = timeout(self.write_timeout, self.socket.flush()).await;
        match flushed {
            Err(_) => return Err(UpEnd::Slow),
            Ok(Err(_)) => return Err(UpEnd::Lost),
            Ok(Ok(())) => {}
        }
        if self.output.capacity() > 0 {
            self.buffers.give_back(std::mem::take(&mut self.output));
        }
        if let Some(seq) = self.unwritten.take() {
            self.port.consumed(seq);
        }
        Ok(())
    }

    /// Codes a segment, and those behind it that are there already, up to [`WRITE_BYTES`].
    fn add(&mut self, first: Delivery) -> Result<(), UpEnd> {
        if self.output.capacity() == 0 {
            self.output = self.buffers.take();
        }
        let mut next = Some(first);
        while let Some(Delivery { seq, body }) = next {
            self.unwritten = Some(seq);
            match body {
                Body::Chunk(chunk) => self.add_chunk(&chunk)?,
                Body::End(end) => {
                    self.add_end(*end);
                    return Ok(());
                }
                Body::Request(_) | Body::Response(_) => {}
            }
            if self.output.len() >= WRITE_BYTES {
                return Ok(());
            }
            next = self.port.try_deliver().map_err(UpEnd::Reset)?;
        }
        Ok(())
    }

    fn add_chunk(&mut self, chunk: &Chunk) -> Result<(), UpEnd> {
        self.metrics.carried(UP, chunk.payload.len());
        let whole = u64::try_from(chunk.payload.len()).expect("a length fits 64 bits");
        let start = chunk.frame.map(|first_byte| FrameStart {
            first_byte: u8::try_from(first_byte).unwrap_or(u8::MAX),
            frame_len: chunk.frame_len.unwrap_or(whole),
        });
        let written = self.writer.chunk(&mut self.output, start, &chunk.payload);
        written.map_err(|error| self.broken(error))
    }

    /// The node's chunks make no frame: that is a fault of ours, not of the client.
    fn broken(&self, error: WriteError) -> UpEnd {
        self.port.reset(Cause::TrunkProtocol, &error.to_string());
        UpEnd::Cut(Cause::TrunkProtocol)
    }

    fn add_end(&mut self, end: End) {
        if closes(end.cause()) {
            let code = end.close_code.and_then(|code| u16::try_from(code).ok());
            let code =
                code.filter(|code| close::is_sendable(*code)).or_else(|| code_for(end.cause()));
            let close = code.map(|code| (code, end.reason.as_str()));
            // Inside a frame there is no room for it: the socket is cut then.
            let _ = self.writer.close(&mut self.output, close);
        }
        self.end = Some(end);
    }

    fn add_pongs(&mut self) -> Result<(), UpEnd> {
        for payload in self.signs.take_pongs() {
            let _ = self.writer.pong(&mut self.output, &payload);
        }
        Ok(())
    }

    fn add_ping(&mut self) -> Result<(), UpEnd> {
        let Some(interval) = self.table.ping_interval else { return Ok(()) };
        let now = clock::now();
        if now.duration_since(self.signs.last_heard()) >= self.table.ping_timeout {
            return Err(UpEnd::Silent);
        }
        self.ping_at = Some(tokio::time::Instant::from_std(now) + interval);
        if !self.writer.inside_frame() {
            let _ = self.writer.ping(&mut self.output, b"");
        }
        Ok(())
    }
}

/// Whether the backend gets a close frame: not for a client that was lost, which it would not get
/// from that client either.
fn closes(cause: Cause) -> bool {
    cause != Cause::ClientLost
}

/// What the backend is told where the client gave no code. `None`: a close frame without one, as
/// the client's own was.
pub(super) fn code_for(cause: Cause) -> Option<u16> {
    match cause {
        Cause::ClientClosed => None,
        Cause::ClientProtocol => Some(close::PROTOCOL_ERROR),
        Cause::ClientSlow | Cause::Policy => Some(close::POLICY),
        Cause::Internal => Some(close::INTERNAL_ERROR),
        Cause::Unspecified
        | Cause::Complete
        | Cause::BackendClosed
        | Cause::ClientLost
        | Cause::BackendLost
        | Cause::BackendProtocol
        | Cause::BackendSlow
        | Cause::ClientIdle
        | Cause::BackendUnreachable
        | Cause::BackendTimeout
        | Cause::NodeDraining
        | Cause::CoreDraining
        | Cause::CoreFull
        | Cause::Replaced
        | Cause::SessionLost
        | Cause::TrunkLost
        | Cause::TrunkProtocol => Some(close::GOING_AWAY),
    }
}
