//! Which way a peer's datagrams take, as a machine: probes and their echoes in, orders out.
//!
//! While nothing answers (at the start, or after the way in use went dead) all ways are tried at
//! once and the first answer wins; the names are looked up again, a fresh socket is taken, and a
//! stream is opened beside. While the way in use carries, another one has to be clearly better for
//! a while; a stream is left for any datagram way that carries full packets and WireGuard.
//!
//! A peer that answers no probes (standard WireGuard) is judged by its handshakes: one that nobody
//! answers, begun because data was not answered, is begun on all ways.

mod choose;
mod pace;
mod streams;
#[cfg(test)]
mod tests;
mod trouble;

use std::collections::VecDeque;
use std::mem::discriminant;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::track::{Kind, Track};
use super::{CANDIDATES_MAX, Candidate, Order, StreamEvent, StreamTarget, WayState};
use crate::way::Way;
use choose::{Better, FRESH};
use streams::{Returns, Stream, Trial};
pub use trouble::{DEAD_AFTER, STREAM_DEAD_AFTER};
use trouble::{Flaw, HANDSHAKE_SUSPECT_AFTER, NARROW_AFTER, Trouble};

/// IPv6 goes first in a race, IPv4 so much later, neighbours twice that after it: the better of two
/// equal ways wins, and a broken one costs no more.
pub const HEAD_START: Duration = Duration::from_millis(50);
/// A review that is so late was held up: echoes may wait to be read, and probes did not go.
const ASLEEP_AFTER: Duration = Duration::from_millis(400);
/// Silence at the start after which a stream is opened.
const STREAM_AFTER: Duration = Duration::from_millis(1500);
/// Silence at the start after which names are looked up again.
const FIRST_REMEDY_AFTER: Duration = Duration::from_secs(3);
/// Between two look-ups and fresh sockets while nothing answers; doubles up to the second.
const REMEDY_EVERY: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(40));

/// The ways to one peer.
#[derive(Debug)]
pub struct Paths {
    tracks: Vec<Track>,
    using: Option<Way>,
    /// Since when it is in use.
    since: Instant,
    /// Nothing carries; all are tried.
    search: Option<Search>,
    /// Silence counts from here: this process was not asleep since.
    awake: Instant,
    /// The way in use is silent since: the others are asked.
    suspect: Option<Instant>,
    /// The peer has answered a probe.
    answers_probes: bool,
    /// Our first initiation since the peer's WireGuard was last heard.
    unanswered: Option<Instant>,
    /// What is wrong with a way in use that is not dead.
    flaw: Option<Flaw>,
    better: Option<Better>,
    trial: Option<Trial>,
    stream: Stream,
    returns: Returns,
    review_at: Option<Instant>,
    orders: VecDeque<Order>,
}

#[derive(Clone, Copy, Debug)]
struct Search {
    since: Instant,
    /// There was a way: what stands between is to blame.
    is_loss: bool,
    remedy_at: Instant,
    remedies: u32,
}

