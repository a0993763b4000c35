//! The mesh, from the gateway's word to the tunnel: who sends this node's datagrams on, and whose
//! it sends on itself.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1::{Forwarded, Forwarder, Forwarders, Introduction};
use antipode_runtime::member::Member;
use antipode_runtime::shutdown::Shutdown;
use antipode_tunnel::{ForwarderConfig, PeerState, PublicKey, Tunnel, Underlay};
use parking_lot::Mutex;
use tokio::net::lookup_host;
use tracing::{debug, info, warn};

use crate::config::Forwarding;

/// How often forwarders' names are looked up again.
const RESOLVE_INTERVAL: Duration = Duration::from_secs(60);
/// Or so soon, while one has no address.
const RESOLVE_AGAIN: Duration = Duration::from_secs(5);
/// A name that does not resolve is left for the next round.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Through whom this node's datagrams may go; clones share it.
#[derive(Clone, Debug, Default)]
pub(super) struct Mesh {
    tunnel: Option<Tunnel>,
    /// Forwarders' member ids.
    members: Arc<Mutex<BTreeMap<PublicKey, String>>>,
}

impl Mesh {
    /// The member id of the neighbour that a core's datagrams go through; empty: nobody.
    pub(super) fn via(&self, core: Option<&PeerState>) -> String {
        let way = core.and_then(|core| core.way);
        let forwarder = way.and_then(|way| self.tunnel.as_ref()?.forwarder_of(way));
        let member_id = forwarder.and_then(|key| self.members.lock().get(&key).cloned());
        member_id.unwrap_or_default()
    }
}

/// Says in an introduction where this node is reached and whether it sends on.
pub(super) fn introduce(forwarding: &Forwarding, introduction: &mut Introduction) {
    introduction.endpoints.clone_from(&forwarding.endpoints);
    introduction.forwards = forwarding.enabled;
}

/// Follows the gateway's word for as long as the program lives. An interface of the host has no
/// ways but its own.
pub(super) fn follow(
    member: &Member,
    underlay: &Underlay,
    forwarding: &Forwarding,
    shutdown: &Shutdown,
) -> Mesh {
    let Underlay::InProcess(tunnel) = underlay else { return Mesh::default() };
    let mesh = Mesh { tunnel: Some(tunnel.clone()), members: Arc::default() };
    let mut forwarders = member.forwarders();
    let follower = Follower { tunnel: tunnel.clone(), members: Arc::clone(&mesh.members) };
    shutdown.spawn_service(async move {
        let mut known = Known::new();
        loop {
            let named = forwarders.borrow_and_update().clone();
            tokio::select! {
                changed = forwarders.changed() => if changed.is_err() { return },
                () = follower.keep_up(&named, &mut known) => {}
            }
        }
    });
    if forwarding.enabled {
        let (tunnel, max) = (tunnel.clone(), forwarding.bytes_per_second_max);
        let mut forwarded = member.forwarded();
        shutdown.spawn_service(async move {
            loop {
                let nodes = keys(&forwarded.borrow_and_update());
                debug!(nodes = nodes.len(), "sends on for them");
                tunnel.set_forwarded(&nodes, max);
                if forwarded.changed().await.is_err() {
                    return;
                }
            }
        });
    }
    mesh
}

/// Where forwarders are, as last looked up.
type Known = BTreeMap<PublicKey, Vec<SocketAddr>>;

struct Follower {
    tunnel: Tunnel,
    members: Arc<Mutex<BTreeMap<PublicKey, String>>>,
}

impl Follower {
    /// Keeps the tunnel's forwarders true to what was named: names are looked up again and again,
    /// and one that can't be is where it was.
    async fn keep_up(&self, named: &Forwarders, known: &mut Known) {
        let named: Vec<(PublicKey, &Forwarder)> = named
            .nodes
            .iter()
            .filter_map(|node| Some((key(&node.wireguard_public_key)?, node)))
            .collect();
        let members = named.iter().map(|(key, node)| (*key, node.member_id.clone()));
        *self.members.lock() = members.collect();
        let names: Vec<&str> = named.iter().map(|(_, node)| node.name.as_str()).collect();
        info!(forwarders = names.join(" "), "could go through");
        known.retain(|key, _| named.iter().any(|(public_key, _)| public_key == key));
        loop {
            for (public_key, node) in &named {
                let found = resolve(node).await;
                if !found.is_empty() {
                    known.insert(*public_key, found);
                }
            }
            let forwarders = named.iter().filter_map(|(public_key, _)| {
                let addresses = known.get(public_key)?.clone();
                Some(ForwarderConfig { public_key: *public_key, addresses })
            });
            self.tunnel.set_forwarders(forwarders.collect());
            let all_known = known.len() == named.len();
            tokio::time::sleep(if all_known { RESOLVE_INTERVAL } else { RESOLVE_AGAIN }).await;
        }
    }
}

