//! What each fault does to a world, and whom it excuses.

use super::World;
use crate::ctx::NO_TALK;
use crate::event::{Event, Ms, Repair};
use crate::letter::Letter;
use crate::net::{End, Going};
use crate::plan::{Broken, Fault, Kind};
use crate::site::Site;

/// Trouble of a plain client, or of a process, for longer than this may end a plain socket: a close
/// is awaited for 10 s, a stalled writer for 30 s.
const PLAIN_CUT_MAX: Ms = 8_000;
/// A cut trunk for longer than this may end sessions: their window is 120 s.
const TRUNK_CUT_MAX: Ms = 110_000;

impl World {
    pub(super) fn begin_fault(&mut self, index: usize) {
        let fault = self.plan.faults[index].1;
        let number = u64::try_from(index).unwrap_or(u64::MAX);
        self.ctx.note(Site::Gateway, "fault", NO_TALK, [number, 0]);
        match fault {
            Fault::Cut(a, b, cut, lasts) => {
                self.excuse_cut(a, b, lasts);
                self.ctx.set_cut(a, b, cut, true);
                self.later(lasts, Repair::Heal(a, b, cut));
            }
            Fault::Slow(a, b, by, loss, lasts) => {
                self.excuse_cut(a, b, lasts);
                self.ctx.net.set_slower(a, b, by, loss);
                self.later(lasts, Repair::Smooth(a, b));
            }
            Fault::BreakLane(node, core) => self.break_lanes(node, core, 1, false),
            Fault::BreakTrunk(node, core, quiet) => {
                self.break_lanes(node, core, usize::MAX, quiet);
            }
            Fault::BreakSocket(client, how) => self.break_socket(client, how),
            Fault::Roam(client, told) => {
                self.excuse_plain(client, "the client roamed");
                self.clients[usize::from(client)].roam(&mut self.ctx, told);
            }
            Fault::Freeze(site, lasts) => self.freeze(site, lasts),
            Fault::KillClient(client) => {
                self.clients[usize::from(client)].die(&mut self.ctx);
                self.ctx.drop_ends(Site::Client(client), Going::Killed);
            }
            Fault::Kill(site, down) => self.stop(site, Going::Killed, down),
            Fault::PowerOff(site, down) => self.stop(site, Going::Silent, down),
            Fault::Restart(node, grace) => {
                self.excuse_at(node, "its node was restarted");
                self.nodes[usize::from(node)].drain(&mut self.ctx, grace);
            }
            Fault::Drain(node, grace) => {
                self.excuse_at(node, "its node was drained");
                let drain = Letter::Drain { grace };
                self.ctx.post(Site::Gateway, Site::Node(node), drain);
            }
            Fault::SlowBackend(talk, lasts) => {
                let until = self.ctx.ms + lasts;
                self.backend.slow_down(&mut self.ctx, talk, until);
            }
            Fault::SlowClient(client, lasts) => {
                let until = self.ctx.ms + lasts;
                if lasts > PLAIN_CUT_MAX {
                    self.excuse_plain(client, "the client read too slowly");
                }
                self.clients[usize::from(client)].slow_down(&mut self.ctx, until);
            }
            Fault::HandOver(core) => self.hand_over(core),
            Fault::StaleAttach(client) => {
                self.clients[usize::from(client)].attach_stale(&mut self.ctx);
            }
            Fault::DoubleAttach(client) => {
                self.clients[usize::from(client)].attach_twice(&mut self.ctx);
            }
        }
    }

    pub(super) fn repair(&mut self, repair: Repair) {
        match repair {
            Repair::Heal(a, b, cut) => self.ctx.set_cut(a, b, cut, false),
            Repair::Smooth(a, b) => self.ctx.net.set_slower(a, b, 0, 0),
            Repair::Start(site) => self.start(site),
            Repair::Thaw(site) => {
                self.frozen.remove(&site);
                for pipe in self.ctx.net.pipes_of(site) {
                    if self.ctx.net.far(pipe, End::Dialler) == Some(site) {
                        self.accept(site, pipe);
                    }
                }
                self.pump(site);
            }
        }
    }

    /// A node whose drain is over ends, and a new process takes its place.
    pub(super) fn end_drained(&mut self, node: u8) {
        let it = &mut self.nodes[usize::from(node)];
        if !it.is_drained(self.ctx.ms) {
            return;
        }
        let site = Site::Node(node);
        let lease = it.lease();
        it.stop(&mut self.ctx);
        self.ctx.drop_ends(site, Going::Killed);
        self.ctx.post(site, Site::Gateway, Letter::StreamLost { lease });
        self.ctx.model.gone.insert(node, self.ctx.ms);
        self.later(500, Repair::Start(site));
    }

