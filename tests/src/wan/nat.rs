//! A translator of UDP ports on the left side. It leaves ports as they are until it loses its
//! mappings; then each flow gets another one, as behind a home router that was restarted.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::frame::{Udp, checksum_after};

/// Flows that a translator remembers; beyond, it forgets the one with the least address.
const FLOWS_MAX: usize = 65_536;

/// A host's port.
type Port = (IpAddr, u16);

/// The translator.
#[derive(Debug)]
pub struct Nat {
    rng: StdRng,
    is_translating: bool,
    /// Inner port by outer.
    inner: BTreeMap<Port, Port>,
    /// Outer port by inner.
    outer: BTreeMap<Port, Port>,
    /// Outer ports that nobody has any more.
    forgotten: BTreeSet<Port>,
    /// Inner ports whose flows are dead for good.
    severed: BTreeSet<Port>,
}

impl Nat {
    /// One that leaves ports as they are.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            is_translating: false,
            inner: BTreeMap::new(),
            outer: BTreeMap::new(),
            forgotten: BTreeSet::new(),
            severed: BTreeSet::new(),
        }
    }

    /// Forgets all mappings.
    pub fn rebind(&mut self) {
        self.is_translating = true;
        self.forgotten.extend(std::mem::take(&mut self.inner).into_keys());
        self.outer.clear();
        while self.forgotten.len() > FLOWS_MAX {
            self.forgotten.pop_first();
        }
    }

    /// Kills the flows of all ports that the left side has used so far, both ways, as a firewall
    /// does that lost its state, or a broken one of several routes. Other ports work.
    pub fn sever(&mut self) {
        self.forgotten.extend(std::mem::take(&mut self.inner).into_keys());
        self.severed.extend(std::mem::take(&mut self.outer).into_keys());
        for dead in [&mut self.forgotten, &mut self.severed] {
            while dead.len() > FLOWS_MAX {
                dead.pop_first();
            }
        }
    }

    /// Translates a frame that leaves the left side; false if its flow is dead.
    #[must_use]
    pub fn leave(&mut self, frame: &mut [u8], udp: &Udp) -> bool {
        if self.severed.contains(&udp.source) {
            return false;
        }
        let (_, port) = self.outer_of(udp.source);
        rewrite(frame, udp.at, udp.at, port);
        true
    }

    /// Translates a frame for the left side; false if it is for nobody.
    #[must_use]
    pub fn enter(&mut self, frame: &mut [u8], udp: &Udp) -> bool {
        if let Some((_, port)) = self.inner.get(&udp.destination) {
            rewrite(frame, udp.at, udp.at + 2, *port);
            return true;
        }
        !self.forgotten.contains(&udp.destination)
    }

    fn outer_of(&mut self, inner: Port) -> Port {
        if let Some(outer) = self.outer.get(&inner) {
            return *outer;
        }
        if self.outer.len() >= FLOWS_MAX
            && let Some((_, outer)) = self.outer.pop_first()
        {
            self.inner.remove(&outer);
        }
        let mut outer = inner;
        while self.is_translating
            && (outer == inner
                || self.inner.contains_key(&outer)
                || self.forgotten.contains(&outer))
        {
            outer.1 = self.rng.random_range(1024..=u16::MAX);
        }
        self.outer.insert(inner, outer);
        self.inner.insert(outer, inner);
        outer
    }
}

/// Writes another port at `at` into the UDP header at `header`, and makes its checksum right.
fn rewrite(frame: &mut [u8], header: usize, at: usize, port: u16) {
    let read = |frame: &[u8], at: usize| u16::from_be_bytes([frame[at], frame[at + 1]]);
    let (before, sum) = (read(frame, at), read(frame, header + 6));
    if before == port {
        return;
    }
    frame[at..at + 2].copy_from_slice(&port.to_be_bytes());
    let sum = checksum_after(sum, before, port);
    frame[header + 6..header + 8].copy_from_slice(&sum.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::super::frame::tests::{is_sound, udp_frame};
    use super::super::frame::{Kind, Shape};
    use super::*;

    fn udp(frame: &[u8]) -> Udp {
        let Kind::Udp(Some(udp)) = Shape::of(frame).kind else { panic!("a datagram") };
        udp
    }

    /// Sends a datagram out, and returns the port that the far end sees.
    fn leave(nat: &mut Nat, near: Port, far: Port) -> u16 {
        let mut frame = udp_frame(near, far, b"hello");
        let shape = udp(&frame);
        assert!(nat.leave(&mut frame, &shape));
        assert!(is_sound(&frame));
        assert_eq!(udp(&frame).destination, far);
        udp(&frame).source.1
    }

    /// Sends a datagram in, and returns the port that it comes to.
    fn enter(nat: &mut Nat, far: Port, to: Port) -> Option<u16> {
        let mut frame = udp_frame(far, to, b"hello");
        let shape = udp(&frame);
        let is_known = nat.enter(&mut frame, &shape);
        assert!(is_sound(&frame));
        assert_eq!(udp(&frame).source, far);
        is_known.then(|| udp(&frame).destination.1)
    }

    #[test]
    fn a_flow_gets_another_port_and_the_old_one_is_dead() {
        for (near, far) in [("10.9.0.1", "10.9.0.2"), ("fd09::1", "fd09::2")] {
            let (near, far) = (near.parse().unwrap(), (far.parse().unwrap(), 51820));
            let mut nat = Nat::new(3);
            let mut before = 4000;
            assert_eq!(leave(&mut nat, (near, 4000), far), 4000);
            assert_eq!(enter(&mut nat, far, (near, 4000)), Some(4000));
            for _ in 0..3 {
                nat.rebind();
                assert_eq!(enter(&mut nat, far, (near, before)), None);
                let after = leave(&mut nat, (near, 4000), far);
                assert_ne!(after, before);
                assert_eq!(leave(&mut nat, (near, 4000), far), after, "as long as it lasts");
                assert_eq!(enter(&mut nat, far, (near, after)), Some(4000));
                assert_eq!(enter(&mut nat, far, (near, before)), None);
                before = after;
            }
            assert_eq!(enter(&mut nat, far, (near, 443)), Some(443), "a port that was opened");
        }
    }

    #[test]
    fn a_severed_flow_is_dead_and_a_new_one_is_not() {
        let (near, far) = ("10.9.0.1".parse().unwrap(), ("10.9.0.2".parse().unwrap(), 7));
        let mut nat = Nat::new(3);
        leave(&mut nat, (near, 4000), far);
        nat.sever();
        let mut frame = udp_frame((near, 4000), far, b"hello");
        let shape = udp(&frame);
        assert!(!nat.leave(&mut frame, &shape));
        assert_eq!(enter(&mut nat, far, (near, 4000)), None);
        assert_eq!(leave(&mut nat, (near, 4001), far), 4001);
        assert_eq!(enter(&mut nat, far, (near, 4001)), Some(4001));
    }

    #[test]
    fn two_flows_do_not_meet() {
        let (near, far) = ("10.9.0.1".parse().unwrap(), ("10.9.0.2".parse().unwrap(), 7));
        let mut nat = Nat::new(3);
        let mut seen = BTreeSet::new();
        for _ in 0..3 {
            nat.rebind();
            seen.extend((1..1000).map(|port| leave(&mut nat, (near, port), far)));
        }
        assert_eq!(seen.len(), 3 * 999, "not with those of old either");
    }
}
