//! The mesh: which nodes send whose datagrams on, a pure function of what was reported.
//!
//! Each node is named up to three others, and each of these is told of it. The nodes measure the
//! ways through them and choose for themselves; here is only guessed which are worth measuring:
//! those for which the distance to them, and the round trip that they report to a core, are least
//! together.

use std::collections::{BTreeMap, BTreeSet};

use antipode_proto::registry::v1 as wire;
use serde::Serialize;

use crate::position::Position;

/// Forwarders that a node is named: each costs it, and each core, a probe every two seconds.
pub const FORWARDERS_MAX: usize = 3;
/// Nodes that one sends on for, at most.
pub const FORWARDED_MAX: usize = 64;

/// Round trip over a distance: light in glass needs 1 ms for 100 km and back, and cables go a
/// roundabout way.
const KM_PER_MS: f64 = 67.0;
/// What is unknown is as far as anything is on earth.
const UNKNOWN_MS: f64 = 300.0;
/// A forwarder that was named stays until another is better by a fifth and this much: a change
/// would have the node begin to measure anew.
const STAYS_MS: f64 = 5.0;
const STAYS_FACTOR: f64 = 0.8;

/// A node, as far as the mesh goes by it.
#[derive(Clone, Debug)]
pub struct Station {
    /// Its identity.
    pub member_id: String,
    /// Its name.
    pub name: String,
    /// Its WireGuard key.
    pub public_key: [u8; 32],
    /// Where its WireGuard socket can be reached.
    pub endpoints: Vec<String>,
    /// Where it stands.
    pub position: Option<Position>,
    /// Whether it says that it sends on, and seems able to.
    pub offers: Offer,
    /// Its best round trip to a core.
    pub rtt_us: Option<u32>,
    /// Whom its datagrams go through now; `None` while it has not reported.
    pub uses: Option<Vec<String>>,
}

/// What a node offers to others.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Offer {
    /// It sends on.
    Open,
    /// It may be gone: only for those whose datagrams go through it now.
    Doubtful,
    /// It does not, or it is leaving.
    Closed,
}

/// Who is named to whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mesh {
    forwarders: BTreeMap<String, wire::Forwarders>,
    forwarded: BTreeMap<String, wire::Forwarded>,
    /// Nodes to which nothing is said.
    untold: BTreeSet<String>,
    routes: Vec<Route>,
}

/// How a node's datagrams get to cores: what anybody may see.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Route {
    /// The node's name.
    pub node: String,
    /// Through whom they go; empty: nobody.
    pub via: Vec<String>,
    /// Through whom they could go, by what it was told.
    pub forwarders: Vec<String>,
}

impl Mesh {
    /// The mesh of these stations, after `previous`. The same arguments give the same answer.
    ///
    /// What a node uses it keeps, as long as that offers anything. A node that has not reported
    /// since it came keeps what it was named, by a gateway before this one perhaps: nothing is said
    /// to it.
    #[must_use]
    pub fn plan(stations: &[Station], previous: &Self) -> Self {
        let by_id: BTreeMap<&str, &Station> =
            stations.iter().map(|station| (station.member_id.as_str(), station)).collect();
        let mut plan = Plan { load: BTreeMap::new(), chosen: BTreeMap::new() };
        for station in by_id.values() {
            let named = previous.forwarders.get(&station.member_id).map_or(&[][..], |it| &it.nodes);
            let kept = match &station.uses {
                Some(uses) => uses.iter().map(String::as_str).collect(),
                None => named.iter().map(|node| node.member_id.as_str()).collect::<Vec<_>>(),
            };
            for forwarder in kept.into_iter().filter_map(|id| by_id.get(id)) {
                let is_other = forwarder.member_id != station.member_id;
                if is_other && forwarder.offers != Offer::Closed {
                    plan.choose(&station.member_id, &forwarder.member_id);
                }
            }
        }
        let open: Vec<&Station> =
            by_id.values().copied().filter(|station| station.offers == Offer::Open).collect();
        for station in by_id.values().filter(|station| station.uses.is_some()) {
            let named = previous.forwarders.get(&station.member_id);
            let mut ranked: Vec<(f64, &Station)> = open
                .iter()
                .filter(|forwarder| forwarder.member_id != station.member_id)
                .map(|forwarder| (score(station, forwarder, named), *forwarder))
                .collect();
            ranked.sort_by(|a, b| a.0.total_cmp(&b.0).then_with(|| a.1.name.cmp(&b.1.name)));
            for (_, forwarder) in ranked {
                plan.choose(&station.member_id, &forwarder.member_id);
                if plan.is_full(&station.member_id) {
                    break;
                }
            }
        }
        plan.finish(&by_id)
    }

