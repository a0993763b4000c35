//! Which node a client should go to: a pure function of what is known and what is asked.
//!
//! Candidates come in three ranks: Alive with room, Alive but busy, Suspect. Within a rank the
//! nearest comes first; where distance is unknown the least loaded; ties go by name. A node that
//! drains, is dead, is full, or has not yet proved itself is never named.

mod neighbours;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::sync::Arc;

use crate::health::Health;
use crate::position::Position;

pub use neighbours::{Neighbour, neighbours};

/// All nodes at one moment, in the order of their names.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Every member that is a node.
    pub nodes: Vec<Node>,
}

/// One node as steering sees it.
#[derive(Clone, Debug)]
pub struct Node {
    /// What seldom changes; shared between snapshots.
    pub place: Arc<Place>,
    /// How well it is.
    pub health: Health,
    /// Whether it takes new sessions by its own word.
    pub accepting: bool,
    /// Sessions there now.
    pub sessions: u32,
    /// Most it takes; 0: unlimited.
    pub sessions_max: u32,
}

/// Who and where a node is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Place {
    /// The member's identity.
    pub member_id: String,
    /// Its unique name.
    pub name: String,
    /// Its region's code.
    pub region: String,
    /// What clients open.
    pub urls: Vec<String>,
    /// Where it stands, if it said so.
    pub position: Option<Position>,
}

/// What a client asks.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// Where the client is, if anything told.
    pub position: Option<Position>,
    /// Most candidates wanted.
    pub candidates_max: usize,
}

/// The answer: candidates, best first, and why the first one is first.
#[derive(Clone, Debug)]
pub struct Decision {
    /// Best first; empty: nobody can take a session.
    pub candidates: Vec<Candidate>,
    /// Why.
    pub reason: Reason,
}

/// One node to try.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Who it is.
    pub place: Arc<Place>,
    /// Great-circle distance from the client, where both places are known.
    pub distance_km: Option<f64>,
}

/// Why the first candidate is first.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Reason {
    /// It is the nearest that is Alive.
    Nearest,
    /// A nearer one is Alive, but too busy or full.
    Spill,
    /// No Alive node has room; a Suspect one may.
    LastResort,
    /// Nothing told where the client is: the least loaded.
    Unlocated,
    /// Nobody can take a session.
    None,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::Nearest, Self::Spill, Self::LastResort, Self::Unlocated, Self::None];

    /// `reason` in answers and of `antipode_gateway_steer_decisions_total`.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Nearest => "nearest",
            Self::Spill => "spill",
            Self::LastResort => "last_resort",
            Self::Unlocated => "unlocated",
            Self::None => "none",
        }
    }
}

/// How steering weighs nodes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Policy {
    /// Share of its sessions above which a node is busy, in percent: new sessions go to the next.
    pub load_spill_percent: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self { load_spill_percent: 80 }
    }
}

/// Answers `question` from `snapshot`. The same arguments give the same answer.
#[must_use]
pub fn steer(policy: Policy, snapshot: &Snapshot, question: Question) -> Decision {
    let mut ranked: Vec<Ranked<'_>> = snapshot
        .nodes
        .iter()
        .filter_map(|node| Ranked::new(policy, node, question.position))
        .collect();
    ranked.sort_unstable_by(Ranked::compare);
    let reason = reason(question, snapshot, ranked.first());
    let candidates = ranked
        .into_iter()
        .take(question.candidates_max)
        .map(|Ranked { node, distance_km, .. }| Candidate {
            place: Arc::clone(&node.place),
            distance_km,
        })
        .collect();
    Decision { candidates, reason }
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Rank {
    Roomy,
    Busy,
    Suspect,
}

struct Ranked<'a> {
    node: &'a Node,
    rank: Rank,
    distance_km: Option<f64>,
    load_percent: u32,
}

impl<'a> Ranked<'a> {
    /// `None` if no session may go there.
    fn new(policy: Policy, node: &'a Node, client: Option<Position>) -> Option<Self> {
        let load_percent = node.load_percent();
        if !node.accepting || load_percent >= 100 {
            return None;
        }
        let rank = match node.health {
            Health::Alive if load_percent < policy.load_spill_percent => Rank::Roomy,
            Health::Alive => Rank::Busy,
            Health::Suspect => Rank::Suspect,
            Health::Joining | Health::Draining | Health::Dead => return None,
        };
        Some(Self { node, rank, distance_km: node.distance_km(client), load_percent })
    }

    fn compare(&self, other: &Self) -> Ordering {
        self.rank
            .cmp(&other.rank)
            .then_with(|| compare_distance(self.distance_km, other.distance_km))
            .then_with(|| self.load_percent.cmp(&other.load_percent))
            .then_with(|| self.node.place.name.cmp(&other.node.place.name))
    }
}

impl Node {
    /// Sessions of the most it takes, in percent; rounded down, so 100 means full.
    fn load_percent(&self) -> u32 {
        if self.sessions_max == 0 {
            return 0;
        }
        let percent = u64::from(self.sessions) * 100 / u64::from(self.sessions_max);
        u32::try_from(percent).unwrap_or(u32::MAX)
    }

    fn distance_km(&self, client: Option<Position>) -> Option<f64> {
        Some(client?.distance_km(self.place.position?))
    }
}

/// A known distance comes before an unknown one.
fn compare_distance(a: Option<f64>, b: Option<f64>) -> Ordering {
    match (a, b) {
        (Some(a), Some(b)) => a.total_cmp(&b),
        (Some(_), None) => Ordering::Less,
        (None, Some(_)) => Ordering::Greater,
        (None, None) => Ordering::Equal,
    }
}

fn reason(question: Question, snapshot: &Snapshot, first: Option<&Ranked<'_>>) -> Reason {
    let Some(first) = first else {
        return Reason::None;
    };
    if first.rank == Rank::Suspect {
        return Reason::LastResort;
    }
    if question.position.is_none() {
        return Reason::Unlocated;
    }
    let passed_over = snapshot.nodes.iter().any(|node| {
        let nearer = compare_distance(node.distance_km(question.position), first.distance_km);
        node.health == Health::Alive && node.accepting && nearer == Ordering::Less
    });
    if passed_over { Reason::Spill } else { Reason::Nearest }
}
