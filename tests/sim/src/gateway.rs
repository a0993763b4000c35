//! The control plane: the real register with its health machines, and the real steering. The
//! streams that members attend are letters here.

use std::collections::BTreeMap;

use antipode_gateway::health::{Health, Thresholds};
use antipode_gateway::member::{Profile, Role};
use antipode_gateway::register::{Output, Register, Settings, StreamEnd};
use antipode_gateway::steer::{Policy, Question, steer};
use antipode_gateway::store::MemberRecord;
use antipode_proto::registry::v1::{Heartbeat, TunnelReport};

use crate::ctx::{Ctx, NO_TALK};
use crate::event::Ms;
use crate::letter::Letter;
use crate::site::Site;

/// A node that has gone is known to have within this time.
const NOTICED_MAX: Ms = 3_000;
/// Most nodes that a client is told of.
const CANDIDATES_MAX: usize = 3;

/// The gateway's machine and the process on it.
#[derive(Debug)]
pub struct Gateway {
    nodes: u8,
    cores: u8,
    starts: u64,
    process: Option<Process>,
    since: Ms,
}

#[derive(Debug)]
struct Process {
    register: Register,
    /// What each node's process attends under.
    leases: BTreeMap<u8, (u64, antipode_gateway::health::Lease)>,
}

impl Gateway {
    /// A machine with no process.
    #[must_use]
    pub fn new(nodes: u8, cores: u8) -> Self {
        Self { nodes, cores, starts: 0, process: None, since: 0 }
    }

    /// A process starts, with the store of the one before.
    pub fn start(&mut self, ctx: &mut Ctx) {
        if self.process.is_some() {
            return;
        }
        self.starts += 1;
        self.since = ctx.ms;
        ctx.note(Site::Gateway, "starts", NO_TALK, [self.starts, 0]);
        let settings = Settings {
            thresholds: Thresholds::default(),
            peer_retention: std::time::Duration::from_secs(86_400),
        };
        let records = (0..self.nodes).map(record).collect();
        let register = Register::new(settings, self.starts, records, ctx.now());
        self.process = Some(Process { register, leases: BTreeMap::new() });
    }

    /// The process is gone.
    pub fn stop(&mut self, ctx: &mut Ctx) {
        ctx.note(Site::Gateway, "stops", NO_TALK, [self.starts, 0]);
        self.process = None;
    }

    /// A letter has come.
    pub fn handle_letter(&mut self, ctx: &mut Ctx, from: Site, letter: Letter) {
        let Some(process) = &mut self.process else { return };
        let now = ctx.now();
        match (from, letter) {
            (Site::Node(node), Letter::Introduce { lease }) => process.introduce(ctx, node, lease),
            (Site::Node(node), Letter::Heartbeat { lease, accepting, has_trunk, sessions }) => {
                let known = process.leases.get(&node);
                if known.is_none_or(|(run, _)| *run < lease) {
                    process.introduce(ctx, node, lease);
                }
                let tunnels = vec![TunnelReport { trunk_up: has_trunk, ..TunnelReport::default() }];
                let heartbeat = Heartbeat { accepting, sessions, tunnels, ..Heartbeat::default() };
                if let Some((run, held)) = process.leases.get(&node)
                    && *run == lease
                {
                    process.register.handle_heartbeat(&name(node), *held, heartbeat, now);
                }
            }
            (Site::Node(node), Letter::StreamLost { lease }) => {
                if let Some((run, held)) = process.leases.get(&node)
                    && *run == lease
                {
                    let end = StreamEnd::Abrupt;
                    process.register.handle_stream_lost(&name(node), *held, end, now);
                }
            }
            (asks, Letter::Ask) => {
                let candidates = process.candidates(ctx);
                ctx.post(Site::Gateway, asks, Letter::Candidates(candidates));
            }
            (_, _) => {}
        }
        self.pump(ctx);
    }

