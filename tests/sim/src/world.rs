//! The hosts of one world, and the loop that lets one thing happen after another.

mod trouble;

use std::collections::BTreeSet;
use std::time::Duration;

use antipode_proto::session::Config;
use antipode_runtime::clock::{self, virtual_time};

use crate::backend::Backend;
use crate::client::Client;
use crate::core::Core;
use crate::ctx::Ctx;
use crate::event::{Event, Ms};
use crate::gateway::Gateway;
use crate::letter::Letter;
use crate::model::{Failure, Model};
use crate::net::{End, PipeId, Way};
use crate::node::Node;
use crate::plan::Plan;
use crate::site::Site;

/// How long after the last fault everybody must have come to an end: the longest window, twice,
/// and time for what follows from it.
const PATIENCE: Ms = 400_000;
/// Events in a world; more is a loop that makes no progress.
const EVENTS_MAX: u64 = 3_000_000;

/// Lines of history around a failure.
const TAIL_LINES: usize = 60;

/// What came of a world.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The first thing that was not as it must be.
    pub failure: Option<Failure>,
    /// One number for everything that happened.
    pub hash: u64,
    /// How much happened.
    pub events: u64,
    /// Virtual time it took.
    pub lasted: Ms,
    /// The history around the failure.
    pub tail: String,
    /// Talks that ended with everything delivered, and those that a fault excused.
    pub whole: usize,
    /// Talks that a fault excused from it.
    pub excused: usize,
}

/// One world.
#[derive(Debug)]
pub struct World {
    plan: Plan,
    ctx: Ctx,
    gateway: Gateway,
    nodes: Vec<Node>,
    cores: Vec<Core>,
    backend: Backend,
    clients: Vec<Client>,
    frozen: BTreeSet<Site>,
}

/// Runs one world from beginning to end.
#[must_use]
pub fn run(plan: &Plan) -> Outcome {
    run_telling(plan, TAIL_LINES)
}

/// Runs one world, and keeps so many lines of its history should it fail.
#[must_use]
pub fn run_telling(plan: &Plan, lines: usize) -> Outcome {
    let time = virtual_time::start();
    let began = clock::now();
    let mut world = World::new(plan.clone());
    world.begin();
    while let Some((at, event)) = world.ctx.queue.take() {
        time.advance_to(began + Duration::from_millis(at));
        world.ctx.ms = at;
        world.handle(event);
        world.check_progress();
        if world.ctx.model.failure.is_some() || world.is_over() {
            break;
        }
    }
    world.finish(lines)
}

impl World {
    fn new(plan: Plan) -> Self {
        let config = Config { unacked_bytes_max: plan.unacked_bytes_max, ..Config::default() };
        let mut model = Model::new(plan.talks.clone());
        model.unacked_max = config.unacked_bytes_max;
        model.credit_max = config.credit_bytes_max;
        let mut ctx = Ctx::new(plan.seed, clock::now(), model);
        let (nodes, cores) = (plan.nodes, plan.cores);
        for node in 0..nodes {
            for core in 0..cores {
                let (latency, loss) = (plan.trunk_latency, plan.trunk_loss_percent);
                let jitter = latency / 10 + 1;
                ctx.net.set_path(Site::Node(node), Site::Core(core), latency, jitter, loss);
            }
            ctx.net.set_path(Site::Node(node), Site::Gateway, 30, 10, 0);
        }
        let clients = plan.talks.iter().zip(0..);
        let clients =
            clients.map(|(talk, index)| Client::new(index, nodes, talk.kind, talk.begins));
        Self {
            gateway: Gateway::new(nodes, cores),
            nodes: (0..nodes).map(|it| Node::new(it, nodes, cores, plan.lanes, config)).collect(),
            cores: (0..cores).map(|it| Core::new(it, plan.lanes, config)).collect(),
            backend: Backend::default(),
            clients: clients.collect(),
            frozen: BTreeSet::new(),
            plan,
            ctx,
        }
    }

    fn begin(&mut self) {
        self.gateway.start(&mut self.ctx);
        self.cores.iter_mut().for_each(|core| core.start(&mut self.ctx));
        self.nodes.iter_mut().for_each(|node| node.start(&mut self.ctx));
        for (index, (at, _)) in self.plan.faults.iter().enumerate() {
            self.ctx.queue.put(*at, Event::Fault(index));
        }
        for index in 0..self.clients.len() {
            let site = Site::Client(u8::try_from(index).expect("a few clients"));
            self.ctx.wake(site, self.plan.talks[index].begins);
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Arrive(pipe, way) => self.handle_arrive(pipe, way),
            Event::Room(pipe, way, len) => {
                if let Some(site) = self.ctx.handle_room(pipe, way, len) {
                    self.pump(site);
                }
            }
            Event::Wake(site) => {
                self.ctx.woken(site);
                self.pump(site);
            }
            Event::Letter { from, to, letter } => self.handle_letter(from, to, letter),
            Event::Fault(index) => self.begin_fault(index),
            Event::Repair(repair) => self.repair(repair),
        }
    }

