//! Sending on: whose datagrams, to which cores, how many.
//!
//! A machine without sockets. A neighbour's wrapped datagram comes in and names the flow, a
//! neighbour with a core, on whose own socket its payload is to leave; what the core answers on
//! that socket comes in and is wrapped for the neighbour. What is inside is never read: it is
//! WireGuard's between the two of them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::allowance::{Allowance, Share};
use super::codec::{Header, Kind, Wrapped, may_be_wrapped, wrap};
use super::window::{Fresh, Window};
use crate::key::PublicKey;
use crate::path_key::{KeyId, PathKey};
use crate::way::Way;

/// Neighbours that may be sent on for at once; the gateway names fewer.
pub(crate) const NEIGHBOURS_MAX: usize = 256;
/// Flows at once, each with a socket of its own.
pub(crate) const FLOWS_MAX: usize = 512;
/// A flow on which nothing went for so long is closed. A way that is not in use is probed every two
/// seconds.
pub(crate) const FLOW_IDLE: Duration = Duration::from_secs(30);
/// A neighbour that nothing was taken from for so long may count anew: its clock, which its
/// counters begin with, may have gone back with a restart. What somebody recorded before is old by
/// then, and WireGuard's own counters refuse it.
const COUNTER_IDLE: Duration = Duration::from_secs(60);

/// A neighbour's datagrams to one core.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) struct FlowId {
    pub(crate) neighbour: KeyId,
    pub(crate) core: KeyId,
}

/// Why a datagram is not sent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// From nobody that we send on for.
    UnknownNeighbour,
    /// Not made with the neighbour's key, or changed on its way.
    NotAuthentic,
    /// Its counter came before, or is too old to tell.
    Replayed,
    /// For a core that we have no tunnel with, or whose address is not known.
    UnknownCore,
    /// What is inside is not WireGuard's, nor a probe.
    NotWireGuard,
    /// The neighbour's share of the bytes a second is used up.
    OverBudget,
    /// There are `FLOWS_MAX` flows.
    FlowsFull,
    /// The flow's socket did not take it, or can't be had.
    NotSent,
    /// Nothing was asked of the core for so long that the flow has ended.
    NoFlow,
}

impl Refused {
    /// All of them, in the order of their counters.
    pub const ALL: [Self; 9] = [
        Self::UnknownNeighbour,
        Self::NotAuthentic,
        Self::Replayed,
        Self::UnknownCore,
        Self::NotWireGuard,
        Self::OverBudget,
        Self::FlowsFull,
        Self::NotSent,
        Self::NoFlow,
    ];

    /// `reason` of `antipode_tunnel_forward_refused_total`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownNeighbour => "unknown_neighbour",
            Self::NotAuthentic => "not_authentic",
            Self::Replayed => "replayed",
            Self::UnknownCore => "unknown_core",
            Self::NotWireGuard => "not_wireguard",
            Self::OverBudget => "over_budget",
            Self::FlowsFull => "flows_full",
            Self::NotSent => "not_sent",
            Self::NoFlow => "no_flow",
        }
    }
}

/// Where a payload leaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Leave {
    pub(crate) flow: FlowId,
    /// The core's address. A flow's socket that was made for another one is of no use.
    pub(crate) to: SocketAddr,
}

/// The forwarder of one tunnel.
#[derive(Debug)]
pub(crate) struct Forwarder {
    own: KeyId,
    allowance: Allowance,
    neighbours: BTreeMap<KeyId, Neighbour>,
    cores: BTreeMap<KeyId, SocketAddr>,
    /// When each was used last.
    flows: BTreeMap<FlowId, Instant>,
}

#[derive(Debug)]
struct Neighbour {
    key: PathKey,
    window: Window,
    taken_at: Instant,
    share: Share,
    /// Where its newest datagram came from.
    at: Option<Way>,
    /// Of what goes to it.
    counter: u64,
}

impl Forwarder {
    pub(crate) fn new(own: &PublicKey, bytes_per_second_max: u64, now: Instant) -> Self {
        Self {
            own: KeyId::of(own),
            allowance: Allowance::new(bytes_per_second_max, now),
            neighbours: BTreeMap::new(),
            cores: BTreeMap::new(),
            flows: BTreeMap::new(),
        }
    }

    /// Changes what may be spent on all together.
    pub(crate) fn set_bytes_per_second_max(&mut self, bytes_per_second_max: u64, now: Instant) {
        self.allowance = Allowance::new(bytes_per_second_max, now);
    }

