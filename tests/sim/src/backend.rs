//! The user's servers: an application that speaks and listens on WebSockets. Never at fault, but
//! sometimes slow.

use std::collections::BTreeMap;

use crate::ctx::Ctx;
use crate::event::Ms;
use crate::message::{Direction, Message};
use crate::model::{BACKEND_CODE, BackendEnd};
use crate::net::{Answer, End, Item, PipeId, Purpose};
use crate::site::Site;
use crate::socket::{Heard, Socket};

/// What may wait for one socket before the application stops speaking.
const QUEUE_BYTES_MAX: usize = 64 * 1024;
/// How long the backend waits for the other end after a close of its own.
const CLOSE_PATIENCE: Ms = 10_000;

/// How often its kernel asks whether the other end of a socket is still there.
const KEEP_ALIVE: Ms = 30_000;

/// All sockets of the backend.
#[derive(Debug, Default)]
pub struct Backend {
    sockets: BTreeMap<PipeId, Served>,
    /// Talks whose sockets are not read until then.
    slow: BTreeMap<u16, Ms>,
    kept_alive: Ms,
}

#[derive(Debug)]
struct Served {
    socket: Socket,
    talk: u16,
    attempt: u16,
    opened: Ms,
    /// The application has closed; when it stops waiting for the answer.
    closed: Option<Ms>,
}

impl Backend {
    /// A core dials in.
    pub fn accept(&mut self, ctx: &mut Ctx, pipe: PipeId) {
        let Some(Item::Open(Purpose::Backend { target })) = ctx.read(pipe, End::Acceptor) else {
            return ctx.abort(pipe, End::Acceptor);
        };
        let Some((talk, attempt)) = parse_target(&target) else {
            return ctx.abort(pipe, End::Acceptor);
        };
        ctx.note(Site::Backend, "socket opens", talk, [attempt.into(), pipe.0.into()]);
        let opened = ctx.ms;
        let socket = Socket::server(pipe);
        let answer = Answer::Upgraded { protocol: String::new() };
        ctx.send(pipe, End::Acceptor, Item::Answer(answer));
        if ctx.model.talk(talk).backend.insert(attempt, Default::default()).is_some() {
            let what = format!("attempt {attempt} opened a second socket at the backend");
            ctx.model.fail(opened, Some(talk), what);
        }
        ctx.wake_every(Site::Backend, KEEP_ALIVE);
        self.sockets.insert(pipe, Served { socket, talk, attempt, opened, closed: None });
    }

    /// Whether the pipe has been accepted here.
    #[must_use]
    pub fn knows(&self, pipe: PipeId) -> bool {
        self.sockets.contains_key(&pipe)
    }

    /// The talk's sockets are not read until then.
    pub fn slow_down(&mut self, ctx: &mut Ctx, talk: u16, until: Ms) {
        self.slow.insert(talk, until);
        ctx.wake(Site::Backend, until);
    }

    /// Moves everything that can move.
    pub fn pump(&mut self, ctx: &mut Ctx) {
        let mut over = Vec::new();
        let keeps_alive = self.kept_alive + KEEP_ALIVE <= ctx.ms;
        if keeps_alive && !self.sockets.is_empty() {
            self.kept_alive = ctx.ms;
            ctx.wake_every(Site::Backend, KEEP_ALIVE);
            self.sockets.keys().for_each(|pipe| ctx.keep_alive(*pipe, End::Acceptor));
        }
        for (pipe, served) in &mut self.sockets {
            let is_slow = self.slow.get(&served.talk).is_some_and(|until| *until > ctx.ms);
            if served.pump(ctx, is_slow) {
                over.push(*pipe);
            }
        }
        over.iter().for_each(|pipe| {
            self.sockets.remove(pipe);
        });
    }
}

