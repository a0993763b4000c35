//! The health machine against any order of events, late, doubled or stale.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::time::{Duration, Instant};

use antipode_gateway::health::{
    Admission, Health, HealthReason, Lease, NodeHealth, Pulse, Thresholds, Trunk,
};
use proptest::prelude::*;

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The member opens a stream under the next lease.
    Introduce,
    /// A heartbeat; `age` leases ago (0: the one that counts).
    Beat {
        age: u64,
        open: bool,
        trunk: bool,
    },
    Lost {
        age: u64,
    },
    /// Its process has gone.
    Gone {
        age: u64,
    },
    Drain {
        age: u64,
    },
    Wait(u64),
    /// The driver's timer, on time or late.
    Tick,
}

fn step() -> impl Strategy<Value = Step> {
    let age = prop_oneof![4 => Just(0u64), 1 => 1..3u64];
    prop_oneof![
        1 => Just(Step::Introduce),
        6 => (age.clone(), prop::bool::weighted(0.95), prop::bool::weighted(0.9))
            .prop_map(|(age, open, trunk)| Step::Beat { age, open, trunk }),
        1 => age.clone().prop_map(|age| Step::Lost { age }),
        1 => age.clone().prop_map(|age| Step::Gone { age }),
        1 => age.prop_map(|age| Step::Drain { age }),
        6 => (1..1200u64).prop_map(Step::Wait),
        3 => Just(Step::Tick),
    ]
}

/// What the outside knows of the member.
struct Lab {
    health: NodeHealth,
    now: Instant,
    lease: u64,
    seen: Health,
    drained: bool,
    heard_at: Instant,
}

impl Lab {
    fn new() -> Self {
        let now = antipode_runtime::clock::now();
        let health = NodeHealth::new(Thresholds::default(), now);
        Self { health, now, lease: 0, seen: Health::Joining, drained: false, heard_at: now }
    }

    fn apply(&mut self, step: Step) -> Result<(), TestCaseError> {
        let before = (self.health.health(), self.health.poll_timeout(), self.health.heard_at());
        let stale = match step {
            Step::Introduce => {
                self.lease += 1;
                self.drained = false;
                self.heard_at = self.now;
                self.health.handle_introduction(Lease(self.lease), self.now);
                false
            }
            Step::Beat { age, open, trunk } => self.beat(age, open, trunk),
            Step::Lost { age } => {
                self.health.handle_stream_lost(self.lease_of(age), self.now);
                self.is_stale(age)
            }
            Step::Gone { age } => {
                let overdue = self.heard_at + Thresholds::default().suspect_after <= self.now;
                let believed = self.health.handle_process_gone(self.lease_of(age), self.now);
                prop_assert_eq!(believed, !self.is_stale(age) && !overdue);
                if believed {
                    prop_assert_eq!(self.health.health(), Health::Dead);
                }
                self.is_stale(age)
            }
            Step::Drain { age } => {
                self.drained |= !self.is_stale(age);
                self.health.handle_drain(self.lease_of(age), self.now);
                self.is_stale(age)
            }
            Step::Wait(ms) => {
                self.now += Duration::from_millis(ms);
                false
            }
            Step::Tick => {
                self.health.handle_timeout(self.now);
                prop_assert!(self.health.poll_timeout().is_none_or(|(at, _)| at > self.now));
                false
            }
        };
        if stale {
            let after = (self.health.health(), self.health.poll_timeout(), self.health.heard_at());
            prop_assert_eq!(before, after, "a stale lease changes nothing");
        }
        self.drain_outputs()
    }

    fn beat(&mut self, age: u64, open: bool, trunk: bool) -> bool {
        if !self.is_stale(age) {
            self.heard_at = self.now;
            self.drained |= !open;
        }
        let admission = if open { Admission::Open } else { Admission::Closed };
        let trunk = if trunk { Trunk::Up } else { Trunk::Down };
        self.health.handle_heartbeat(self.lease_of(age), Pulse { admission, trunk }, self.now);
        self.is_stale(age)
    }

    fn drain_outputs(&mut self) -> Result<(), TestCaseError> {
        while let Some(change) = self.health.poll_output() {
            prop_assert_eq!(change.from, self.seen, "changes form a chain");
            prop_assert_ne!(change.from, change.to);
            if change.to == Health::Dead {
                prop_assert_eq!(change.from, Health::Suspect, "dead only through suspect");
                let reasons = [HealthReason::Silent, HealthReason::ProcessGone];
                prop_assert!(reasons.contains(&change.reason));
            }
            if change.to == Health::Alive {
                prop_assert!(!self.drained, "one that drains is never alive again");
                prop_assert!(matches!(change.from, Health::Joining | Health::Suspect));
            }
            self.seen = change.to;
        }
        prop_assert_eq!(self.seen, self.health.health(), "every change is told");
        Ok(())
    }

    fn lease_of(&self, age: u64) -> Lease {
        Lease(self.lease.saturating_sub(age))
    }

    fn is_stale(&self, age: u64) -> bool {
        self.lease_of(age) != Lease(self.lease)
    }
}

proptest! {
    #[test]
    fn health_holds_its_promises(steps in prop::collection::vec(step(), 1..300)) {
        let mut lab = Lab::new();
        for step in steps {
            lab.apply(step)?;
        }
        // Silence, with the timer at work: dead by the threshold, never before, unless it has gone.
        let has_gone = lab.health.reason() == HealthReason::ProcessGone;
        let dead_after = Thresholds::default().dead_after;
        lab.health.handle_timeout(lab.now);
        while let Some((at, _)) = lab.health.poll_timeout() {
            prop_assert!(at > lab.now);
            lab.now = at;
            lab.health.handle_timeout(at);
        }
        lab.drain_outputs()?;
        prop_assert_eq!(lab.health.health(), Health::Dead);
        prop_assert!(has_gone || lab.now >= lab.heard_at + dead_after);
    }

    #[test]
    fn a_steady_open_member_is_alive_soon(
        steps in prop::collection::vec(step(), 0..100),
    ) {
        let mut lab = Lab::new();
        for step in steps {
            lab.apply(step)?;
        }
        lab.apply(Step::Introduce)?;
        for _ in 0..2 {
            lab.apply(Step::Beat { age: 0, open: true, trunk: true })?;
            lab.apply(Step::Wait(500))?;
        }
        prop_assert_eq!(lab.health.health(), Health::Alive);
    }
}
