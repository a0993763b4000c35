//! From the far end: frames for the client, the backend's close, a lost trunk.

use std::time::Instant;

use antipode_proto::body::Body;
use antipode_proto::seq::Seq;
use antipode_proto::trunk::v1::{Cause, Chunk, End, ResponseHead};
use antipode_websocket::close::{BAD_GATEWAY, is_sendable};
use antipode_websocket::{FrameStart, WriteError};

use super::Relay;
use super::stage::{After, Closing, Stage};

/// The far end sent what makes no WebSocket.
#[derive(Debug, thiserror::Error)]
pub enum DeliveryError {
    /// Chunks that don't add up to frames.
    #[error("chunks make no frame")]
    Frame(#[from] WriteError),
    /// More than a byte.
    #[error("{0} is no first byte of a frame")]
    FirstByte(u32),
    /// A head where none is due, or none where one is.
    #[error("a head out of place")]
    Head,
}

impl Relay {
    /// Takes the next segment of the way down.
    ///
    /// # Errors
    ///
    /// The far end broke the protocol; the driver resets the session.
    pub fn handle_delivery(
        &mut self,
        seq: Seq,
        body: Body,
        now: Instant,
    ) -> Result<(), DeliveryError> {
        match body {
            Body::Request(_) => return Err(DeliveryError::Head),
            Body::Response(head) => self.handle_head(&head, now)?,
            Body::Chunk(_) if self.head_due => return Err(DeliveryError::Head),
            Body::Chunk(chunk) => self.handle_chunk(&chunk, now)?,
            Body::End(end) => self.handle_end(*end, now),
        }
        self.owed.push_back((self.queued, seq));
        Ok(())
    }

    /// The session is over at the far end, at once.
    pub fn handle_reset(&mut self, cause: Cause, now: Instant) {
        self.up_ended = true;
        self.end_due = None;
        self.finish_down(Closing::told(cause, After::ReadOff), now);
    }

    /// The answer to an upgrade that was answered early: anything but 101 ends the session.
    fn handle_head(&mut self, head: &ResponseHead, now: Instant) -> Result<(), DeliveryError> {
        if !std::mem::take(&mut self.head_due) {
            return Err(DeliveryError::Head);
        }
        if head.status != 101 {
            let reason = format!("the backend answered {}", head.status);
            let close = Some((BAD_GATEWAY, reason));
            self.begin_close(Closing::new(Cause::BackendProtocol, close, After::AwaitClient), now);
        }
        Ok(())
    }

    fn handle_chunk(&mut self, chunk: &Chunk, now: Instant) -> Result<(), DeliveryError> {
        if !self.is_writable() {
            return Ok(());
        }
        let start = match chunk.frame {
            None => None,
            Some(byte) => {
                let first_byte = u8::try_from(byte).map_err(|_| DeliveryError::FirstByte(byte))?;
                let whole = u64::try_from(chunk.payload.len()).expect("a length fits 64 bits");
                Some(FrameStart { first_byte, frame_len: chunk.frame_len.unwrap_or(whole) })
            }
        };
        let before = self.out.len();
        self.writer.chunk(&mut self.out, start, &chunk.payload)?;
        self.book(before, now);
        self.write_controls(now);
        Ok(())
    }

    fn handle_end(&mut self, end: End, now: Instant) {
        let cause = end.cause();
        let closing = match end_close(&end) {
            None if cause != Cause::BackendClosed => Closing::told(cause, After::AwaitClient),
            close => Closing::new(cause, close, After::AwaitClient),
        };
        self.finish_down(closing, now);
    }

    /// Nothing more comes down: closes, or completes the close that the client began.
    fn finish_down(&mut self, closing: Closing, now: Instant) {
        if self.writer.inside_frame() {
            // The rest of the frame will never come, and no close frame may stand inside it: the
            // client must see its socket end.
            return self.lose(closing.cause);
        }
        match &self.stage {
            Stage::Open => self.begin_close(closing, now),
            Stage::ClientClosed { .. } if closing.cause != Cause::BackendClosed => {
                self.echo_close(now);
            }
            Stage::ClientClosed { .. } => self.write_last_close(closing.close(), now),
            Stage::Refused { .. } => self.begin_refusal(now),
            Stage::Closing(_) | Stage::Flushing { .. } | Stage::Over => {}
        }
    }
}

/// The close code and reason that the far end names; a code that may not be sent becomes another.
fn end_close(end: &End) -> Option<(u16, String)> {
    let code = u16::try_from(end.close_code?).unwrap_or(0);
    let code = if is_sendable(code) { code } else { BAD_GATEWAY };
    Some((code, end.reason.clone()))
}