    /// The forwarders of a node; `None`: nothing is to be said to it.
    #[must_use]
    pub fn forwarders(&self, member_id: &str) -> Option<&wire::Forwarders> {
        self.forwarders.get(member_id).filter(|_| !self.untold.contains(member_id))
    }

    /// Whom a node sends on for; nobody, if the mesh has nothing of it.
    #[must_use]
    pub fn forwarded(&self, member_id: &str) -> Option<&wire::Forwarded> {
        self.forwarded.get(member_id)
    }

    /// All nodes that have reported, by name.
    #[must_use]
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Adds to a member what it was told.
    pub fn describe(&self, member: &mut wire::Member) {
        let forwarders = self.forwarders.get(&member.member_id).map_or(&[][..], |it| &it.nodes);
        member.forwarders = forwarders.iter().map(|node| node.name.clone()).collect();
        let forwarded = self.forwarded.get(&member.member_id).map_or(&[][..], |it| &it.nodes);
        member.forwarded = forwarded.iter().map(|node| node.name.clone()).collect();
    }

    fn name(&mut self, station: &Station, forwarder: &Station) {
        if let Some(forwarders) = self.forwarders.get_mut(&station.member_id) {
            forwarders.nodes.push(wire::Forwarder {
                member_id: forwarder.member_id.clone(),
                name: forwarder.name.clone(),
                wireguard_public_key: forwarder.public_key.to_vec().into(),
                endpoints: forwarder.endpoints.clone(),
            });
        }
        if let Some(forwarded) = self.forwarded.get_mut(&forwarder.member_id) {
            forwarded.nodes.push(wire::ForwardedNode {
                member_id: station.member_id.clone(),
                name: station.name.clone(),
                wireguard_public_key: station.public_key.to_vec().into(),
            });
        }
    }
}

/// A mesh in the making.
struct Plan {
    /// How many each sends on for.
    load: BTreeMap<String, usize>,
    /// Forwarders by node, best first.
    chosen: BTreeMap<String, Vec<String>>,
}

impl Plan {
    /// Names `forwarder` to `node`, if both have room.
    fn choose(&mut self, node: &str, forwarder: &str) {
        let chosen = self.chosen.entry(node.to_owned()).or_default();
        let load = self.load.entry(forwarder.to_owned()).or_default();
        let is_new = !chosen.iter().any(|other| other == forwarder);
        if is_new && chosen.len() < FORWARDERS_MAX && *load < FORWARDED_MAX {
            *load += 1;
            chosen.push(forwarder.to_owned());
        }
    }

    fn is_full(&self, node: &str) -> bool {
        self.chosen.get(node).is_some_and(|chosen| chosen.len() >= FORWARDERS_MAX)
    }

    fn finish(self, by_id: &BTreeMap<&str, &Station>) -> Mesh {
        let mut mesh = Mesh::default();
        for station in by_id.values() {
            mesh.forwarded.insert(station.member_id.clone(), wire::Forwarded::default());
            mesh.forwarders.insert(station.member_id.clone(), wire::Forwarders::default());
            if station.uses.is_none() {
                mesh.untold.insert(station.member_id.clone());
            }
        }
        for (node, forwarders) in &self.chosen {
            let Some(station) = by_id.get(node.as_str()) else { continue };
            for forwarder in forwarders.iter().filter_map(|id| by_id.get(id.as_str())) {
                mesh.name(station, forwarder);
            }
        }
        let name_of = |id: &String| by_id.get(id.as_str()).map(|station| station.name.clone());
        let routes = by_id.values().filter_map(|station| {
            let named = mesh.forwarders.get(&station.member_id)?;
            Some(Route {
                node: station.name.clone(),
                via: station.uses.as_ref()?.iter().filter_map(name_of).collect(),
                forwarders: named.nodes.iter().map(|node| node.name.clone()).collect(),
            })
        });
        let mut routes: Vec<Route> = routes.collect();
        routes.sort_by(|a, b| a.node.cmp(&b.node));
        Mesh { routes, ..mesh }
    }
}

fn score(station: &Station, forwarder: &Station, named: Option<&wire::Forwarders>) -> f64 {
    let leg = match (station.position, forwarder.position) {
        (Some(here), Some(there)) => here.distance_km(there) / KM_PER_MS,
        (None, _) | (_, None) => UNKNOWN_MS,
    };
    let rest = forwarder.rtt_us.map_or(UNKNOWN_MS, |rtt_us| f64::from(rtt_us) / 1000.0);
    let score = leg + rest;
    let was_named = named
        .is_some_and(|named| named.nodes.iter().any(|node| node.member_id == forwarder.member_id));
    if was_named { score * STAYS_FACTOR - STAYS_MS } else { score }
}

#[cfg(test)]
mod tests;
