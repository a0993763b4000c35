//! People's machines: how each finds a node, and what its application says. The browser's side of a
//! plain WebSocket and the driver of a resumable one are modelled; the session machine, the codec
//! and the framing are real.

mod plain;
mod resumable;
mod session;

use crate::ctx::Ctx;
use crate::event::Ms;
use crate::letter::Letter;
use crate::model::ClientEnd;
use crate::net::PipeId;
use crate::plan::Kind;
use crate::site::Site;
use plain::Plain;
use resumable::Resumable;

/// How long the gateway's answer is awaited before any node is tried.
const ASK_PATIENCE: Ms = 2_000;
/// What one socket of a client takes before it has to be read.
pub const CLIENT_WINDOW_BYTES: usize = 64 * 1024;

/// One client's machine.
#[derive(Debug)]
pub struct Client {
    site: Site,
    talk: u16,
    begins: Ms,
    finder: Finder,
    app: App,
    slow_until: Ms,
    is_over: bool,
}

#[derive(Debug)]
enum App {
    Plain(Box<Plain>),
    Resumable(Box<Resumable>),
}

/// Where to go: what the gateway says, or any node if it says nothing.
#[derive(Debug)]
pub struct Finder {
    site: Site,
    nodes: u8,
    asked: Option<Ms>,
    found: Vec<u8>,
}

impl Finder {
    /// Asks, unless an answer is awaited or there.
    pub fn ask(&mut self, ctx: &mut Ctx) {
        if self.asked.is_none() {
            self.asked = Some(ctx.ms);
            self.found.clear();
            ctx.post(self.site, Site::Gateway, Letter::Ask);
            ctx.wake(self.site, ctx.ms + ASK_PATIENCE);
        }
    }

    /// The nodes to try, once they are known; asks again next time.
    pub fn take(&mut self, ctx: &mut Ctx) -> Option<Vec<u8>> {
        self.ask(ctx);
        let waited = self.asked.is_some_and(|asked| asked + ASK_PATIENCE <= ctx.ms);
        if self.found.is_empty() && !waited {
            return None;
        }
        self.asked = None;
        if self.found.is_empty() {
            let first = ctx.rng_usize(self.nodes.into());
            let mut all: Vec<u8> = (0..self.nodes).collect();
            all.rotate_left(first);
            return Some(all);
        }
        Some(std::mem::take(&mut self.found))
    }
}

impl Client {
    /// A machine whose application opens its socket when the plan says so.
    #[must_use]
    pub fn new(index: u8, nodes: u8, kind: Kind, begins: Ms) -> Self {
        let (site, talk) = (Site::Client(index), u16::from(index));
        let app = match kind {
            Kind::Plain => App::Plain(Box::new(Plain::new(site, talk))),
            Kind::Resumable => App::Resumable(Box::new(Resumable::new(site, talk))),
        };
        let finder = Finder { site, nodes, asked: None, found: Vec::new() };
        Self { site, talk, begins, finder, app, slow_until: 0, is_over: false }
    }

    /// A letter has come.
    pub fn handle_letter(&mut self, letter: Letter) {
        if let Letter::Candidates(nodes) = letter {
            self.finder.found = nodes;
        }
    }

    /// Nothing is read until then.
    pub fn slow_down(&mut self, ctx: &mut Ctx, until: Ms) {
        self.slow_until = until;
        ctx.wake(self.site, until);
    }

    /// The client's system has another network now; sockets of the older one are of no use.
    pub fn roam(&mut self, ctx: &mut Ctx, is_told: bool) {
        for pipe in ctx.net.pipes_of(self.site) {
            ctx.deaden(pipe);
        }
        if is_told && !self.is_over {
            match &mut self.app {
                App::Plain(plain) => plain.lose(ctx),
                App::Resumable(resumable) => resumable.network_changed(ctx),
            }
        }
        ctx.wake(self.site, ctx.ms);
    }

    /// The pipe of the socket that counts.
    #[must_use]
    pub fn pipe(&self) -> Option<PipeId> {
        match &self.app {
            App::Plain(plain) => plain.pipe(),
            App::Resumable(resumable) => resumable.pipe(),
        }
    }

    /// The node that the socket that counts is at, or is to be.
    #[must_use]
    pub fn node(&self) -> Option<u8> {
        match &self.app {
            App::Plain(plain) => plain.node(),
            App::Resumable(_) => None,
        }
    }

    /// The process ends without a word.
    pub fn die(&mut self, ctx: &mut Ctx) {
        if !self.is_over {
            self.is_over = true;
            ctx.model.excuse(self.talk, "the client's process died");
            ctx.model.client_ended(ctx.ms, self.talk, ClientEnd::Died);
        }
    }

    /// A rogue sends an attach once more that this client sent before.
    pub fn attach_stale(&mut self, ctx: &mut Ctx) {
        if let App::Resumable(resumable) = &mut self.app {
            resumable.attach_stale(ctx, self.finder.nodes);
        }
    }

    /// The next attach goes out on two sockets.
    pub fn attach_twice(&mut self, ctx: &mut Ctx) {
        if let App::Resumable(resumable) = &mut self.app {
            resumable.attach_twice(ctx);
        }
    }

    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Moves everything that can move.
    pub fn pump(&mut self, ctx: &mut Ctx) {
        if self.is_over {
            return;
        }
        if self.begins > ctx.ms {
            return ctx.wake(self.site, self.begins);
        }
        let is_slow = self.slow_until > ctx.ms;
        self.is_over = match &mut self.app {
            App::Plain(plain) => plain.pump(ctx, &mut self.finder, is_slow),
            App::Resumable(resumable) => resumable.pump(ctx, &mut self.finder, is_slow),
        };
    }
}
