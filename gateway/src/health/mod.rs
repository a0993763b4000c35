//! How well a member is: a pure machine over heartbeats, silence and its own word that it drains.
//!
//! No clock, no task: the driver calls a `handle_*` method, drains [`NodeHealth::poll_output`] to
//! `None` and sleeps until [`NodeHealth::poll_timeout`].
//!
//! ```text
//! Joining  -- heartbeats in a row ------------------> Alive
//! Alive    -- silence, lost stream, no trunk -------> Suspect
//! Suspect  -- more heartbeats in a row -------------> Alive, or Draining if it drains
//! Suspect  -- silence ------------------------------> Dead
//! Dead     -- a heartbeat --------------------------> Joining
//! Joining, Alive -- it drains ----------------------> Draining
//! Joining, Draining -- silence, lost stream --------> Suspect
//! any      -- its process has gone -----------------> Suspect and Dead at once
//! any      -- a new lease --------------------------> Joining
//! ```

mod machine;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

pub use machine::NodeHealth;

/// What a member is to steering.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Health {
    /// Known, but it has not yet proved that it is well. Unknown is not healthy.
    #[default]
    Joining,
    /// Takes sessions.
    Alive,
    /// Something is missing; takes sessions only where nobody else can.
    Suspect,
    /// Said that it leaves; takes none, and never will again under this lease.
    Draining,
    /// Silent for too long.
    Dead,
}

impl Health {
    /// Every state, in the order of a member's life.
    pub const ALL: [Self; 5] =
        [Self::Joining, Self::Alive, Self::Suspect, Self::Draining, Self::Dead];

    /// The word for tables and metrics.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Joining => "joining",
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Draining => "draining",
            Self::Dead => "dead",
        }
    }
}

/// Why a member's health changed; returned, logged, counted and shown.
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum HealthReason {
    /// Enrolled; nothing was heard of it since this gateway started.
    #[default]
    NotHeardYet,
    /// It opened a new stream and holds a new lease.
    Introduced,
    /// Enough heartbeats in a row came in time.
    HeartbeatsSteady,
    /// Heartbeats stopped.
    Silent,
    /// Its stream to the gateway broke.
    StreamLost,
    /// Its process has ended: the kernel closed its sockets, and it said no goodbye.
    ProcessGone,
    /// It has no open trunk to any core.
    NoTrunk,
    /// It said that it drains, or the operator asked it to.
    Drains,
    /// A heartbeat of one that was taken for dead.
    HeardAgain,
}

impl HealthReason {
    /// `reason` of `antipode_gateway_health_changes_total`, and the word in tables.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::NotHeardYet => "not_heard_yet",
            Self::Introduced => "introduced",
            Self::HeartbeatsSteady => "heartbeats_steady",
            Self::Silent => "silent",
            Self::StreamLost => "stream_lost",
            Self::ProcessGone => "process_gone",
            Self::NoTrunk => "no_trunk",
            Self::Drains => "drains",
            Self::HeardAgain => "heard_again",
        }
    }
}

/// One step of a member's health.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Changed {
    /// What it was.
    pub from: Health,
    /// What it is now.
    pub to: Health,
    /// Why.
    pub reason: HealthReason,
}

/// What a heartbeat says about health.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Pulse {
    /// Whether the member takes new sessions.
    pub admission: Admission,
    /// Whether it can carry them.
    pub trunk: Trunk,
}

/// Whether a member takes new sessions.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Admission {
    /// It does.
    Open,
    /// It drains.
    Closed,
}

/// Whether a member can carry sessions to or from a peer.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Trunk {
    /// A trunk is open, or the member needs none (a core waits for nodes).
    Up,
    /// None is open.
    Down,
}

/// What [`NodeHealth::poll_timeout`] waits for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Due {
    /// Silence makes it Suspect.
    Suspect,
    /// Silence makes it Dead.
    Dead,
}

/// The thresholds. With the defaults a member that falls silent is Suspect 1.5 s and Dead 2.5 s
/// after its last heartbeat: three and five heartbeats missed in a row.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Thresholds {
    /// How often a member reports.
    pub heartbeat_interval: Duration,
    /// Silence after which a member is Suspect.
    pub suspect_after: Duration,
    /// Silence after which it is Dead.
    pub dead_after: Duration,
    /// Heartbeats in a row, each in time, that make a Joining member Alive.
    pub alive_count: u32,
    /// The same for a Suspect one: more, so that a flapping member stays out.
    pub recover_count: u32,
    /// Heartbeats in a row without a trunk that make a member Suspect.
    pub no_trunk_count: u32,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            heartbeat_interval: Duration::from_millis(500),
            suspect_after: Duration::from_millis(1500),
            dead_after: Duration::from_millis(2500),
            alive_count: 2,
            recover_count: 4,
            no_trunk_count: 2,
        }
    }
}

/// A registration of a member: the higher epoch wins, what speaks of a lower one is stale.
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialEq, PartialOrd)]
pub struct Lease(pub u64);

/// A deadline and its reason.
pub type Deadline = (Instant, Due);
