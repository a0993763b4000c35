//! The application of a resumable client on top of the real session machine: messages in frames,
//! frames in chunks, and back.

use antipode_proto::body::{Body, CHUNK_BYTES_MAX};
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Cause, Chunk, End};
use antipode_websocket::{BINARY, FIN};
use bytes::{Bytes, BytesMut};

use crate::ctx::Ctx;
use crate::event::Ms;
use crate::message::{Direction, Message};
use crate::model::{CLIENT_CODE, ClientEnd};
use crate::site::Site;

/// The session of a client that was welcomed.
#[derive(Debug)]
pub(super) struct AppSession {
    /// The real thing.
    pub machine: Session,
    site: Site,
    talk: u16,
    attempt: u16,
    since: Ms,
    /// What is left of the message that is being said: where it stands.
    saying: Option<(Bytes, usize)>,
    hearing: BytesMut,
    frame_is_last: bool,
    lacking: u64,
    closed: bool,
    end: Option<ClientEnd>,
    epoch: u64,
}

impl AppSession {
    /// A session from its welcome on.
    #[must_use]
    pub(super) fn new(ctx: &Ctx, site: Site, talk: u16, attempt: u16, config: Config) -> Self {
        let mut machine = Session::new(Side::Client, config, ctx.now());
        machine.handle_link_up();
        Self {
            machine,
            site,
            talk,
            attempt,
            since: ctx.ms,
            saying: None,
            hearing: BytesMut::new(),
            frame_is_last: false,
            lacking: 0,
            closed: false,
            end: None,
            epoch: 0,
        }
    }

    /// What the application was told of the end, once both directions are over.
    #[must_use]
    pub(super) fn end(&self) -> Option<ClientEnd> {
        match self.machine.ended() {
            // The application has its end; what was lost is only the far end's word for it.
            Some(_) if self.end.is_some() => self.end.clone(),
            Some(ended) => Some(ClientEnd::Refused(ended.cause.into())),
            None if self.machine.is_finished() => {
                Some(self.end.clone().unwrap_or(ClientEnd::Closed(None)))
            }
            None => None,
        }
    }

    /// Takes a frame of the session.
    pub(super) fn handle_frame(&mut self, ctx: &mut Ctx, kind: Kind) {
        if let Err(error) = self.machine.handle_frame(kind) {
            let what = format!("the client was told what can't be: {error}");
            ctx.model.fail(ctx.ms, Some(self.talk), what);
            self.machine.reset(error.cause(), "");
        }
        if self.machine.epoch() < self.epoch {
            ctx.model.fail(ctx.ms, Some(self.talk), "the client's epoch went back");
        }
        self.epoch = self.machine.epoch();
    }

    /// The application hears what has come and says what it has to say.
    pub(super) fn pump(&mut self, ctx: &mut Ctx, is_slow: bool) {
        self.machine.handle_timeout(ctx.now());
        let deliver = |machine: &mut Session| if is_slow { None } else { machine.poll_deliver() };
        while let Some((seq, body)) = deliver(&mut self.machine) {
            match body {
                Body::Chunk(chunk) => self.hear(ctx, &chunk),
                Body::End(end) => {
                    let code = end.close_code.and_then(|code| u16::try_from(code).ok());
                    ctx.note(self.site, "sees the end", self.talk, [code.unwrap_or(0).into(), 0]);
                    self.end = Some(ClientEnd::Closed(code));
                    if !self.closed {
                        self.closed = true;
                        let cause = Cause::ClientClosed.into();
                        let echo = End { cause, close_code: end.close_code, ..End::default() };
                        self.machine.send(echo.into());
                    }
                }
                Body::Request(_) | Body::Response(_) => {
                    ctx.model.fail(ctx.ms, Some(self.talk), "a head came to a client");
                }
            }
            self.machine.handle_consumed(seq, ctx.now());
        }
        self.speak(ctx);
        ctx.model.check_held(ctx.ms, self.talk, &self.machine);
        if let Some(due) = self.machine.poll_timeout() {
            let due = ctx.ms_of(due);
            ctx.wake(self.site, due.max(ctx.ms + 1));
        }
    }

    fn hear(&mut self, ctx: &mut Ctx, chunk: &Chunk) {
        let len = u64::try_from(chunk.payload.len()).expect("a length fits 64 bits");
        if let Some(first_byte) = chunk.frame {
            if self.lacking > 0 {
                ctx.model.fail(ctx.ms, Some(self.talk), "a frame began inside a frame");
            }
            self.frame_is_last = first_byte & u32::from(FIN) != 0;
            self.lacking = chunk.frame_len.unwrap_or(len);
        }
        if len > self.lacking {
            return ctx.model.fail(ctx.ms, Some(self.talk), "a chunk runs past its frame");
        }
        self.lacking -= len;
        self.hearing.extend_from_slice(&chunk.payload);
        if self.lacking == 0 && self.frame_is_last {
            let message = std::mem::take(&mut self.hearing);
            ctx.note(self.site, "hears", self.talk, [self.attempt.into(), 0]);
            ctx.model.heard(ctx.ms, self.talk, self.attempt, Direction::Down, &message);
        }
    }

    fn speak(&mut self, ctx: &mut Ctx) {
        while !self.closed && self.machine.ended().is_none() {
            if let Some((message, at)) = self.saying.take() {
                if !self.machine.has_room() {
                    self.saying = Some((message, at));
                    return;
                }
                self.say_piece(message, at);
                continue;
            }
            let talk = self.talk;
            let it = ctx.model.talk(talk);
            if it.client_should_close() {
                it.client_closed = true;
                self.closed = true;
                ctx.model.closes(ctx.ms, talk);
                ctx.note(self.site, "closes", talk, [self.attempt.into(), 0]);
                let close_code = Some(u32::from(CLIENT_CODE));
                let cause = Cause::ClientClosed.into();
                return self.machine.send(End { cause, close_code, ..End::default() }.into());
            }
            let number = it.client.said;
            let next = usize::try_from(number).ok().and_then(|at| it.plan.up.get(at));
            let Some(&(at, len)) = next else { return };
            if self.since + at > ctx.ms {
                return ctx.wake(self.site, self.since + at);
            }
            it.client.said += 1;
            let (attempt, direction) = (self.attempt, Direction::Up);
            let message = Message { talk, attempt, direction, number, len };
            self.saying = Some((message.bytes(), 0));
        }
    }

    fn say_piece(&mut self, message: Bytes, at: usize) {
        let next = message.len().min(at + CHUNK_BYTES_MAX);
        let whole = u64::try_from(message.len()).expect("a length fits 64 bits");
        let is_first = at == 0;
        let chunk = Chunk {
            frame: is_first.then(|| u32::from(FIN | BINARY)),
            frame_len: (is_first && next < message.len()).then_some(whole),
            payload: message.slice(at..next),
            shared: 0,
        };
        self.machine.send(chunk.into());
        if next < message.len() {
            self.saying = Some((message, next));
        }
    }
}
