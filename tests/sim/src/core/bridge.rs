//! Between a session's port and the backend's socket: a model of `core::bridge::websocket` with its
//! rules of who ends when, around the real reader and writer of frames.

use antipode_proto::session::Session;
use antipode_proto::trunk::v1::{Cause, Chunk, End};
use antipode_trunk::{Body, CHUNK_BYTES_MAX, Delivery, Seq, SessionPort};
use antipode_websocket::{Event, FrameStart, Policy, Reader, Side, Writer, close};
use bytes::BytesMut;

use crate::ctx::Ctx;
use crate::event::Ms;
use crate::net::{self, Answer, Item, PipeId};
use crate::site::Site;

/// Coded and not yet written, at most, before more is taken from the session.
const WRITE_BYTES: usize = 16 * 1024;
/// How long the other direction's end is awaited.
const CLOSING: Ms = 10_000;
/// How long the backend may take no byte.
const WRITE_TIMEOUT: Ms = 30_000;

/// Which end of the backend's pipe is ours.
const OURS: net::End = net::End::Dialler;

/// One socket to the backend.
#[derive(Debug)]
pub(super) struct Bridge {
    here: Site,
    /// The pipe to the backend.
    pub(super) pipe: PipeId,
    talk: u16,
    reader: Reader,
    writer: Writer,
    input: BytesMut,
    output: BytesMut,
    /// Delivered, and consumed once `output` is written.
    unwritten: Option<Seq>,
    /// The last segment that was consumed.
    consumed: u64,
    /// When the backend last took anything.
    took: Ms,
    up: Direction,
    down: Direction,
    deadline: Option<Ms>,
    /// The socket is gone; what still comes is thrown away, up to the client's end.
    is_shut: bool,
    heard_end: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Direction {
    Open,
    /// Nothing more is taken; with `true` a close frame ended it.
    Ended(bool),
}

impl Bridge {
    /// A socket that the backend has just upgraded.
    #[must_use]
    pub(super) fn new(here: Site, pipe: PipeId, talk: u16, now: Ms) -> Self {
        let policy = Policy { chunk_bytes_max: CHUNK_BYTES_MAX, ..Policy::default() };
        Self {
            here,
            pipe,
            talk,
            reader: Reader::new(Side::Client, policy),
            writer: Writer::client([7; 32]),
            input: BytesMut::new(),
            output: BytesMut::new(),
            unwritten: None,
            consumed: 0,
            took: now,
            up: Direction::Open,
            down: Direction::Open,
            deadline: None,
            is_shut: false,
            heard_end: false,
        }
    }

    /// The last segment that was written to the backend, or thrown away for good.
    #[must_use]
    pub(super) fn written(&self) -> u64 {
        self.consumed
    }

    /// Limits hold at all times.
    pub(super) fn check(&self, ctx: &mut Ctx, machine: &Session) {
        ctx.model.check_held(ctx.ms, self.talk, machine);
    }

    /// Moves everything that can move; returns whether both directions have ended.
    pub(super) fn pump(&mut self, ctx: &mut Ctx, port: &SessionPort) -> bool {
        if port.look(|machine| machine.ended().is_some()) {
            return self.is_shut || self.reset(ctx, port);
        }
        if self.is_shut {
            return self.discard(port);
        }
        let moved_up = self.pump_up(ctx, port);
        self.pump_down(ctx, port);
        // What the backend said may have ended the session's own waiting.
        if moved_up {
            self.flush(ctx, port);
        }
        self.check_time(ctx, port);
        let is_over = self.up != Direction::Open && self.down != Direction::Open;
        if is_over && self.output.is_empty() {
            self.is_shut = true;
            ctx.close(self.pipe, OURS);
            return self.discard(port);
        }
        false
    }

    fn pump_up(&mut self, ctx: &mut Ctx, port: &SessionPort) -> bool {
        self.flush(ctx, port);
        while self.up == Direction::Open && self.output.len() < WRITE_BYTES {
            let Ok(Some(Delivery { seq, body })) = port.try_deliver() else { break };
            self.unwritten = Some(seq);
            match body {
                Body::Chunk(chunk) => self.add_chunk(ctx, &chunk),
                Body::End(end) => self.add_end(ctx, port, *end),
                Body::Request(_) | Body::Response(_) => {}
            }
            self.flush(ctx, port);
        }
        true
    }

    fn add_chunk(&mut self, ctx: &mut Ctx, chunk: &Chunk) {
        let whole = u64::try_from(chunk.payload.len()).expect("a length fits 64 bits");
        let start = chunk.frame.map(|first_byte| FrameStart {
            first_byte: u8::try_from(first_byte).unwrap_or(u8::MAX),
            frame_len: chunk.frame_len.unwrap_or(whole),
        });
        if let Err(error) = self.writer.chunk(&mut self.output, start, &chunk.payload) {
            let what = format!("what came up makes no frame: {error}");
            ctx.model.fail(ctx.ms, Some(self.talk), what);
        }
    }

    fn add_end(&mut self, ctx: &mut Ctx, port: &SessionPort, end: End) {
        let cause = u64::try_from(i32::from(end.cause())).unwrap_or(0);
        ctx.note(self.here, "way up ends", self.talk, [cause, 0]);
        self.heard_end = true;
        let closes = end.cause() != Cause::ClientLost && !self.writer.inside_frame();
        if closes {
            let code = end.close_code.and_then(|code| u16::try_from(code).ok());
            let code = code.filter(|code| close::is_sendable(*code));
            let told = end.cause() != Cause::ClientClosed;
            let code = code.or_else(|| told.then_some(close::GOING_AWAY));
            let close = code.map(|code| (code, end.reason.as_str()));
            self.writer.close(&mut self.output, close).expect("outside a frame, a good code");
        }
        self.up = Direction::Ended(closes);
        self.deadline = Some(ctx.ms + CLOSING);
        ctx.wake(self.here, ctx.ms + CLOSING);
        if !closes {
            // The backend gets no close frame that its client never sent.
            self.end_down(port, end.cause(), None, "");
        }
    }