    fn handle_arrive(&mut self, pipe: PipeId, way: Way) {
        let Some(site) = self.ctx.handle_arrive(pipe, way) else { return };
        if way == Way::Forth && !self.frozen.contains(&site) {
            self.accept(site, pipe);
        }
        self.pump(site);
    }

    /// A pipe that is new to the process at its end.
    fn accept(&mut self, site: Site, pipe: PipeId) {
        if !self.ctx.is_new(pipe) {
            return;
        }
        let ctx = &mut self.ctx;
        match site {
            Site::Node(node) => self.nodes[usize::from(node)].accept(ctx, pipe),
            Site::Core(core) => self.cores[usize::from(core)].accept(ctx, pipe),
            Site::Backend => self.backend.accept(ctx, pipe),
            Site::Gateway | Site::Client(_) => ctx.abort(pipe, End::Acceptor),
        }
    }

    fn handle_letter(&mut self, from: Site, to: Site, letter: Letter) {
        if self.frozen.contains(&to) {
            // It waits in the kernel.
            let at = self.ctx.ms + 100;
            return self.ctx.queue.put(at, Event::Letter { from, to, letter });
        }
        match (to, letter) {
            (Site::Gateway, letter) => self.gateway.handle_letter(&mut self.ctx, from, letter),
            (Site::Core(core), Letter::Gone { node, run }) => {
                self.cores[usize::from(core)].handle_gone(&mut self.ctx, node, run);
            }
            (Site::Node(node), Letter::Drain { grace }) => {
                self.nodes[usize::from(node)].drain(&mut self.ctx, grace);
            }
            (Site::Client(client), letter) => {
                self.clients[usize::from(client)].handle_letter(letter);
                self.pump(to);
            }
            (Site::Node(_) | Site::Core(_) | Site::Backend, _) => {}
        }
    }

    fn pump(&mut self, site: Site) {
        if self.frozen.contains(&site) || self.ctx.net.is_off(site) {
            return;
        }
        let ctx = &mut self.ctx;
        match site {
            Site::Gateway => self.gateway.pump(ctx),
            Site::Node(node) => {
                self.nodes[usize::from(node)].pump(ctx);
                self.end_drained(node);
            }
            Site::Core(core) => self.cores[usize::from(core)].pump(ctx),
            Site::Backend => self.backend.pump(ctx),
            Site::Client(client) => self.clients[usize::from(client)].pump(ctx),
        }
    }

    fn check_progress(&mut self) {
        let (ms, calm) = (self.ctx.ms, self.plan.calm);
        if ms > calm + 2 * PATIENCE {
            let (talk, what) = self
                .ctx
                .model
                .waiting()
                .map_or_else(|| (None, self.left_over()), |(talk, what)| (Some(talk), what));
            self.ctx.model.fail(ms, talk, what);
        }
        if self.ctx.queue.count() > EVENTS_MAX {
            self.ctx.model.fail(ms, None, "more and more happens, and nothing comes of it");
        }
    }

    /// What is left in which process, for a report.
    fn left_over(&self) -> String {
        let nodes: Vec<_> = self.nodes.iter().map(Node::sessions).collect();
        let cores: Vec<_> = self.cores.iter().map(Core::sessions).collect();
        format!("sessions are left over: at nodes {nodes:?}, at cores {cores:?}")
    }

    /// Nobody waits for anything, and nothing is left in any process.
    fn is_over(&self) -> bool {
        let is_calm = self.ctx.ms > self.plan.calm && self.ctx.model.is_over();
        is_calm
            && self.nodes.iter().all(|node| node.sessions() == 0)
            && self.cores.iter().all(|core| core.sessions() == 0)
    }

    fn finish(mut self, lines: usize) -> Outcome {
        if self.ctx.model.failure.is_none() {
            self.ctx.model.check_finally(self.ctx.ms);
        }
        let failure = self.ctx.model.failure.take();
        let talk = failure.as_ref().and_then(|failure| failure.talk);
        let talks = &self.ctx.model.talks;
        let excused = talks.iter().filter(|talk| talk.excuse.is_some()).count();
        Outcome {
            tail: failure.as_ref().map_or_else(String::new, |_| self.ctx.history.tail(talk, lines)),
            failure,
            hash: self.ctx.history.hash(),
            events: self.ctx.queue.count(),
            lasted: self.ctx.ms,
            whole: talks.len() - excused,
            excused,
        }
    }
}
