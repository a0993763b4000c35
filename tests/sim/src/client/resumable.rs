//! The driver of a resumable client: which socket it speaks on, when it looks for another one, and
//! what it does with the frames that are not the session's.

mod hear;

use antipode_proto::resume::{self, CORE_PREFIX, FIRST_EPOCH, Frame, SUBPROTOCOL, Welcome};
use antipode_proto::session::Config;
use antipode_proto::trunk::v1::Attach;
use antipode_proto::trunk::v1::frame::Kind;
use bytes::{Bytes, BytesMut};

use super::session::AppSession;
use super::{CLIENT_WINDOW_BYTES, Finder};
use crate::backend::target;
use crate::ctx::Ctx;
use crate::event::Ms;
use crate::model::ClientEnd;
use crate::net::{Answer, Item, PipeId, Purpose};
use crate::site::Site;
use crate::socket::{Heard, Socket};

/// How long an upgrade, a welcome or the answer to an attach may take.
const PATIENCE: Ms = 5_000;
/// Silence after a ping at which another socket is looked for.
const SILENCE: Ms = 2_000;
/// The second candidate is tried so much later.
const RACE_STEP: Ms = 250;
/// What may wait for the socket before frames stay in the machine.
const QUEUE_BYTES_MAX: usize = 32 * 1024;

/// A resumable client.
#[derive(Debug)]
pub(super) struct Resumable {
    site: Site,
    talk: u16,
    attempt: u16,
    session: Option<AppSession>,
    welcome: Welcome,
    /// The socket that has the session, or had it last.
    current: Option<Attached>,
    /// Sockets that may become the current one.
    racing: Vec<Racing>,
    /// Asked for the session; answered it becomes the current one.
    asking: Option<Attached>,
    /// Candidates still to be dialled, and when.
    to_dial: Vec<(u8, Ms)>,
    /// When to look for a socket.
    again: Option<Ms>,
    tries: u32,
    invited: Option<u8>,
    last_attach: Option<Attach>,
    doubles: bool,
    strangers: Vec<Socket>,
}

#[derive(Debug)]
struct Racing {
    socket: Socket,
    attempt: u16,
    since: Ms,
    /// Upgraded, and a welcome is awaited.
    is_open: bool,
}

#[derive(Debug)]
struct Attached {
    socket: Socket,
    epoch: u64,
    since: Ms,
    heard: Ms,
    pinged: Ms,
    pings: u64,
}

impl Attached {
    fn new(socket: Socket, epoch: u64, now: Ms) -> Self {
        Self { socket, epoch, since: now, heard: now, pinged: now, pings: 0 }
    }
}

impl Resumable {
    pub(super) fn new(site: Site, talk: u16) -> Self {
        Self {
            site,
            talk,
            attempt: 0,
            session: None,
            welcome: Welcome::default(),
            current: None,
            racing: Vec::new(),
            asking: None,
            to_dial: Vec::new(),
            again: Some(0),
            tries: 0,
            invited: None,
            last_attach: None,
            doubles: false,
            strangers: Vec::new(),
        }
    }

    pub(super) fn pipe(&self) -> Option<PipeId> {
        self.current.as_ref().map(|attached| attached.socket.pipe)
    }

    /// The system says that the network is another one now: nothing is waited for.
    pub(super) fn network_changed(&mut self, ctx: &mut Ctx) {
        self.racing.drain(..).for_each(|mut racing| racing.socket.abort(ctx));
        self.drop_asking(ctx);
        self.lose_current(ctx);
        self.again = Some(ctx.ms);
    }

    /// An attach that was sent before comes once more, from somebody else.
    pub(super) fn attach_stale(&mut self, ctx: &mut Ctx, nodes: u8) {
        let Some(attach) = self.last_attach.clone() else { return };
        let node = u8::try_from(ctx.rng_usize(nodes.into())).expect("below a u8");
        let mut socket = self.dial(ctx, node, self.attempt);
        let epoch = attach.epoch;
        say(&mut socket, Frame::Attach(attach));
        ctx.note(self.site, "stale attach", self.talk, [epoch, 0]);
        self.strangers.push(socket);
    }

    pub(super) fn attach_twice(&mut self, ctx: &mut Ctx) {
        self.doubles = true;
        self.again = Some(ctx.ms);
        ctx.wake(self.site, ctx.ms);
    }

