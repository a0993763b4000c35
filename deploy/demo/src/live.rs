//! What changes while the demo runs: each region's tunnel, as the gateway sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use antipode_proto::registry::v1::{Member, Role};
use parking_lot::Mutex;
use serde::Serialize;

/// The latest state. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Live {
    state: Arc<Mutex<State>>,
}

/// The state as the page gets it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// By the region's name.
    pub regions: BTreeMap<String, Link>,
}

/// One region's node and its tunnel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// For the colour of its line.
    pub state: LinkState,
    /// The gateway's word for the node's health, and why.
    pub reason: String,
    /// Client sessions at the node.
    pub sessions: u32,
    /// Between node and core, as the node measures it.
    pub tunnel_round_trip_ms: Option<f64>,
}

/// How a tunnel is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The node is alive and its trunk is open.
    Up,
    /// The node is suspect, or drains, or its trunk is not open.
    Weak,
    /// The node is dead.
    Down,
    /// It has not joined yet.
    Waiting,
}

impl Link {
    /// What a node's entry in the gateway's register means for the map.
    #[must_use]
    pub fn of(member: &Member) -> Self {
        let trunk = member.tunnels.iter().find(|tunnel| tunnel.trunk_up);
        let state = match (member.health.as_str(), trunk) {
            ("alive", Some(_)) => LinkState::Up,
            ("joining", _) => LinkState::Waiting,
            ("dead", _) => LinkState::Down,
            _ => LinkState::Weak,
        };
        let rtt_us = trunk.or_else(|| member.tunnels.first()).map_or(0, |tunnel| tunnel.rtt_us);
        Self {
            state,
            reason: format!("{}: {}", member.health, member.health_reason),
            sessions: member.sessions,
            tunnel_round_trip_ms: (rtt_us > 0).then(|| f64::from(rtt_us) / 1_000.0),
        }
    }
}

impl State {
    /// The nodes among the gateway's members.
    #[must_use]
    pub fn of(members: &[Member]) -> Self {
        let nodes = members.iter().filter(|member| member.role() == Role::Node);
        Self { regions: nodes.map(|node| (node.name.clone(), Link::of(node))).collect() }
    }

    /// Whether every one of `names` is up.
    #[must_use]
    pub fn all_up<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        names.all(|name| self.regions.get(name).is_some_and(|link| link.state == LinkState::Up))
    }
}

impl Live {
    /// The latest state.
    #[must_use]
    pub fn now(&self) -> State {
        self.state.lock().clone()
    }

    /// Replaces it.
    pub fn set(&self, state: State) {
        *self.state.lock() = state;
    }
}

#[cfg(test)]
mod tests {
    use antipode_proto::registry::v1::TunnelReport;

    use super::*;

    #[test]
    fn colours() {
        check("alive", true, LinkState::Up);
        check("alive", false, LinkState::Weak);
        check("suspect", true, LinkState::Weak);
        check("draining", true, LinkState::Weak);
        check("dead", true, LinkState::Down);
        check("joining", false, LinkState::Waiting);
    }

    #[test]
    fn all_up_means_all() {
        let node = |name: &str, trunk_up| {
            let tunnels = vec![TunnelReport { trunk_up, rtt_us: 1, ..TunnelReport::default() }];
            let (name, health, role) = (name.to_owned(), "alive".to_owned(), Role::Node.into());
            Member { name, health, role, tunnels, ..Member::default() }
        };
        let core = Member { name: "core".into(), role: Role::Core.into(), ..Member::default() };
        let state = State::of(&[core, node("a", true), node("b", false)]);
        assert_eq!(state.regions.len(), 2);
        assert!(state.all_up(["a"].into_iter()));
        assert!(!state.all_up(["a", "b"].into_iter()));
        assert!(!state.all_up(["a", "c"].into_iter()));
    }

    #[track_caller]
    fn check(health: &str, trunk_up: bool, expected: LinkState) {
        let tunnels = vec![TunnelReport { trunk_up, rtt_us: 162_300, ..TunnelReport::default() }];
        let member = Member { health: health.into(), tunnels, ..Member::default() };
        let link = Link::of(&member);
        assert_eq!((link.state, link.tunnel_round_trip_ms), (expected, Some(162.3)), "{health}");
    }
}
