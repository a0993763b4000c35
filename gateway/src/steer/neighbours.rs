//! Where a node's clients go when it drains: its neighbours, weighed so that not all go to one.

use std::sync::Arc;

use super::{Candidate, Policy, Question, Ranked, Snapshot};

/// Most neighbours of a node: enough to share its clients out, and for some of them to fail.
const NEIGHBOURS_MAX: usize = 8;
/// The weight of the one that gets most. Coarse, so that a node hears of a change only when it is
/// one: its neighbours' sessions change all the time.
const WEIGHT_MAX: f64 = 20.0;
/// Room of a node that takes as many sessions as there are.
const ROOM_UNLIMITED: f64 = 50_000.0;
/// Added to a distance, so that the node next door gets no more than a few times what one across
/// the sea gets: a client notices 500 km (5 ms) hardly, and a node many clients at once.
const DISTANCE_FLOOR_KM: f64 = 500.0;
/// The distance to a node that did not say where it stands: the other end of the earth.
const DISTANCE_UNKNOWN_KM: f64 = 20_000.0;

/// One node that can take another's clients.
#[derive(Clone, Debug)]
pub struct Neighbour {
    /// Who, and how far from the node that asks.
    pub candidate: Candidate,
    /// Its share, against the others' weights: from 1 to 20.
    pub weight: u32,
}

/// The nodes that can take the clients of node `member_id`, best first. The same arguments give
/// the same answer.
///
/// They are all of the best rank there is: nobody is sent to a busy node while another has room. A
/// weight is the node's room over its distance.
#[must_use]
pub fn neighbours(policy: Policy, snapshot: &Snapshot, member_id: &str) -> Vec<Neighbour> {
    let is_asking = |place: &super::Place| place.member_id == member_id;
    let asking = snapshot.nodes.iter().find(|node| is_asking(&node.place));
    let position = asking.and_then(|node| node.place.position);
    let question = Question { position, candidates_max: NEIGHBOURS_MAX };
    let mut ranked: Vec<Ranked<'_>> = snapshot
        .nodes
        .iter()
        .filter(|node| !is_asking(&node.place) && !node.place.urls.is_empty())
        .filter_map(|node| Ranked::new(policy, node, question.position))
        .collect();
    ranked.sort_unstable_by(Ranked::compare);
    let best = ranked.first().map(|first| first.rank);
    ranked.retain(|other| Some(other.rank) == best);
    ranked.truncate(question.candidates_max);
    let heaviest = ranked.iter().map(pull).fold(f64::MIN_POSITIVE, f64::max);
    ranked
        .iter()
        .map(|ranked| Neighbour {
            candidate: Candidate {
                place: Arc::clone(&ranked.node.place),
                distance_km: ranked.distance_km,
            },
            weight: weight(pull(ranked) / heaviest),
        })
        .collect()
}

fn pull(ranked: &Ranked<'_>) -> f64 {
    let room = match ranked.node.sessions_max {
        0 => ROOM_UNLIMITED,
        max => f64::from(max.saturating_sub(ranked.node.sessions)),
    };
    room / (ranked.distance_km.unwrap_or(DISTANCE_UNKNOWN_KM) + DISTANCE_FLOOR_KM)
}

/// A share of the heaviest one's, in whole steps.
fn weight(share: f64) -> u32 {
    let steps = (1..=20u32).rev().find(|steps| f64::from(*steps) <= share * WEIGHT_MAX);
    steps.unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Row, snapshot};
    use super::*;
    use crate::health::Health::{Alive, Dead, Draining, Joining, Suspect};

    #[test]
    fn clients_are_shared_out_among_those_that_have_room() {
        let here = ("here", Draining, 0., 50);
        check("nobody else", &[here], &[]);
        check("the asking one is out", &[("here", Alive, 0., 0)], &[]);
        check(
            "neither the leaving nor the dead nor the new",
            &[here, ("a", Draining, 1., 0), ("b", Dead, 1., 0), ("c", Joining, 1., 0)],
            &[],
        );
        check(
            "two alike",
            &[here, ("a", Alive, 2., 0), ("b", Alive, -2., 0)],
            &[("a", 20), ("b", 20)],
        );
        check(
            "half the room",
            &[here, ("a", Alive, 2., 50), ("b", Alive, -2., 0)],
            &[("b", 20), ("a", 10)],
        );
        check(
            "far away",
            &[here, ("a", Alive, 2., 0), ("b", Alive, 90., 0)],
            &[("a", 20), ("b", 1)],
        );
        check(
            "not to a busy one",
            &[here, ("a", Alive, 1., 85), ("b", Alive, 50., 0)],
            &[("b", 20)],
        );
        check("but if all are", &[here, ("a", Alive, 1., 85), ("b", Suspect, 1., 0)], &[("a", 20)]);
        check(
            "the last resort",
            &[here, ("b", Suspect, 1., 0), ("c", Alive, 1., 100)],
            &[("b", 20)],
        );
    }

    #[test]
    fn those_without_an_address_are_of_no_use_and_there_are_no_more_than_eight() {
        let mut snapshot = snapshot(&[("here", Alive, 0., 0), ("a", Alive, 1., 0)]);
        Arc::make_mut(&mut snapshot.nodes[1].place).urls.clear();
        assert!(neighbours(Policy::default(), &snapshot, "here").is_empty());
        let names = ["b", "c", "d", "e", "f", "g", "h", "i", "j", "k"];
        let rows: Vec<Row> = names.map(|name| (name, Alive, 1., 0)).to_vec();
        let snapshot = super::super::tests::snapshot(&rows);
        assert_eq!(neighbours(Policy::default(), &snapshot, "nobody").len(), NEIGHBOURS_MAX);
    }

    #[track_caller]
    fn check(what: &str, rows: &[Row], expected: &[(&str, u32)]) {
        let mut found = Vec::new();
        let snapshot = snapshot(rows);
        for neighbour in neighbours(Policy::default(), &snapshot, "here") {
            found.push((neighbour.candidate.place.name.clone(), neighbour.weight));
        }
        // Of two at the same distance the less loaded one comes first.
        let expected: Vec<_> = expected.iter().map(|(name, w)| ((*name).to_owned(), *w)).collect();
        assert_eq!(found, expected, "{what}");
    }
}
