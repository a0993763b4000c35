//! The machine against a world of ways with delay, loss and walls, in virtual time.

mod lab;
mod streams;

use std::time::Duration;

use lab::{Lab, Path, ms, target, through, udp, udp6};

use super::*;
use crate::way::ThroughId;

/// The way that answers first is taken, and IPv6 has a head start.
#[test]
fn ipv6_wins_a_fair_race_and_loses_an_unfair_one() {
    let check = |what: &str, v6_ms: u64, v4_ms: u64, expected: Candidate| {
        let mut lab = Lab::new(1);
        lab.path(udp6(1), Path::delay(v6_ms)).path(udp(1), Path::delay(v4_ms));
        lab.begin();
        lab.run(ms(1000));
        assert_eq!(lab.used(), Some(expected), "{what}");
    };
    check("equal", 100, 100, udp6(1));
    check("IPv4 a little faster", 100, 80, udp6(1));
    check("IPv4 much faster", 200, 50, udp(1));
}

#[test]
fn a_broken_family_costs_no_more_than_the_head_start() {
    let mut lab = Lab::new(1);
    lab.path(udp6(1), Path::dead()).path(udp(1), Path::delay(100));
    lab.begin();
    lab.run(ms(260));
    assert_eq!(lab.used(), Some(udp(1)));
    assert!(!lab.did(|order| matches!(order, Order::Resolve | Order::Rebind)));
}

/// Nobody says anything on it, so that a few lost probes are all there is to hear.
#[test]
fn an_idle_way_that_loses_is_no_dead_one() {
    for seed in 0..10 {
        let mut lab = Lab::new(seed);
        lab.path(udp(1), Path::delay(seed * 20).lossy(0.12)).stream(Path::delay(50));
        lab.begin();
        lab.run(Duration::from_secs(1200));
        assert_eq!(lab.changes(), 1, "seed {seed}");
        assert!(!lab.did(|order| matches!(order, Order::OpenStream(_))), "seed {seed}");
    }
}

#[test]
fn a_dead_address_is_left_within_three_seconds() {
    for seed in 0..50 {
        let mut lab = Lab::new(seed);
        lab.path(udp(1), Path::delay(100).lossy(0.05)).path(udp(2), Path::delay(110));
        lab.begin();
        lab.run(Duration::from_secs(20));
        let (first, other) = if lab.used() == Some(udp(1)) { (1, 2) } else { (2, 1) };
        lab.run(ms(137 * seed % 2000));
        lab.set(udp(first), Path::dead());
        lab.run(ms(2500));
        assert_eq!(lab.used(), Some(udp(other)), "seed {seed}");
        assert!(!lab.did(|order| *order == Order::Rebind), "another address answered");
    }
}

#[test]
fn when_nothing_answers_names_sockets_and_streams_are_tried_within_three_seconds() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(100)).stream(Path::delay(100));
    lab.begin();
    lab.run(Duration::from_secs(10));
    assert!(!lab.did(|order| matches!(order, Order::OpenStream(_) | Order::Rebind)));
    lab.cut();
    lab.run(ms(2500));
    for expected in [Order::Resolve, Order::Rebind, Order::OpenStream(target())] {
        assert!(lab.did(|order| *order == expected), "{expected:?}");
    }
    assert_eq!(lab.used(), Some(udp(1)), "there is nothing else");
    lab.run(Duration::from_secs(57));
    lab.heal();
    let healed = lab.now();
    lab.run_until(|lab| lab.paths.is_up());
    assert!(since(healed, lab.now()) <= ms(200 + 250), "{:?}", since(healed, lab.now()));
}

