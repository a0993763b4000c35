//! The ways through neighbours, on the side of whoever goes them.
//!
//! A way is a neighbour with a core; it has a number for as long as the neighbour is named.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::codec::{HEADER_BYTES, Header, Kind, Wrapped, may_be_wrapped, wrap};
use super::window::Window;
use crate::exits::Exit;
use crate::key::PublicKey;
use crate::metrics::{DropReason, Metrics};
use crate::outer::{OuterSocket, RUN_BYTES_MAX};
use crate::path_key::{KeyId, PathKey};
use crate::way::{ThroughId, Way};

/// Forwarders that are used; the gateway names fewer.
pub(crate) const FORWARDERS_MAX: usize = 8;
/// A forwarder that says nothing for so long is tried at its next address. A way that is not in use
/// is probed every two seconds.
const SILENCE_MAX: Duration = Duration::from_secs(6);

/// A neighbour that sends our datagrams on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ForwarderConfig {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it is: any of these, in the order in which they are tried.
    pub addresses: Vec<SocketAddr>,
}

/// All ways through neighbours.
#[derive(Debug)]
pub(crate) struct Throughs {
    own: KeyId,
    metrics: Metrics,
    neighbours: BTreeMap<KeyId, Arc<Neighbour>>,
    ways: BTreeMap<(KeyId, KeyId), Arc<Outlet>>,
    given: u64,
}

/// A neighbour as it is.
#[derive(Debug)]
struct Neighbour {
    public_key: PublicKey,
    key: PathKey,
    /// Of what goes to it.
    counter: AtomicU64,
    contact: Mutex<Contact>,
}

/// Where a neighbour is, and what came from it.
#[derive(Debug)]
struct Contact {
    addresses: Vec<SocketAddr>,
    /// Which of them is used; counts on.
    turn: usize,
    heard_at: Instant,
    window: Window,
}

/// Where datagrams to one core leave through one neighbour.
#[derive(Debug)]
pub(crate) struct Outlet {
    id: ThroughId,
    own: KeyId,
    core: KeyId,
    neighbour: Arc<Neighbour>,
    metrics: Metrics,
}

impl Throughs {
    pub(crate) fn new(own: &PublicKey, metrics: Metrics) -> Self {
        let (neighbours, ways) = (BTreeMap::new(), BTreeMap::new());
        Self { own: KeyId::of(own), metrics, neighbours, ways, given: 0 }
    }

    /// Sets the forwarders, whole. Who stays keeps its counters and ways. `counter` is where
    /// counting begins for those who are new: higher than where it stood before a restart.
    pub(crate) fn set_forwarders(
        &mut self,
        forwarders: Vec<(ForwarderConfig, PathKey)>,
        counter: u64,
        now: Instant,
    ) {
        let mut before = std::mem::take(&mut self.neighbours);
        for (forwarder, key) in forwarders.into_iter().take(FORWARDERS_MAX) {
            let ForwarderConfig { public_key, addresses } = forwarder;
            let id = KeyId::of(&public_key);
            let neighbour = before.remove(&id).unwrap_or_else(|| {
                let (counter, contact) = (AtomicU64::new(counter), Contact::new(now));
                Arc::new(Neighbour { public_key, key, counter, contact: Mutex::new(contact) })
            });
            neighbour.contact.lock().set_addresses(addresses);
            self.neighbours.insert(id, neighbour);
        }
    }

    /// Keeps the ways to these cores, one through each forwarder, and forgets the others. Tells
    /// whether that changed any. Due after [`Throughs::set_forwarders`] too.
    pub(crate) fn set_cores(&mut self, cores: &[PublicKey]) -> bool {
        let cores: Vec<KeyId> = cores.iter().map(KeyId::of).collect();
        let (before, neighbours) = (self.ways.len(), &self.neighbours);
        self.ways.retain(|(neighbour, core), _| {
            neighbours.contains_key(neighbour) && cores.contains(core)
        });
        let mut changed = self.ways.len() != before;
        for (id, neighbour) in &self.neighbours {
            for core in cores.iter().filter(|core| *core != id) {
                self.ways.entry((*id, *core)).or_insert_with(|| {
                    changed = true;
                    self.given += 1;
                    let (id, neighbour) = (ThroughId(self.given), Arc::clone(neighbour));
                    let (own, metrics) = (self.own, self.metrics.clone());
                    Arc::new(Outlet { id, own, core: *core, neighbour, metrics })
                });
            }
        }
        changed
    }

