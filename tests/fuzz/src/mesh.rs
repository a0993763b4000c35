//! The mesh: a forwarder, two nodes that go through it, and two cores.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use antipode_runtime::clock;
use antipode_tunnel::device::Way;
use antipode_tunnel::forward::bare::{BareFlow, BareForwarder, BareNode, Seal, SentOn};
use antipode_tunnel::{ForwarderConfig, PrivateKey, PublicKey};

use crate::input::{Input, key};

const BYTES_PER_SECOND: u64 = 100_000;
/// What may be saved up.
const SAVED_BYTES_MAX: u64 = 64 << 10;
/// Who says nothing for so long may count anew.
const COUNTER_IDLE: Duration = Duration::from_secs(60);

/// Datagrams of strangers, and of neighbours that lie: what is sent on is a neighbour's, goes to a
/// core, is WireGuard's or a probe, and goes once; all of it keeps within the bytes a second. What
/// comes back arrives.
///
/// # Panics
///
/// On a bug.
pub fn tunnel_forward(data: &[u8]) {
    let mut lab = Lab::new();
    let mut input = Input(data);
    while let Some(step) = input.step() {
        lab.step(step, &mut input);
    }
}

struct Lab {
    start: Instant,
    now: Instant,
    forwarder: BareForwarder,
    nodes: [Node; 2],
    cores: [PublicKey; 2],
    /// Where each core is, if that is known.
    at: [Option<SocketAddr>; 2],
    flows: Vec<(usize, BareFlow)>,
    spent: u64,
}

struct Node {
    public_key: PublicKey,
    node: BareNode,
    /// The forwarder's key with it.
    theirs: Seal,
    /// Its name on the wire.
    id: [u8; 8],
    is_known: bool,
    /// Counters of what was sent on, since it was last forgotten.
    counters: BTreeSet<[u8; 8]>,
    taken_at: Instant,
    /// It got what no forwarder makes: counters that the real ones may find taken.
    was_lied_to: bool,
}

impl Node {
    fn new(key: &PrivateKey, forwarder: &PrivateKey, cores: &[PublicKey], now: Instant) -> Self {
        let (public_key, address) = (key.public_key(), SocketAddr::from(([192, 0, 2, 9], 1)));
        let config =
            ForwarderConfig { public_key: forwarder.public_key(), addresses: vec![address] };
        let node = BareNode::new(key, config, cores, now).expect("a good key");
        let theirs = Seal::new(forwarder, &public_key).expect("a good key");
        let mut wrapped = Vec::new();
        node.seal().wrap(&cores[0], 0, &[4], &mut wrapped);
        let id = wrapped[4..12].try_into().expect("eight bytes");
        let counters = BTreeSet::new();
        let (is_known, was_lied_to) = (true, false);
        Self { public_key, node, theirs, id, is_known, counters, taken_at: now, was_lied_to }
    }
}

impl Lab {
    fn new() -> Self {
        let start = clock::now();
        let cores = [key(4), key(5)].map(|core| core.public_key());
        let nodes = [key(2), key(3)].map(|node| Node::new(&node, &key(1), &cores, start));
        let forwarder = BareForwarder::new(key(1), BYTES_PER_SECOND, start);
        let (at, flows) = ([None; 2], Vec::new());
        let mut lab = Self { start, now: start, forwarder, nodes, cores, at, flows, spent: 0 };
        lab.set_nodes(3);
        lab.set_cores(15);
        lab
    }

    fn step(&mut self, step: u8, input: &mut Input<'_>) {
        let which = input.index(2);
        match step % 8 {
            0 => self.arrive(input.bytes()),
            1 => {
                let mut datagram = input.bytes().to_vec();
                self.nodes[which].node.seal().put_right_wrapped(&mut datagram);
                self.arrive(&datagram);
            }
            2 => {
                let (core, [low, high], mut datagram) = (input.index(2), input.array(), Vec::new());
                let counter = u64::from(u16::from_le_bytes([low, high]));
                let seal = self.nodes[which].node.seal();
                seal.wrap(&self.cores[core], counter, input.bytes(), &mut datagram);
                self.arrive(&datagram);
            }
            3 => self.bring_back(input),
            4 => {
                let mut datagram = input.bytes().to_vec();
                let node = &mut self.nodes[which];
                if step & 0x80 == 0 {
                    node.theirs.put_right_wrapped(&mut datagram);
                }
                node.was_lied_to |= node.node.unwrap(way(9), &datagram, self.now).is_ok();
            }
            5 => {
                self.now += Duration::from_millis(u16::from_le_bytes(input.array()).into());
                self.forwarder.tick(self.now);
                self.nodes.iter_mut().for_each(|node| node.node.tick(self.now));
            }
            6 => self.set_nodes(input.byte()),
            _ => self.set_cores(input.byte()),
        }
    }