    /// Runs what is due.
    pub fn pump(&mut self, ctx: &mut Ctx) {
        let cores = self.cores;
        let Some(process) = &mut self.process else { return };
        process.register.handle_timeout(ctx.now());
        while let Some(output) = process.register.poll_output() {
            match output {
                Output::Health { name, changed, .. } => {
                    let node = u64::from(number(&name));
                    ctx.note(Site::Gateway, changed.to.label(), NO_TALK, [node, 0]);
                }
                Output::Gone(gone) => {
                    let (node, run) = (number(&gone.member_id), run_of(&gone.run));
                    ctx.note(Site::Gateway, "says gone", NO_TALK, [node.into(), run]);
                    for core in 0..cores {
                        let gone = Letter::Gone { node, run };
                        ctx.post(Site::Gateway, Site::Core(core), gone);
                    }
                }
                Output::RosterOf(_) => {}
            }
        }
        if let Some((due, _)) = process.register.poll_timeout() {
            let due = ctx.ms_of(due);
            ctx.wake(Site::Gateway, due);
        }
        process.check(ctx, self.since);
    }
}

impl Process {
    fn introduce(&mut self, ctx: &Ctx, node: u8, lease: u64) {
        let profile = Profile {
            run: u128::from(lease * 256 + u64::from(node) + 1).to_be_bytes(),
            public_urls: vec![name(node)],
            ..Profile::default()
        };
        let now = ctx.now();
        if let Some(held) = self.register.handle_introduction(&name(node), profile, now) {
            self.leases.insert(node, (lease, held));
        }
    }

    fn candidates(&self, ctx: &mut Ctx) -> Vec<u8> {
        let snapshot = self.register.snapshot();
        let question = Question { position: None, candidates_max: CANDIDATES_MAX };
        let decision = steer(Policy::default(), &snapshot, question);
        let again = steer(Policy::default(), &snapshot, question);
        let names = |decision: &antipode_gateway::steer::Decision| {
            let places = decision.candidates.iter().map(|it| number(&it.place.name));
            places.collect::<Vec<u8>>()
        };
        let named = names(&decision);
        if named != names(&again) {
            ctx.model.fail(ctx.ms, None, "steering gave two answers to one question");
        }
        for node in &snapshot.nodes {
            let is_named = named.contains(&number(&node.place.name));
            let may_be = matches!(node.health, Health::Alive | Health::Suspect) && node.accepting;
            if is_named && !may_be {
                let what = format!("a {} node was named", node.health.label());
                ctx.model.fail(ctx.ms, None, what);
            }
        }
        named
    }

    /// Who is gone is known to be, in time.
    fn check(&self, ctx: &mut Ctx, since: Ms) {
        for node in &self.register.snapshot().nodes {
            let number = number(&node.place.name);
            let Some(gone) = ctx.model.gone.get(&number).copied() else { continue };
            // What a slow path still brings of it is heard as its own.
            let late = 8 * ctx.net.latency(Site::Node(number), Site::Gateway);
            let trusted = node.health == Health::Alive;
            if trusted && gone.max(since) + NOTICED_MAX + late < ctx.ms {
                let what = format!(
                    "node{number} has been gone for {} ms and is {}",
                    ctx.ms - gone,
                    node.health.label()
                );
                ctx.model.fail(ctx.ms, None, what);
            }
        }
    }
}

fn record(node: u8) -> MemberRecord {
    MemberRecord {
        member_id: name(node),
        name: name(node),
        role: Role::Node,
        wireguard_public_key: [node; 32],
        certificate_serial: String::new(),
        certificate_ends_unix_seconds: 0,
        enrolled_unix_seconds: 0,
        removed_unix_seconds: None,
        profile: None,
    }
}

fn name(node: u8) -> String {
    format!("node{node}")
}

fn number(name: &str) -> u8 {
    name.strip_prefix("node").and_then(|number| number.parse().ok()).unwrap_or(u8::MAX)
}

fn run_of(bytes: &[u8]) -> u64 {
    let low = bytes.last_chunk::<8>().copied().unwrap_or_default();
    u64::from_be_bytes(low)
}
