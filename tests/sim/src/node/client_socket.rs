//! One client's WebSocket at a node: what `node::session::websocket` does with tokio, done by hand
//! around the same machine.

use std::sync::Arc;

use antipode_node::config::SessionLimits;
use antipode_node::session::relay::{Answered, Relay};
use antipode_proto::resume::{CORE_PREFIX, SUBPROTOCOL};
use antipode_proto::trunk::v1::{Cause, GoAway, Header, RequestHead, ResponseHead, SessionKind};
use antipode_trunk::{Body, Delivery, SessionPort};
use bytes::Bytes;

use crate::backend::parse_target;
use crate::ctx::Ctx;
use crate::event::Ms;
use crate::net::{Answer, End, Item, PipeId};
use crate::site::Site;
use crate::trunk_end::Dialled;

/// How long the far end may take to end its direction after the client has gone.
const FAREWELL: Ms = 30_000;

/// A client's socket and its session in the trunk.
#[derive(Debug)]
pub(super) struct ClientSocket {
    here: Site,
    pipe: PipeId,
    talk: u16,
    port: SessionPort,
    stage: Stage,
    /// The answer chose `antipode.resume.v1`.
    is_resumable: bool,
    down_ended: bool,
    up_ended: bool,
}

#[derive(Debug)]
enum Stage {
    /// The backend's answer is awaited.
    Opening,
    Open(Box<Open>),
    /// The socket is gone; what still comes down is thrown away.
    Leaving(Ms),
}

#[derive(Debug)]
struct Open {
    relay: Relay,
    ready: bool,
    is_shut: bool,
    is_alive: bool,
}

impl ClientSocket {
    /// Opens a session for an upgrade; `None` if no trunk that it could take is up.
    pub(super) fn open(
        ctx: &mut Ctx,
        trunks: &[Dialled],
        here: Site,
        pipe: PipeId,
        offers: &[String],
        target: &str,
    ) -> Option<Self> {
        let hint = offers.iter().find_map(|offer| offer.strip_prefix(CORE_PREFIX));
        let of = |core: &str| core.strip_prefix("core").and_then(|index| index.parse().ok());
        let trunk = match hint {
            Some(core) => trunks.get(of(core).unwrap_or(usize::MAX)).filter(|it| it.is_up()),
            None => {
                let up: Vec<_> = trunks.iter().filter(|it| it.is_up()).collect();
                up.get(ctx.rng_usize(up.len())).copied()
            }
        }?;
        let header = Header {
            name: "sec-websocket-protocol".to_owned(),
            value: offers.join(", ").into_bytes().into(),
        };
        let head = RequestHead {
            kind: SessionKind::Websocket.into(),
            method: "GET".to_owned(),
            target: target.to_owned(),
            headers: if offers.is_empty() { Vec::new() } else { vec![header] },
            answered_early: hint.is_some(),
            resumable: hint.is_some(),
            ..RequestHead::default()
        };
        let port = trunk.bare.open(head)?;
        let talk = parse_target(target).map_or(0, |(talk, _)| talk);
        ctx.note(here, "session opens", talk, [pipe.0.into(), port.id()]);
        let (stage, is_resumable) = (Stage::Opening, false);
        let (down_ended, up_ended) = (false, false);
        let mut socket = Self { here, pipe, talk, port, stage, is_resumable, down_ended, up_ended };
        if hint.is_some() {
            socket.answer(ctx, SUBPROTOCOL, Answered::Early);
        }
        Some(socket)
    }

    /// The node leaves: those who can are invited elsewhere, the others are told to go.
    pub(super) fn invite(&mut self, ctx: &mut Ctx, after: Ms, grace: Ms, there: u8) {
        if self.is_resumable {
            let url = format!("node{there}");
            let token = Bytes::new();
            self.port.invite(GoAway { url, after_ms: after, grace_ms: grace, token });
        } else if let Stage::Open(open) = &mut self.stage {
            open.relay.handle_drain(ctx.now() + std::time::Duration::from_millis(after));
            ctx.wake(self.here, ctx.ms + after);
        }
    }

