//! Every member and how well it is: a pure machine over `health::NodeHealth`, one for each member.
//!
//! The desk (see [`crate::registry`]) owns one behind a lock, feeds it what streams say, and
//! carries its outputs to rosters, counters and logs.

mod entry;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use antipode_proto::registry::v1 as wire;
use entry::Entry;

use crate::health::{Changed, Health, Lease, Thresholds};
use crate::member::{Profile, Role};
use crate::mesh::Station;
use crate::steer::{Node, Snapshot};
use crate::store::MemberRecord;

/// All members of one gateway.
#[derive(Debug)]
pub struct Register {
    settings: Settings,
    members: BTreeMap<String, Entry>,
    last_lease: Lease,
    outputs: VecDeque<Output>,
}

/// What a register goes by.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// When a member is Suspect, Dead, Alive.
    pub thresholds: Thresholds,
    /// How long a Dead member stays in its peers' rosters.
    ///
    /// Long, because the gateway's word is not the last: a member that only lost its way to the
    /// gateway may be carrying sessions, and these outlive the gateway.
    pub peer_retention: Duration,
}

/// What the desk has to carry out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Output {
    /// A member's health changed.
    Health {
        /// Whose.
        member_id: String,
        /// Its name.
        name: String,
        /// Its role.
        role: Role,
        /// From what to what, and why.
        changed: Changed,
    },
    /// The roster of everybody with this role may have changed.
    RosterOf(Role),
    /// A node's process has gone for good: cores may end what only it could carry on.
    Gone(wire::Gone),
}

/// How a member's stream to the gateway ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamEnd {
    /// By a word of the member's or of ours, or nobody knows: its path may be cut.
    Unclear,
    /// The member's socket was closed without a goodbye.
    Abrupt,
}

/// A member was asked to leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Order {
    /// What it is told.
    pub drain: wire::Drain,
    /// The process that is to leave; the next one may stay.
    run: [u8; 16],
}

/// What [`Register::poll_timeout`] waits for.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Due {
    /// A member's silence.
    Health,
    /// A process that closed its socket has not come back.
    Gone,
    /// A member that was Dead for [`Settings::peer_retention`] leaves the rosters.
    Retire,
}

/// How long a process that closed its socket without a goodbye has to come back. One that lives
/// tries again after half a second.
pub const GONE_AFTER: Duration = Duration::from_secs(2);

impl Register {
    /// A register of the members in the store. `starts` counts the gateway's starts, so that leases
    /// are higher than any that an earlier one gave.
    #[must_use]
    pub fn new(settings: Settings, starts: u64, records: Vec<MemberRecord>, now: Instant) -> Self {
        let entry = |record: MemberRecord| {
            (record.member_id.clone(), Entry::new(settings.thresholds, record, now))
        };
        let members = records.into_iter().filter(MemberRecord::is_member).map(entry).collect();
        // 2^32 introductions in one start are out of reach.
        let last_lease = Lease(starts << 32);
        Self { settings, members, last_lease, outputs: VecDeque::new() }
    }

    /// Somebody enrolled.
    pub fn handle_enrolled(&mut self, record: MemberRecord, now: Instant) {
        let entry = Entry::new(self.settings.thresholds, record, now);
        self.members.insert(entry.record.member_id.clone(), entry);
    }

    /// A member opened a stream: gives it a lease. `None` if it is no member (any more).
    pub fn handle_introduction(
        &mut self,
        member_id: &str,
        profile: Profile,
        now: Instant,
    ) -> Option<Lease> {
        let entry = self.members.get_mut(member_id)?;
        self.last_lease.0 += 1;
        let lease = self.last_lease;
        let was_listed = entry.is_listed();
        self.outputs.extend(entry.replaced_by(profile.run).map(Output::Gone));
        entry.introduce(lease, profile.clone(), now);
        if !was_listed || entry.record.profile.as_ref() != Some(&profile) {
            self.outputs.push_back(Output::RosterOf(entry.record.role.peer()));
        }
        entry.record.profile = Some(profile);
        self.drain_health(member_id, now);
        Some(lease)
    }

    /// A member reported.
    pub fn handle_heartbeat(
        &mut self,
        member_id: &str,
        lease: Lease,
        heartbeat: wire::Heartbeat,
        now: Instant,
    ) {
        if let Some(entry) = self.members.get_mut(member_id) {
            let was_listed = entry.is_listed();
            entry.hear(lease, heartbeat, now);
            if !was_listed && entry.is_listed() {
                self.outputs.push_back(Output::RosterOf(entry.record.role.peer()));
            }
            self.drain_health(member_id, now);
        }
    }

    /// The stream of a lease ended.
    pub fn handle_stream_lost(
        &mut self,
        member_id: &str,
        lease: Lease,
        end: StreamEnd,
        now: Instant,
    ) {
        if let Some(entry) = self.members.get_mut(member_id) {
            match end {
                StreamEnd::Unclear => entry.health.handle_stream_lost(lease, now),
                StreamEnd::Abrupt => entry.lose_process(lease, now),
            }
            self.drain_health(member_id, now);
        }
    }

    /// The operator wants a member to leave. `None` if there is none of this name or identity that
    /// attends.
    pub fn handle_drain(
        &mut self,
        name_or_id: &str,
        drain: wire::Drain,
        now: Instant,
    ) -> Option<(String, Order)> {
        let member_id = self.find(name_or_id)?.member_id.clone();
        let entry = self.members.get_mut(&member_id)?;
        let order = entry.order_away(drain, now)?;
        self.drain_health(&member_id, now);
        Some((member_id, order))
    }

