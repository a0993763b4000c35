//! A browser's own WebSocket: one socket, and when it is gone it is gone.

use super::{CLIENT_WINDOW_BYTES, Finder};
use crate::backend::target;
use crate::ctx::Ctx;
use crate::event::Ms;
use crate::message::{Direction, Message};
use crate::model::{CLIENT_CODE, ClientEnd};
use crate::net::{Answer, Item, PipeId, Purpose};
use crate::site::Site;
use crate::socket::{Heard, Socket};

/// How long an upgrade may take.
const OPEN_PATIENCE: Ms = 15_000;
/// How long the answer to a close is awaited.
const CLOSE_PATIENCE: Ms = 20_000;
/// A node pings a silent client every 20 s; an application that hears nothing for much longer takes
/// its socket for dead.
const SILENCE_MAX: Ms = 75_000;
/// What may wait for the socket before the application stops speaking.
const QUEUE_BYTES_MAX: usize = 128 * 1024;

/// A plain client.
#[derive(Debug)]
pub(super) struct Plain {
    site: Site,
    talk: u16,
    stage: Stage,
    again: Ms,
}

#[derive(Debug)]
enum Stage {
    Idle,
    Opening(Opening),
    Open(Open),
}

#[derive(Debug)]
struct Opening {
    socket: Socket,
    node: u8,
    attempt: u16,
    until: Ms,
}

#[derive(Debug)]
struct Open {
    socket: Socket,
    node: u8,
    attempt: u16,
    since: Ms,
    heard: Ms,
    awaits_ack: bool,
    closing: Option<Ms>,
}

impl Plain {
    pub(super) fn new(site: Site, talk: u16) -> Self {
        Self { site, talk, stage: Stage::Idle, again: 0 }
    }

    pub(super) fn pipe(&self) -> Option<PipeId> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Opening(Opening { socket, .. }) | Stage::Open(Open { socket, .. }) => {
                Some(socket.pipe)
            }
        }
    }

    pub(super) fn node(&self) -> Option<u8> {
        match &self.stage {
            Stage::Idle => None,
            Stage::Opening(Opening { node, .. }) | Stage::Open(Open { node, .. }) => Some(*node),
        }
    }

    /// The system says that the socket's network is gone.
    pub(super) fn lose(&mut self, ctx: &mut Ctx) {
        match std::mem::replace(&mut self.stage, Stage::Idle) {
            Stage::Idle => {}
            Stage::Opening(mut opening) => opening.socket.abort(ctx),
            Stage::Open(mut open) => {
                // The next look at it finds nothing more to hear.
                open.socket.abort(ctx);
                open.closing = Some(0);
                self.stage = Stage::Open(open);
            }
        }
    }

    /// Moves everything that can move; returns whether it is over.
    pub(super) fn pump(&mut self, ctx: &mut Ctx, finder: &mut Finder, is_slow: bool) -> bool {
        if let Stage::Idle = self.stage {
            self.open(ctx, finder);
        }
        if let Stage::Opening(opening) = &mut self.stage {
            let Opening { socket, node, attempt, until } = opening;
            match socket.hear(ctx) {
                Some(Heard::Item(Item::Answer(Answer::Upgraded { .. }))) => {
                    ctx.note(self.site, "open", self.talk, [(*attempt).into(), (*node).into()]);
                    ctx.model.talk(self.talk).established = Some(*attempt);
                    let (node, attempt) = (*node, *attempt);
                    let Stage::Opening(Opening { socket, .. }) =
                        std::mem::replace(&mut self.stage, Stage::Idle)
                    else {
                        unreachable!("matched above")
                    };
                    let (since, heard, closing) = (ctx.ms, ctx.ms, None);
                    self.stage = Stage::Open(Open {
                        socket,
                        node,
                        attempt,
                        since,
                        heard,
                        awaits_ack: false,
                        closing,
                    });
                }
                None if *until > ctx.ms => return false,
                _ => {
                    socket.abort(ctx);
                    self.again = ctx.ms + 500 + ctx.rng_below(3_000);
                    self.stage = Stage::Idle;
                    ctx.wake(self.site, self.again);
                    return false;
                }
            }
        }
        let Stage::Open(open) = &mut self.stage else { return false };
        open.pump(ctx, self.site, self.talk, is_slow)
    }

    fn open(&mut self, ctx: &mut Ctx, finder: &mut Finder) {
        if self.again > ctx.ms {
            return ctx.wake(self.site, self.again);
        }
        let Some(nodes) = finder.take(ctx) else { return };
        let Some(&node) = nodes.first() else { return };
        let it = ctx.model.talk(self.talk);
        it.attempts += 1;
        let attempt = it.attempts;
        let purpose = Purpose::Client { offers: Vec::new(), target: target(self.talk, attempt) };
        let pipe = ctx.dial(self.site, Site::Node(node), purpose, CLIENT_WINDOW_BYTES);
        ctx.note(self.site, "dials", self.talk, [attempt.into(), node.into()]);
        let until = ctx.ms + OPEN_PATIENCE;
        let socket = Socket::client(pipe, 11);
        self.stage = Stage::Opening(Opening { socket, node, attempt, until });
        ctx.wake(self.site, until);
    }
}

