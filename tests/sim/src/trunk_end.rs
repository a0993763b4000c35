//! The two ends of a trunk: the real sessions, queues and batches, and a thin model of who dials
//! lanes when. Batches cross as the bytes that gRPC would carry.

use antipode_proto::session::Config;
use antipode_proto::trunk::v1::Batch;
use antipode_trunk::bare::Bare;
use antipode_trunk::{Metrics, NodeIdentity};
use bytes::Bytes;
use prost::Message;

use crate::ctx::{Ctx, NO_TALK};
use crate::event::Ms;
use crate::net::{Answer, End, Item, PipeId, Purpose};
use crate::site::Site;

/// What one lane may have under way: HTTP/2's window.
const LANE_WINDOW_BYTES: usize = 4 * 1024 * 1024;
/// How often an idle trunk shows that it lives.
const KEEP_ALIVE: Ms = 500;
/// Silence after which a node dials beside what it has.
const SILENCE: Ms = 1_500;
/// How often it does so.
const DIAL_BESIDE: Ms = 500;
/// How long a lane's greeting may take.
const GREETING_PATIENCE: Ms = 5_000;
/// How often each lane shows that it lives, whatever the others do: HTTP/2's pings.
const LANE_KEEP_ALIVE: Ms = 5_000;
/// Silence after which a lane is taken for dead.
const LANE_SILENCE: Ms = 10_500;
/// A run as it travels: the number of a process, in 16 bytes.
fn run_bytes(run: u64) -> [u8; 16] {
    u128::from(run).to_be_bytes()
}

/// A node's end of the trunk to one core.
#[derive(Debug)]
pub struct Dialled {
    here: Site,
    there: Site,
    run: u64,
    /// The real thing.
    pub bare: Bare,
    lanes: Vec<Lane>,
    heard: Ms,
    said: Ms,
    kept_alive: Ms,
    dialled: Ms,
}

#[derive(Debug, Default)]
struct Lane {
    /// What carries it.
    pipe: Option<PipeId>,
    /// Dialled, and not yet greeted: with the time of the dialling.
    trying: Vec<(PipeId, Ms)>,
    again: Ms,
    heard: Ms,
}

impl Dialled {
    /// A trunk that is to be dialled.
    #[must_use]
    pub fn new(here: Site, there: Site, run: u64, lanes: u32, config: Config) -> Self {
        Self {
            here,
            there,
            run,
            bare: Bare::node(lanes, config, Metrics::default()),
            lanes: (0..lanes).map(|_| Lane::default()).collect(),
            heard: 0,
            said: 0,
            kept_alive: 0,
            dialled: 0,
        }
    }