    /// Sessions by a member's last report.
    #[must_use]
    pub fn sessions(&self, member_id: &str) -> u32 {
        self.members.get(member_id).map_or(0, |entry| entry.to_node().sessions)
    }

    /// What the operator asked of this member's process, if it is to leave.
    #[must_use]
    pub fn order(&self, member_id: &str) -> Option<&Order> {
        self.members.get(member_id)?.order.as_ref()
    }

    /// A member was taken off the register: it is unknown from now on.
    pub fn handle_removed(&mut self, member_id: &str) {
        if let Some(entry) = self.members.remove(member_id) {
            self.outputs.push_back(Output::RosterOf(entry.record.role.peer()));
        }
    }

    /// Runs what is due at `now`. A spurious call does nothing.
    pub fn handle_timeout(&mut self, now: Instant) {
        for entry in self.members.values_mut() {
            entry.health.handle_timeout(now);
            entry.drain(&mut self.outputs, now);
            self.outputs.extend(entry.take_gone(now).map(Output::Gone));
            if entry.retires_at(self.settings.peer_retention).is_some_and(|at| at <= now) {
                entry.retire();
                self.outputs.push_back(Output::RosterOf(entry.record.role.peer()));
            }
        }
    }

    /// The next thing to carry out, or `None` once drained.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When [`Register::handle_timeout`] is next of use, and for what. Changes after every
    /// `handle_*`; a heartbeat only ever moves it later.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<(Instant, Due)> {
        let retention = self.settings.peer_retention;
        let due = |entry: &Entry| {
            let health = entry.health.poll_timeout().map(|(at, _)| (at, Due::Health));
            let gone = entry.gone_at.map(|at| (at, Due::Gone));
            let retire = entry.retires_at(retention).map(|at| (at, Due::Retire));
            [health, gone, retire].into_iter().flatten().min()
        };
        self.members.values().filter_map(due).min()
    }

    /// Whether this identity belongs to a member: what every call with a certificate is asked.
    #[must_use]
    pub fn is_member(&self, member_id: &str) -> bool {
        self.members.contains_key(member_id)
    }

    /// A member's record.
    #[must_use]
    pub fn record(&self, member_id: &str) -> Option<&MemberRecord> {
        self.members.get(member_id).map(|entry| &entry.record)
    }

    /// The member with this name, or this identity.
    #[must_use]
    pub fn find(&self, name_or_id: &str) -> Option<&MemberRecord> {
        let by_name = || self.members.values().find(|entry| entry.record.name == name_or_id);
        self.members.get(name_or_id).or_else(by_name).map(|entry| &entry.record)
    }

    /// The roster of everybody with `role`: all its peers that have introduced themselves.
    #[must_use]
    pub fn roster_of(&self, role: Role) -> wire::Roster {
        let listed = |entry: &&Entry| entry.record.role == role.peer() && entry.is_listed();
        let peers = self.members.values().filter(listed).filter_map(Entry::to_peer).collect();
        wire::Roster { peers }
    }

    /// All nodes as steering sees them.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let nodes = self.members.values().filter(|entry| entry.record.role == Role::Node);
        let mut nodes: Vec<Node> = nodes.map(Entry::to_node).collect();
        nodes.sort_by(|a, b| a.place.name.cmp(&b.place.name));
        Snapshot { nodes }
    }

    /// All nodes as the mesh sees them.
    #[must_use]
    pub fn stations(&self) -> Vec<Station> {
        let nodes = self.members.values().filter(|entry| entry.record.role == Role::Node);
        nodes.filter_map(Entry::to_station).collect()
    }

    /// All members for the operator, by role and name.
    #[must_use]
    pub fn list(&self, now: Instant, now_unix: Duration) -> Vec<wire::Member> {
        let mut entries: Vec<&Entry> = self.members.values().collect();
        entries
            .sort_by(|a, b| (a.record.role, &a.record.name).cmp(&(b.record.role, &b.record.name)));
        entries.into_iter().map(|entry| entry.to_member(now, now_unix)).collect()
    }

    /// How many members of `role` are in each state, in the order of [`Health::ALL`].
    #[must_use]
    pub fn count(&self, role: Role) -> [(Health, usize); 5] {
        let members = || self.members.values().filter(|entry| entry.record.role == role);
        Health::ALL.map(|state| (state, members().filter(|e| e.health.health() == state).count()))
    }

    /// How many tunnels of nodes take each kind of way, as the nodes tell.
    #[must_use]
    pub fn ways(&self) -> [(&'static str, usize); 4] {
        let nodes = self.members.values().filter(|entry| entry.record.role == Role::Node);
        let said: Vec<&str> = nodes.flat_map(Entry::ways).collect();
        let known = ["udp", "stream", "through"];
        let of = |way: &str| said.iter().filter(|said| **said == way).count();
        let [udp, stream, through] = known.map(of);
        let unknown = said.len() - udp - stream - through;
        [("udp", udp), ("stream", stream), ("through", through), ("unknown", unknown)]
    }

    fn drain_health(&mut self, member_id: &str, now: Instant) {
        if let Some(entry) = self.members.get_mut(member_id) {
            entry.drain(&mut self.outputs, now);
        }
    }
}
