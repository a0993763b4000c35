//! From the gateway's roster to tunnel peers and to the nodes that may open lanes.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::handover::v1::TunnelPeer;
use antipode_proto::registry::v1::{Gone, Role, Roster, TunnelReport};
use antipode_runtime::member::Member;
use antipode_runtime::shutdown::Shutdown;
use antipode_runtime::telemetry::chain;
use antipode_trunk::{NodeIdentity, TrunkServer, tunnel_report};
use antipode_tunnel::{PeerConfig, PublicKey, Underlay};
use parking_lot::Mutex;
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{info, warn};

use super::streams::Streams;
use crate::metrics::Metrics;

/// How often the tunnels are looked at for the gateway.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The state of the tunnels, as last seen.
pub(super) type Tunnels = Arc<Mutex<Vec<TunnelReport>>>;

/// What is told of the nodes on the roster.
pub(super) struct Doors {
    /// Lanes.
    pub(super) server: TrunkServer,
    /// Streams, if any are taken.
    pub(super) streams: Option<Streams>,
    /// Where a process before this one heard nodes: they wait to be called, since the keys they
    /// have with that one are of no use any more.
    pub(super) heard_at: Vec<TunnelPeer>,
}

/// Follows the roster for as long as the program lives. A node that leaves it loses its tunnel, its
/// lanes and its streams at once.
pub(super) fn follow(
    member: &Member,
    underlay: &Underlay,
    doors: Doors,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Tunnels {
    let Doors { server, streams, heard_at } = doors;
    let tunnels = Tunnels::default();
    let mut roster = member.roster();
    let mut follower = Follower {
        underlay: underlay.clone(),
        server: server.clone(),
        streams,
        metrics: metrics.clone(),
        nodes: BTreeMap::new(),
        heard_at: heard_at.iter().filter_map(heard).collect(),
        tunnels: Arc::clone(&tunnels),
    };
    shutdown.spawn_service(heed_gone(member.gone(), server));
    shutdown.spawn_service(async move {
        loop {
            let current = roster.borrow_and_update().clone();
            follower.take_roster(&current).await;
            // A look may wait for the interface: a new roster doesn't.
            tokio::select! {
                changed = roster.changed() => if changed.is_err() { return },
                () = follower.keep_looking() => {}
            }
        }
    });
    tunnels
}

/// Tells the trunks of nodes whose process has ended, as the gateway hears of them.
async fn heed_gone(mut gone: broadcast::Receiver<Gone>, server: TrunkServer) {
    loop {
        match gone.recv().await {
            Ok(Gone { member_id, run }) => server.handle_process_gone(&member_id, &run),
            // Sessions of a node that was missed wait for their window, as in a cut.
            Err(RecvError::Lagged(missed)) => warn!(missed, "word of ended nodes was missed"),
            Err(RecvError::Closed) => return,
        }
    }
}

/// The nodes on a roster, by member id.
type Nodes = BTreeMap<String, (PublicKey, NodeIdentity)>;

struct Follower {
    underlay: Underlay,
    server: TrunkServer,
    streams: Option<Streams>,
    metrics: Metrics,
    nodes: Nodes,
    heard_at: BTreeMap<PublicKey, SocketAddr>,
    tunnels: Tunnels,
}

impl Follower {
    async fn take_roster(&mut self, roster: &Roster) {
        let nodes = nodes_on(roster);
        for (id, (_, node)) in &nodes {
            if !self.nodes.contains_key(id) {
                info!(node = node.name, region = node.region, "node on the roster");
            }
        }
        for (id, (_, node)) in &self.nodes {
            if !nodes.contains_key(id) {
                info!(node = node.name, "node off the roster");
            }
        }
        self.nodes = nodes;
        self.metrics.peers.set(i64::try_from(self.nodes.len()).unwrap_or(i64::MAX));
        // Lanes first: a node that is off the roster is out even if the interface is slow.
        self.server.set_nodes(self.nodes.values().map(|(_, node)| node.clone()).collect());
        if let Some(streams) = &self.streams {
            streams.set_nodes(self.nodes.keys().cloned().collect());
        }
        let heard_at = std::mem::take(&mut self.heard_at);
        let peer = |(key, _): &(PublicKey, NodeIdentity)| {
            let endpoint = heard_at.get(key).copied();
            PeerConfig { endpoint, ..PeerConfig::new(*key) }
        };
        let peers = self.nodes.values().map(peer).collect();
        if let Err(error) = self.underlay.set_peers(peers).await {
            let error = chain(&error);
            warn!(error, "the tunnel's interface does not take its peers");
        }
        heard_at.keys().for_each(|key| self.underlay.handshake(key));
    }

    async fn keep_looking(&mut self) {
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            self.look().await;
        }
    }

    /// Draws up what the gateway is told of the tunnels.
    async fn look(&mut self) {
        let states = match self.underlay.peers().await {
            Ok(states) => states,
            Err(error) => {
                let error = chain(&error);
                warn!(error, "the tunnel's interface does not tell of its peers");
                return;
            }
        };
        let trunks = self.server.states();
        let reports = self.nodes.iter().map(|(member_id, (key, _))| {
            let state = states.iter().find(|state| state.public_key == *key);
            let trunk = trunks.iter().find(|trunk| &trunk.member_id == member_id);
            tunnel_report(member_id, state, trunk)
        });
        *self.tunnels.lock() = reports.collect();
    }
}

fn heard(peer: &TunnelPeer) -> Option<(PublicKey, SocketAddr)> {
    let key = <[u8; 32]>::try_from(&*peer.public_key).ok()?;
    Some((PublicKey::from(key), peer.endpoint.parse().ok()?))
}

/// A core has no tunnels with cores.
fn nodes_on(roster: &Roster) -> Nodes {
    let mut nodes = BTreeMap::new();
    for peer in roster.peers.iter().filter(|peer| peer.role() == Role::Node) {
        let Ok(key) = <[u8; 32]>::try_from(&*peer.wireguard_public_key) else {
            warn!(node = peer.name, "the roster has a node without a WireGuard key");
            continue;
        };
        let key = PublicKey::from(key);
        let node = NodeIdentity {
            member_id: peer.member_id.clone(),
            name: peer.name.clone(),
            region: peer.region.clone(),
            address: key.address(),
        };
        nodes.insert(peer.member_id.clone(), (key, node));
    }
    nodes
}

#[cfg(test)]
mod tests {
    use antipode_proto::registry::v1::Peer;

    use super::*;

    #[test]
    fn only_nodes_with_keys_become_peers() {
        let peer = |id: &str, role: Role, key: &'static [u8]| Peer {
            member_id: id.to_owned(),
            name: id.to_owned(),
            role: role.into(),
            wireguard_public_key: key.into(),
            ..Peer::default()
        };
        let roster = Roster {
            peers: vec![
                peer("sg", Role::Node, &[7; 32]),
                peer("core-2", Role::Core, &[8; 32]),
                peer("broken", Role::Node, &[9; 31]),
            ],
        };
        let nodes = nodes_on(&roster);
        assert_eq!(nodes.keys().collect::<Vec<_>>(), ["sg"]);
        assert_eq!(nodes["sg"].1.address, PublicKey::from([7; 32]).address());
    }
}
