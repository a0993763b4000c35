//! Both sides of sending on without sockets, for who moves datagrams by hand: a fuzz target or a
//! benchmark. What decides is what a tunnel runs.

use std::net::SocketAddr;
use std::time::Instant;

use super::codec::{HEADER_BYTES, Header, Kind, MAC_AT, Wrapped, wrap};
use super::forwarder::{FlowId, Forwarder, Refused};
use super::through::{ForwarderConfig, Throughs};
use crate::key::{PrivateKey, PublicKey};
use crate::metrics::{DropReason, Metrics};
pub use crate::path_key::Seal;
use crate::path_key::{KeyId, PathKey};
use crate::way::Way;

/// A forwarder that tells where datagrams leave.
#[derive(Debug)]
pub struct BareForwarder {
    key: PrivateKey,
    machine: Forwarder,
}

/// A datagram that is sent on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SentOn<'a> {
    /// What the core's answers are told by.
    pub flow: BareFlow,
    /// Where the core is.
    pub to: SocketAddr,
    /// What was wrapped.
    pub payload: &'a [u8],
}

/// A node's datagrams to one core.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BareFlow(FlowId);

impl BareForwarder {
    /// One that sends on for nobody yet.
    #[must_use]
    pub fn new(key: PrivateKey, bytes_per_second_max: u64, now: Instant) -> Self {
        let machine = Forwarder::new(&key.public_key(), bytes_per_second_max, now);
        Self { key, machine }
    }

    /// Sets whom it sends on for, whole; its own counters begin at `counter` for who is new.
    pub fn set_nodes(&mut self, nodes: &[PublicKey], counter: u64, now: Instant) {
        let keyed =
            nodes.iter().filter_map(|node| Some((KeyId::of(node), PathKey::new(&self.key, node)?)));
        self.machine.set_neighbours(keyed, counter, now);
    }

    /// Tells where the cores are.
    pub fn set_cores(&mut self, cores: &[(PublicKey, Option<SocketAddr>)]) {
        let cores: Vec<_> = cores.iter().map(|(core, at)| (KeyId::of(core), *at)).collect();
        self.machine.set_cores(&cores);
    }

    /// Takes a datagram from the network.
    ///
    /// # Errors
    /// Why it is not sent on; `None` if it is nothing to send on.
    pub fn forward<'a>(
        &mut self,
        from: Way,
        datagram: &'a [u8],
        now: Instant,
    ) -> Result<SentOn<'a>, Option<Refused>> {
        let wrapped = Wrapped::read(datagram).filter(|read| read.header.kind == Kind::Forward);
        let wrapped = wrapped.ok_or(None)?;
        let leave = self.machine.forward(from, &wrapped, now)?;
        Ok(SentOn { flow: BareFlow(leave.flow), to: leave.to, payload: wrapped.payload() })
    }

    /// Wraps what a core answered on a flow into `out`, and tells where it goes.
    ///
    /// # Errors
    /// Why it does not go.
    pub fn bring_back(
        &mut self,
        flow: BareFlow,
        payload: &[u8],
        now: Instant,
        out: &mut Vec<u8>,
    ) -> Result<Way, Refused> {
        self.machine.returned(flow.0, payload, now, out)
    }

    /// Ends flows that are of no use.
    pub fn tick(&mut self, now: Instant) {
        self.machine.tick(now);
    }
}

/// A node that goes through one forwarder.
#[derive(Debug)]
pub struct BareNode {
    throughs: Throughs,
    seal: Seal,
}

impl BareNode {
    /// A node with tunnels to `cores`; `None` if `forwarder`'s key is everybody's.
    #[must_use]
    pub fn new(
        key: &PrivateKey,
        forwarder: ForwarderConfig,
        cores: &[PublicKey],
        now: Instant,
    ) -> Option<Self> {
        let seal = Seal::new(key, &forwarder.public_key)?;
        let mut throughs = Throughs::new(&key.public_key(), Metrics::default());
        throughs.set_forwarders(vec![(forwarder, seal.key.clone())], 0, now);
        throughs.set_cores(cores);
        Some(Self { throughs, seal })
    }

    /// What it signs with.
    #[must_use]
    pub fn seal(&self) -> &Seal {
        &self.seal
    }

    /// Takes a datagram from the network, and returns what was wrapped if a forwarder brought it.
    ///
    /// # Errors
    /// Why it is dropped; `None` if no forwarder says that it did.
    pub fn unwrap<'a>(
        &self,
        from: Way,
        datagram: &'a [u8],
        now: Instant,
    ) -> Result<&'a [u8], Option<DropReason>> {
        let wrapped = Wrapped::read(datagram).filter(|read| read.header.kind == Kind::Returned);
        let (_, payload) = self.throughs.unwrap(from, &wrapped.ok_or(None)?, now)?;
        Ok(payload)
    }

    /// Looks whether the forwarder is silent.
    pub fn tick(&mut self, now: Instant) {
        self.throughs.tick(now);
    }
}

impl Seal {
    /// Appends `payload` for `core` to `out`, wrapped.
    pub fn wrap(&self, core: &PublicKey, counter: u64, payload: &[u8], out: &mut Vec<u8>) {
        let (sender, core) = (self.sender, KeyId::of(core));
        wrap(Header { kind: Kind::Forward, sender, counter, core }, &self.key, payload, out);
    }

    /// Signs a datagram whose header says anything.
    pub fn put_right_wrapped(&self, datagram: &mut [u8]) {
        if let Some((head, payload)) = datagram.split_at_mut_checked(HEADER_BYTES) {
            let (head, mac) = head.split_at_mut(MAC_AT);
            mac.copy_from_slice(&self.key.mac(&[head, payload]));
        }
    }
}
