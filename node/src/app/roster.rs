//! From the gateway's roster to tunnels and trunks: where each core is. Which of its addresses is
//! used the tunnel finds out; for an interface of the host, which knows one, they are tried in
//! turns here.

mod lookups;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1::{Carrier as CarrierKind, Peer, Role, Roster, TunnelReport};
use antipode_runtime::member::Member;
use antipode_runtime::shutdown::Shutdown;
use antipode_runtime::telemetry::chain;
use antipode_trunk::{CoreTarget, Trunks, tunnel_report};
use antipode_tunnel::{Candidate, PeerConfig, PeerState, PublicKey, StreamTls, Underlay, Way};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use self::lookups::{Found, Lookups};
use super::mesh::Mesh;
use super::report::Tunnels;
use super::streams::Streams;
use crate::config::{Carrier, Config};

/// How often the tunnels are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// A core that says nothing for so long is looked up again, and looked for at its next address:
/// longer than WireGuard's own attempts (5 s each) and the tunnel's watchdog need.
const LOST_AFTER: Duration = Duration::from_secs(25);
/// While a core's datagrams take a detour its names are looked up so often: it may have moved, and
/// be reached directly where they lead now.
const DETOUR_LOOK_UP: Duration = Duration::from_secs(30);
/// Keeps NAT's view of the tunnel alive, and shows a dead core: WireGuard's own figure is 25 s, too
/// long for that.
const KEEPALIVE: Duration = Duration::from_secs(10);

/// Follows the roster for as long as the program lives; the report is what the gateway is told.
pub(super) fn follow(
    member: &Member,
    underlay: &Underlay,
    trunks: &Trunks,
    config: &Config,
    mesh: Mesh,
    shutdown: &Shutdown,
) -> Tunnels {
    let tunnels = Tunnels::default();
    let mut roster = member.roster();
    let mut follower = Follower {
        streams: Streams::new(member.identity(), config),
        underlay: underlay.clone(),
        trunks: trunks.clone(),
        carrier: config.trunk.carrier,
        overrides: overrides(config),
        cores: BTreeMap::new(),
        lookups: Lookups::default(),
        mesh,
        tunnels: Arc::clone(&tunnels),
    };
    shutdown.spawn_service(async move {
        loop {
            let current = roster.borrow_and_update().clone();
            follower.take_roster(&current).await;
            tokio::select! {
                changed = roster.changed() => if changed.is_err() { return },
                () = follower.keep_up() => {}
            }
        }
    });
    tunnels
}

struct Follower {
    streams: Streams,
    underlay: Underlay,
    trunks: Trunks,
    carrier: Carrier,
    /// The operator's own endpoints, by the core's name: they count, not the gateway's.
    overrides: BTreeMap<String, String>,
    /// By member id.
    cores: BTreeMap<String, Core>,
    lookups: Lookups,
    mesh: Mesh,
    tunnels: Tunnels,
}

/// A core on the roster.
#[derive(Debug)]
struct Core {
    peer: Peer,
    public_key: PublicKey,
    addresses: Vec<SocketAddr>,
    /// Its names are to be looked up.
    is_stale: bool,
    /// Which of them is tried where only one can be; counts on.
    attempt: usize,
    /// Looks without a sign of life.
    silent: Duration,
    /// Looks that found its datagrams on a stream or by a neighbour.
    detour: Duration,
}

impl Follower {
    /// Takes a roster over. It looks up no names: a core that is off the roster is out at once.
    async fn take_roster(&mut self, roster: &Roster) {
        let cores = || roster.peers.iter().filter(|peer| peer.role() == Role::Core);
        let before = self.cores.len();
        self.cores.retain(|member_id, core| {
            let stays = cores().any(|peer| peer.member_id == *member_id);
            if !stays {
                info!(core = core.peer.name, "core off the roster");
                self.underlay.set_candidates(&core.public_key, Vec::new());
            }
            stays
        });
        self.streams.keep(|member_id| cores().any(|peer| peer.member_id == *member_id));
        if self.cores.len() < before {
            self.set_trunks();
            self.set_peers().await;
        }
        for peer in cores() {
            self.take_core(overridden(peer, &self.overrides));
        }
    }