impl Served {
    /// Returns whether the socket is over.
    fn pump(&mut self, ctx: &mut Ctx, is_slow: bool) -> bool {
        self.speak(ctx);
        while let Some(heard) = self.socket.hear_unless(is_slow, ctx) {
            if self.take(ctx, heard) {
                return true;
            }
        }
        if self.closed.is_some_and(|until| until <= ctx.ms) {
            if !self.socket.is_read(ctx) {
                // What it had said and nobody had taken goes with its socket.
                ctx.model.excuse(self.talk, "the backend did not wait for its close to be taken");
            }
            self.end(ctx, BackendEnd::Lost);
            self.socket.abort(ctx);
            return true;
        }
        self.socket.flush(ctx);
        false
    }

    fn speak(&mut self, ctx: &mut Ctx) {
        let Self { talk, attempt, opened, .. } = *self;
        while self.closed.is_none() && self.socket.waiting() < QUEUE_BYTES_MAX {
            let it = ctx.model.talk(talk);
            if it.backend_should_close(attempt) {
                it.backend.entry(attempt).or_default().closed = true;
                self.socket.say_close(Some((BACKEND_CODE, "the backend is done")));
                self.closed = Some(ctx.ms + CLOSE_PATIENCE);
                ctx.model.closes(ctx.ms, talk);
                ctx.note(Site::Backend, "closes", talk, [attempt.into(), 0]);
                return ctx.wake(Site::Backend, ctx.ms + CLOSE_PATIENCE);
            }
            let side = it.backend.entry(attempt).or_default();
            let number = side.said.said;
            let next = usize::try_from(number).ok().and_then(|at| it.plan.down.get(at));
            let Some(&(at, len)) = next else { return };
            if opened + at > ctx.ms {
                return ctx.wake(Site::Backend, opened + at);
            }
            side.said.said += 1;
            let direction = Direction::Down;
            let message = Message { talk, attempt, direction, number, len };
            let split = ctx.rng_bool(10).then_some(len / 3);
            self.socket.say(&message.bytes(), split);
        }
    }

    fn take(&mut self, ctx: &mut Ctx, heard: Heard) -> bool {
        let Self { talk, attempt, .. } = *self;
        match heard {
            Heard::Message(bytes) => {
                ctx.note(Site::Backend, "hears", talk, [attempt.into(), len(&bytes)]);
                ctx.model.heard(ctx.ms, talk, attempt, Direction::Up, &bytes);
                self.speak(ctx);
                false
            }
            Heard::Ping | Heard::Pong => false,
            Heard::Close(close) => {
                if self.closed.is_none() {
                    self.socket.say_close(close.as_ref().map(|(code, why)| (*code, why.as_str())));
                }
                self.end(ctx, BackendEnd::Closed(close.map(|(code, _)| code)));
                self.socket.close(ctx);
                true
            }
            Heard::Lost => {
                self.end(ctx, BackendEnd::Lost);
                self.socket.close(ctx);
                true
            }
            Heard::Broken(error) => {
                ctx.model.fail(ctx.ms, Some(talk), format!("the backend reads {error}"));
                true
            }
            Heard::Item(item) => {
                ctx.model.fail(ctx.ms, Some(talk), format!("the backend reads {item:?}"));
                true
            }
        }
    }

    fn end(&self, ctx: &mut Ctx, end: BackendEnd) {
        let code = if let BackendEnd::Closed(Some(code)) = end { code } else { 0 };
        ctx.note(Site::Backend, "sees the end", self.talk, [self.attempt.into(), code.into()]);
        ctx.model.backend_ended(ctx.ms, self.talk, self.attempt, end);
    }
}

/// The path that a client asks for: its talk, and which upgrade this is.
#[must_use]
pub fn target(talk: u16, attempt: u16) -> String {
    format!("/{talk}/{attempt}")
}

/// Reads a path back.
#[must_use]
pub fn parse_target(target: &str) -> Option<(u16, u16)> {
    let (talk, attempt) = target.strip_prefix('/')?.split_once('/')?;
    Some((talk.parse().ok()?, attempt.parse().ok()?))
}

fn len(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