#[test]
fn blocked_udp_is_left_for_a_stream_within_five_seconds_and_taken_back() {
    for seed in 0..20 {
        let mut lab = Lab::new(seed);
        lab.path(udp(1), Path::delay(100)).stream(Path::delay(100));
        lab.begin();
        lab.run(Duration::from_secs(5) + ms(seed * 100));
        lab.set(udp(1), Path::dead());
        lab.run(ms(4000));
        assert!(matches!(lab.paths.using(), Some(Way::Stream(_))), "seed {seed}");
        assert!(
            lab.paths.is_up() && !lab.paths.uses_socket(),
            "a fresh socket would not disturb it"
        );
        lab.run(Duration::from_secs(60));
        assert!(matches!(lab.paths.using(), Some(Way::Stream(_))), "it stays");
        lab.set(udp(1), Path::delay(100));
        lab.run(ms(4000));
        assert_eq!(lab.used(), Some(udp(1)), "seed {seed}");
        assert!(lab.paths.uses_socket());
        assert_eq!(lab.streams_open(), 1, "it is kept for a while");
        lab.run(Duration::from_secs(12));
        assert_eq!(lab.streams_open(), 0);
    }
}

#[test]
fn udp_blocked_from_the_start_begins_on_a_stream() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::dead()).path(udp6(1), Path::dead()).stream(Path::delay(100));
    lab.begin();
    lab.run(ms(3500));
    assert!(matches!(lab.paths.using(), Some(Way::Stream(_))));
}

/// A wall that knows WireGuard lets probes through.
#[test]
fn a_wall_against_wireguard_alone_is_passed_by_a_stream_and_stays_so() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50).without_wireguard()).stream(Path::delay(60));
    lab.begin();
    lab.run(Duration::from_secs(5));
    assert!(matches!(lab.paths.using(), Some(Way::Stream(_))));
    let changes = lab.changes();
    lab.run(Duration::from_secs(1200));
    assert_eq!(lab.changes(), changes, "probes alone bring nobody back");
    lab.set(udp(1), Path::delay(50));
    lab.run(Duration::from_secs(620));
    assert_eq!(lab.used(), Some(udp(1)));
}

#[test]
fn a_way_that_swallows_full_packets_is_left() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50).narrow()).path(udp(2), Path::delay(70));
    lab.begin();
    lab.run(Duration::from_secs(20));
    assert_eq!(lab.used(), Some(udp(2)));
    lab.run(Duration::from_secs(60));
    assert_eq!(lab.used(), Some(udp(2)), "however much nearer it is");

    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50).narrow()).stream(Path::delay(50));
    lab.begin();
    lab.run(Duration::from_secs(25));
    assert!(matches!(lab.paths.using(), Some(Way::Stream(_))));
}

#[test]
fn a_peer_that_hears_nothing_is_left_although_it_is_heard() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50)).path(udp(2), Path::delay(70));
    lab.begin();
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.used(), Some(udp(1)));
    lab.set(udp(1), Path::dead());
    for _ in 0..16 {
        let now = lab.now();
        lab.paths.handle_heard(udp_way(1), now);
        lab.run(ms(250));
    }
    assert_eq!(lab.used(), Some(udp(2)));
}

#[test]
fn a_peer_of_standard_wireguard_is_judged_by_its_handshakes() {
    let mut lab = Lab::new(1);
    lab.standard = true;
    lab.path(udp(1), Path::delay(50)).path(udp(2), Path::delay(90));
    lab.begin();
    lab.run(Duration::from_secs(3));
    assert_eq!(lab.used(), Some(udp(1)));
    lab.run(Duration::from_secs(100));
    assert!(lab.paths.is_up(), "silence alone is no death");
    let probes = lab.count(|order| matches!(order, Order::Probe { .. }));
    assert!(probes < 120, "{probes} probes nobody answers");
    lab.set(udp(1), Path::dead());
    lab.complain();
    lab.run(ms(1700));
    assert_eq!(lab.used(), Some(udp(2)));
}

#[test]
fn a_standard_peer_is_found_again_after_a_cut() {
    let mut lab = Lab::new(1);
    lab.standard = true;
    lab.path(udp(1), Path::delay(50));
    lab.begin();
    lab.run(Duration::from_secs(3));
    lab.cut();
    lab.complain();
    lab.run(Duration::from_secs(20));
    assert!(!lab.paths.is_up());
    lab.heal();
    lab.run(ms(1000));
    assert!(lab.paths.is_up());
}

