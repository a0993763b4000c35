//! Keep-alives, the watchdog, expiry and changed settings.

use super::lab::SILENCE_MAX;
use super::*;

const KEEPALIVE: Duration = Duration::from_secs(5);

fn kept_alive() -> (End, End) {
    let (node, core) = lab();
    let mut peer = node.peer(&core, Some(core.address));
    peer.keepalive = Some(KEEPALIVE);
    node.device.set_peers(vec![peer], node.now);
    (node, core)
}

#[test]
fn a_peer_with_a_keepalive_is_handshaken_with_at_once() {
    let (mut node, mut core) = kept_alive();
    node.tick_at(Duration::ZERO);
    assert_eq!(node.replies.len(), 1);
    assert_eq!(node.replies[0].bytes.len(), 148);
    node.step(&mut core);
    core.step(&mut node);
    assert!(node.device.peers(node.now)[0].handshake_age.is_some());
    assert!(node.device.peers(node.now)[0].rtt.is_some());
}

#[test]
fn a_peer_that_is_to_come_to_us_is_left_alone() {
    let (_, mut core) = lab();
    core.tick_at(Duration::from_secs(60));
    assert!(core.replies.is_empty());
}

#[test]
fn a_keepalive_goes_when_nothing_else_went() {
    let (mut node, mut core) = kept_alive();
    join(&mut node, &mut core);
    node.tick_at(KEEPALIVE - Duration::from_secs(1));
    assert!(node.replies.is_empty());
    node.tick_at(KEEPALIVE);
    assert_eq!(node.only_message().len(), 32);
    node.tick_at(KEEPALIVE + Duration::from_secs(1));
    assert!(node.replies.is_empty(), "one is enough");
}

/// A core that restarted drops what it can't decrypt without a word.
#[test]
fn the_watchdog_shakes_hands_with_a_silent_peer() {
    let (mut node, mut core) = kept_alive();
    join(&mut node, &mut core);
    let is_initiation = |reply: &Reply| reply.bytes.len() == 148;
    node.tick_at(SILENCE_MAX - TICK);
    assert!(!node.replies.iter().any(is_initiation));
    node.replies.clear();
    node.tick_at(SILENCE_MAX);
    assert!(node.replies.iter().any(is_initiation));
    node.replies.clear();
    node.tick_at(SILENCE_MAX + TICK);
    assert!(!node.replies.iter().any(is_initiation), "not at every tick");
}

#[test]
fn a_silent_peer_is_looked_for_where_it_was_configured() {
    let (mut node, mut core) = kept_alive();
    join(&mut node, &mut core);
    let elsewhere: SocketAddr = "198.51.100.7:7".parse().unwrap();
    core.seal_to(&node, b"from elsewhere");
    let message = core.only_message();
    node.take(elsewhere, &message);
    assert_eq!(node.endpoint_of(&core), Some(elsewhere));
    node.tick_at(SILENCE_MAX);
    assert_eq!(node.endpoint_of(&core), Some(core.address));
}

#[test]
fn settings_that_stay_keep_a_roamed_endpoint_and_a_new_one_moves_it() {
    let (mut node, mut core) = kept_alive();
    join(&mut node, &mut core);
    let elsewhere: SocketAddr = "198.51.100.7:7".parse().unwrap();
    core.seal_to(&node, b"from elsewhere");
    let message = core.only_message();
    node.take(elsewhere, &message);

    node.device.set_peers(vec![node.peer(&core, Some(core.address))], node.now);
    assert_eq!(node.endpoint_of(&core), Some(elsewhere), "the same setting moves nothing");
    let moved: SocketAddr = "203.0.113.9:9".parse().unwrap();
    node.device.set_peers(vec![node.peer(&core, Some(moved))], node.now);
    assert_eq!(node.endpoint_of(&core), Some(moved));
    assert_eq!(node.seal_to(&core, b"same keys"), Sealed::Data(48 + 9 + 32));
}

