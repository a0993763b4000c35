//! One member: its record, its health, and what it last reported.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antipode_proto::registry::v1 as wire;
use antipode_tunnel::PublicKey;

use super::{GONE_AFTER, Order, Output};
use crate::health::{Admission, Health, HealthReason, Lease, NodeHealth, Pulse, Thresholds, Trunk};
use crate::member::{Profile, Role, TUNNELS_MAX};
use crate::mesh::{Offer, Station};
use crate::steer::{Node, Place};
use crate::store::MemberRecord;

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) record: MemberRecord,
    pub(super) health: NodeHealth,
    place: Arc<Place>,
    /// Since when it has the health it has.
    since: Instant,
    heartbeat: wire::Heartbeat,
    /// Its process has sent a heartbeat.
    has_reported: bool,
    /// Out of the rosters, having been Dead for long.
    retired: bool,
    /// The run of the process that introduced itself last, until it has gone.
    process: Option<[u8; 16]>,
    /// When its process counts as gone, unless it comes back.
    pub(super) gone_at: Option<Instant>,
    /// It was asked to leave.
    pub(super) order: Option<Order>,
}

impl Entry {
    pub(super) fn new(thresholds: Thresholds, record: MemberRecord, now: Instant) -> Self {
        let place = Arc::new(place(&record, record.profile.as_ref()));
        let health = NodeHealth::new(thresholds, now);
        let heartbeat = wire::Heartbeat::default();
        Self {
            record,
            health,
            place,
            since: now,
            heartbeat,
            has_reported: false,
            retired: false,
            process: None,
            gone_at: None,
            order: None,
        }
    }

    /// Whether it stands in its peers' rosters.
    pub(super) fn is_listed(&self) -> bool {
        self.record.profile.is_some() && !self.retired
    }

    /// When it leaves the rosters.
    pub(super) fn retires_at(&self, retention: Duration) -> Option<Instant> {
        let waits = self.health.health() == Health::Dead && self.is_listed();
        waits.then(|| self.since + retention)
    }

    pub(super) fn retire(&mut self) {
        self.retired = true;
    }

    pub(super) fn introduce(&mut self, lease: Lease, profile: Profile, now: Instant) {
        self.place = Arc::new(place(&self.record, Some(&profile)));
        // What an older process counted says nothing of this one.
        self.heartbeat = wire::Heartbeat::default();
        self.has_reported = false;
        self.retired = false;
        self.gone_at = None;
        self.process = Some(profile.run).filter(|run| *run != [0; 16]);
        self.order = self.order.take().filter(|order| order.run == profile.run);
        self.health.handle_introduction(lease, now);
        if self.order.is_some() {
            self.health.handle_drain(lease, now);
        }
    }

    /// Its process is asked to leave. `None`: there is none that attends.
    pub(super) fn order_away(&mut self, drain: wire::Drain, now: Instant) -> Option<Order> {
        let is_heard = match self.health.health() {
            Health::Joining => self.health.reason() != HealthReason::NotHeardYet,
            Health::Alive | Health::Suspect | Health::Draining => true,
            Health::Dead => false,
        };
        let order = Order { drain, run: self.process.filter(|_| is_heard)? };
        self.health.handle_drain(self.health.lease(), now);
        self.order = Some(order.clone());
        Some(order)
    }

    /// Its socket was closed without a goodbye.
    pub(super) fn lose_process(&mut self, lease: Lease, now: Instant) {
        if self.health.handle_process_gone(lease, now) {
            self.gone_at = Some(now + GONE_AFTER);
        }
    }

    /// The process that did not come back in time.
    pub(super) fn take_gone(&mut self, now: Instant) -> Option<wire::Gone> {
        self.gone_at.take_if(|at| *at <= now)?;
        self.gone()
    }

    /// The process that has gone, if `run` is another one: a member has one process.
    pub(super) fn replaced_by(&mut self, run: [u8; 16]) -> Option<wire::Gone> {
        if self.process == Some(run) { None } else { self.gone() }
    }

    /// Tells of the process that has gone, once.
    fn gone(&mut self) -> Option<wire::Gone> {
        let run = self.process.take().filter(|_| self.record.role == Role::Node)?;
        Some(wire::Gone { member_id: self.record.member_id.clone(), run: run.to_vec().into() })
    }

