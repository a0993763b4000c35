//! Sessions that move between lanes for chat and lanes for bulk: whatever overtakes what, and
//! whichever lane breaks at whichever end first, each direction arrives whole, once and in order.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod moves;

use antipode_tunnel::Class;
use proptest::prelude::*;

use moves::{CHAT, LANES, Lab, SESSIONS, Step, Way};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_session_that_moves_loses_nothing(steps in prop::collection::vec(step(), 1..400)) {
        let mut lab = Lab::new();
        steps.into_iter().for_each(|step| lab.run(step));
        lab.settle();
        for (index, session) in lab.sessions.iter().enumerate() {
            for end in [&session.node, &session.core] {
                prop_assert_eq!(&end.far_sent, &end.got, "session {}", index);
            }
        }
    }
}

/// A frame that is large moves its session; what is on its way on the lane for chat stays small.
#[test]
fn large_frames_go_over_the_lanes_for_bulk() {
    for way in [Way::Up, Way::Down] {
        let mut lab = Lab::new();
        (0..SESSIONS).for_each(|session| lab.run(Step::Pour { way, session, pieces: 14 }));
        let mut on_chat = 0;
        (0..CHAT).for_each(|lane| while lab.leave(way, lane) {});
        for batches in lab.wires(way).iter().take(2) {
            on_chat += batches.iter().map(prost::Message::encoded_len).sum::<usize>();
        }
        assert!(on_chat < SESSIONS * 50_000, "{on_chat} bytes on the lanes for chat");
        lab.settle();
        let moves = lab.moves(Class::Bulk);
        assert_eq!(moves, u64::try_from(SESSIONS).unwrap(), "each moved, once");
        let bulk = lab.bytes_on_bulk;
        assert!(bulk >= SESSIONS * 10 * 10_000, "{bulk} bytes on the lanes for bulk");
        (0..SESSIONS).for_each(|session| lab.run(Step::Say { way, session }));
        lab.run(Step::Wait { ms: 20_000 });
        assert_eq!(lab.moves(Class::Chat), moves, "and all come back");
        lab.settle();
        assert!(lab.sessions.iter().all(|session| session.core.got == session.core.far_sent));
    }
}

/// Bulk whose lanes are all gone goes back among chat: those may be all that is left.
#[test]
fn bulk_without_lanes_goes_on_over_those_for_chat() {
    let mut lab = Lab::new();
    let way = Way::Down;
    lab.run(Step::Pour { way, session: 0, pieces: 20 });
    for _ in 0..4 {
        lab.move_all();
    }
    (CHAT..LANES).for_each(|lane| lab.run(Step::Lose { lane }));
    lab.run(Step::Pour { way, session: 0, pieces: 20 });
    for _ in 0..6 {
        lab.run(Step::Wait { ms: 1000 });
        lab.move_all();
    }
    assert_eq!(lab.moves(Class::Chat), 1);
    lab.run(Step::Read { way, session: 0 });
    lab.move_all();
    lab.run(Step::Read { way, session: 0 });
    assert_eq!(lab.sessions[0].node.got, lab.sessions[0].node.far_sent);
}

/// A peer that has no lanes for bulk: everything goes as it always did.
#[test]
fn without_lanes_for_bulk_nothing_moves() {
    let mut lab = Lab::new();
    (CHAT..LANES).for_each(|lane| lab.run(Step::Lose { lane }));
    lab.run(Step::Pour { way: Way::Down, session: 0, pieces: 14 });
    let mut on_chat = 0;
    (0..CHAT).for_each(|lane| while lab.leave(Way::Down, lane) {});
    for batches in lab.wires(Way::Down) {
        on_chat += batches.iter().map(prost::Message::encoded_len).sum::<usize>();
    }
    assert!(on_chat > 14 * 10_000, "{on_chat} bytes go at once");
    assert_eq!(lab.moves(Class::Bulk), 0);
}

fn step() -> impl Strategy<Value = Step> {
    let way = || prop_oneof![Just(Way::Up), Just(Way::Down)];
    let session = || 0..SESSIONS;
    let lane = || 0..LANES;
    prop_oneof![
        4 => (way(), session()).prop_map(|(way, session)| Step::Say { way, session }),
        4 => (way(), session(), 1..9_usize)
            .prop_map(|(way, session, pieces)| Step::Pour { way, session, pieces }),
        14 => (way(), lane()).prop_map(|(way, lane)| Step::Leave { way, lane }),
        12 => (way(), lane()).prop_map(|(way, lane)| Step::Arrive { way, lane }),
        1 => lane().prop_map(|lane| Step::Break { lane }),
        1 => lane().prop_map(|lane| Step::CoreFirst { lane }),
        1 => lane().prop_map(|lane| Step::Lose { lane }),
        2 => lane().prop_map(|lane| Step::Back { lane }),
        3 => (0..7_000_u64).prop_map(|ms| Step::Wait { ms }),
        6 => (way(), session()).prop_map(|(way, session)| Step::Read { way, session }),
        1 => (way(), session()).prop_map(|(way, session)| Step::End { way, session }),
    ]
}
