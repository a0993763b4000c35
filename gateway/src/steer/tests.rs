//! Decisions as a table, and what holds for every decision.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::health::Health::{Alive, Dead, Draining, Joining, Suspect};

/// (name, health, degrees east of the client, sessions of 100).
pub(super) type Row = (&'static str, Health, f64, u32);

#[test]
fn decisions() {
    use Reason::{LastResort, Nearest, Spill};

    check("nothing registered", &[], &[], Reason::None);
    check(
        "nearest first",
        &[("syd", Alive, 90., 0), ("ams", Alive, 2., 10)],
        &["ams", "syd"],
        Nearest,
    );
    check(
        "a tie by load",
        &[("ams", Alive, 2., 9), ("fra", Alive, 2., 8)],
        &["fra", "ams"],
        Nearest,
    );
    check(
        "then by name",
        &[("fra", Alive, 2., 9), ("ams", Alive, 2., 9)],
        &["ams", "fra"],
        Nearest,
    );
    check("79 % stays", &[("ams", Alive, 2., 79), ("fra", Alive, 5., 0)], &["ams", "fra"], Nearest);
    check("80 % spills", &[("ams", Alive, 2., 80), ("fra", Alive, 5., 0)], &["fra", "ams"], Spill);
    check(
        "all busy: nearest",
        &[("ams", Alive, 2., 99), ("fra", Alive, 5., 80)],
        &["ams", "fra"],
        Nearest,
    );
    check("full is closed", &[("ams", Alive, 2., 100), ("fra", Alive, 5., 90)], &["fra"], Spill);
    check("overfull too", &[("ams", Alive, 2., 250), ("fra", Alive, 5., 0)], &["fra"], Spill);
    check("all full", &[("ams", Alive, 2., 100), ("fra", Suspect, 5., 100)], &[], Reason::None);
    check(
        "draining takes none",
        &[("ams", Draining, 2., 0), ("fra", Alive, 5., 0)],
        &["fra"],
        Nearest,
    );
    check("nor the dead", &[("ams", Dead, 2., 0), ("fra", Alive, 5., 0)], &["fra"], Nearest);
    check("unknown is not healthy", &[("ams", Joining, 2., 0)], &[], Reason::None);
    check(
        "suspect comes last",
        &[("ams", Suspect, 2., 0), ("syd", Alive, 90., 99)],
        &["syd", "ams"],
        Nearest,
    );
    check(
        "suspect beats nothing",
        &[("ams", Suspect, 2., 0), ("fra", Dead, 1., 0)],
        &["ams"],
        LastResort,
    );
}

#[test]
fn one_that_accepts_nothing_is_never_named() {
    let mut snapshot = snapshot(&[("ams", Alive, 2., 0)]);
    snapshot.nodes[0].accepting = false;
    let decision = steer(Policy::default(), &snapshot, question(Some(origin())));
    assert!(decision.candidates.is_empty());
    assert_eq!(decision.reason, Reason::None);
    let fra = &mut self::snapshot(&[("fra", Alive, 5., 0)]).nodes;
    snapshot.nodes.append(fra);
    let decision = steer(Policy::default(), &snapshot, question(Some(origin())));
    assert_eq!((names(&decision), decision.reason), (vec!["fra".into()], Reason::Nearest));
}

#[test]
fn a_client_from_nowhere_goes_to_the_least_loaded() {
    let snapshot = snapshot(&[("ams", Alive, 2., 30), ("syd", Alive, 90., 20)]);
    let decision = steer(Policy::default(), &snapshot, question(None));
    assert_eq!(names(&decision), ["syd", "ams"]);
    assert_eq!(decision.reason, Reason::Unlocated);
    assert!(decision.candidates.iter().all(|c| c.distance_km.is_none()));
}

#[test]
fn a_node_from_nowhere_comes_after_those_with_a_place() {
    let mut snapshot = snapshot(&[("ams", Alive, 2., 0), ("syd", Alive, 90., 50)]);
    Arc::make_mut(&mut snapshot.nodes[0].place).position = None;
    let decision = steer(Policy::default(), &snapshot, question(Some(origin())));
    assert_eq!(names(&decision), ["syd", "ams"]);
    assert_eq!(decision.reason, Reason::Nearest);
}

#[test]
fn no_limit_means_never_busy_and_few_are_enough() {
    let mut snapshot = snapshot(&[("ams", Alive, 2., 1_000_000), ("fra", Alive, 3., 0)]);
    snapshot.nodes[0].sessions_max = 0;
    let question = Question { candidates_max: 1, ..question(Some(origin())) };
    assert_eq!(names(&steer(Policy::default(), &snapshot, question)), ["ams"]);
}

prop_compose! {
    fn node(index: usize)(
        health in prop::sample::select(&Health::ALL[..]),
        accepting in prop::bool::weighted(0.9),
        sessions in 0..=110u32,
        sessions_max in prop::sample::select(&[0u32, 100][..]),
        place in prop::option::weighted(0.9, (-90.0..=90.0f64, -180.0..=180.0f64)),
    ) -> Node {
        let position = place.and_then(|(lat, lon)| Position::new(lat, lon));
        let name = format!("n{index:02}");
        let place = Arc::new(Place { name, position, ..Place::default() });
        Node { place, health, accepting, sessions, sessions_max }
    }
}

fn nodes() -> impl Strategy<Value = Vec<Node>> {
    (0..12usize).prop_flat_map(|count| (0..count).map(node).collect::<Vec<_>>())
}

proptest! {
    #[test]
    fn no_session_goes_where_it_may_not(
        nodes in nodes(),
        at in prop::option::of((-90.0..=90.0f64, -180.0..=180.0f64)),
        candidates_max in 1..20usize,
        rotate in 0..12usize,
    ) {
        let position = at.and_then(|(lat, lon)| Position::new(lat, lon));
        let question = Question { position, candidates_max };
        let mut snapshot = Snapshot { nodes };
        let decision = steer(Policy::default(), &snapshot, question);
        let chosen = names(&decision);
        let find = |name: &str| snapshot.nodes.iter().find(|n| n.place.name == name).unwrap();
        let mut suspect_before = false;
        for name in &chosen {
            let node = find(name);
            prop_assert!(matches!(node.health, Alive | Suspect), "{node:?}");
            prop_assert!(node.accepting && (node.sessions_max == 0 || node.sessions < 100));
            prop_assert!(!(suspect_before && node.health == Alive), "a suspect before an alive");
            suspect_before |= node.health == Suspect;
        }
        prop_assert!(chosen.len() <= candidates_max);
        prop_assert_eq!(chosen.is_empty(), decision.reason == Reason::None);
        if decision.reason == Reason::Nearest {
            // No Alive, accepting node is nearer than the first.
            let best = decision.candidates[0].distance_km;
            for node in snapshot.nodes.iter().filter(|n| n.health == Alive && n.accepting) {
                let distance = node.distance_km(position);
                prop_assert!(compare_distance(distance, best) != Ordering::Less);
            }
        }
        // The order in which nodes are listed does not matter.
        let mid = rotate.min(snapshot.nodes.len());
        snapshot.nodes.rotate_left(mid);
        prop_assert_eq!(names(&steer(Policy::default(), &snapshot, question)), chosen);
    }
}

#[track_caller]
fn check(what: &str, rows: &[Row], expected: &[&str], reason: Reason) {
    let decision = steer(Policy::default(), &snapshot(rows), question(Some(origin())));
    assert_eq!(
        (names(&decision), decision.reason),
        (expected.iter().copied().map(String::from).collect(), reason),
        "{what}"
    );
}

pub(super) fn snapshot(rows: &[Row]) -> Snapshot {
    let node = |&(name, health, longitude, sessions): &Row| {
        let position = Position::new(0.0, longitude);
        let place = Arc::new(Place {
            member_id: name.into(),
            name: name.into(),
            urls: vec![format!("wss://{name}.example")],
            position,
            ..Place::default()
        });
        Node { place, health, accepting: true, sessions, sessions_max: 100 }
    };
    Snapshot { nodes: rows.iter().map(node).collect() }
}

fn question(position: Option<Position>) -> Question {
    Question { position, candidates_max: 10 }
}

fn origin() -> Position {
    Position::new(0.0, 0.0).unwrap()
}

fn names(decision: &Decision) -> Vec<String> {
    decision.candidates.iter().map(|c| c.place.name.clone()).collect()
}
