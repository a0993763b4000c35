//! The called side: which way a peer that chooses for itself is answered.
//!
//! Its data messages show where it is, as in WireGuard. But copies of them may come over a second
//! way, and sooner than the first: so a way that the peer probes without calling it the one in use
//! does not move it, as long as the one in use is probed too.

use std::time::{Duration, Instant};

use crate::way::Way;

/// Ways of one peer kept in mind: as many as it may have, each with one more for a rebinding.
const WAYS_MAX: usize = 2 * super::CANDIDATES_MAX;
/// A way that was not probed for so long is forgotten: the peer probes those beside every 2 s.
const FORGET_AFTER: Duration = Duration::from_secs(7);
/// The way in use is probed every 250 ms; so long after the last one the peer may be anywhere.
const IN_USE_FOR: Duration = Duration::from_millis(1500);

/// The ways by which one peer was heard.
#[derive(Debug, Default)]
pub struct Followed {
    /// In order of their first probe; the oldest goes when there are too many.
    ways: Vec<Probed>,
    /// The sequence number of the newest probe that named a way in use.
    newest: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
struct Probed {
    way: Way,
    at: Instant,
    in_use: bool,
}

impl Followed {
    /// The peer probed this way, authentically; the way to answer it if that has changed, which is
    /// only so when it calls this the one in use and no later probe has named another.
    pub fn handle_probe(&mut self, way: Way, in_use: bool, seq: u64, now: Instant) -> Option<Way> {
        self.ways.retain(|probed| now.saturating_duration_since(probed.at) < FORGET_AFTER);
        let is_newer = self.newest.is_none_or(|newest| seq > newest);
        let moves = in_use && is_newer;
        if moves {
            self.newest = Some(seq);
            self.ways.iter_mut().for_each(|probed| probed.in_use = false);
        }
        match self.ways.iter_mut().find(|probed| probed.way == way) {
            Some(probed) => {
                probed.at = now;
                probed.in_use = if is_newer { in_use } else { probed.in_use };
            }
            None => {
                if self.ways.len() >= WAYS_MAX {
                    self.ways.remove(0);
                }
                self.ways.push(Probed { way, at: now, in_use: moves });
            }
        }
        moves.then_some(way)
    }

    /// Whether a data message newer than all before, by this way, moves the peer there.
    #[must_use]
    pub fn moves(&self, way: Way, now: Instant) -> bool {
        let is_beside = self.ways.iter().any(|probed| probed.way == way && !probed.in_use);
        !is_beside || self.in_use(now).is_none()
    }

    /// Another way that the peer probes, and what it says is the one in use: for copies.
    #[must_use]
    pub fn second(&self, now: Instant) -> Option<Way> {
        let using = self.in_use(now)?;
        let serves = |probed: &&Probed| {
            let is_fresh = now.saturating_duration_since(probed.at) < FORGET_AFTER;
            let other = match (using, probed.way) {
                (Way::Udp { .. }, Way::Through(_)) | (Way::Through(_), Way::Udp { .. }) => true,
                (Way::Udp { .. } | Way::Through(_) | Way::Stream(_), _) => false,
            };
            is_fresh && other
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
    use crate::way::ThroughId;

    const MS: Duration = Duration::from_millis(1);

    fn udp(port: u16) -> Way {
        std::net::SocketAddr::from(([192, 0, 2, 1], port)).into()
    }

    #[test]
    fn a_copy_on_a_way_beside_moves_nobody() {
        let (mut followed, now) = (Followed::default(), crate::tunnel::now());
        let through = Way::Through(ThroughId(1));
        assert_eq!(followed.handle_probe(udp(1), true, 1, now), Some(udp(1)));
        assert_eq!(followed.handle_probe(through, false, 2, now), None);
        assert!(!followed.moves(through, now));
        assert!(followed.moves(udp(1), now));
        assert!(followed.moves(udp(2), now), "a rebinding moves at once");
        assert!(followed.moves(through, now + IN_USE_FOR), "the one in use is silent");
        assert_eq!(followed.second(now), Some(through));
    }

    #[test]
    fn the_newest_probe_says_which_way_is_in_use() {
        let (mut followed, now) = (Followed::default(), crate::tunnel::now());
        let through = Way::Through(ThroughId(1));
        assert_eq!(followed.handle_probe(through, true, 5, now), Some(through));
        assert_eq!(followed.handle_probe(udp(1), true, 4, now + MS), None, "overtaken");
        assert!(!followed.moves(udp(1), now + MS));
        assert_eq!(followed.second(now + MS), Some(udp(1)));
        assert_eq!(followed.handle_probe(udp(1), true, 6, now + 2 * MS), Some(udp(1)));
        assert_eq!(followed.second(now + 2 * MS), Some(through));
    }

    #[test]
    fn ways_are_forgotten_and_never_too_many() {
        let (mut followed, now) = (Followed::default(), crate::tunnel::now());
        for port in 1..1000 {
            followed.handle_probe(udp(port), true, port.into(), now);
        }
        assert_eq!(followed.ways.len(), WAYS_MAX);
        followed.handle_probe(udp(1), true, 2000, now + FORGET_AFTER);
        assert_eq!(followed.ways.len(), 1);
    }
}