impl Paths {
    /// Without candidates nothing is done.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self {
            tracks: Vec::new(),
            using: None,
            since: now,
            search: None,
            awake: now,
            suspect: None,
            answers_probes: false,
            unanswered: None,
            flaw: None,
            better: None,
            trial: None,
            stream: Stream::default(),
            returns: Returns::default(),
            review_at: None,
            orders: VecDeque::new(),
        }
    }

    /// Sets the whole list; more than [`CANDIDATES_MAX`] of a kind are left out. What stays keeps
    /// its measurements, and a way in use that is gone from the list is left once another answers.
    pub fn set_candidates(&mut self, candidates: Vec<Candidate>, now: Instant) {
        let mut kept: Vec<Candidate> = Vec::new();
        for candidate in candidates {
            let kind = discriminant(&candidate);
            let alike = kept.iter().filter(|other| discriminant(*other) == kind).count();
            if alike < CANDIDATES_MAX && !kept.contains(&candidate) {
                kept.push(candidate);
            }
        }
        for track in &mut self.tracks {
            track.is_listed = kept.contains(&track.candidate);
        }
        self.forget_unlisted();
        let has_v6 = kept.iter().any(|candidate| handicap(candidate) == 0);
        for candidate in kept {
            if self.tracks.iter().any(|track| track.candidate == candidate) {
                continue;
            }
            let handicap = handicap(&candidate) - u32::from(!has_v6);
            self.tracks.push(Track::new(candidate, now + HEAD_START * handicap));
        }
        if self.using.is_none() && self.search.is_none() && !self.tracks.is_empty() {
            self.search = Some(Search::first(now));
        }
        self.review(now);
    }

    /// A probe of ours, sent over this way at that time, was answered: the echo came at `at`, and
    /// what follows from it is done now.
    pub fn handle_echo(&mut self, way: Way, sent: Instant, at: Instant, now: Instant) {
        let Some(track) = self.track_mut(way) else { return };
        if track.echo(sent, at) {
            self.answers_probes = true;
            self.review(now);
        }
    }

    /// An authentic WireGuard message came by this way, at that time.
    pub fn handle_heard(&mut self, way: Way, at: Instant) {
        if let Some(track) = self.track_mut(way) {
            track.hear(at);
        }
    }

    /// The peer answered a handshake of ours by this way.
    pub fn handle_answered(&mut self, way: Way, now: Instant) {
        let way = way.from_any();
        let Some(track) = self.track_mut(way) else { return };
        track.shake(now);
        let was = self.unanswered.take();
        let doubted = was.is_some_and(|at| since(at, now) >= HANDSHAKE_SUSPECT_AFTER);
        let is_tried = self.trial.is_some_and(|trial| trial.way == way);
        if self.is_up() && self.using != Some(way) && (doubted || is_tried) {
            let stuck = self.using.filter(|_| self.flaw == Some(Flaw::Stuck));
            if let Some(track) = stuck.and_then(|stuck| self.track_mut(stuck)) {
                track.mute(now);
            }
            self.take(way, now);
        }
        self.review(now);
    }

    /// When our first initiation since WireGuard was last heard went; `None` if there was none.
    pub const fn set_unanswered(&mut self, since: Option<Instant>) {
        self.unanswered = since;
    }

    /// There is a fresh socket, as was ordered: what is dead by the old one may not be.
    pub fn handle_rebound(&mut self, now: Instant) {
        if self.search.is_some() {
            self.tracks.iter_mut().for_each(Track::hurry);
            self.review(now);
        }
    }

    /// What became of a stream that was ordered, or had been open.
    pub fn handle_stream(&mut self, target: &StreamTarget, event: StreamEvent, now: Instant) {
        self.take_stream(target, event, now);
        self.review(now);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.review(now);
    }

    /// What is to be done next.
    #[must_use]
    pub fn poll_output(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    /// When [`Paths::handle_timeout`] is due; may change with everything that comes in.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.review_at
    }

    /// The way in use, even if it went dead and none has taken its place.
    #[must_use]
    pub const fn using(&self) -> Option<Way> {
        self.using
    }

    /// Whether the way in use carries.
    #[must_use]
    pub const fn is_up(&self) -> bool {
        self.using.is_some() && self.search.is_none()
    }

    /// Whether the way in use carries, and by the real socket.
    pub(super) fn uses_socket(&self) -> bool {
        let is_datagram = self.using_track().is_some_and(|track| track.kind() != Kind::Stream);
        self.is_up() && is_datagram
    }

    /// All ways, in the order of the candidates.
    #[must_use]
    pub fn ways(&self, now: Instant) -> Vec<WayState> {
        self.tracks.iter().filter_map(|track| track.state(self.using, now)).collect()
    }

    fn review(&mut self, now: Instant) {
        if self.review_at.is_some_and(|due| since(due, now) >= ASLEEP_AFTER) {
            self.awake = now;
        }
        self.tracks.iter_mut().for_each(|track| track.conclude(now));
        self.flaw = None;
        match self.trouble(now) {
            Some(Trouble::Dead) => self.lose(now),
            Some(Trouble::Flawed(flaw)) => self.leave_flawed(flaw, now),
            None => {}
        }
        self.look(now);
        self.improve(now);
        self.tend_streams(now);
        self.probe(now);
        self.review_at = self.next_review(now);
    }

    /// The way in use is dead: another one that answers, or all of them.
    fn lose(&mut self, now: Instant) {
        let suspected = self.suspect.take().unwrap_or(now);
        self.returns.note_death(now);
        let dead = self.using;
        self.drop_stream(dead, now);
        let alive = |track: &Track| track.way != dead && self.answers_since(track, suspected);
        if let Some(way) = self.best(alive, now) {
            return self.take(way, now);
        }
        let since = now;
        self.search = Some(Search { since, is_loss: true, remedy_at: now, remedies: 0 });
        self.better = None;
        self.trial = None;
        self.tracks.iter_mut().for_each(Track::hurry);
    }

    /// The way in use answers, and is of no use: another one that is, if there is.
    fn leave_flawed(&mut self, flaw: Flaw, now: Instant) {
        self.flaw = Some(flaw);
        match flaw {
            // The handshake decides: whoever answers it is taken.
            Flaw::Stuck => self.initiate_all(now),
            Flaw::Narrow => {
                let narrow = self.using;
                let wide = |track: &Track| {
                    let answers = track.answered().is_some_and(|at| since(at, now) < FRESH);
                    answers && track.way != narrow && track.full_answered() > 0
                };
                if let Some(way) = self.best(wide, now) {
                    self.take(way, now);
                    self.flaw = None;
                }
            }
        }
    }

    /// While nothing carries: takes the first that answers, and sees to it that one can.
    fn look(&mut self, now: Instant) {
        let Some(search) = self.search else { return };
        let answers = |track: &Track| self.answers_since(track, search.since);
        if let Some(way) = self.best(answers, now) {
            let echoed = self.track(way).and_then(Track::answered);
            self.answers_probes &= echoed.is_some_and(|at| at >= search.since);
            return self.take(way, now);
        }
        if now < search.remedy_at {
            return;
        }
        self.orders.extend([Order::Resolve, Order::Rebind]);
        let (first, most) = REMEDY_EVERY;
        let pause = (first * (1 << search.remedies.min(4))).min(most);
        let remedies = search.remedies + 1;
        self.search = Some(Search { remedy_at: now + pause, remedies, ..search });
    }

    /// Goes this way from now on.
    fn take(&mut self, way: Way, now: Instant) {
        self.search = None;
        self.suspect = None;
        self.better = None;
        self.trial = None;
        let before = self.using_track().map(Track::kind);
        let changed = self.using.replace(way) != Some(way);
        self.since = now;
        if let Some(track) = self.track_mut(way) {
            track.forget_losses();
            track.hurry();
        }
        if changed {
            let kind = self.using_track().map(Track::kind);
            if before == Some(Kind::Stream) && kind != before {
                self.returns.note_return(now);
            }
            self.orders.push_back(Order::Use(way));
            if !self.answers_probes {
                // Only WireGuard can tell it where we are now.
                self.orders.push_back(Order::Initiate { way });
            }
        }
        self.forget_unlisted();
    }

    fn forget_unlisted(&mut self) {
        let using = self.using;
        let orders = &mut self.orders;
        self.tracks.retain(|track| {
            let stays = track.is_listed || (track.way.is_some() && track.way == using);
            if let (false, Some(Way::Stream(id))) = (stays, track.way) {
                orders.push_back(Order::CloseStream(id));
            }
            stays
        });
    }

    fn using_track(&self) -> Option<&Track> {
        self.using.and_then(|way| self.track(way))
    }

    fn track(&self, way: Way) -> Option<&Track> {
        let way = way.from_any();
        self.tracks.iter().find(|track| track.way == Some(way))
    }

    fn track_mut(&mut self, way: Way) -> Option<&mut Track> {
        let way = way.from_any();
        self.tracks.iter_mut().find(|track| track.way == Some(way))
    }
}

impl Search {
    fn first(now: Instant) -> Self {
        let remedy_at = now + FIRST_REMEDY_AFTER;
        Self { since: now, is_loss: false, remedy_at, remedies: 0 }
    }
}

/// How many head starts it gives the others.
const fn handicap(candidate: &Candidate) -> u32 {
    match candidate {
        Candidate::Udp(SocketAddr::V6(_)) => 0,
        Candidate::Udp(SocketAddr::V4(_)) => 1,
        Candidate::Through(_) | Candidate::Stream(_) => 3,
    }
}

fn since(at: Instant, now: Instant) -> Duration {
    now.saturating_duration_since(at)
}