    /// Sets whom it sends on for, whole. Who stays keeps its counters; who is missing is refused
    /// from now on. `counter` is where counting begins for those who are new: higher than where it
    /// stood before a restart.
    pub(crate) fn set_neighbours(
        &mut self,
        keys: impl IntoIterator<Item = (KeyId, PathKey)>,
        counter: u64,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.neighbours);
        for (id, key) in keys.into_iter().take(NEIGHBOURS_MAX) {
            let neighbour = before.remove(&id).unwrap_or_else(|| Neighbour {
                key,
                window: Window::default(),
                taken_at: now,
                share: self.allowance.share(now),
                at: None,
                counter,
            });
            self.neighbours.insert(id, neighbour);
        }
    }

    /// Whether anybody is sent on for.
    pub(crate) fn is_idle(&self) -> bool {
        self.neighbours.is_empty() && self.flows.is_empty()
    }

    /// Tells where the cores are. One whose address is not known now stays where it was.
    pub(crate) fn set_cores(&mut self, cores: &[(KeyId, Option<SocketAddr>)]) {
        self.cores.retain(|id, _| cores.iter().any(|(core, _)| core == id));
        for (id, address) in cores {
            if let Some(address) = address {
                self.cores.insert(*id, *address);
            }
        }
    }

    /// Takes a neighbour's datagram: tells where its payload leaves.
    pub(crate) fn forward(
        &mut self,
        from: Way,
        wrapped: &Wrapped<'_>,
        now: Instant,
    ) -> Result<Leave, Refused> {
        let Header { sender, core, counter, .. } = wrapped.header;
        let neighbours = self.neighbours.len();
        let Some(neighbour) = self.neighbours.get_mut(&sender) else {
            return Err(Refused::UnknownNeighbour);
        };
        if !wrapped.is_authentic(&neighbour.key) {
            return Err(Refused::NotAuthentic);
        }
        if now.saturating_duration_since(neighbour.taken_at) >= COUNTER_IDLE {
            neighbour.window = Window::default();
        }
        let fresh = neighbour.window.take(counter).ok_or(Refused::Replayed)?;
        neighbour.taken_at = now;
        if fresh == Fresh::Newest {
            neighbour.at = Some(from);
        }
        if !may_be_wrapped(wrapped.payload()) {
            return Err(Refused::NotWireGuard);
        }
        let to = *self.cores.get(&core).ok_or(Refused::UnknownCore)?;
        let flow = FlowId { neighbour: sender, core };
        if !self.flows.contains_key(&flow) && self.flows.len() >= FLOWS_MAX {
            return Err(Refused::FlowsFull);
        }
        let bytes = bytes_of(wrapped.payload());
        if !self.allowance.spend(&mut neighbour.share, neighbours, bytes, now) {
            return Err(Refused::OverBudget);
        }
        self.flows.insert(flow, now);
        Ok(Leave { flow, to })
    }

    /// Wraps what a core answered on a flow, and tells where it goes.
    pub(crate) fn returned(
        &mut self,
        flow: FlowId,
        payload: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Way, Refused> {
        if !self.flows.contains_key(&flow) {
            return Err(Refused::NoFlow);
        }
        if !may_be_wrapped(payload) {
            return Err(Refused::NotWireGuard);
        }
        let neighbours = self.neighbours.len();
        let neighbour =
            self.neighbours.get_mut(&flow.neighbour).ok_or(Refused::UnknownNeighbour)?;
        let to = neighbour.at.ok_or(Refused::UnknownNeighbour)?;
        let bytes = bytes_of(payload);
        if !self.allowance.spend(&mut neighbour.share, neighbours, bytes, now) {
            return Err(Refused::OverBudget);
        }
        let Neighbour { counter, key, .. } = neighbour;
        let header =
            Header { kind: Kind::Returned, sender: self.own, counter: *counter, core: flow.core };
        *counter += 1;
        wrap(header, key, payload, out);
        Ok(to)
    }

    /// Ends the flows that nobody used, and those of neighbours and cores that are gone. What
    /// [`Forwarder::is_open`] does not know any more is to be closed.
    pub(crate) fn tick(&mut self, now: Instant) {
        let Self { neighbours, cores, flows, .. } = self;
        flows.retain(|flow, used_at| {
            neighbours.contains_key(&flow.neighbour)
                && cores.contains_key(&flow.core)
                && now.saturating_duration_since(*used_at) < FLOW_IDLE
        });
    }

    /// Whether a flow is still of use, with the core at `to`.
    pub(crate) fn is_open(&self, flow: FlowId, to: SocketAddr) -> bool {
        self.flows.contains_key(&flow) && self.cores.get(&flow.core) == Some(&to)
    }
}

fn bytes_of(payload: &[u8]) -> u64 {
    u64::try_from(payload.len()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