    /// The grace is over.
    pub(super) fn cut(&mut self, ctx: &Ctx) {
        if let Stage::Open(open) = &mut self.stage {
            open.relay.handle_drain(ctx.now());
        }
    }

    /// Moves everything that can move; returns whether the socket is over.
    pub(super) fn pump(&mut self, ctx: &mut Ctx) -> bool {
        if let Stage::Opening = self.stage
            && self.pump_opening(ctx)
        {
            return true;
        }
        if let Stage::Open(_) = self.stage
            && self.pump_open(ctx)
        {
            return true;
        }
        self.port.look(|machine| ctx.model.check_held(ctx.ms, self.talk, machine));
        let Stage::Leaving(until) = self.stage else { return false };
        self.pump_leaving(ctx, until)
    }

    fn pump_opening(&mut self, ctx: &mut Ctx) -> bool {
        match self.port.try_deliver() {
            Ok(Some(Delivery { seq, body: Body::Response(head) })) if head.status == 101 => {
                self.port.consumed(seq);
                let chosen = protocol(&head);
                self.answer(ctx, &chosen, Answered::AfterBackend);
                return false;
            }
            Ok(None) => {}
            Ok(Some(_)) | Err(_) => {
                ctx.send(self.pipe, End::Acceptor, Item::Answer(Answer::Refused { status: 502 }));
                ctx.close(self.pipe, End::Acceptor);
                return true;
            }
        }
        let Some(_gone) = ctx.read(self.pipe, End::Acceptor) else { return false };
        self.port.reset(Cause::ClientLost, "the client has gone");
        ctx.close(self.pipe, End::Acceptor);
        true
    }

    fn answer(&mut self, ctx: &mut Ctx, protocol: &str, answered: Answered) {
        self.is_resumable = protocol == SUBPROTOCOL;
        let protocol = protocol.to_owned();
        ctx.send(self.pipe, End::Acceptor, Item::Answer(Answer::Upgraded { protocol }));
        let relay = Relay::new(Arc::new(SessionLimits::default()), answered, false, ctx.now());
        let open = Open { relay, ready: false, is_shut: false, is_alive: true };
        self.stage = Stage::Open(Box::new(open));
    }

    fn pump_open(&mut self, ctx: &mut Ctx) -> bool {
        loop {
            self.send_up(ctx);
            let Stage::Open(open) = &mut self.stage else { return false };
            let now = ctx.now();
            let due = open.relay.poll_timeout();
            if due.is_some_and(|due| due <= now) {
                if open.waits_for_trunk() {
                    open.relay.handle_pause(now);
                }
                open.relay.handle_timeout(now);
                continue;
            }
            if open.relay.is_over() {
                return self.leave(ctx);
            }
            let moved = self.deliver(ctx) | self.move_socket(ctx);
            if !moved {
                if let Some(due) = due {
                    let due = ctx.ms_of(due);
                    ctx.wake(self.here, due);
                }
                return false;
            }
        }
    }

    fn send_up(&mut self, ctx: &Ctx) {
        let Stage::Open(open) = &mut self.stage else { return };
        let now = ctx.now();
        while open.relay.has_input() && (open.ready || open.relay.is_up_ended()) {
            let Some(body) = open.relay.poll_up(now) else { break };
            open.ready &= !matches!(body, Body::Chunk(_));
            self.up_ended |= body.is_end();
            self.port.send(body).ok();
        }
        if let Some(end) = open.relay.poll_end() {
            self.up_ended = true;
            self.port.send(end).ok();
        }
        while let Some(seq) = open.relay.poll_consumed() {
            self.port.consumed(seq);
        }
    }