    fn take_core(&mut self, peer: Peer) {
        let Ok(key) = <[u8; 32]>::try_from(&*peer.wireguard_public_key) else {
            warn!(core = peer.name, "the roster has a core without a WireGuard key");
            return;
        };
        let key = PublicKey::from(key);
        match self.cores.get_mut(&peer.member_id) {
            // Until the new ones are looked up the old ones may serve.
            Some(core) if core.public_key == key => {
                core.is_stale |= core.peer.endpoints != peer.endpoints;
                core.peer = peer;
            }
            Some(_) | None => {
                info!(core = peer.name, region = peer.region, "core on the roster");
                let core = Core::new(peer, key);
                let before = self.cores.insert(core.peer.member_id.clone(), core);
                if let Some(before) = before {
                    self.underlay.set_candidates(&before.public_key, Vec::new());
                }
            }
        }
    }

    /// Goes by the roster that was taken over, until there is a newer one: it may be dropped at any
    /// time, and waits for names and for the interface.
    async fn keep_up(&mut self) {
        for core in self.cores.values_mut().filter(|core| core.is_stale) {
            core.is_stale = false;
            self.lookups.begin(&core.peer);
        }
        self.set_peers().await;
        self.set_trunks();
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.reset();
        loop {
            let Self { lookups, underlay, trunks, .. } = self;
            tokio::select! {
                found = lookups.next() => self.take_found(found).await,
                key = underlay.unresolved() => {
                    let unresolved = self.cores.values().filter(|core| core.public_key == key);
                    unresolved.for_each(|core| self.lookups.begin(&core.peer));
                }
                address = underlay.way_changed() => trunks.handle_way_changed(address),
                _ = look.tick() => self.look().await,
            }
        }
    }

    /// Takes over where a core is. What is not found now may still be there.
    async fn take_found(&mut self, found: Found) {
        let Found { member_id, addresses } = found;
        if let Some(core) = self.cores.get_mut(&member_id)
            && !addresses.is_empty()
            && core.addresses != addresses
        {
            core.addresses = addresses;
            self.set_peers().await;
        }
    }

    fn set_trunks(&self) {
        self.trunks.set_cores(self.cores.values().filter_map(|core| self.target(core)).collect());
    }

    async fn set_peers(&mut self) {
        let is_hosted = matches!(self.underlay, Underlay::Hosted(_));
        let streams = &mut self.streams;
        let config = |core: &Core| {
            let endpoint = if is_hosted { core.turn() } else { None };
            PeerConfig { endpoint, ..core.config(streams.tls(&core.peer)) }
        };
        let peers = self.cores.values().map(config).collect();
        if let Err(error) = self.underlay.set_peers(peers).await {
            let error = chain(&error);
            warn!(error, "the tunnel's interface does not take its peers");
        }
        for core in self.cores.values() {
            let mut candidates: Vec<_> =
                core.addresses.iter().copied().map(Candidate::Udp).collect();
            candidates.extend(self.streams.candidates(&core.peer));
            self.underlay.set_candidates(&core.public_key, candidates);
        }
    }

    /// Where to dial a core; `None` if it accepts what this node is not set up for.
    fn target(&self, core: &Core) -> Option<CoreTarget> {
        let wanted = match self.carrier {
            Carrier::Quic => CarrierKind::Quic,
            Carrier::Tcp => CarrierKind::Tcp,
        };
        let peer = &core.peer;
        if peer.carrier() != wanted {
            let accepts = peer.carrier().as_str_name();
            warn!(core = peer.name, accepts, "set trunk.carrier to what the core accepts");
            return None;
        }
        Some(CoreTarget {
            member_id: peer.member_id.clone(),
            name: peer.name.clone(),
            address: core.public_key.address(),
            port: u16::try_from(peer.trunk_port).ok()?,
            carrier: wanted,
        })
    }