    /// Every way, by its number.
    pub(crate) fn outlets(&self) -> BTreeMap<ThroughId, Arc<dyn Exit>> {
        let outlet = |way: &Arc<Outlet>| (way.id, Arc::clone(way) as Arc<dyn Exit>);
        self.ways.values().map(outlet).collect()
    }

    /// The ways to one core.
    pub(crate) fn to(&self, core: &PublicKey) -> Vec<ThroughId> {
        let core = KeyId::of(core);
        self.ways.values().filter(|way| way.core == core).map(|way| way.id).collect()
    }

    /// Whose way it is.
    pub(crate) fn forwarder(&self, id: ThroughId) -> Option<PublicKey> {
        let way = self.ways.values().find(|way| way.id == id)?;
        Some(way.neighbour.public_key)
    }

    /// Takes what a forwarder brought back: the way it came, and what was inside. It is no more
    /// trusted than a datagram of anybody's; that it is the forwarder's says which way it came.
    pub(crate) fn unwrap<'a>(
        &self,
        from: Way,
        wrapped: &Wrapped<'a>,
        now: Instant,
    ) -> Result<(ThroughId, &'a [u8]), DropReason> {
        let Header { sender, core, counter, .. } = wrapped.header;
        let way = self.ways.get(&(sender, core)).ok_or(DropReason::NoWay)?;
        if !wrapped.is_authentic(&way.neighbour.key) || !may_be_wrapped(wrapped.payload()) {
            return Err(DropReason::NotAuthentic);
        }
        let mut contact = way.neighbour.contact.lock();
        contact.window.take(counter).ok_or(DropReason::Duplicate)?;
        contact.heard_at = now;
        if let Some(turn) = contact.addresses.iter().position(|at| Some(*at) == from.remote()) {
            contact.turn = turn;
        }
        Ok((way.id, wrapped.payload()))
    }

    /// Tries silent forwarders at their next address.
    pub(crate) fn tick(&mut self, now: Instant) {
        for neighbour in self.neighbours.values() {
            neighbour.contact.lock().tick(now);
        }
    }
}

impl Contact {
    fn new(now: Instant) -> Self {
        Self { addresses: Vec::new(), turn: 0, heard_at: now, window: Window::default() }
    }

    fn set_addresses(&mut self, addresses: Vec<SocketAddr>) {
        if self.addresses != addresses {
            let used = self.address();
            self.turn = addresses.iter().position(|at| Some(*at) == used).unwrap_or(0);
            self.addresses = addresses;
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        let turn = self.turn.checked_rem(self.addresses.len())?;
        self.addresses.get(turn).copied()
    }

    fn tick(&mut self, now: Instant) {
        if now.saturating_duration_since(self.heard_at) >= SILENCE_MAX {
            // It may have restarted with its clock set back, and count from lower down.
            self.window = Window::default();
            self.heard_at = now;
            self.turn = self.turn.wrapping_add(1);
        }
    }
}

impl Exit for Outlet {
    fn send(&self, udp: &OuterSocket, run: &[u8], segment: usize) -> io::Result<()> {
        let to = self.neighbour.contact.lock().address();
        let segment = segment.max(1);
        let Some(to) = to else {
            run.chunks(segment).for_each(|_| self.metrics.dropped(DropReason::NoEndpoint));
            return Ok(());
        };
        let wrapped = segment + HEADER_BYTES;
        let at_once = udp.segments_max().min(RUN_BYTES_MAX / wrapped).max(1);
        let mut is_first = true;
        for run in run.chunks(segment * at_once) {
            let mut bytes = Vec::with_capacity(at_once.min(run.len() / segment + 1) * wrapped);
            run.chunks(segment).for_each(|datagram| self.wrap(datagram, &mut bytes));
            match udp.try_send(to, None, &bytes, wrapped) {
                Ok(()) => is_first = false,
                Err(full) if is_first => return Err(full),
                Err(_) => {
                    run.chunks(segment).for_each(|_| self.metrics.dropped(DropReason::NotSent));
                }
            }
        }
        Ok(())
    }
}

impl Outlet {
    fn wrap(&self, datagram: &[u8], out: &mut Vec<u8>) {
        let counter = self.neighbour.counter.fetch_add(1, Ordering::Relaxed);
        let header = Header { kind: Kind::Forward, sender: self.own, counter, core: self.core };
        wrap(header, &self.neighbour.key, datagram, out);
    }
}

#[cfg(test)]
mod tests;