/// Every address of a forwarder.
async fn resolve(node: &Forwarder) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for endpoint in &node.endpoints {
        match tokio::time::timeout(RESOLVE_TIMEOUT, lookup_host(endpoint.as_str())).await {
            Ok(Ok(found)) => addresses.extend(found),
            Ok(Err(error)) => {
                warn!(forwarder = node.name, endpoint, %error, "a forwarder's address is unknown");
            }
            Err(_) => {
                warn!(forwarder = node.name, endpoint, "looking up a forwarder's address hangs");
            }
        }
    }
    addresses
}

fn keys(forwarded: &Forwarded) -> Vec<PublicKey> {
    forwarded.nodes.iter().filter_map(|node| key(&node.wireguard_public_key)).collect()
}

fn key(bytes: &[u8]) -> Option<PublicKey> {
    <[u8; 32]>::try_from(bytes).ok().map(PublicKey::from)
}

#[cfg(test)]
mod tests {
    use antipode_proto::registry::v1::ForwardedNode;
    use antipode_tunnel::{Metrics, PeerConfig, PrivateKey, TunnelConfig, Way};

    use super::*;

    #[test]
    fn who_can_be_reached_says_so() {
        let mut introduction = Introduction::default();
        introduce(&Forwarding::default(), &mut introduction);
        assert!(!introduction.forwards && introduction.endpoints.is_empty());
        let endpoints = vec!["sg.example:51820".to_owned()];
        let forwarding =
            Forwarding { endpoints: endpoints.clone(), enabled: true, bytes_per_second_max: 1 };
        introduce(&forwarding, &mut introduction);
        assert!(introduction.forwards);
        assert_eq!(introduction.endpoints, endpoints);
    }

    #[test]
    fn what_is_no_key_is_left_out() {
        let node = |key: &'static [u8]| ForwardedNode {
            wireguard_public_key: key.into(),
            ..ForwardedNode::default()
        };
        let forwarded = Forwarded { nodes: vec![node(&[7; 31]), node(&[8; 32]), node(&[])] };
        assert_eq!(keys(&forwarded), [PublicKey::from([8; 32])]);
    }

    #[tokio::test]
    async fn forwarders_become_ways_and_are_told_by_their_member_id() {
        let shutdown = Shutdown::default();
        let config = TunnelConfig::new(PrivateKey::generate(), "127.0.0.1:0".parse().unwrap());
        let tunnel = Tunnel::bind(config, &shutdown.tasks(), Metrics::default()).unwrap();
        let core = PrivateKey::generate().public_key();
        tunnel.set_peers(vec![PeerConfig::new(core)]);
        let mesh = Mesh { tunnel: Some(tunnel.clone()), members: Arc::default() };
        let follower = Follower { tunnel: tunnel.clone(), members: Arc::clone(&mesh.members) };
        let forwarder = PrivateKey::generate().public_key();
        let node = Forwarder {
            member_id: "n-7".to_owned(),
            name: "jp".to_owned(),
            wireguard_public_key: forwarder.as_bytes().to_vec().into(),
            endpoints: vec!["no port".to_owned(), "127.0.0.1:9".to_owned()],
        };
        let named = Forwarders { nodes: vec![node] };
        let (mut known, patience) = (Known::new(), Duration::from_millis(300));
        let _ = tokio::time::timeout(patience, follower.keep_up(&named, &mut known)).await;
        let way = tunnel.ways_through(&core)[0];
        let lost = Forwarder { endpoints: vec!["no port".to_owned()], ..named.nodes[0].clone() };
        let named = Forwarders { nodes: vec![lost] };
        let _ = tokio::time::timeout(patience, follower.keep_up(&named, &mut known)).await;
        assert_eq!(tunnel.ways_through(&core), [way], "it may still be there");
        assert_eq!(tunnel.forwarder_of(way), Some(forwarder));
        let mut state = tunnel.peers().remove(0);
        state.way = Some(way);
        assert_eq!(mesh.via(Some(&state)), "n-7");
        state.way = Some(Way::from(SocketAddr::from(([127, 0, 0, 1], 1))));
        assert_eq!(mesh.via(Some(&state)), "");
        assert_eq!(mesh.via(None), "");
        shutdown.stop_now();
    }
}
