//! Who may cost us a handshake, seen from outside.

use super::lab::{SILENCE_MAX, rogue, rogue_joined, second_node, sent};
use super::*;

/// Each message passes a limiter of ours and one of boringtun's. Were both one, half would pass.
#[test]
fn a_handshake_counts_once() {
    let (node, mut core) = lab();
    let mut rogue = rogue(&node, &core);
    exhaust_share(&mut rogue, &node, &mut core);
    let answered = core.metrics.handshake_count(HandshakeOutcome::Answered);
    assert_eq!(answered, u64::from(SOURCE_HANDSHAKES_BURST));
    assert!(core.replies.iter().all(|reply| reply.bytes.len() == 92), "no cookies");
}

#[test]
fn a_busy_source_has_to_prove_its_address_and_then_may_go_on() {
    let (node, mut core) = lab();
    let mut rogue = rogue(&node, &core);
    exhaust_share(&mut rogue, &node, &mut core);
    core.replies.clear();

    let initiation = sent(rogue.format_handshake_initiation(&mut [0; 200], true));
    core.take(node.address, &initiation);
    let cookie = core.only_message();
    assert_eq!(cookie.len(), 64);
    assert_eq!(core.metrics.handshake_count(HandshakeOutcome::CookieSent), 1);

    assert!(matches!(rogue.decapsulate(None, &cookie, &mut [0; 200]), TunnResult::Done));
    let proven = sent(rogue.format_handshake_initiation(&mut [0; 200], true));
    core.take(node.address, &proven);
    assert_eq!(core.only_message().len(), 92, "with the cookie it is answered");
}

#[test]
fn a_flood_from_one_source_does_not_starve_another() {
    let (node, mut core) = lab();
    let mut other = second_node(&node, &core);
    let mut rogue = rogue(&node, &core);
    let initiation = sent(rogue.format_handshake_initiation(&mut [0; 200], true));
    for _ in 0..2000 {
        core.take(node.address, &initiation);
    }
    let stale = core.metrics.handshake_count(HandshakeOutcome::StaleTimestamp);
    assert!(stale < u64::from(SOURCE_HANDSHAKES_BURST), "{stale} copies reached boringtun");
    assert!(core.metrics.handshake_count(HandshakeOutcome::CookieSent) > 1900);
    core.replies.clear();
    join(&mut other, &mut core);
}

#[test]
fn a_source_beyond_its_proven_share_is_limited() {
    let (node, mut core) = lab();
    let mut rogue = rogue(&node, &core);
    exhaust_share(&mut rogue, &node, &mut core);
    core.replies.clear();
    let initiation = sent(rogue.format_handshake_initiation(&mut [0; 200], true));
    core.take(node.address, &initiation);
    let cookie = core.only_message();
    assert!(matches!(rogue.decapsulate(None, &cookie, &mut [0; 200]), TunnResult::Done));
    exhaust_share(&mut rogue, &node, &mut core);
    exhaust_share(&mut rogue, &node, &mut core);
    let limited = core.metrics.handshake_count(HandshakeOutcome::Limited);
    assert_eq!(limited, u64::from(SOURCE_HANDSHAKES_BURST));
}

#[test]
fn a_cookie_that_comes_to_us_is_used() {
    let (mut node, mut core) = lab();
    let mut rogue = rogue(&node, &core);
    exhaust_share(&mut rogue, &node, &mut core);
    core.replies.clear();
    node.seal_to(&core, b"hello");
    node.step(&mut core);
    core.step(&mut node);
    assert_eq!(node.metrics.handshake_count(HandshakeOutcome::CookieReceived), 1);
    assert!(node.replies.is_empty(), "the proof goes with the next try");
}

#[test]
fn a_cookie_for_an_unknown_index_is_dropped() {
    let (node, mut core) = lab();
    rogue_joined(&node, &mut core);
    let mut cookie = vec![0; 64];
    cookie[0] = 3;
    cookie[4..8].copy_from_slice(&[0xff; 4]);
    core.take(node.address, &cookie);
    let known = core.metrics.dropped_count(DropReason::UnknownIndex)
        + core.metrics.handshake_count(HandshakeOutcome::Invalid);
    assert_eq!(known, 1);
}

/// The timers may look at a peer while it is being removed.
#[test]
fn the_series_of_a_peer_that_is_gone_stay_gone() {
    let mut registry = prometheus_client::registry::Registry::default();
    let metrics = Metrics::register(&mut registry);
    let (core, now) = (End::new(2), crate::tunnel::now());
    let device = Device::new(PrivateKey::generate(), SILENCE_MAX, metrics, now);
    let name = core.key.short();
    let series = || {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text.lines().filter(|line| line.contains(&name)).count()
    };
    for round in 0..200 {
        device.set_peers(vec![PeerConfig::new(core.key)], now);
        device.tick(now, &mut Vec::new());
        assert!(series() > 0);
        let peer = device.peer(&core.key).unwrap();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for step in 0..200 {
                    let now = now + Duration::from_secs(step);
                    device.tick(now, &mut Vec::new());
                    device.probes_due(now, &mut Vec::new());
                }
            });
            device.set_peers(Vec::new(), now);
        });
        device.show(&peer, |_| panic!("it is not listed any more"));
        assert_eq!(series(), 0, "round {round}");
    }
}

fn exhaust_share(rogue: &mut Tunn, node: &End, core: &mut End) {
    for _ in 0..SOURCE_HANDSHAKES_BURST {
        let initiation = sent(rogue.format_handshake_initiation(&mut [0; 200], true));
        core.take(node.address, &initiation);
    }
}
