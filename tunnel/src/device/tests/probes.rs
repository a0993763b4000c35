//! Probes between two devices, and what strangers make of them.

use super::*;
use crate::metrics::ProbeOutcome;
use crate::probe::Heard;
use crate::probe::prober::Asking;

const IN_USE: Asking = Asking { full: true, in_use: true };

/// A probe of the node's, as it leaves.
fn probe(node: &End, core: &End) -> Vec<u8> {
    let way = Way::from(core.address);
    node.device.probe(&core.key, way, IN_USE, node.now).unwrap().bytes
}

/// Gives a datagram to `end`; what it says, and the echo.
fn give(end: &End, from: SocketAddr, datagram: &[u8]) -> (Option<(PublicKey, Heard)>, Vec<Reply>) {
    let mut echoes = Vec::new();
    let heard = end.device.handle_probe(from.into(), datagram, end.now, &mut echoes);
    (heard, echoes)
}

#[test]
fn a_probe_is_echoed_to_where_it_came_from_and_moves_nobody() {
    let (node, core) = lab();
    let elsewhere = SocketAddr::from(([198, 51, 100, 1], 9));
    let probe = probe(&node, &core);
    let (heard, echoes) = give(&core, elsewhere, &probe);
    assert_eq!(heard, Some((node.key, Heard::Used { way: elsewhere.into() })));
    let [echo] = &echoes[..] else { panic!("{echoes:?}") };
    assert_eq!(echo.to, elsewhere.into());
    assert!(echo.bytes.len() < probe.len(), "an echo is never longer than its probe");
    assert_eq!(core.endpoint_of(&node), None, "WireGuard's endpoint stays");

    let (heard, echoes) = give(&node, core.address, &echo.bytes);
    let way = Way::from(core.address);
    let rtt = Duration::ZERO;
    assert_eq!(heard, Some((core.key, Heard::Echo { way, rtt, full: true, in_use: true })));
    assert!(echoes.is_empty(), "nobody answers an echo");
    assert!(node.device.quality(&core.key, node.now).is_measured);
    assert!(!core.device.quality(&node.key, core.now).is_measured);
}

#[test]
fn strangers_and_repeats_get_nothing() {
    let (node, core) = lab();
    let mut stranger = End::new(9);
    stranger.device.set_peers(vec![stranger.peer(&core, Some(core.address))], stranger.now);
    stranger.now = node.now;
    let foreign = probe(&stranger, &core);
    assert_eq!(give(&core, stranger.address, &foreign), (None, Vec::new()));
    let probe = probe(&node, &core);
    let mut damaged = probe.clone();
    damaged[30] ^= 1;
    assert_eq!(give(&core, node.address, &damaged), (None, Vec::new()));
    assert_eq!(give(&core, node.address, &probe).1.len(), 1);
    assert_eq!(give(&core, node.address, &probe), (None, Vec::new()));
    assert_eq!(give(&node, node.address, &probe), (None, Vec::new()), "sent back to its sender");
    let count = |end: &End, outcome| end.metrics.links.probe_count(outcome);
    assert_eq!(count(&core, ProbeOutcome::Forged), 2);
    assert_eq!(count(&core, ProbeOutcome::Repeated), 1);
    assert_eq!(count(&node, ProbeOutcome::Forged), 1);
}

#[test]
fn a_peer_that_is_gone_is_not_answered() {
    let (node, core) = lab();
    let probe = probe(&node, &core);
    core.device.set_peers(Vec::new(), core.now);
    assert_eq!(give(&core, node.address, &probe), (None, Vec::new()));
}

/// What is sent beside packets counts too: it arrives.
#[test]
fn both_ends_count_the_same_messages() {
    let (mut node, mut core) = lab();
    let keepalive = Some(Duration::from_secs(10));
    let config = PeerConfig { keepalive, ..node.peer(&core, Some(core.address)) };
    node.device.set_peers(vec![config], node.now);
    for payload in [&b"first"[..], b"second", b"third"] {
        node.seal_to(&core, payload);
    }
    for _ in 0..3 {
        node.step(&mut core);
        core.seal_to(&node, b"down");
        core.step(&mut node);
    }
    node.tick_at(Duration::from_secs(11));
    node.step(&mut core);
    let states = |end: &End| end.device.peers(end.now).remove(0);
    let (node, core) = (states(&node), states(&core));
    assert!(node.sent >= 5, "a keep-alive after the handshake, three packets, and one for silence");
    assert_eq!((node.sent, core.sent), (core.arrived, node.arrived));
}