#[test]
fn a_neighbour_is_taken_when_it_is_clearly_and_lastingly_better() {
    let mut lab = Lab::new(3);
    lab.path(udp(1), Path::delay(100)).path(through(1), Path::delay(60));
    lab.begin();
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.used(), Some(udp(1)), "the direct way answers first or is preferred");
    lab.run(Duration::from_secs(15));
    assert_eq!(lab.used(), Some(through(1)));

    lab.set(udp(1), Path::delay(60));
    lab.run(Duration::from_secs(9));
    assert_eq!(lab.used(), Some(through(1)), "not yet");
    lab.run(Duration::from_secs(20));
    assert_eq!(lab.used(), Some(udp(1)), "the direct way healed");
    lab.set(through(1), Path::delay(55));
    lab.run(Duration::from_secs(60));
    assert_eq!(lab.used(), Some(udp(1)), "a little better is not worth it");
}

#[test]
fn a_neighbour_is_taken_at_once_when_the_direct_way_dies_and_left_when_it_dies() {
    let mut lab = Lab::new(3);
    lab.path(udp(1), Path::delay(100)).path(through(1), Path::delay(150)).stream(Path::delay(90));
    lab.begin();
    lab.run(Duration::from_secs(10));
    assert_eq!(lab.used(), Some(udp(1)));
    assert_eq!(lab.paths.second(lab.now()), None, "a copy would come too late");
    lab.set(udp(1), Path::dead());
    lab.run(ms(2500));
    assert_eq!(lab.used(), Some(through(1)));
    assert_eq!(lab.streams_open(), 0, "no stream was needed");
    lab.set(udp(1), Path::delay(100)).set(through(1), Path::dead());
    lab.run(Duration::from_secs(6));
    assert_eq!(lab.used(), Some(udp(1)));
}

#[test]
fn a_lossy_direct_way_is_left_for_a_neighbour() {
    let mut lab = Lab::new(5);
    lab.path(udp(1), Path::delay(100).lossy(0.15)).path(through(1), Path::delay(105));
    lab.begin();
    lab.run(Duration::from_secs(90));
    assert_eq!(lab.used(), Some(through(1)));
    assert_eq!(lab.paths.second(lab.now()), Some(udp_way(1)));
}

#[test]
fn an_address_that_is_off_the_list_is_left_once_another_answers() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50)).path(udp(2), Path::dead());
    lab.paths.set_candidates(vec![udp(1)], lab.now());
    lab.run(Duration::from_secs(5));
    lab.paths.set_candidates(vec![udp(2)], lab.now());
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.used(), Some(udp(1)), "it carries");
    lab.set(udp(2), Path::delay(50));
    lab.run(Duration::from_secs(5));
    assert_eq!(lab.used(), Some(udp(2)));
    assert_eq!(lab.paths.ways(lab.now()).len(), 1);
}

#[test]
fn candidates_are_bounded_and_told_once() {
    let mut lab = Lab::new(1);
    let many = (0..100).flat_map(|port| [udp(port), udp(port), through(port.into())]).collect();
    lab.paths.set_candidates(many, lab.now());
    assert_eq!(lab.paths.ways(lab.now()).len(), 2 * CANDIDATES_MAX);
}

/// A process that was not run for a while has heard nothing, and that is nobody's fault.
#[test]
fn a_process_that_slept_blames_no_way() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50)).stream(Path::delay(50));
    lab.begin();
    lab.run(Duration::from_secs(5));
    lab.sleep(Duration::from_secs(3));
    lab.run(Duration::from_secs(5));
    assert!(lab.paths.is_up());
    assert!(!lab.did(|order| matches!(order, Order::Rebind | Order::OpenStream(_))));
    lab.sleep(Duration::from_secs(3));
    lab.cut();
    lab.run(ms(3500));
    assert!(!lab.paths.is_up(), "silence since then counts");
}

