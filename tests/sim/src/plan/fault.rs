//! What can go wrong.

use std::fmt;

use rand::Rng;
use rand::rngs::StdRng;

use super::{Kind, Plan};
use crate::event::{Cut, Ms};
use crate::site::Site;

/// How a client's socket goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Broken {
    /// The client's end hangs up.
    Reset,
    /// Somebody in the middle forgot the mapping: neither end is told.
    HalfOpen,
}

/// A transition of the world that nobody in it asked for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fault {
    /// A path carries nothing.
    Cut(Site, Site, Cut, Ms),
    /// A path gets slower and lossier: milliseconds, percent.
    Slow(Site, Site, Ms, u8, Ms),
    /// One lane's stream is reset.
    BreakLane(u8, u8),
    /// All lanes of a trunk are; with `true` only the core is told.
    BreakTrunk(u8, u8, bool),
    /// A client's socket goes.
    BreakSocket(u8, Broken),
    /// A client moves to another network; with `true` its own system tells it.
    Roam(u8, bool),
    /// A process stands still: suspended, or swapped out. Its clock jumps when it goes on.
    Freeze(Site, Ms),
    /// A client's process ends without a word to the backend.
    KillClient(u8),
    /// SIGKILL; a new process starts after this time.
    Kill(Site, Ms),
    /// Power off; a new process starts after this time.
    PowerOff(Site, Ms),
    /// SIGTERM at a node, with this grace, then a new process.
    Restart(u8, Ms),
    /// The operator drains a node, with this grace; then a new process.
    Drain(u8, Ms),
    /// The backend stops reading a talk's socket.
    SlowBackend(u16, Ms),
    /// A client stops reading.
    SlowClient(u8, Ms),
    /// The core's process is replaced, and hands its sessions over.
    HandOver(u8),
    /// An attach that a client sent before comes once more, on a socket of its own.
    StaleAttach(u8),
    /// A client's next attach goes out on two sockets.
    DoubleAttach(u8),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cut(a, b, Cut::Both, lasts) => write!(f, "{a} - {b} cut for {lasts} ms"),
            Self::Cut(a, b, Cut::Forth, lasts) => write!(f, "{a} -> {b} cut for {lasts} ms"),
            Self::Cut(a, b, Cut::Back, lasts) => write!(f, "{b} -> {a} cut for {lasts} ms"),
            Self::Slow(a, b, by, loss, lasts) => {
                write!(f, "{a} - {b} {by} ms slower, {loss} % loss for {lasts} ms")
            }
            Self::BreakLane(node, core) => write!(f, "a lane node{node} - core{core} breaks"),
            Self::BreakTrunk(node, core, quiet) => {
                let told = if *quiet { "only the core is told" } else { "both are told" };
                write!(f, "the trunk node{node} - core{core} breaks, {told}")
            }
            Self::BreakSocket(client, how) => write!(f, "client{client}'s socket goes: {how:?}"),
            Self::Roam(client, told) => write!(f, "client{client} roams, told: {told}"),
            Self::Freeze(site, lasts) => write!(f, "{site} stands still for {lasts} ms"),
            Self::KillClient(client) => write!(f, "client{client} dies"),
            Self::Kill(site, down) => write!(f, "{site} is killed, back in {down} ms"),
            Self::PowerOff(site, down) => write!(f, "{site} loses power, back in {down} ms"),
            Self::Restart(node, grace) => write!(f, "node{node} is restarted, grace {grace} ms"),
            Self::Drain(node, grace) => write!(f, "node{node} is drained, grace {grace} ms"),
            Self::SlowBackend(talk, lasts) => {
                write!(f, "the backend does not read talk {talk} for {lasts} ms")
            }
            Self::SlowClient(client, lasts) => {
                write!(f, "client{client} does not read for {lasts} ms")
            }
            Self::HandOver(core) => write!(f, "core{core} hands over to a new process"),
            Self::StaleAttach(client) => write!(f, "an old attach of client{client} comes again"),
            Self::DoubleAttach(client) => write!(f, "client{client} attaches twice at once"),
        }
    }
}

