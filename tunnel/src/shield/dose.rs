//! A peer's policy and its budget, together: what each run of datagrams gets.

use std::time::Instant;

use super::budget::Budget;
use super::policy::{Plan, Policy, ShieldState, Weather};

/// What a run is given, decided several times a second and paid for each time.
#[derive(Debug, Default)]
pub(crate) struct Dose {
    policy: Policy,
    pub(crate) budget: Budget,
}

/// Why a run got no copies though its path loses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// The link's queue grows.
    Full,
    /// Copies made more loss than they healed.
    Harmful,
    /// The budget is spent, or what is left is for smaller datagrams.
    Budget,
    /// Too many copies wait already.
    QueueFull,
    /// The real socket had no room when the copy's time had come.
    NotSent,
}

impl Refusal {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 5] =
        [Self::Full, Self::Harmful, Self::Budget, Self::QueueFull, Self::NotSent];

    /// `reason` of `antipode_tunnel_shield_refused_total`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Harmful => "harmful",
            Self::Budget => "budget",
            Self::QueueFull => "queue_full",
            Self::NotSent => "not_sent",
        }
    }
}

impl Dose {
    /// Decides anew, see [`Policy::decide`]. Where copies have just done harm there will be fewer
    /// of them afterwards.
    pub(crate) fn decide(&mut self, weather: Option<&Weather>, now: Instant) -> Plan {
        let before = self.policy.plan();
        let plan = self.policy.decide(weather, now);
        if before.copies > 0 && matches!(plan.state, ShieldState::Full | ShieldState::Harmful) {
            self.budget.brake();
        }
        plan
    }

    pub(crate) const fn plan(&self) -> Plan {
        self.policy.plan()
    }

    /// Pays for the copies of a run whose datagrams are `segment` long. `Ok` says how many, maybe
    /// none.
    ///
    /// # Errors
    /// Why there are none although the path loses.
    pub(crate) fn take(
        &mut self,
        run: usize,
        segment: usize,
        now: Instant,
    ) -> Result<Plan, Refusal> {
        let plan = self.plan();
        match plan.state {
            ShieldState::Off | ShieldState::Unmeasured | ShieldState::Clean => Ok(plan),
            ShieldState::Full => Err(Refusal::Full),
            ShieldState::Harmful => Err(Refusal::Harmful),
            ShieldState::On if self.budget.take(run, segment, plan.copies, now) => Ok(plan),
            ShieldState::On => Err(Refusal::Budget),
        }
    }
}