    fn start(&mut self, site: Site) {
        self.ctx.set_off(site, false);
        match site {
            Site::Gateway => self.gateway.start(&mut self.ctx),
            Site::Node(node) => {
                self.ctx.model.gone.remove(&node);
                self.nodes[usize::from(node)].start(&mut self.ctx);
            }
            Site::Core(core) => self.cores[usize::from(core)].start(&mut self.ctx),
            Site::Backend | Site::Client(_) => {}
        }
        self.pump(site);
    }

    fn stop(&mut self, site: Site, going: Going, down: Ms) {
        let is_up = match site {
            Site::Node(node) => self.nodes[usize::from(node)].is_up(),
            Site::Core(core) => self.cores[usize::from(core)].is_up(),
            Site::Gateway | Site::Backend | Site::Client(_) => true,
        };
        if !is_up {
            return;
        }
        match site {
            Site::Gateway => self.gateway.stop(&mut self.ctx),
            Site::Node(node) => {
                self.excuse_at(node, "its node died");
                let it = &mut self.nodes[usize::from(node)];
                let lease = it.lease();
                it.stop(&mut self.ctx);
                self.ctx.model.gone.insert(node, self.ctx.ms);
                if going == Going::Killed {
                    self.ctx.post(site, Site::Gateway, Letter::StreamLost { lease });
                }
            }
            Site::Core(core) => {
                self.excuse_all("its core died");
                self.cores[usize::from(core)].stop(&mut self.ctx);
            }
            Site::Backend | Site::Client(_) => return,
        }
        self.ctx.drop_ends(site, going);
        self.ctx.set_off(site, going == Going::Silent);
        self.later(down, Repair::Start(site));
    }

    fn freeze(&mut self, site: Site, lasts: Ms) {
        if let Site::Client(client) = site {
            if lasts > PLAIN_CUT_MAX {
                self.excuse_plain(client, "the client stood still for long");
            }
        } else if lasts > PLAIN_CUT_MAX {
            self.excuse_all_plain("a process stood still for long");
        }
        if lasts > TRUNK_CUT_MAX {
            self.excuse_all_plain("a process stood still for longer than the window");
        }
        self.frozen.insert(site);
        self.later(lasts, Repair::Thaw(site));
    }

    fn break_lanes(&mut self, node: u8, core: u8, count: usize, quiet: bool) {
        let pipes = self.ctx.net.pipes_between(Site::Node(node), Site::Core(core));
        for pipe in pipes.into_iter().take(count) {
            if quiet {
                self.ctx.deaden_one(pipe, End::Acceptor);
            } else {
                self.ctx.cut_stream(pipe);
            }
        }
    }

    fn break_socket(&mut self, client: u8, how: Broken) {
        self.excuse_plain(client, "its socket was broken");
        let Some(pipe) = self.clients[usize::from(client)].pipe() else { return };
        match how {
            Broken::Reset => self.ctx.cut_stream(pipe),
            Broken::HalfOpen => self.ctx.deaden(pipe),
        }
    }

    fn hand_over(&mut self, core: u8) {
        self.excuse_all_plain("its core handed over");
        self.cores[usize::from(core)].hand_over(&mut self.ctx);
    }

    fn later(&mut self, after: Ms, repair: Repair) {
        self.ctx.queue.put(self.ctx.ms + after, Event::Repair(repair));
    }

    fn excuse_cut(&mut self, a: Site, b: Site, lasts: Ms) {
        match (a, b) {
            (Site::Client(client), _) | (_, Site::Client(client)) if lasts > PLAIN_CUT_MAX => {
                self.excuse_plain(client, "its way to the node was cut for long");
            }
            (Site::Node(_), Site::Core(_)) if lasts > TRUNK_CUT_MAX => {
                self.excuse_all_plain("the trunk was cut for longer than the window");
            }
            _ => {}
        }
    }

    /// Plain clients at this node, or about to be, may lose their sockets.
    fn excuse_at(&mut self, node: u8, why: &'static str) {
        for client in 0..self.clients.len() {
            if self.clients[client].node() == Some(node) {
                let client = u8::try_from(client).expect("a few clients");
                self.excuse_plain(client, why);
            }
        }
    }

    fn excuse_plain(&mut self, client: u8, why: &'static str) {
        let is_plain = self.plan.talks[usize::from(client)].kind == Kind::Plain;
        let began = self.clients[usize::from(client)].pipe().is_some();
        if is_plain && began {
            self.ctx.model.excuse(client.into(), why);
        }
    }

    fn excuse_all_plain(&mut self, why: &'static str) {
        for client in 0..self.clients.len() {
            self.excuse_plain(u8::try_from(client).expect("a few clients"), why);
        }
    }

    /// A core that dies takes with it what it held, and says so.
    fn excuse_all(&mut self, why: &'static str) {
        for client in 0..self.clients.len() {
            let it = &self.ctx.model.talks[client];
            if it.attempts > 0 {
                let talk = u16::try_from(client).expect("a few clients");
                self.ctx.model.excuse(talk, why);
            }
        }
    }
}
