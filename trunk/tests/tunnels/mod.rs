//! A node's tunnel and a core's, for trunks in them.
#![allow(clippy::unwrap_used, reason = "a test stops where its world cannot be made")]

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use antipode_proto::registry::v1::Carrier;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{CoreTarget, NodeIdentity};
use antipode_tunnel::{PeerConfig, PrivateKey, PublicKey, TRUNK_PORT, Tunnel, TunnelConfig};

use crate::world::{Core, Node};

/// A core's tunnel, to which the node comes.
pub(crate) fn of_core(own: &PrivateKey, node: PublicKey, shutdown: &Shutdown) -> Tunnel {
    let tunnel = bind(own, shutdown);
    tunnel.set_peers(vec![PeerConfig::new(node)]);
    tunnel
}

/// A node's, which finds the core at an address.
pub(crate) fn of_node(
    own: &PrivateKey,
    (core, at): (PublicKey, SocketAddr),
    shutdown: &Shutdown,
) -> Tunnel {
    let tunnel = bind(own, shutdown);
    let keepalive = Some(Duration::from_secs(10));
    tunnel.set_peers(vec![PeerConfig { endpoint: Some(at), keepalive, ..PeerConfig::new(core) }]);
    tunnel
}

fn bind(own: &PrivateKey, shutdown: &Shutdown) -> Tunnel {
    let config = TunnelConfig::new(own.clone(), (Ipv4Addr::LOCALHOST, 0).into());
    Tunnel::bind(config, &shutdown.tasks(), antipode_tunnel::Metrics::default()).unwrap()
}

/// Where a core's trunks are, inside.
pub(crate) fn trunk_of(core: PublicKey) -> SocketAddr {
    SocketAddr::from((core.address(), TRUNK_PORT))
}

/// Lets the node in.
pub(crate) fn admit(core: &Core, node: PublicKey) {
    core.server.set_nodes(vec![NodeIdentity {
        member_id: "node-1".into(),
        name: "node-1".into(),
        region: "test".into(),
        address: node.address(),
    }]);
}

/// Dials a core through the node's tunnel, until there is a trunk.
pub(crate) async fn dial(node: &Node, tunnel: &Tunnel, core: PublicKey) {
    let waking = tunnel.clone();
    node.trunks.on_dial(move |address| waking.handshake_to(address));
    node.dial(CoreTarget {
        member_id: "core-1".into(),
        name: "core-1".into(),
        address: core.address(),
        port: TRUNK_PORT,
        carrier: Carrier::Quic,
    });
    node.up().await;
}