    /// Whether any lane is up.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.bare.lanes_up() > 0
    }

    /// Dials what is to be dialled, reads what has come, and writes what there is.
    pub fn pump(&mut self, ctx: &mut Ctx) {
        for index in 0..self.lanes.len() {
            self.read_lane(ctx, index);
        }
        self.bare.handle_timeout(ctx.now());
        self.dial(ctx);
    }

    /// Writes what the sessions have for their lanes.
    pub fn flush(&mut self, ctx: &mut Ctx) {
        for (index, lane) in (0..).zip(&self.lanes) {
            let Some(pipe) = lane.pipe else { continue };
            flush_lane(ctx, &mut self.bare, index, pipe, End::Dialler);
        }
        let alive = self.lanes.iter().find_map(|lane| lane.pipe);
        if let Some(pipe) = alive.filter(|_| self.said + KEEP_ALIVE <= ctx.ms) {
            self.said = ctx.ms;
            ctx.send(pipe, End::Dialler, Item::Bytes(Bytes::new()));
        }
        let lanes: Vec<_> = self.lanes.iter().filter_map(|lane| lane.pipe).collect();
        keep_alive(ctx, &mut self.kept_alive, &lanes, End::Dialler);
        if let Some(due) = self.bare.poll_timeout() {
            let due = ctx.ms_of(due);
            ctx.wake(self.here, due.max(ctx.ms + 1));
        }
        ctx.wake_every(self.here, KEEP_ALIVE);
    }

    fn dial(&mut self, ctx: &mut Ctx) {
        let any_up = self.lanes.iter().any(|lane| lane.pipe.is_some());
        let is_silent = any_up && self.heard + SILENCE <= ctx.ms;
        let beside = is_silent && self.dialled + DIAL_BESIDE <= ctx.ms;
        if beside {
            self.dialled = ctx.ms;
        }
        for (index, lane) in (0..).zip(&mut self.lanes) {
            let is_dead = lane.heard + LANE_SILENCE <= ctx.ms;
            if let Some(pipe) = lane.pipe.take_if(|_| is_dead) {
                self.bare.lane_down(index);
                ctx.abort(pipe, End::Dialler);
            }
            let (now, patience) = (ctx.ms, GREETING_PATIENCE);
            lane.trying.retain(|(pipe, since)| {
                let waits = since + patience > now;
                if !waits {
                    ctx.abort(*pipe, End::Dialler);
                }
                waits
            });
            let anew = lane.pipe.is_none() && lane.trying.is_empty() && lane.again <= ctx.ms;
            if anew || (beside && lane.trying.len() < 6) {
                let purpose = Purpose::Lane { run: self.run, lane: index };
                let pipe = ctx.dial(self.here, self.there, purpose, LANE_WINDOW_BYTES);
                lane.trying.push((pipe, ctx.ms));
            }
            if lane.pipe.is_none() && lane.again > ctx.ms {
                ctx.wake(self.here, lane.again);
            }
        }
    }

    fn read_lane(&mut self, ctx: &mut Ctx, index: usize) {
        let trying: Vec<PipeId> = self.lanes[index].trying.iter().map(|(pipe, _)| *pipe).collect();
        for pipe in trying {
            match ctx.read(pipe, End::Dialler) {
                Some(Item::Answer(Answer::Lane { run })) => self.greeted(ctx, index, pipe, run),
                Some(_) => {
                    self.lanes[index].trying.retain(|(tried, _)| *tried != pipe);
                    self.lanes[index].again = ctx.ms + 100 + ctx.rng_below(900);
                }
                None => {}
            }
        }
        while let Some(pipe) = self.lanes[index].pipe {
            let Some(item) = ctx.read(pipe, End::Dialler) else { return };
            self.heard = ctx.ms;
            self.lanes[index].heard = ctx.ms;
            let lane = u32::try_from(index).expect("a few lanes");
            if !take_batch(ctx, &self.bare, lane, item) {
                self.bare.lane_down(lane);
                ctx.close(pipe, End::Dialler);
                self.lanes[index].pipe = None;
                self.lanes[index].again = ctx.ms + 100 + ctx.rng_below(900);
            }
        }
    }

    /// The core has greeted: from here on this pipe carries the lane.
    fn greeted(&mut self, ctx: &mut Ctx, index: usize, pipe: PipeId, run: u64) {
        ctx.note(self.here, "lane up", NO_TALK, [index.try_into().unwrap_or(0), pipe.0.into()]);
        let lane = &mut self.lanes[index];
        for (other, _) in std::mem::take(&mut lane.trying) {
            if other != pipe {
                ctx.abort(other, End::Dialler);
            }
        }
        let mut late = Vec::new();
        if let Some(older) = lane.pipe.replace(pipe) {
            late = ctx.take_late(older, End::Dialler);
            ctx.abort(older, End::Dialler);
        }
        self.heard = ctx.ms;
        lane.heard = ctx.ms;
        self.bare.handle_peer_run(&run_bytes(run));
        let lane = u32::try_from(index).expect("a few lanes");
        self.bare.lane_up(lane);
        // The older call's task may still be at it.
        for item in late {
            take_batch(ctx, &self.bare, lane, item);
        }
    }
}

/// A core's end of the trunk to one run of a node's process.
#[derive(Debug)]
pub struct Accepted {
    /// The run of the node's process.
    pub run: u64,
    /// The real thing.
    pub bare: Bare,
    here: Site,
    lanes: Vec<(Option<PipeId>, Ms)>,
    /// When anything was last heard of it.
    pub heard: Ms,
    said: Ms,
    kept_alive: Ms,
    /// What its lanes are told instead of our process's run.
    pub told_run: Option<u64>,
}

impl Accepted {
    /// The trunk of a node's run whose first lane has come.
    #[must_use]
    pub fn new(here: Site, run: u64, lanes: u32, config: Config, node: NodeIdentity) -> Self {
        Self {
            run,
            bare: Bare::core(lanes, config, Metrics::default(), node, 10_000),
            here,
            lanes: (0..lanes).map(|_| (None, 0)).collect(),
            heard: 0,
            said: 0,
            kept_alive: 0,
            told_run: None,
        }
    }

