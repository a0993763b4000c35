//! Two session machines and a world between them in which everything breaks: what is delivered is a
//! prefix of what was sent, and in the end all of it.

mod end;
mod resume;
mod trunk;

use std::time::{Duration, Instant};

use antipode_proto::session::Config;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 384, ..ProptestConfig::default() })]

    #[test]
    fn a_trunk_delivers_every_segment_once_in_order(
        steps in prop::collection::vec(trunk::step(), 1..300),
    ) {
        let mut lab = trunk::Lab::new();
        for step in steps {
            lab.apply(step);
            lab.check();
        }
        lab.settle();
        for end in [&lab.node, &lab.core] {
            prop_assert_eq!(end.session.unacked_bytes(), 0);
        }
        prop_assert_eq!(&lab.core.delivered, &lab.node.sent);
        prop_assert_eq!(&lab.node.delivered, &lab.core.sent);
    }

    #[test]
    fn attachments_deliver_every_segment_once_in_order(
        steps in prop::collection::vec(resume::step(), 1..300),
    ) {
        let mut lab = resume::Lab::new();
        for step in steps {
            lab.apply(step);
            lab.check();
        }
        lab.settle();
        for end in [&lab.client, &lab.server] {
            prop_assert!(end.session.is_finished(), "{:?}", end.session);
            prop_assert_eq!(end.session.ended(), None);
            prop_assert_eq!(end.session.held_bytes(), 0);
        }
        prop_assert_eq!(&lab.server.delivered, &lab.client.sent);
        prop_assert_eq!(&lab.client.delivered, &lab.server.sent);
    }
}

/// Which way something goes: up is towards the core.
#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

fn way() -> impl Strategy<Value = Way> {
    prop_oneof![Just(Way::Up), Just(Way::Down)]
}

/// Small, so that the limits are met.
fn config() -> Config {
    Config {
        credit_bytes_max: 512 * 1024,
        unacked_bytes_max: 300 * 1024,
        ack_delay: Duration::from_millis(40),
        resume_window: Duration::from_secs(1_000_000),
    }
}

/// Any instant will do: the machine only compares.
#[allow(clippy::disallowed_methods, reason = "the one clock reading of these tests")]
fn start() -> Instant {
    Instant::now()
}
