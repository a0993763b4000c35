//! A regional relay: the real trunk's end and the real relay machine of each WebSocket; its
//! listener, its admission and the pace of its drain are modelled.

mod client_socket;

use std::collections::BTreeMap;

use antipode_proto::session::Config;

use crate::ctx::{Ctx, NO_TALK};
use crate::event::Ms;
use crate::letter::Letter;
use crate::net::{Answer, End, Item, PipeId, Purpose};
use crate::site::Site;
use crate::trunk_end::Dialled;
use client_socket::ClientSocket;

/// How often a node reports.
const HEARTBEAT: Ms = 500;

/// One node's machine and the process on it.
#[derive(Debug)]
pub struct Node {
    site: Site,
    index: u8,
    cores: u8,
    lanes: u32,
    config: Config,
    /// Counts the processes that have run here; 0: none.
    lease: u64,
    process: Option<Process>,
    others: Vec<u8>,
}

#[derive(Debug)]
struct Process {
    trunks: Vec<Dialled>,
    sockets: BTreeMap<PipeId, ClientSocket>,
    /// When the rest is cut.
    drains: Option<Ms>,
    heartbeat: Ms,
}

impl Node {
    /// A machine with no process.
    #[must_use]
    pub fn new(index: u8, nodes: u8, cores: u8, lanes: u32, config: Config) -> Self {
        let others = (0..nodes).filter(|other| *other != index).collect();
        let site = Site::Node(index);
        Self { site, index, cores, lanes, config, lease: 0, process: None, others }
    }

    /// The run of the process, which differs from every other of this machine.
    #[must_use]
    pub fn run(&self) -> u64 {
        self.lease * 256 + u64::from(self.index) + 1
    }

    /// Whether a process runs.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.process.is_some()
    }

    /// Counts the processes.
    #[must_use]
    pub fn lease(&self) -> u64 {
        self.lease
    }

    /// A process starts.
    pub fn start(&mut self, ctx: &mut Ctx) {
        if self.process.is_some() {
            return;
        }
        self.lease += 1;
        ctx.note(self.site, "starts", NO_TALK, [self.lease, 0]);
        let dialled =
            |core| Dialled::new(self.site, Site::Core(core), self.run(), self.lanes, self.config);
        let trunks = (0..self.cores).map(dialled).collect();
        let sockets = BTreeMap::new();
        self.process = Some(Process { trunks, sockets, drains: None, heartbeat: ctx.ms });
        ctx.post(self.site, Site::Gateway, Letter::Introduce { lease: self.lease });
        ctx.wake(self.site, ctx.ms);
    }

    /// The process is gone: what it held is gone with it.
    pub fn stop(&mut self, ctx: &mut Ctx) {
        ctx.note(self.site, "stops", NO_TALK, [self.lease, 0]);
        self.process = None;
    }

    /// Whether the pipe has been accepted here.
    #[must_use]
    pub fn knows(&self, pipe: PipeId) -> bool {
        self.process.as_ref().is_some_and(|process| process.sockets.contains_key(&pipe))
    }

    /// A client dials in.
    pub fn accept(&mut self, ctx: &mut Ctx, pipe: PipeId) {
        let Some(process) = &mut self.process else { return };
        let Some(Item::Open(Purpose::Client { offers, target })) = ctx.read(pipe, End::Acceptor)
        else {
            return ctx.abort(pipe, End::Acceptor);
        };
        if process.drains.is_some() {
            ctx.send(pipe, End::Acceptor, Item::Answer(Answer::Refused { status: 503 }));
            return ctx.close(pipe, End::Acceptor);
        }
        match ClientSocket::open(ctx, &process.trunks, self.site, pipe, &offers, &target) {
            Some(socket) => {
                process.sockets.insert(pipe, socket);
            }
            None => {
                ctx.send(pipe, End::Acceptor, Item::Answer(Answer::Refused { status: 503 }));
                ctx.close(pipe, End::Acceptor);
            }
        }
    }

    /// Leaves: invites those who can go elsewhere, tells the others, and cuts the rest then.
    pub fn drain(&mut self, ctx: &mut Ctx, grace: Ms) {
        let Some(process) = &mut self.process else { return };
        if process.drains.is_some() {
            return;
        }
        ctx.note(self.site, "drains", NO_TALK, [grace, 0]);
        process.drains = Some(ctx.ms + grace);
        process.heartbeat = ctx.ms;
        for socket in process.sockets.values_mut() {
            let after = ctx.rng_below(grace / 2);
            let there = self.others[ctx.rng_usize(self.others.len())];
            socket.invite(ctx, after, grace, there);
        }
        ctx.wake(self.site, ctx.ms + grace);
    }

    /// Whether the drain is over and the process may end.
    #[must_use]
    pub fn is_drained(&self, now: Ms) -> bool {
        let Some(process) = &self.process else { return false };
        let is_empty = process.sockets.is_empty();
        process.drains.is_some_and(|cut| cut <= now && (is_empty || cut + 3_000 <= now))
    }

    /// Sessions held in the trunks.
    #[must_use]
    pub fn sessions(&self) -> usize {
        let trunks = self.process.iter().flat_map(|process| &process.trunks);
        trunks.map(|trunk| trunk.bare.sessions_count()).sum()
    }

    /// Moves everything that can move.
    pub fn pump(&mut self, ctx: &mut Ctx) {
        let Some(process) = &mut self.process else { return };
        process.trunks.iter_mut().for_each(|trunk| trunk.pump(ctx));
        let is_cut = process.drains.is_some_and(|cut| cut <= ctx.ms);
        process.sockets.retain(|_, socket| {
            if is_cut {
                socket.cut(ctx);
            }
            !socket.pump(ctx)
        });
        process.trunks.iter_mut().for_each(|trunk| trunk.flush(ctx));
        if process.heartbeat <= ctx.ms {
            process.heartbeat = ctx.ms + HEARTBEAT;
            let sessions = u32::try_from(process.sockets.len()).unwrap_or(u32::MAX);
            let heartbeat = Letter::Heartbeat {
                lease: self.lease,
                accepting: process.drains.is_none(),
                has_trunk: process.trunks.iter().any(Dialled::is_up),
                sessions,
            };
            ctx.post(self.site, Site::Gateway, heartbeat);
        }
        let next = process.heartbeat;
        ctx.wake(self.site, next);
    }
}