    /// A call for this lane has come: it takes the place of an older one.
    pub fn lane(&mut self, ctx: &mut Ctx, lane: u32, pipe: PipeId, our_run: u64) {
        let index = usize::try_from(lane).expect("a few lanes");
        let mut late = Vec::new();
        if let Some(older) = self.lanes[index].0.replace(pipe) {
            late = ctx.take_late(older, End::Acceptor);
            ctx.abort(older, End::Acceptor);
        }
        ctx.send(
            pipe,
            End::Acceptor,
            Item::Answer(Answer::Lane { run: self.told_run.unwrap_or(our_run) }),
        );
        self.bare.lane_up(lane);
        for item in late {
            take_batch(ctx, &self.bare, lane, item);
        }
        self.heard = ctx.ms;
        self.lanes[index].1 = ctx.ms;
    }

    /// Whether nothing is left of it.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.bare.lanes_up() == 0 && self.bare.sessions_count() == 0
    }

    /// Reads what has come.
    pub fn pump(&mut self, ctx: &mut Ctx) {
        for (index, lane) in (0..).zip(&mut self.lanes) {
            while let Some(pipe) = lane.0 {
                let Some(item) = ctx.read(pipe, End::Acceptor) else { break };
                self.heard = ctx.ms;
                lane.1 = ctx.ms;
                if !take_batch(ctx, &self.bare, index, item) {
                    self.bare.lane_down(index);
                    ctx.close(pipe, End::Acceptor);
                    lane.0 = None;
                }
            }
            let is_silent = lane.1 + LANE_SILENCE <= ctx.ms;
            if let Some(pipe) = lane.0.take_if(|_| is_silent) {
                self.bare.lane_down(index);
                ctx.abort(pipe, End::Acceptor);
            }
        }
        self.bare.handle_timeout(ctx.now());
    }

    /// Writes what the sessions have for their lanes.
    pub fn flush(&mut self, ctx: &mut Ctx) {
        for (index, lane) in (0..).zip(&self.lanes) {
            let Some(pipe) = lane.0 else { continue };
            flush_lane(ctx, &mut self.bare, index, pipe, End::Acceptor);
        }
        let alive = self.lanes.iter().find_map(|lane| lane.0);
        if let Some(pipe) = alive.filter(|_| self.said + KEEP_ALIVE <= ctx.ms) {
            self.said = ctx.ms;
            ctx.send(pipe, End::Acceptor, Item::Bytes(Bytes::new()));
        }
        let lanes: Vec<_> = self.lanes.iter().filter_map(|lane| lane.0).collect();
        keep_alive(ctx, &mut self.kept_alive, &lanes, End::Acceptor);
        if let Some(due) = self.bare.poll_timeout() {
            let due = ctx.ms_of(due);
            ctx.wake(self.here, due.max(ctx.ms + 1));
        }
        ctx.wake_every(self.here, KEEP_ALIVE);
    }

    /// Everything goes: the process ends in good order, or the node has come back as another.
    pub fn hang_up(&mut self, ctx: &mut Ctx) {
        for (index, lane) in (0..).zip(&mut self.lanes) {
            if let Some(pipe) = lane.0.take() {
                self.bare.lane_down(index);
                ctx.abort(pipe, End::Acceptor);
            }
        }
    }
}

fn keep_alive(ctx: &mut Ctx, last: &mut Ms, lanes: &[PipeId], end: End) {
    if *last + LANE_KEEP_ALIVE <= ctx.ms {
        *last = ctx.ms;
        lanes.iter().for_each(|pipe| ctx.send(*pipe, end, Item::Bytes(Bytes::new())));
    }
}

/// Returns whether the lane goes on.
fn take_batch(ctx: &mut Ctx, bare: &Bare, lane: u32, item: Item) -> bool {
    let Item::Bytes(bytes) = item else { return false };
    if bytes.is_empty() {
        return true;
    }
    let outcome = match Batch::decode(bytes) {
        Ok(batch) => bare.handle_batch(lane, batch).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    if let Err(what) = outcome {
        ctx.model.fail(ctx.ms, None, format!("a lane brought a bad batch: {what}"));
        return false;
    }
    true
}

fn flush_lane(ctx: &mut Ctx, bare: &mut Bare, lane: u32, pipe: PipeId, end: End) {
    while ctx.net.room(pipe, end) > 0 {
        let Some(batch) = bare.collect_batch(lane, ctx.now()) else { return };
        ctx.send(pipe, end, Item::Bytes(batch.encode_to_vec().into()));
    }
}