    /// Moves everything that can move; returns whether it is over.
    pub(super) fn pump(&mut self, ctx: &mut Ctx, finder: &mut Finder, is_slow: bool) -> bool {
        self.look(ctx, finder);
        self.race(ctx);
        self.listen_asking(ctx);
        self.listen_current(ctx, is_slow);
        self.listen_strangers(ctx);
        if let Some(session) = &mut self.session {
            session.pump(ctx, is_slow);
        }
        self.speak(ctx);
        self.check_time(ctx);
        self.is_over(ctx)
    }

    fn is_over(&mut self, ctx: &mut Ctx) -> bool {
        let Some(session) = &self.session else { return false };
        let Some(end) = session.end() else { return false };
        if let Some(attached) = &self.current
            && !attached.socket.is_flushed()
            && matches!(end, ClientEnd::Closed(_))
        {
            return false;
        }
        let code = match &end {
            ClientEnd::Closed(code) => code.unwrap_or(0).into(),
            ClientEnd::Refused(cause) => u64::try_from(*cause).unwrap_or(0),
            ClientEnd::Lost | ClientEnd::Died => 0,
        };
        ctx.note(self.site, "over", self.talk, [self.attempt.into(), code]);
        ctx.model.client_ended(ctx.ms, self.talk, end);
        self.racing.drain(..).for_each(|mut racing| racing.socket.abort(ctx));
        self.drop_asking(ctx);
        self.strangers.drain(..).for_each(|mut socket| socket.abort(ctx));
        if let Some(mut attached) = self.current.take() {
            attached.socket.say_close(Some((1000, "")));
            attached.socket.close(ctx);
        }
        true
    }

    /// Looks for a socket, if it is time.
    fn look(&mut self, ctx: &mut Ctx, finder: &mut Finder) {
        let waits = self.again.is_some_and(|again| again <= ctx.ms);
        if !waits || !self.racing.is_empty() || self.asking.is_some() || !self.to_dial.is_empty() {
            return;
        }
        let Some(mut nodes) = finder.take(ctx) else { return };
        self.again = None;
        if let Some(invited) = self.invited.take() {
            nodes.insert(0, invited);
        }
        let count = if self.session.is_some() { 2 } else { 1 };
        let staggered = nodes.into_iter().take(count).zip(0..);
        let now = ctx.ms;
        self.to_dial = staggered.map(|(node, step)| (node, now + step * RACE_STEP)).collect();
        if self.session.is_none() {
            let it = ctx.model.talk(self.talk);
            it.attempts += 1;
            self.attempt = it.attempts;
        }
    }

    fn race(&mut self, ctx: &mut Ctx) {
        let due = |(_, at): &mut (u8, Ms)| *at <= ctx.ms;
        let dialled: Vec<_> = self.to_dial.extract_if(.., due).collect();
        for (node, _) in dialled {
            ctx.note(self.site, "dials", self.talk, [self.attempt.into(), node.into()]);
            let (socket, attempt) = (self.dial(ctx, node, self.attempt), self.attempt);
            self.racing.push(Racing { socket, attempt, since: ctx.ms, is_open: false });
            ctx.wake(self.site, ctx.ms + PATIENCE);
        }
        if let Some((_, at)) = self.to_dial.first() {
            ctx.wake(self.site, *at);
        }
        for racing in std::mem::take(&mut self.racing) {
            self.race_one(ctx, racing);
        }
    }

    fn race_one(&mut self, ctx: &mut Ctx, mut racing: Racing) {
        if self.asking.is_some() {
            return racing.socket.abort(ctx);
        }
        loop {
            match racing.socket.hear(ctx) {
                Some(Heard::Item(Item::Answer(Answer::Upgraded { protocol }))) => {
                    if protocol != SUBPROTOCOL {
                        let what = format!("the upgrade chose {protocol:?}");
                        ctx.model.fail(ctx.ms, Some(self.talk), what);
                    }
                    racing.is_open = true;
                    if self.session.is_some() {
                        return self.ask(ctx, racing.socket);
                    }
                }
                Some(Heard::Message(bytes)) if racing.is_open => {
                    return self.welcomed(ctx, racing, bytes);
                }
                Some(Heard::Ping) => {}
                None if racing.since + PATIENCE > ctx.ms => return self.racing.push(racing),
                _ => {
                    racing.socket.abort(ctx);
                    return self.try_again(ctx);
                }
            }
        }
    }