    fn deliver(&mut self, ctx: &mut Ctx) -> bool {
        let Stage::Open(open) = &mut self.stage else { return false };
        let now = ctx.now();
        if !open.is_alive {
            return false;
        }
        let mut moved = false;
        if !self.down_ended && open.relay.wants_delivery() {
            match self.port.try_deliver() {
                Ok(Some(Delivery { seq, body })) => {
                    self.down_ended = body.is_end();
                    if let Err(error) = open.relay.handle_delivery(seq, body, now) {
                        let what = format!("the core makes no WebSocket: {error}");
                        ctx.model.fail(ctx.ms, Some(self.talk), what);
                    }
                    moved = true;
                }
                Ok(None) => {}
                Err(ended) => {
                    let cause = i32::from(ended.cause);
                    let cause = u64::try_from(cause).unwrap_or(0);
                    ctx.note(self.here, "session reset", self.talk, [self.pipe.0.into(), cause]);
                    open.relay.handle_reset(ended.cause, now);
                    open.is_alive = false;
                    return true;
                }
            }
        }
        if open.waits_for_trunk() && self.port.try_ready().unwrap_or(false) {
            open.ready = true;
            moved = true;
        }
        moved
    }

    fn move_socket(&mut self, ctx: &mut Ctx) -> bool {
        let Stage::Open(open) = &mut self.stage else { return false };
        let now = ctx.now();
        let room = ctx.net.room(self.pipe, End::Acceptor);
        let wants_input = open.relay.wants_input();
        let wants_shutdown = open.relay.wants_shutdown() && !open.is_shut;
        let (out, input) = open.relay.socket_buffers();
        let len = out.len().min(room).min(16 * 1024);
        if len > 0 {
            let bytes = Bytes::copy_from_slice(&out[..len]);
            ctx.send(self.pipe, End::Acceptor, Item::Bytes(bytes));
            open.relay.handle_written(len, now);
            return true;
        }
        if out.is_empty() && wants_shutdown {
            open.is_shut = true;
            ctx.send(self.pipe, End::Acceptor, Item::Fin);
            return true;
        }
        if !wants_input {
            return false;
        }
        match ctx.read(self.pipe, End::Acceptor) {
            None => return false,
            Some(Item::Bytes(bytes)) => {
                input.extend_from_slice(&bytes);
                open.relay.handle_read(now);
            }
            Some(Item::Fin | Item::Reset | Item::Open(_) | Item::Answer(_)) => {
                open.relay.handle_eof();
            }
        }
        true
    }

    fn leave(&mut self, ctx: &mut Ctx) -> bool {
        self.send_up(ctx);
        let Stage::Open(open) = &self.stage else { return true };
        let cause = u64::try_from(i32::from(open.relay.cause())).unwrap_or(0);
        ctx.note(self.here, "socket over", self.talk, [self.pipe.0.into(), cause]);
        let is_alive = open.is_alive;
        ctx.close(self.pipe, End::Acceptor);
        if !is_alive {
            return true;
        }
        self.stage = Stage::Leaving(ctx.ms + FAREWELL);
        ctx.wake(self.here, ctx.ms + FAREWELL);
        false
    }

    fn pump_leaving(&mut self, ctx: &mut Ctx, until: Ms) -> bool {
        while !self.down_ended {
            match self.port.try_deliver() {
                Ok(Some(Delivery { seq, body })) => {
                    self.down_ended = body.is_end();
                    self.port.consumed(seq);
                }
                Ok(None) => break,
                Err(_) => return true,
            }
        }
        if until <= ctx.ms {
            self.port.reset(Cause::BackendTimeout, "the backend did not end its direction");
        }
        self.down_ended || until <= ctx.ms
    }
}

impl Drop for ClientSocket {
    fn drop(&mut self) {
        if !(self.up_ended && self.down_ended) {
            self.port.reset(Cause::ClientLost, "the client has gone");
        }
    }
}

impl Open {
    fn waits_for_trunk(&self) -> bool {
        self.relay.has_input() && !self.ready && !self.relay.is_up_ended()
    }
}

fn protocol(head: &ResponseHead) -> String {
    let header = head.headers.iter().find(|header| header.name == "sec-websocket-protocol");
    header.map_or_else(String::new, |it| String::from_utf8_lossy(&it.value).into_owned())
}