#[test]
fn a_fresh_socket_is_tried_at_once() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50));
    lab.begin();
    lab.run(Duration::from_secs(5));
    lab.cut();
    lab.run(Duration::from_secs(3));
    let probes = |lab: &Lab| lab.count(|order| matches!(order, Order::Probe { .. }));
    let before = probes(&lab);
    let now = lab.now();
    lab.paths.handle_rebound(now);
    lab.obey();
    assert_eq!(probes(&lab), before + 1);
}

#[test]
fn remedies_become_rarer() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::dead());
    lab.begin();
    lab.run(Duration::from_secs(600));
    let rebinds = lab.count(|order| *order == Order::Rebind);
    assert!((5..20).contains(&rebinds), "{rebinds} in ten minutes");
}

/// As when an older release is started in its place.
#[test]
fn a_peer_that_answers_no_probes_any_more_is_not_lost_again_and_again() {
    let mut lab = Lab::new(1);
    lab.path(udp(1), Path::delay(50));
    lab.begin();
    lab.run(Duration::from_secs(5));
    lab.standard = true;
    lab.run(Duration::from_secs(60));
    assert!(lab.paths.is_up());
    assert!(lab.count(|order| *order == Order::Rebind) <= 1);
}

/// The driver sends what is ordered after it has looked at what came, which may have waited.
#[test]
fn a_probe_that_follows_a_late_look_at_an_echo_is_answered_too() {
    let start = crate::tunnel::now();
    let (mut paths, way) = (Paths::new(start), udp_way(1));
    paths.set_candidates(vec![udp(1)], start);
    let (echoed, looked) = (start + ms(100), start + ms(130));
    while paths.poll_output().is_some() {}
    paths.handle_echo(way, start, echoed, looked);
    let probed = Order::Probe { way, full: true, in_use: true };
    assert!(std::iter::from_fn(|| paths.poll_output()).any(|order| order == probed));
    let now = looked + ms(100);
    paths.handle_echo(way, looked, now, now);
    let state = paths.ways(now)[0];
    assert_eq!((state.rtt, state.silence), (Some(ms(100)), Some(ms(0))));
}

fn udp_way(port: u16) -> Way {
    let Candidate::Udp(remote) = udp(port) else { panic!("an address") };
    remote.into()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    /// Whatever the ways do: time moves on, ways change of themselves at most every ten seconds,
    /// what is in use is among the ways, and once one is good it is found.
    #[test]
    fn a_world_in_turmoil_never_loses_the_machine(
        seed in 0u64..1000,
        turns in proptest::collection::vec((0usize..5, 0u8..6, 10u64..20_000), 1..40),
    ) {
        let mut lab = Lab::new(seed);
        lab.path(udp(1), Path::delay(50)).path(udp6(1), Path::delay(80));
        lab.path(through(1), Path::delay(70)).path(through(2), Path::delay(40));
        lab.stream(Path::delay(60));
        lab.begin();
        let all = [udp(1), udp6(1), through(1), through(2), Candidate::Stream(target())];
        for (which, how, wait) in turns {
            let path = match how {
                0 => Path::dead(),
                1 => Path::delay(20),
                2 => Path::delay(150),
                3 => Path::delay(60).lossy(0.3),
                4 => Path::delay(60).narrow(),
                _ => Path::delay(60).without_wireguard(),
            };
            lab.set(all[which].clone(), path);
            lab.run(ms(wait));
            proptest::prop_assert!(lab.streams_open() <= 1);
        }
        all.iter().for_each(|candidate| {
            lab.set(candidate.clone(), Path::dead());
        });
        lab.run(Duration::from_secs(10));
        lab.set(through(2), Path::delay(40));
        lab.run(ms(1000));
        proptest::prop_assert_eq!(lab.used(), Some(Candidate::Through(ThroughId(2))));
        proptest::prop_assert!(lab.paths.is_up());
    }
}