    fn welcomed(&mut self, ctx: &mut Ctx, racing: Racing, bytes: Bytes) {
        let Ok(Frame::Welcome(welcome)) = resume::decode(bytes) else {
            return ctx.model.fail(ctx.ms, Some(self.talk), "no welcome came first");
        };
        ctx.note(self.site, "welcomed", self.talk, [racing.attempt.into(), 0]);
        ctx.model.talk(self.talk).established = Some(racing.attempt);
        let config = Config {
            resume_window: std::time::Duration::from_millis(welcome.window_ms),
            unacked_bytes_max: ctx.model.unacked_max,
            ..Config::default()
        };
        let session = AppSession::new(ctx, self.site, self.talk, racing.attempt, config);
        self.session = Some(session);
        self.welcome = welcome;
        self.tries = 0;
        self.current = Some(Attached::new(racing.socket, FIRST_EPOCH, ctx.ms));
    }

    /// Asks for the session over a socket that has won.
    fn ask(&mut self, ctx: &mut Ctx, socket: Socket) {
        self.to_dial.clear();
        let now = ctx.now();
        let Some(session) = &mut self.session else { return };
        session.machine.handle_link_down(now);
        session.machine.handle_link_up();
        let Some(Kind::Attach(attach)) = session.machine.poll_transmit() else { return };
        let attach = Attach { token: self.welcome.token.clone(), ..attach };
        ctx.note(self.site, "attaches", self.talk, [attach.epoch, attach.received]);
        let older = self.last_attach.as_ref().map_or(0, |attach| attach.epoch);
        if attach.epoch <= older {
            ctx.model.fail(ctx.ms, Some(self.talk), "an epoch was used twice");
        }
        self.last_attach = Some(attach.clone());
        let mut asking = Attached::new(socket, attach.epoch, ctx.ms);
        say(&mut asking.socket, Frame::Attach(attach));
        asking.socket.flush(ctx);
        if std::mem::take(&mut self.doubles) {
            self.attach_stale(ctx, 1);
        }
        self.asking = Some(asking);
        ctx.wake(self.site, ctx.ms + PATIENCE);
    }

    fn speak(&mut self, ctx: &mut Ctx) {
        let Some(attached) = &mut self.current else { return };
        if self.asking.is_none()
            && let Some(session) = &mut self.session
        {
            while attached.socket.waiting() < QUEUE_BYTES_MAX {
                let Some(kind) = session.machine.poll_transmit() else { break };
                match Frame::from_kind(kind) {
                    Some(frame) => say(&mut attached.socket, frame),
                    None => {
                        ctx.model.fail(ctx.ms, Some(self.talk), "the client's machine sent a head");
                    }
                }
            }
        }
        if attached.pinged + self.welcome.ping_ms <= ctx.ms {
            attached.pinged = ctx.ms;
            attached.pings += 1;
            say(&mut attached.socket, Frame::Ping(attached.pings));
            ctx.wake(self.site, ctx.ms + SILENCE);
        }
        attached.socket.flush(ctx);
        ctx.wake(self.site, attached.pinged + self.welcome.ping_ms);
    }

    /// A socket that is silent after a ping is kept, but another one is looked for.
    fn check_time(&mut self, ctx: &mut Ctx) {
        let is_busy = !self.racing.is_empty() || self.asking.is_some() || self.again.is_some();
        let Some(attached) = &self.current else { return };
        let is_silent = attached.heard < attached.pinged && attached.pinged + SILENCE <= ctx.ms;
        if is_silent && !is_busy && self.to_dial.is_empty() {
            ctx.note(self.site, "hears nothing", self.talk, [attached.socket.pipe.0.into(), 0]);
            self.again = Some(ctx.ms);
            ctx.wake(self.site, ctx.ms);
        }
    }

    fn try_again(&mut self, ctx: &mut Ctx) {
        self.tries += 1;
        let most = 100_u64 << self.tries.min(6);
        let at = ctx.ms + 1 + ctx.rng_below(most);
        self.again = Some(at);
        ctx.wake(self.site, at);
    }

    fn drop_asking(&mut self, ctx: &mut Ctx) {
        if let Some(mut asking) = self.asking.take() {
            asking.socket.abort(ctx);
        }
    }

    fn dial(&self, ctx: &mut Ctx, node: u8, attempt: u16) -> Socket {
        let mut offers = vec![SUBPROTOCOL.to_owned()];
        if self.session.is_some() {
            offers.push(format!("{CORE_PREFIX}{}", self.welcome.core));
        }
        let purpose = Purpose::Client { offers, target: target(self.talk, attempt) };
        let pipe = ctx.dial(self.site, Site::Node(node), purpose, CLIENT_WINDOW_BYTES);
        Socket::client(pipe, 13)
    }
}

fn say(socket: &mut Socket, frame: Frame) {
    let mut message = BytesMut::new();
    resume::encode(&frame, &mut message);
    socket.say(&message, None);
}
