//! The called side: which way a peer that chooses for itself is answered.
//!
//! Its data messages show where it is, as in WireGuard. But copies of them may come over a second
//! way, and sooner than the first: so a way that the peer probes without calling it the one in use
//! does not move it, as long as the one in use is probed too.

use std::time::{Duration, Instant};

use crate::way::Way;

/// Ways of one peer kept in mind: as many as it may have, addresses and neighbours, each with one
/// more for a rebinding.
const WAYS_MAX: usize = 32;
/// A way that was not probed for so long is forgotten: the peer probes those beside every 2 s.
const FORGET_AFTER: Duration = Duration::from_secs(7);
/// The way in use is probed every 250 ms; so long after the last one the peer may be anywhere.
const IN_USE_FOR: Duration = Duration::from_millis(1500);

/// The ways by which one peer was heard.
#[derive(Debug, Default)]
pub struct Followed {
    /// In order of their first probe; the oldest goes when there are too many.
    ways: Vec<Probed>,
}

#[derive(Clone, Copy, Debug)]
struct Probed {
    way: Way,
    at: Instant,
    in_use: bool,
}

impl Followed {
    /// The peer says of this way that it is the one in use, and no later probe of its named
    /// another.
    pub fn handle_used(&mut self, way: Way, now: Instant) {
        self.ways.iter_mut().for_each(|probed| probed.in_use = false);
        self.note(Probed { way, at: now, in_use: true });
    }

    /// The peer probed this way without saying that it is in use.
    pub fn handle_beside(&mut self, way: Way, now: Instant) {
        self.note(Probed { way, at: now, in_use: false });
    }

    fn note(&mut self, probed: Probed) {
        let now = probed.at;
        let is_other = |other: &Probed| other.way != probed.way;
        self.ways.retain(|other| {
            is_other(other) && now.saturating_duration_since(other.at) < FORGET_AFTER
        });
        if self.ways.len() >= WAYS_MAX {
            self.ways.remove(0);
        }
        self.ways.push(probed);
    }

    /// Whether a data message newer than all before, by this way, moves the peer there.
    #[must_use]
    pub fn moves(&self, way: Way, now: Instant) -> bool {
        let is_beside = self.ways.iter().any(|probed| probed.way == way && !probed.in_use);
        !is_beside || self.in_use(now).is_none()
    }

    /// Another way that the peer probes, and by another host than the one in use: for copies.
    #[must_use]
    pub fn second(&self, now: Instant) -> Option<Way> {
        let using = self.in_use(now)?.remote()?.ip();
        let serves = |probed: &&Probed| {
            let is_fresh = now.saturating_duration_since(probed.at) < FORGET_AFTER;
            let ip = probed.way.remote().map(|remote| remote.ip());
            // The peer's own other address is of the other family; a neighbour's is of the same.
            is_fresh && ip.is_some_and(|ip| ip != using && ip.is_ipv4() == using.is_ipv4())
        };
        self.ways.iter().rev().find(serves).map(|probed| probed.way)
    }

    fn in_use(&self, now: Instant) -> Option<Way> {
        let is_live = |probed: &&Probed| now.saturating_duration_since(probed.at) < IN_USE_FOR;
        self.ways.iter().filter(|probed| probed.in_use).find(is_live).map(|probed| probed.way)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn udp(host: u8, port: u16) -> Way {
        std::net::SocketAddr::from(([192, 0, 2, host], port)).into()
    }

    #[test]
    fn a_copy_on_a_way_beside_moves_nobody() {
        let (mut followed, now) = (Followed::default(), crate::tunnel::now());
        assert!(followed.moves(udp(1, 1), now), "nothing is known");
        followed.handle_used(udp(1, 1), now);
        followed.handle_beside(udp(2, 1), now);
        assert!(!followed.moves(udp(2, 1), now));
        assert!(followed.moves(udp(1, 1), now));
        assert!(followed.moves(udp(1, 2), now), "a rebinding moves at once");
        assert!(followed.moves(udp(2, 1), now + IN_USE_FOR), "the one in use is silent");
    }

    #[test]
    fn the_second_way_is_by_another_host() {
        let (mut followed, now) = (Followed::default(), crate::tunnel::now());
        followed.handle_used(udp(1, 1), now);
        assert_eq!(followed.second(now), None);
        followed.handle_beside(udp(1, 2), now);
        let ipv6 = std::net::SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, 1));
        followed.handle_beside(ipv6.into(), now);
        assert_eq!(followed.second(now), None, "the peer's own other ways");
        followed.handle_beside(udp(2, 1), now);
        assert_eq!(followed.second(now), Some(udp(2, 1)));
        followed.handle_used(udp(2, 1), now + MS);
        assert_eq!(followed.second(now + MS), Some(udp(1, 2)));
        assert!(!followed.moves(udp(1, 1), now + MS));
    }

    #[test]
    fn ways_are_forgotten_and_never_too_many() {
        let (mut followed, now) = (Followed::default(), crate::tunnel::now());
        for port in 1..1000 {
            followed.handle_used(udp(1, port), now);
        }
        assert_eq!(followed.ways.len(), WAYS_MAX);
        followed.handle_used(udp(1, 1), now + FORGET_AFTER);
        assert_eq!(followed.ways.len(), 1);
    }
}
