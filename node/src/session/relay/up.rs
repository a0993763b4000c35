//! From the client: frames, pings, its close, its silence.

use std::time::Instant;

use antipode_proto::body::Body;
use antipode_proto::trunk::v1::{Cause, Chunk, End};
use antipode_websocket::{Event, FrameStart, ReadError};
use bytes::{Bytes, BytesMut};

use super::stage::{After, Closing, Stage};
use super::{PONG_ROOM_BYTES, Relay};

impl Relay {
    /// Bytes were put into the input buffer.
    pub fn handle_read(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The client's socket is not read, because the trunk has no room: its silence is our doing.
    pub fn handle_pause(&mut self, now: Instant) {
        self.heard = now;
    }

    /// The client's socket ended, or failed: nothing more comes from it.
    pub fn handle_eof(&mut self) {
        self.eof = true;
        match &self.stage {
            // It may still read the backend's close.
            Stage::ClientClosed { .. } | Stage::Flushing { .. } | Stage::Over => {}
            Stage::Open => self.lose(Cause::ClientLost),
            Stage::Refused { closing, .. } | Stage::Closing(closing) => {
                let cause = closing.cause;
                self.lose(cause);
            }
        }
    }

    /// The client's socket takes nothing any more.
    pub fn handle_write_failed(&mut self) {
        self.eof = true;
        self.lose(Cause::ClientLost);
    }

    /// The next thing to send up, or `None` once the input is used up.
    ///
    /// The driver sees to room in the trunk before it asks, unless [`Relay::is_up_ended`].
    #[must_use]
    pub fn poll_up(&mut self, now: Instant) -> Option<Body> {
        loop {
            if let Some(end) = self.take_end() {
                return Some(end);
            }
            if self.throws_input_away() {
                self.input = BytesMut::new();
                return None;
            }
            match self.reader.read(&mut self.input) {
                Ok(Some(Event::Chunk { start, payload, last_of_frame })) => {
                    if !self.up_ended {
                        return Some(Body::Chunk(chunk(start, payload, last_of_frame)));
                    }
                }
                Ok(Some(Event::Ping(payload))) => {
                    self.pong_due = Some(payload);
                    self.write_controls(now);
                }
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Close(close))) => self.client_closed(close, now),
                Ok(None) => {
                    if self.input.is_empty() {
                        self.input = BytesMut::new();
                    }
                    return None;
                }
                Err(error) => self.refuse(&error, now),
            }
        }
    }

    /// The end of the way up, if it is due: it needs no room in the trunk.
    #[must_use]
    pub fn poll_end(&mut self) -> Option<Body> {
        self.take_end()
    }

    fn throws_input_away(&self) -> bool {
        match &self.stage {
            Stage::Open => false,
            Stage::Closing(closing) => closing.after == After::ReadOff,
            Stage::ClientClosed { .. }
            | Stage::Refused { .. }
            | Stage::Flushing { .. }
            | Stage::Over => true,
        }
    }

    /// Writes the pong, or the close, that waits for the end of a frame or for room.
    pub(super) fn write_controls(&mut self, now: Instant) {
        if self.writer.inside_frame() {
            return;
        }
        self.write_due_close(now);
        if self.out.len() >= PONG_ROOM_BYTES || !self.is_writable() {
            return;
        }
        if let Some(payload) = self.pong_due.take() {
            let before = self.out.len();
            self.writer.pong(&mut self.out, &payload).expect("outside a frame, at most 125 bytes");
            self.book(before, now);
        }
    }

    fn client_closed(&mut self, close: Option<(u16, String)>, now: Instant) {
        let (code, reason) = close.clone().unzip();
        match &self.stage {
            Stage::Open => {
                self.cause.get_or_insert(Cause::ClientClosed);
                self.end_up(End {
                    cause: i32::from(Cause::ClientClosed),
                    close_code: code.map(u32::from),
                    reason: reason.unwrap_or_default(),
                    ..End::default()
                });
                let deadline = now + self.limits.close_timeout;
                self.stage = Stage::ClientClosed { deadline, close: close.map(Box::new) };
            }
            Stage::Closing(closing) => {
                let end = closing.end();
                self.end_up(end);
                self.finish_writing(now);
            }
            Stage::ClientClosed { .. }
            | Stage::Refused { .. }
            | Stage::Flushing { .. }
            | Stage::Over => {}
        }
    }

    fn refuse(&mut self, error: &ReadError, now: Instant) {
        let code = error.close_code();
        let reason = error.to_string();
        self.cause.get_or_insert(Cause::ClientProtocol);
        self.end_up(End {
            cause: i32::from(Cause::ClientProtocol),
            close_code: Some(u32::from(code)),
            reason: antipode_websocket::close::fit_reason(&reason).to_owned(),
            ..End::default()
        });
        let closing = Closing::new(Cause::ClientProtocol, Some((code, reason)), After::ReadOff);
        self.refuse_with(closing, now);
    }
}

fn chunk(start: Option<FrameStart>, payload: Bytes, last_of_frame: bool) -> Chunk {
    Chunk {
        frame: start.map(|start| u32::from(start.first_byte)),
        frame_len: start.filter(|_| !last_of_frame).map(|start| start.frame_len),
        payload,
        shared: 0,
    }
}
