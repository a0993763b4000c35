//! The health machine itself.

use std::collections::VecDeque;
use std::time::Instant;

use super::{
    Admission, Changed, Deadline, Due, Health, HealthReason, Lease, Pulse, Thresholds, Trunk,
};

/// The health of one member.
///
/// Must hold: Dead only through Suspect; one that drains is never Alive again under the same lease;
/// a stale lease changes nothing; every change is told with its reason.
#[derive(Clone, Debug)]
pub struct NodeHealth {
    thresholds: Thresholds,
    lease: Lease,
    health: Health,
    reason: HealthReason,
    /// The last sign of life: a heartbeat, or the introduction.
    heard_at: Instant,
    /// The last heartbeat that counted; one that comes too soon after it does not.
    counted_at: Option<Instant>,
    counted: u32,
    without_trunk: u32,
    drains: bool,
    outputs: VecDeque<Changed>,
}

impl NodeHealth {
    /// A member that enrolled and has not been heard yet.
    ///
    /// It starts Joining: if it stays silent it goes the way of every silent member.
    #[must_use]
    pub fn new(thresholds: Thresholds, now: Instant) -> Self {
        Self {
            thresholds,
            lease: Lease::default(),
            health: Health::Joining,
            reason: HealthReason::NotHeardYet,
            heard_at: now,
            counted_at: None,
            counted: 0,
            without_trunk: 0,
            drains: false,
            outputs: VecDeque::new(),
        }
    }

    /// What it is now.
    #[must_use]
    pub fn health(&self) -> Health {
        self.health
    }

    /// Why it is so.
    #[must_use]
    pub fn reason(&self) -> HealthReason {
        self.reason
    }

    /// The lease that counts.
    #[must_use]
    pub fn lease(&self) -> Lease {
        self.lease
    }

    /// When the last sign of life came.
    #[must_use]
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The member opened a stream under a new lease: it has to prove itself again.
    ///
    /// Does nothing unless the lease is higher than the one that counts.
    pub fn handle_introduction(&mut self, lease: Lease, now: Instant) {
        if lease <= self.lease {
            return;
        }
        self.lease = lease;
        self.drains = false;
        self.without_trunk = 0;
        self.heard_at = now;
        self.forget_count();
        self.change(Health::Joining, HealthReason::Introduced);
    }

    /// Takes one heartbeat.
    pub fn handle_heartbeat(&mut self, lease: Lease, pulse: Pulse, now: Instant) {
        if lease != self.lease {
            return;
        }
        self.handle_timeout(now);
        self.count(now);
        self.heard_at = now;
        self.without_trunk = match pulse.trunk {
            Trunk::Up => 0,
            Trunk::Down => self.without_trunk.saturating_add(1),
        };
        if let Admission::Closed = pulse.admission {
            self.drains = true;
        }
        if self.health == Health::Dead {
            self.change(Health::Joining, HealthReason::HeardAgain);
        }
        self.judge();
    }

    /// The stream of `lease` broke: the member may be gone, silence will tell.
    pub fn handle_stream_lost(&mut self, lease: Lease, now: Instant) {
        if lease != self.lease {
            return;
        }
        self.handle_timeout(now);
        self.forget_count();
        match self.health {
            Health::Joining | Health::Alive | Health::Draining => {
                self.change(Health::Suspect, HealthReason::StreamLost);
            }
            Health::Suspect | Health::Dead => {}
        }
    }

    /// The socket of `lease` was closed from the far side without a goodbye: the kernel does that
    /// when a process has ended. Tells whether that is believed. One that was silent before is not
    /// gone for sure: its network may have been, and what closed the socket then is unknown.
    #[must_use]
    pub fn handle_process_gone(&mut self, lease: Lease, now: Instant) -> bool {
        let silence = now.saturating_duration_since(self.heard_at);
        if lease != self.lease || silence >= self.thresholds.suspect_after {
            self.handle_stream_lost(lease, now);
            return false;
        }
        self.forget_count();
        if self.health != Health::Dead {
            self.change(Health::Suspect, HealthReason::ProcessGone);
            self.change(Health::Dead, HealthReason::ProcessGone);
        }
        true
    }