    /// Looks at each tunnel: reports on it, and tries the next address of a core that is silent.
    async fn look(&mut self) {
        let states = match self.underlay.peers().await {
            Ok(states) => states,
            Err(error) => {
                let error = chain(&error);
                warn!(error, "the tunnel's interface does not tell of its peers");
                return;
            }
        };
        let trunks = self.trunks.states();
        let mut reports = Vec::with_capacity(self.cores.len());
        let mut moved = false;
        for (member_id, core) in &mut self.cores {
            let state = states.iter().find(|state| state.public_key == core.public_key);
            let trunk = trunks.iter().find(|trunk| &trunk.member_id == member_id);
            let via = self.mesh.via(state);
            reports.push(TunnelReport { via, ..tunnel_report(member_id, state, trunk) });
            if trunk.is_some_and(|trunk| trunk.lanes_up == 0) {
                // The core may have heard of us only now, or have lost its keys with a restart.
                self.underlay.handshake(&core.public_key);
            }
            if core.look(state) {
                self.lookups.begin(&core.peer);
                moved = true;
            } else if core.look_at_way(state.and_then(|state| state.way)) {
                self.lookups.begin(&core.peer);
            }
        }
        *self.tunnels.lock() = reports;
        if moved {
            self.set_peers().await;
        }
    }
}

impl Core {
    fn new(peer: Peer, public_key: PublicKey) -> Self {
        let (addresses, silent, detour) = (Vec::new(), Duration::ZERO, Duration::ZERO);
        Self { peer, public_key, addresses, is_stale: true, attempt: 0, silent, detour }
    }

    fn config(&self, stream_tls: Option<StreamTls>) -> PeerConfig {
        let keepalive = Some(KEEPALIVE);
        PeerConfig { stream_tls, keepalive, ..PeerConfig::new(self.public_key) }
    }

    /// The address whose turn it is.
    fn turn(&self) -> Option<SocketAddr> {
        let turn = self.attempt.checked_rem(self.addresses.len())?;
        self.addresses.get(turn).copied()
    }

    /// Counts a look; tells whether the core is to be looked for anew.
    fn look(&mut self, state: Option<&PeerState>) -> bool {
        let silence = state.and_then(|state| state.silence);
        if silence.is_some_and(|silence| silence < LOST_AFTER) {
            self.silent = Duration::ZERO;
            return false;
        }
        self.silent += LOOK_INTERVAL;
        if self.silent < LOST_AFTER && !self.addresses.is_empty() {
            return false;
        }
        self.silent = Duration::ZERO;
        self.attempt += 1;
        true
    }

    /// Counts a look at its way; tells whether its names are to be looked up again, since that is a
    /// detour.
    fn look_at_way(&mut self, way: Option<Way>) -> bool {
        let is_detour = way.is_some_and(|way| way.remote().is_none());
        self.detour = if is_detour { self.detour + LOOK_INTERVAL } else { Duration::ZERO };
        let is_due = self.detour >= DETOUR_LOOK_UP;
        if is_due {
            self.detour = Duration::ZERO;
        }
        is_due
    }
}

fn overrides(config: &Config) -> BTreeMap<String, String> {
    let endpoints = config.core_endpoints.iter();
    endpoints.map(|(name, endpoint)| (name.to_string(), endpoint.clone())).collect()
}

fn overridden(peer: &Peer, overrides: &BTreeMap<String, String>) -> Peer {
    let mut peer = peer.clone();
    if let Some(endpoint) = overrides.get(&peer.name) {
        peer.endpoints = vec![endpoint.clone()];
    }
    peer
}

#[cfg(test)]
mod tests;
