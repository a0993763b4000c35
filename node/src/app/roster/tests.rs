//! Cores come, move and go.

use antipode_tunnel::Tunnel;
use antipode_tunnel::way::{StreamId, ThroughId};
use prometheus_client::registry::Registry;

use super::*;

#[test]
fn a_silent_core_is_tried_at_its_next_address() {
    let mut core = Core::new(Peer::default(), PublicKey::from([7; 32]));
    assert_eq!(core.turn(), None);
    assert!(core.look(None), "its names are looked up again");
    core.addresses = [1, 2].map(|port| SocketAddr::from(([127, 0, 0, 1], port))).to_vec();
    let first = core.turn();

    let looks = (1..100).find(|_| core.look(None)).unwrap();
    assert_eq!(looks, 25);
    assert_ne!(core.turn(), first);
    assert!(!core.look(None));
}

/// Where a direct way died and a detour was found before the new address was known, nobody else
/// would ever ask for it.
#[test]
fn the_names_of_a_core_behind_a_detour_are_looked_up_again() {
    let mut core = Core::new(Peer::default(), PublicKey::from([7; 32]));
    let direct = Some(Way::from(SocketAddr::from(([127, 0, 0, 1], 1))));
    let detours = [Some(Way::Stream(StreamId(1))), Some(Way::Through(ThroughId(1)))];
    assert!(!(0..100).any(|_| core.look_at_way(direct) || core.look_at_way(None)));
    for detour in detours {
        let due: Vec<_> = (1..100).filter(|_| core.look_at_way(detour)).collect();
        assert_eq!(due, [30, 60, 90]);
        assert!(!core.look_at_way(direct));
    }
}

fn follower(shutdown: &Shutdown) -> Follower {
    let key = antipode_tunnel::PrivateKey::generate();
    let config = antipode_tunnel::TunnelConfig::new(key, "127.0.0.1:0".parse().unwrap());
    let metrics = antipode_tunnel::Metrics::register(&mut Registry::default());
    let tunnel = Tunnel::bind(config, &shutdown.tasks(), metrics).unwrap();
    Follower {
        streams: Streams::default(),
        underlay: Underlay::InProcess(tunnel),
        trunks: Trunks::in_memory().0,
        carrier: Carrier::Quic,
        overrides: BTreeMap::new(),
        cores: BTreeMap::new(),
        lookups: Lookups::default(),
        mesh: Mesh::default(),
        tunnels: Tunnels::default(),
    }
}

/// Names that don't resolve must not keep a core that was removed.
#[tokio::test]
async fn a_core_off_the_roster_is_out_before_names_are_looked_up() {
    let shutdown = Shutdown::default();
    let mut follower = follower(&shutdown);
    let peer = |id: &str, key: u8| Peer {
        member_id: id.to_owned(),
        role: Role::Core.into(),
        wireguard_public_key: vec![key; 32].into(),
        endpoints: vec!["127.0.0.1:9".to_owned()],
        ..Peer::default()
    };
    let keys = async |follower: &Follower| -> Vec<PublicKey> {
        follower.underlay.peers().await.unwrap().iter().map(|peer| peer.public_key).collect()
    };
    follower.take_roster(&Roster { peers: vec![peer("a", 7), peer("b", 8)] }).await;
    let _ = tokio::time::timeout(LOOK_INTERVAL / 2, follower.keep_up()).await;
    assert_eq!(keys(&follower).await.len(), 2);

    follower.take_roster(&Roster { peers: vec![peer("b", 8), peer("c", 9)] }).await;
    assert_eq!(keys(&follower).await, [PublicKey::from([8; 32])]);
    let _ = tokio::time::timeout(LOOK_INTERVAL / 2, follower.keep_up()).await;
    assert_eq!(keys(&follower).await.len(), 2);
    shutdown.stop_now();
}

#[test]
fn the_operators_endpoint_counts() {
    let overrides = BTreeMap::from([("eu".to_owned(), "10.0.0.1:2".to_owned())]);
    let endpoints = vec!["198.51.100.1:1".to_owned()];
    let peer = |name: &str| Peer {
        name: name.to_owned(),
        endpoints: endpoints.clone(),
        ..Peer::default()
    };
    assert_eq!(overridden(&peer("eu"), &overrides).endpoints, ["10.0.0.1:2"]);
    assert_eq!(overridden(&peer("us"), &overrides).endpoints, endpoints);
}

#[tokio::test]
async fn a_name_that_does_not_resolve_keeps_what_was_known() {
    let shutdown = Shutdown::default();
    let mut follower = follower(&shutdown);
    let peer = Peer { wireguard_public_key: vec![7; 32].into(), ..Peer::default() };
    follower.take_core(peer);
    let address: SocketAddr = "127.0.0.1:1".parse().unwrap();
    for (found, known) in [(vec![address], vec![address]), (Vec::new(), vec![address])] {
        let found = Found { member_id: String::new(), addresses: found };
        follower.take_found(found).await;
        assert_eq!(follower.cores[""].addresses, known);
    }
    shutdown.stop_now();
}