    pub(super) fn hear(&mut self, lease: Lease, mut heartbeat: wire::Heartbeat, now: Instant) {
        if lease != self.health.lease() {
            return;
        }
        heartbeat.tunnels.truncate(TUNNELS_MAX);
        let carries = self.record.role == Role::Core
            || heartbeat.tunnels.iter().any(|tunnel| tunnel.trunk_up);
        let pulse = Pulse {
            admission: if heartbeat.accepting { Admission::Open } else { Admission::Closed },
            trunk: if carries { Trunk::Up } else { Trunk::Down },
        };
        self.health.handle_heartbeat(lease, pulse, now);
        self.heartbeat = heartbeat;
        self.has_reported = true;
        self.retired = false;
    }

    /// Moves the changes of health to `outputs`.
    pub(super) fn drain(&mut self, outputs: &mut VecDeque<Output>, now: Instant) {
        while let Some(changed) = self.health.poll_output() {
            self.since = now;
            outputs.push_back(Output::Health {
                member_id: self.record.member_id.clone(),
                name: self.record.name.clone(),
                role: self.record.role,
                changed,
            });
        }
    }

    /// The ways that its tunnels take, by its own word.
    pub(super) fn ways(&self) -> impl Iterator<Item = &str> {
        self.heartbeat.tunnels.iter().map(|tunnel| tunnel.way.as_str())
    }

    pub(super) fn to_peer(&self) -> Option<wire::Peer> {
        let MemberRecord { member_id, name, role, wireguard_public_key, .. } = &self.record;
        let profile = self.record.profile.as_ref()?;
        Some(profile.to_peer(member_id, name, *role, *wireguard_public_key))
    }

    pub(super) fn to_node(&self) -> Node {
        Node {
            place: Arc::clone(&self.place),
            health: self.health.health(),
            accepting: self.heartbeat.accepting,
            sessions: self.heartbeat.sessions,
            sessions_max: self.record.profile.as_ref().map_or(0, |profile| profile.sessions_max),
        }
    }

    /// As the mesh sees it; `None` until it has introduced itself.
    pub(super) fn to_station(&self) -> Option<Station> {
        let profile = self.record.profile.as_ref().filter(|_| self.is_listed())?;
        let offers = match self.health.health() {
            Health::Draining => Offer::Closed,
            Health::Alive => Offer::Open,
            // It may only have lost its way to the gateway.
            Health::Joining | Health::Suspect | Health::Dead => Offer::Doubtful,
        };
        let tunnels = || self.heartbeat.tunnels.iter().filter(|tunnel| tunnel.trunk_up);
        let used = tunnels().map(|tunnel| tunnel.via.clone()).filter(|via| !via.is_empty());
        Some(Station {
            member_id: self.record.member_id.clone(),
            name: self.record.name.clone(),
            public_key: self.record.wireguard_public_key,
            endpoints: profile.endpoints.clone(),
            position: profile.position(),
            offers: if profile.forwards { offers } else { Offer::Closed },
            rtt_us: tunnels().map(|tunnel| tunnel.rtt_us).filter(|rtt_us| *rtt_us > 0).min(),
            uses: self.has_reported.then(|| used.collect()),
        })
    }

    pub(super) fn to_member(&self, now: Instant, now_unix: Duration) -> wire::Member {
        let profile = self.record.profile.clone().unwrap_or_default();
        let ago = now.saturating_duration_since(self.since);
        let key = PublicKey::from(self.record.wireguard_public_key);
        let silence = now.saturating_duration_since(self.health.heard_at());
        wire::Member {
            member_id: self.record.member_id.clone(),
            name: self.record.name.clone(),
            role: self.record.role.to_wire().into(),
            region: profile.region,
            health: self.health.health().label().to_owned(),
            health_reason: self.health.reason().label().to_owned(),
            since_unix_seconds: now_unix.saturating_sub(ago).as_secs(),
            sessions: self.heartbeat.sessions,
            sessions_max: profile.sessions_max,
            software: profile.software,
            public_urls: profile.public_urls,
            tunnel_address: key.address().to_string(),
            location: profile
                .location
                .map(|(latitude, longitude)| wire::Location { latitude, longitude }),
            tunnels: self.heartbeat.tunnels.clone(),
            last_heartbeat_age_ms: u64::try_from(silence.as_millis()).unwrap_or(u64::MAX),
            endpoints: profile.endpoints,
            forwards: profile.forwards,
            // What it was told the mesh knows.
            forwarders: Vec::new(),
            forwarded: Vec::new(),
            stream_endpoints: profile.stream_endpoints,
        }
    }
}

fn place(record: &MemberRecord, profile: Option<&Profile>) -> Place {
    Place {
        member_id: record.member_id.clone(),
        name: record.name.clone(),
        region: profile.map(|profile| profile.region.clone()).unwrap_or_default(),
        urls: profile.map(|profile| profile.public_urls.clone()).unwrap_or_default(),
        position: profile.and_then(Profile::position),
    }
}
