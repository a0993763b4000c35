//! How often which way is probed.

use std::time::{Duration, Instant};

use super::trouble::HANDSHAKE_SUSPECT_AFTER;
use super::{Paths, since};
use crate::paths::Order;
use crate::paths::track::{Kind, Track};

/// The machine looks around at least so often.
const REVIEW_EVERY: Duration = Duration::from_millis(250);
/// The way in use; all ways while none carries.
const USING_EVERY: Duration = Duration::from_millis(250);
/// The way in use while it is silent: a few lost probes must not look like a dead way.
const SUSPECT_EVERY: Duration = Duration::from_millis(100);
/// The others.
const OTHERS_EVERY: Duration = Duration::from_secs(2);
/// The same while the way in use loses something, or a stream is to be left.
const RIVALS_EVERY: Duration = Duration::from_millis(500);
/// A peer that answers no probes, in case that changes.
const MUTE_PEER_EVERY: Duration = Duration::from_secs(10);
/// So long after a way was taken the peer is believed to answer probes.
const MUTE_PEER_AFTER: Duration = Duration::from_secs(5);
/// A search goes on at the fastest pace as long as sessions wait, and some more.
const SEARCH_EAGER: Duration = Duration::from_secs(150);
/// And then at this.
const SEARCH_EVERY: Duration = Duration::from_secs(1);
/// Full probes of the way in use, and of the others.
const FULL_EVERY: Duration = Duration::from_secs(4);
/// The same after one was lost.
const FULL_DOUBTED_EVERY: Duration = Duration::from_millis(500);

impl Paths {
    /// Sends the probes that are due.
    pub(super) fn probe(&mut self, now: Instant) {
        for at in 0..self.tracks.len() {
            let track = &self.tracks[at];
            let Some(way) = track.way else { continue };
            if track.probe_due(self.pace_of(track, now)) > now {
                continue;
            }
            let full = self.is_full(track, now);
            let in_use = self.using == Some(way);
            self.tracks[at].probe(full, now);
            self.orders.push_back(Order::Probe { way, full, in_use });
            if self.search.is_some() {
                self.orders.push_back(Order::Initiate { way });
            }
        }
        if self.search.is_some() {
            return;
        }
        let is_open = |at| since(at, now) >= HANDSHAKE_SUSPECT_AFTER;
        if !self.answers_probes && self.suspect.is_some() {
            self.initiate_all(now);
        } else if self.answers_probes && self.unanswered.is_some_and(is_open) {
            // One that was lost does not show that WireGuard is kept out.
            let way = self.using;
            self.orders.extend(way.map(|way| Order::Initiate { way }));
        }
    }

    /// Asks for a handshake on all ways that have begun.
    pub(super) fn initiate_all(&mut self, now: Instant) {
        let ways = self.tracks.iter().filter(|track| track.begins <= now);
        let orders = ways.filter_map(|track| Some(Order::Initiate { way: track.way? }));
        self.orders.extend(orders);
    }

    pub(super) fn next_review(&self, now: Instant) -> Option<Instant> {
        let due = |track: &Track| track.way.map(|_| track.probe_due(self.pace_of(track, now)));
        let first = self.tracks.iter().filter_map(due).min();
        let latest = (!self.tracks.is_empty()).then(|| now + REVIEW_EVERY)?;
        Some(first.map_or(latest, |first| first.min(latest)))
    }

    fn pace_of(&self, track: &Track, now: Instant) -> Duration {
        if let Some(search) = self.search {
            let is_eager = since(search.since, now) < SEARCH_EAGER;
            return if is_eager { USING_EVERY } else { SEARCH_EVERY };
        }
        let is_using = track.way == self.using;
        if !self.answers_probes && since(self.since, now) >= MUTE_PEER_AFTER {
            return MUTE_PEER_EVERY;
        }
        let is_doubted = self.suspect.is_some();
        if is_using && is_doubted && track.kind() != Kind::Stream {
            return SUSPECT_EVERY;
        }
        if is_using || is_doubted {
            return USING_EVERY;
        }
        let Some(using) = self.using_track() else { return OTHERS_EVERY };
        let is_restless = self.better.is_some()
            || self.flaw.is_some()
            || using.loss() > 0.0
            || using.kind() == Kind::Stream;
        if is_restless { RIVALS_EVERY } else { OTHERS_EVERY }
    }

    fn is_full(&self, track: &Track, now: Instant) -> bool {
        if self.search.is_some() {
            return false;
        }
        let is_beside_stream = self.using_track().is_some_and(|using| using.kind() == Kind::Stream);
        if is_beside_stream && track.way != self.using {
            return true;
        }
        let is_doubted = self.flaw.is_some() || track.full_lost() > 0;
        let every = if is_doubted { FULL_DOUBTED_EVERY } else { FULL_EVERY };
        track.is_full_due(every, now)
    }
}