    fn flush(&mut self, ctx: &mut Ctx, port: &SessionPort) {
        while !self.output.is_empty() {
            let room = ctx.net.room(self.pipe, OURS);
            let len = self.output.len().min(room).min(WRITE_BYTES);
            if len == 0 {
                return;
            }
            self.took = ctx.ms;
            let bytes = self.output.split_to(len).freeze();
            ctx.send(self.pipe, OURS, Item::Bytes(bytes));
        }
        self.took = ctx.ms;
        if let Some(seq) = self.unwritten.take() {
            self.consumed = seq.get();
            port.consumed(seq);
        }
    }

    fn pump_down(&mut self, ctx: &mut Ctx, port: &SessionPort) {
        while self.down == Direction::Open && port.try_ready().unwrap_or(false) {
            match self.reader.read(&mut self.input) {
                Err(error) => {
                    let what = format!("the backend broke RFC 6455: {error}");
                    return ctx.model.fail(ctx.ms, Some(self.talk), what);
                }
                Ok(Some(Event::Ping(_) | Event::Pong(_))) => {}
                Ok(Some(Event::Close(close))) => {
                    let (code, reason) = close.unzip();
                    let reason = reason.unwrap_or_default();
                    self.end_down(port, Cause::BackendClosed, code, &reason);
                    self.deadline = Some(ctx.ms + CLOSING);
                    return ctx.wake(self.here, ctx.ms + CLOSING);
                }
                Ok(Some(Event::Chunk { start, payload, last_of_frame })) => {
                    let chunk = Chunk {
                        frame: start.map(|start| start.first_byte.into()),
                        frame_len: start.filter(|_| !last_of_frame).map(|start| start.frame_len),
                        payload,
                        shared: 0,
                    };
                    let _ = port.send(chunk.into());
                }
                Ok(None) => match ctx.read(self.pipe, OURS) {
                    None => return,
                    Some(Item::Bytes(bytes)) => self.input.extend_from_slice(&bytes),
                    Some(Item::Answer(Answer::Upgraded { .. })) => {}
                    Some(_) => {
                        self.up = Direction::Ended(false);
                        self.output.clear();
                        self.end_down(port, Cause::BackendLost, None, "");
                        return;
                    }
                },
            }
        }
    }

    fn end_down(&mut self, port: &SessionPort, cause: Cause, code: Option<u16>, reason: &str) {
        if self.down != Direction::Open {
            return;
        }
        self.down = Direction::Ended(code.is_some());
        let end = End {
            cause: cause.into(),
            close_code: code.map(u32::from),
            reason: reason.to_owned(),
            trailers: Vec::new(),
        };
        let _ = port.send(end.into());
    }

    fn check_time(&mut self, ctx: &mut Ctx, port: &SessionPort) {
        if !self.output.is_empty() && self.took + WRITE_TIMEOUT <= ctx.ms {
            ctx.model.excuse(self.talk, "the backend read too slowly");
            self.output.clear();
            self.up = Direction::Ended(false);
            self.end_down(port, Cause::BackendSlow, None, "");
        }
        if !self.output.is_empty() {
            ctx.wake(self.here, self.took + WRITE_TIMEOUT);
        }
        if self.deadline.is_none_or(|deadline| deadline > ctx.ms) {
            return;
        }
        self.deadline = None;
        if self.up == Direction::Open {
            // The backend closed, and the client has not answered.
            if !self.writer.inside_frame() {
                let close = Some((close::GOING_AWAY, "the client did not close"));
                self.writer.close(&mut self.output, close).expect("outside a frame");
            }
            self.up = Direction::Ended(true);
            self.flush(ctx, port);
        }
        self.end_down(port, Cause::BackendTimeout, None, "the backend did not close");
    }

    /// The session was reset: the backend is told, truthfully.
    fn reset(&mut self, ctx: &mut Ctx, port: &SessionPort) -> bool {
        let cause = port.look(|machine| machine.ended().map(|ended| i32::from(ended.cause)));
        let cause = u64::try_from(cause.unwrap_or(0)).unwrap_or(0);
        ctx.note(self.here, "session reset", self.talk, [cause, self.pipe.0.into()]);
        if self.up == Direction::Open && !self.writer.inside_frame() {
            let close = Some((close::GOING_AWAY, ""));
            self.writer.close(&mut self.output, close).expect("outside a frame");
        }
        while ctx.net.room(self.pipe, OURS) > 0 && !self.output.is_empty() {
            let len = self.output.len().min(ctx.net.room(self.pipe, OURS));
            let bytes = self.output.split_to(len).freeze();
            ctx.send(self.pipe, OURS, Item::Bytes(bytes));
        }
        ctx.close(self.pipe, OURS);
        true
    }

    /// What the backend never took is thrown away, and so acknowledged, up to the client's end.
    fn discard(&mut self, port: &SessionPort) -> bool {
        if let Some(seq) = self.unwritten.take() {
            self.consumed = seq.get();
            port.consumed(seq);
        }
        while let Ok(Some(Delivery { seq, body })) = port.try_deliver() {
            self.heard_end |= body.is_end();
            self.consumed = seq.get();
            port.consumed(seq);
        }
        self.heard_end
    }
}