    /// The member leaves, by its own word or the operator's.
    pub fn handle_drain(&mut self, lease: Lease, now: Instant) {
        if lease != self.lease {
            return;
        }
        self.handle_timeout(now);
        self.drains = true;
        match self.health {
            Health::Joining | Health::Alive => self.change(Health::Draining, HealthReason::Drains),
            Health::Suspect | Health::Draining | Health::Dead => {}
        }
    }

    /// Runs whatever is due at `now`. A spurious call does nothing; one that comes late makes
    /// every step that was due, so that a dead member was always Suspect first.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some((at, due)) = self.poll_timeout() {
            if at > now {
                return;
            }
            self.forget_count();
            match due {
                Due::Suspect => self.change(Health::Suspect, HealthReason::Silent),
                Due::Dead => self.change(Health::Dead, HealthReason::Silent),
            }
        }
    }

    /// The next change, or `None` once drained.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Changed> {
        self.outputs.pop_front()
    }

    /// When [`NodeHealth::handle_timeout`] is next of use, and for what. Changes after every
    /// `handle_*`; after `handle_timeout(t)` it is `None` or later than `t`.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Deadline> {
        match self.health {
            Health::Joining | Health::Alive | Health::Draining => {
                Some((self.heard_at + self.thresholds.suspect_after, Due::Suspect))
            }
            Health::Suspect => Some((self.heard_at + self.thresholds.dead_after, Due::Dead)),
            Health::Dead => None,
        }
    }

    /// Counts a heartbeat, if it is neither one of a burst nor late.
    ///
    /// A burst is what a stalled path lets go at once: it proves one moment, not a steady member.
    fn count(&mut self, now: Instant) {
        let Some(last) = self.counted_at else {
            self.counted_at = Some(now);
            self.counted = 1;
            return;
        };
        let gap = now.saturating_duration_since(last);
        if gap < self.thresholds.heartbeat_interval / 2 {
            return;
        }
        let in_time = gap < self.thresholds.suspect_after;
        self.counted = if in_time { self.counted.saturating_add(1) } else { 1 };
        self.counted_at = Some(now);
    }

    fn forget_count(&mut self) {
        self.counted_at = None;
        self.counted = 0;
    }

    /// Draws the conclusion after a heartbeat.
    fn judge(&mut self) {
        let no_trunk = self.without_trunk >= self.thresholds.no_trunk_count;
        let well = self.without_trunk == 0;
        match self.health {
            Health::Joining if self.drains => self.change(Health::Draining, HealthReason::Drains),
            // Not yet, rather than no longer: the first trunk takes its round trips.
            Health::Joining if no_trunk => self.change(Health::Joining, HealthReason::NoTrunk),
            Health::Joining if well && self.counted >= self.thresholds.alive_count => {
                self.change(Health::Alive, HealthReason::HeartbeatsSteady);
            }
            Health::Alive if self.drains => self.change(Health::Draining, HealthReason::Drains),
            Health::Alive if no_trunk => self.suspect_without_trunk(),
            Health::Suspect if self.drains => self.change(Health::Draining, HealthReason::Drains),
            Health::Suspect if no_trunk => self.suspect_without_trunk(),
            Health::Suspect if well && self.counted >= self.thresholds.recover_count => {
                self.change(Health::Alive, HealthReason::HeartbeatsSteady);
            }
            Health::Joining | Health::Alive | Health::Suspect => {}
            Health::Draining | Health::Dead => {}
        }
    }

    fn suspect_without_trunk(&mut self) {
        self.forget_count();
        self.change(Health::Suspect, HealthReason::NoTrunk);
    }

    /// Moves to `to`; the reason of a state may change without a step being told.
    fn change(&mut self, to: Health, reason: HealthReason) {
        self.reason = reason;
        if self.health == to {
            return;
        }
        let from = std::mem::replace(&mut self.health, to);
        self.outputs.push_back(Changed { from, to, reason });
    }
}
