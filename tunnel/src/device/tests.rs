//! The device against itself, in memory: every trap of boringtun has a test here.

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};

use boringtun::noise::{Tunn, TunnResult};
use proptest::prelude::*;

use super::*;
use crate::admission::SOURCE_HANDSHAKES_BURST;
use crate::packet::{read_udp, write_udp};

mod lab;
mod limits;
mod links;
mod probes;
mod traps;

use lab::{End, join, lab, udp};

#[test]
fn the_first_packet_rides_on_the_handshake() {
    let (mut node, mut core) = lab();
    assert_eq!(node.seal_to(&core, b"first"), Sealed::Handshake(148));
    assert_eq!(node.seal_to(&core, b"second"), Sealed::Waits);
    node.step(&mut core);
    core.step(&mut node);
    assert_eq!(node.replies.len(), 3, "a keep-alive and both packets that waited");
    node.step(&mut core);
    assert_eq!(core.payloads(), [b"first".to_vec(), b"second".to_vec()]);
    assert_eq!(node.metrics.handshake_count(HandshakeOutcome::Initiated), 1);
    assert_eq!(node.metrics.handshake_count(HandshakeOutcome::Completed), 1);
    assert_eq!(core.metrics.handshake_count(HandshakeOutcome::Answered), 1);
    assert_eq!(node.metrics.carried_count(Direction::Out).0, 2);
    assert_eq!(core.metrics.carried_count(Direction::In), (2, (48 + 5) + (48 + 6)));
}

/// The answering side may not use new keys before it has heard with them; what waited there goes
/// then.
#[test]
fn what_waits_at_the_answering_side_goes_on_the_first_data() {
    let (mut node, mut core) = lab();
    core.device.set_peers(vec![core.peer(&node, Some(node.address))], core.now);
    core.seal_to(&node, b"from the core");
    core.replies.clear(); // Its own initiation is lost.
    node.seal_to(&core, b"from the node");
    node.step(&mut core);
    core.step(&mut node);
    node.step(&mut core);
    core.step(&mut node);
    assert_eq!(node.payloads(), [b"from the core".to_vec()]);
    assert_eq!(core.payloads(), [b"from the node".to_vec()]);
}

#[test]
fn both_sides_may_begin_at_once() {
    let (mut node, mut core) = lab();
    core.device.set_peers(vec![core.peer(&node, Some(node.address))], core.now);
    node.seal_to(&core, b"up");
    core.seal_to(&node, b"down");
    for _ in 0..4 {
        node.step(&mut core);
        core.step(&mut node);
    }
    assert_eq!(core.payloads(), [b"up".to_vec()]);
    assert_eq!(node.payloads(), [b"down".to_vec()]);
}

#[test]
fn fifty_peers_are_told_apart_by_index() {
    let mut core = End::new(1);
    let mut nodes: Vec<End> = (2..52).map(End::new).collect();
    let peers = nodes.iter().map(|node| core.peer(node, None)).collect();
    core.device.set_peers(peers, core.now);
    for node in &mut nodes {
        let peer = node.peer(&core, Some(core.address));
        node.device.set_peers(vec![peer], node.now);
        join(node, &mut core);
    }
    for (at, node) in nodes.iter_mut().enumerate().rev() {
        core.seal_to(node, format!("for {at}").as_bytes());
        core.step(node);
        assert_eq!(node.payloads(), [format!("for {at}").into_bytes()]);
    }
    let states = core.device.peers(core.now);
    assert_eq!(states.len(), 50);
    assert!(states.iter().all(|state| state.handshake_age.is_some() && state.bytes_out > 0));
}

#[test]
fn a_removed_peer_stops_at_once_and_the_others_keep_their_keys() {
    let (mut node, mut core) = lab();
    let mut other = End::new(3);
    other.device.set_peers(vec![other.peer(&core, Some(core.address))], other.now);
    core.device.set_peers(vec![core.peer(&node, None), core.peer(&other, None)], core.now);
    join(&mut node, &mut core);
    join(&mut other, &mut core);

    core.device.set_peers(vec![core.peer(&other, None)], core.now);
    node.seal_to(&core, b"revoked");
    node.step(&mut core);
    other.seal_to(&core, b"still here");
    other.step(&mut core);
    assert_eq!(core.payloads(), [b"still here".to_vec()]);
    assert_eq!(core.metrics.dropped_count(DropReason::UnknownIndex), 1);
    assert_eq!(core.try_seal(&node, b"back"), Err(DropReason::NoPeer));
    node.now += Duration::from_secs(1);
    node.device.handshake(&core.key, node.now, &mut node.replies);
    node.step(&mut core);
    assert_eq!(core.metrics.handshake_count(HandshakeOutcome::UnknownPeer), 1);
    assert!(core.replies.is_empty(), "a stranger gets no answer");
}

#[test]
fn our_own_key_and_a_second_mention_are_no_peers() {
    let (node, core) = lab();
    let own = PeerConfig::new(core.key);
    let twice = PeerConfig { endpoint: Some(node.address), ..core.peer(&node, None) };
    core.device.set_peers(vec![own, core.peer(&node, None), twice], core.now);
    let states = core.device.peers(core.now);
    assert_eq!(states.len(), 1);
    assert_eq!(states[0].endpoint, None, "the first mention counts");
}