impl Open {
    fn pump(&mut self, ctx: &mut Ctx, site: Site, talk: u16, is_slow: bool) -> bool {
        self.speak(ctx, site, talk);
        while let Some(heard) = self.socket.hear_unless(is_slow, ctx) {
            self.heard = ctx.ms;
            let end = match heard {
                Heard::Message(bytes) => {
                    ctx.note(site, "hears", talk, [self.attempt.into(), 0]);
                    ctx.model.heard(ctx.ms, talk, self.attempt, Direction::Down, &bytes);
                    self.speak(ctx, site, talk);
                    continue;
                }
                Heard::Ping | Heard::Pong => continue,
                Heard::Close(close) => {
                    if self.closing.is_none() {
                        let close = close.as_ref().map(|(code, why)| (*code, why.as_str()));
                        self.socket.say_close(close);
                    }
                    ClientEnd::Closed(close.map(|(code, _)| code))
                }
                Heard::Lost => ClientEnd::Lost,
                Heard::Broken(error) => {
                    let what = format!("the client reads {error}");
                    ctx.model.fail(ctx.ms, Some(talk), what);
                    ClientEnd::Lost
                }
                Heard::Item(item) => {
                    ctx.model.fail(ctx.ms, Some(talk), format!("the client reads {item:?}"));
                    ClientEnd::Lost
                }
            };
            self.socket.close(ctx);
            self.end(ctx, site, talk, end);
            return true;
        }
        // What is acknowledged below shows life, too.
        if is_slow || (std::mem::take(&mut self.awaits_ack) && self.socket.is_read(ctx)) {
            self.heard = ctx.ms;
        }
        self.awaits_ack = !self.socket.is_read(ctx);
        ctx.wake(site, self.heard + SILENCE_MAX);
        let is_silent = self.heard + SILENCE_MAX <= ctx.ms;
        if is_silent || self.closing.is_some_and(|until| until <= ctx.ms) {
            self.socket.abort(ctx);
            self.end(ctx, site, talk, ClientEnd::Lost);
            return true;
        }
        self.socket.flush(ctx);
        false
    }

    fn end(&self, ctx: &mut Ctx, site: Site, talk: u16, end: ClientEnd) {
        let code = if let ClientEnd::Closed(Some(code)) = end { code } else { 0 };
        ctx.note(site, "sees the end", talk, [self.attempt.into(), code.into()]);
        ctx.model.client_ended(ctx.ms, talk, end);
    }

    fn speak(&mut self, ctx: &mut Ctx, site: Site, talk: u16) {
        while self.closing.is_none() && self.socket.waiting() < QUEUE_BYTES_MAX {
            let it = ctx.model.talk(talk);
            if it.client_should_close() {
                it.client_closed = true;
                self.socket.say_close(Some((CLIENT_CODE, "the client is done")));
                self.closing = Some(ctx.ms + CLOSE_PATIENCE);
                ctx.model.closes(ctx.ms, talk);
                ctx.note(site, "closes", talk, [self.attempt.into(), 0]);
                return ctx.wake(site, ctx.ms + CLOSE_PATIENCE);
            }
            let number = it.client.said;
            let next = usize::try_from(number).ok().and_then(|at| it.plan.up.get(at));
            let Some(&(at, len)) = next else { return };
            if self.since + at > ctx.ms {
                return ctx.wake(site, self.since + at);
            }
            it.client.said += 1;
            let (attempt, direction) = (self.attempt, Direction::Up);
            let message = Message { talk, attempt, direction, number, len };
            let split = ctx.rng_bool(10).then_some(len / 2);
            self.socket.say(&message.bytes(), split);
        }
    }
}