#[test]
fn a_peer_without_an_endpoint_gets_nothing_and_queues_nothing() {
    let (mut node, mut core) = lab();
    assert_eq!(core.try_seal(&node, b"where to?"), Err(DropReason::NoEndpoint));
    assert_eq!(core.metrics.dropped_count(DropReason::NoEndpoint), 1);
    join(&mut node, &mut core);
    assert!(node.arrived.is_empty());
}

#[test]
fn a_handshake_can_be_asked_for() {
    let (mut node, mut core) = lab();
    join(&mut node, &mut core);
    assert_eq!(node.device.peers(node.now)[0].silence, Some(Duration::ZERO));
    node.device.handshake(&core.key, node.now, &mut node.replies);
    assert!(node.replies.is_empty(), "it has just been shaken");
    node.now += Duration::from_secs(1);
    node.device.handshake(&core.key, node.now, &mut node.replies);
    assert_eq!(node.only_message().len(), 148);
    node.device.handshake(&core.key, node.now, &mut node.replies);
    assert!(node.replies.is_empty(), "the answer may be on its way");
    node.now += Duration::from_millis(500);
    node.device.handshake_to(core.key.address().into(), node.now, &mut node.replies);
    assert_eq!(node.only_message().len(), 148, "the first may have gone to deaf ears");
}

/// Whoever asks first, and however often: other ways get the initiation too.
#[test]
fn an_initiation_that_went_to_the_way_in_use_goes_by_others_too() {
    let (mut node, core) = lab();
    node.device.handshake(&core.key, node.now, &mut node.replies);
    let bytes = node.only_message();
    let now = node.now + Duration::from_millis(100);
    let to = Way::from("203.0.113.9:9".parse::<SocketAddr>().unwrap());
    let peer = node.device.peer(&core.key).unwrap();
    let mut out = Outcome { replies: &mut node.replies, metrics: &node.metrics };
    peer.link.lock().initiate_by(core.address.into(), now, &mut out);
    peer.link.lock().initiate_by(to, now, &mut out);
    assert_eq!(node.replies, [Reply { to, bytes }]);
}

/// A core that is back after a long break gets what is of use, not what has piled up.
#[test]
fn what_waits_for_keys_is_what_is_still_of_use() {
    let (mut node, mut core) = kept_alive();
    for number in 0..100_u8 {
        node.seal_to(&core, &[number]);
        node.now += Duration::from_millis(100);
    }
    node.replies.clear();
    node.device.handshake(&core.key, node.now, &mut node.replies);
    node.step(&mut core);
    core.step(&mut node);
    node.step(&mut core);
    let last = |packet: &Vec<u8>| packet[48];
    let arrived: Vec<u8> = core.arrived.iter().map(last).collect();
    // The first one rides on boringtun's own queue; of the others the last second's.
    assert_eq!(arrived, [0, 90, 91, 92, 93, 94, 95, 96, 97, 98, 99]);
}

/// boringtun gives up after 90 s by its own clock, then says so at each tick until somebody begins
/// anew.
#[test]
#[allow(clippy::print_stderr, reason = "a skipped test says so")]
fn an_expired_handshake_is_begun_again() {
    if std::env::var_os("ANTIPODE_REQUIRE_ALL").is_none() {
        eprintln!("skipped: takes 92 s; set ANTIPODE_REQUIRE_ALL=1");
        return;
    }
    let (mut node, _) = kept_alive();
    let started = crate::tunnel::now();
    while node.metrics.handshake_count(HandshakeOutcome::Expired) == 0 {
        node.now = crate::tunnel::now();
        assert!(node.now - started < Duration::from_secs(95), "gives up after 90 s");
        node.replies.clear();
        node.tick_at(Duration::ZERO);
        std::thread::sleep(TICK);
    }
    assert_eq!(node.only_message().len(), 148, "begun again in the same tick");
    node.tick_at(Duration::ZERO);
    assert_eq!(node.metrics.handshake_count(HandshakeOutcome::Expired), 1, "counted once");
}