    /// Two bits: who is sent on for.
    fn set_nodes(&mut self, bits: u8) {
        // Counters begin with the clock: it moves more than they do.
        self.now += Duration::from_millis(10);
        let mut keys = Vec::new();
        for (at, node) in self.nodes.iter_mut().enumerate() {
            let is_known = bits & 1 << at != 0;
            if !is_known || !node.is_known {
                node.counters.clear();
                node.taken_at = self.now;
            }
            node.is_known = is_known;
            keys.extend(is_known.then_some(node.public_key));
        }
        let counter = u64::try_from((self.now - self.start).as_micros()).expect("some minutes");
        self.forwarder.set_nodes(&keys, counter, self.now);
        self.forwarder.tick(self.now);
    }

    /// Two bits: which cores there are; two more: whose address is known.
    fn set_cores(&mut self, bits: u8) {
        let mut cores = Vec::new();
        for (number, core) in self.cores.into_iter().enumerate() {
            let port = 7000 + u16::from(bits >> 4);
            let host = if number == 0 { 101 } else { 102 };
            let address = SocketAddr::from(([192, 0, 2, host], port));
            let address = (bits & 4 << number != 0).then_some(address);
            if bits & 1 << number == 0 {
                self.at[number] = None;
                continue;
            }
            cores.push((core, address));
            // One whose address is not known now stays where it was.
            self.at[number] = address.or(self.at[number]);
        }
        self.forwarder.set_cores(&cores);
        self.forwarder.tick(self.now);
    }

    fn arrive(&mut self, datagram: &[u8]) {
        let (from, now) = (way((datagram.len() % 4).try_into().unwrap_or_default()), self.now);
        let Ok(sent_on) = self.forwarder.forward(from, datagram, now) else { return };
        let SentOn { flow, to, payload } = sent_on;
        let number = self.nodes.iter().position(|node| node.id == datagram[4..12]);
        let number = number.expect("sent on for a stranger");
        let node = &mut self.nodes[number];
        assert!(node.is_known, "sent on for who is off the roster");
        assert!(self.at.contains(&Some(to)), "sent on to where no core is");
        assert!(matches!(payload[0], 1..=4 | 0xa1 | 0xa2), "sent on a {:#x}", payload[0]);
        if now - node.taken_at >= COUNTER_IDLE {
            node.counters.clear();
        }
        node.taken_at = now;
        let counter = datagram[12..20].try_into().expect("eight bytes");
        assert!(node.counters.insert(counter), "a counter was taken twice");
        self.spend(payload.len());
        if !self.flows.contains(&(number, flow)) {
            self.flows.push((number, flow));
        }
    }

    fn bring_back(&mut self, input: &mut Input<'_>) {
        let Some(&(number, flow)) = self.flows.get(input.index(self.flows.len())) else { return };
        let (payload, mut wrapped) = (input.bytes(), Vec::new());
        if self.forwarder.bring_back(flow, payload, self.now, &mut wrapped).is_err() {
            assert!(wrapped.is_empty(), "wrapped, and not sent");
            return;
        }
        self.spend(payload.len());
        let node = &self.nodes[number];
        assert!(node.is_known, "brought back to who is off the roster");
        let arrived = node.node.unwrap(way(9), &wrapped, self.now);
        assert!(node.was_lied_to || arrived == Ok(payload), "{arrived:?}");
        let again = node.node.unwrap(way(9), &wrapped, self.now);
        assert!(again.is_err(), "brought back twice");
    }

    fn spend(&mut self, bytes: usize) {
        self.spent += bytes as u64;
        let passed = u64::try_from((self.now - self.start).as_micros()).expect("some minutes");
        let earned = BYTES_PER_SECOND * passed / 1_000_000;
        assert!(self.spent <= SAVED_BYTES_MAX + earned, "more bytes than there are to spend");
    }
}

fn way(host: u8) -> Way {
    Way::from(SocketAddr::from(([192, 0, 2, host], 51820)))
}