/// Draws a world's faults.
pub(super) fn draw(rng: &mut StdRng, plan: &Plan) -> Vec<(Ms, Fault)> {
    let count = match rng.random_range(0..10) {
        0 => 0,
        1..=4 => rng.random_range(1..4),
        _ => rng.random_range(3..14),
    };
    let mut faults: Vec<(Ms, Fault)> =
        (0..count).map(|_| (rng.random_range(500..plan.calm), one(rng, plan))).collect();
    faults.sort_by_key(|(at, _)| *at);
    faults
}

fn one(rng: &mut StdRng, plan: &Plan) -> Fault {
    let node = rng.random_range(0..plan.nodes);
    let core = rng.random_range(0..plan.cores);
    let talks = u8::try_from(plan.talks.len()).expect("a few talks");
    let client = rng.random_range(0..talks);
    let some_path = |rng: &mut StdRng| match rng.random_range(0..5) {
        0 | 1 => (Site::Node(node), Site::Core(core)),
        2 | 3 => (Site::Client(client), Site::Node(node)),
        _ => (Site::Node(node), Site::Gateway),
    };
    let cut = match rng.random_range(0..4) {
        0 => Cut::Forth,
        1 => Cut::Back,
        _ => Cut::Both,
    };
    let is_resumable = plan.talks[usize::from(client)].kind == Kind::Resumable;
    match rng.random_range(0..40) {
        0..=7 => {
            let (a, b) = some_path(rng);
            Fault::Cut(a, b, cut, lasts(rng))
        }
        8..=10 => {
            let (a, b) = some_path(rng);
            let (by, loss) = (rng.random_range(0..2_000), rng.random_range(0..40));
            Fault::Slow(a, b, by, loss, lasts(rng))
        }
        11 | 12 => Fault::BreakLane(node, core),
        13 | 14 => Fault::BreakTrunk(node, core, rng.random()),
        15 | 16 => Fault::BreakSocket(client, Broken::Reset),
        17 => Fault::BreakSocket(client, Broken::HalfOpen),
        18..=20 => Fault::Roam(client, rng.random()),
        21 => Fault::Freeze(Site::Node(node), lasts(rng)),
        22 => Fault::Freeze(Site::Client(client), lasts(rng)),
        23 => Fault::Freeze(Site::Core(core), rng.random_range(200..7_000)),
        24 | 25 => Fault::Kill(Site::Node(node), rng.random_range(300..20_000)),
        26 => Fault::PowerOff(Site::Node(node), rng.random_range(1_000..40_000)),
        27 => Fault::Restart(node, rng.random_range(1_000..15_000)),
        28 | 29 => Fault::Drain(node, rng.random_range(1_000..30_000)),
        30 => Fault::SlowBackend(client.into(), rng.random_range(500..25_000)),
        31 | 32 => Fault::SlowClient(client, rng.random_range(500..25_000)),
        33 => Fault::HandOver(core),
        34 if rng.random_ratio(1, 2) => Fault::Kill(Site::Core(core), rng.random_range(300..8_000)),
        34 => Fault::PowerOff(Site::Core(core), rng.random_range(300..8_000)),
        35 if rng.random_ratio(1, 2) => Fault::KillClient(client),
        36 => Fault::Kill(Site::Gateway, rng.random_range(300..40_000)),
        37 | 38 if is_resumable => Fault::StaleAttach(client),
        39 if is_resumable => Fault::DoubleAttach(client),
        _ => Fault::BreakLane(node, core),
    }
}

/// Mostly short, sometimes longer than any window.
fn lasts(rng: &mut StdRng) -> Ms {
    match rng.random_range(0..20) {
        0 => rng.random_range(100_000..160_000),
        1..=4 => rng.random_range(10_000..40_000),
        _ => rng.random_range(100..8_000),
    }
}
