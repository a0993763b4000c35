//! The stream beside: opened when no datagram gets through, left when they do again.

use std::time::{Duration, Instant};

use super::{Paths, STREAM_AFTER, since};
use crate::paths::track::{Kind, Track};
use crate::paths::{Candidate, Order, StreamEvent, StreamTarget};
use crate::way::{StreamId, Way};

/// A stream that is not needed is closed so much later.
const CLOSE_AFTER: Duration = Duration::from_secs(10);
/// An attempt that nothing was heard of is given up after this.
const OPEN_PATIENCE: Duration = Duration::from_secs(6);
/// Between two attempts; doubles up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(8));
/// Full echoes in a row after which a datagram way is tried again.
const RETURN_ECHOES: u32 = 4;
/// The same of a way that went dead soon after each return: what blocks it lets it begin.
const RETURN_ECHOES_MAX: u32 = 256;
/// Soon after a return.
const RELAPSE_WITHIN: Duration = Duration::from_secs(60);
/// A return that lasted so long is forgotten.
const RELAPSE_FORGOTTEN: Duration = Duration::from_secs(600);
/// WireGuard's handshake on the way back is given this, besides two round trips.
const TRIAL_PATIENCE: Duration = Duration::from_secs(2);

/// The one stream of a peer.
#[derive(Debug, Default)]
pub(super) struct Stream {
    state: State,
    /// Which of the targets is next.
    turn: usize,
    failures: u32,
    retry_at: Option<Instant>,
    idle_since: Option<Instant>,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Closed,
    Opening {
        target: StreamTarget,
        since: Instant,
    },
    Open {
        id: StreamId,
        target: StreamTarget,
    },
}

/// A datagram way that passes probes is asked to pass WireGuard before the stream is left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub(super) way: Way,
    since: Instant,
}

/// What became of leaving the stream before.
#[derive(Debug)]
pub(super) struct Returns {
    echoes: u32,
    last: Option<Instant>,
}

impl Default for Returns {
    fn default() -> Self {
        Self { echoes: RETURN_ECHOES, last: None }
    }
}

impl Returns {
    pub(super) const fn note_return(&mut self, now: Instant) {
        self.last = Some(now);
    }

    /// The way in use went dead.
    pub(super) fn note_death(&mut self, now: Instant) {
        let Some(last) = self.last.take() else { return };
        if since(last, now) < RELAPSE_WITHIN {
            self.echoes = (self.echoes * 2).min(RETURN_ECHOES_MAX);
        }
        if since(last, now) >= RELAPSE_FORGOTTEN {
            self.echoes = RETURN_ECHOES;
        }
    }
}

impl Paths {
    /// Opens, gives up and closes the stream.
    pub(super) fn tend_streams(&mut self, now: Instant) {
        let wanted = self.wants_stream(now);
        match &self.stream.state {
            State::Opening { target, since: began } if since(*began, now) >= OPEN_PATIENCE => {
                let target = target.clone();
                self.take_stream(&target, StreamEvent::Gone, now);
            }
            State::Open { id, .. } if !wanted => {
                let id = *id;
                let idle = *self.stream.idle_since.get_or_insert(now);
                if since(idle, now) >= CLOSE_AFTER {
                    self.drop_stream(Some(Way::Stream(id)), now);
                }
            }
            State::Open { .. } => self.stream.idle_since = None,
            State::Opening { .. } => {}
            State::Closed if wanted && self.stream.retry_at.is_none_or(|at| now >= at) => {
                self.open_stream(now);
            }
            State::Closed => {}
        }
    }

    fn wants_stream(&self, now: Instant) -> bool {
        let is_search = self
            .search
            .is_some_and(|search| search.is_loss || since(search.since, now) >= STREAM_AFTER);
        let is_used = self.using_track().is_some_and(|track| track.kind() == Kind::Stream);
        is_search || is_used || self.flaw.is_some()
    }

    fn open_stream(&mut self, now: Instant) {
        let mut targets = self.tracks.iter().filter_map(|track| match &track.candidate {
            Candidate::Stream(target) if track.is_listed => Some(target.clone()),
            Candidate::Stream(_) | Candidate::Udp(_) | Candidate::Through(_) => None,
        });
        let Some(turn) = self.stream.turn.checked_rem(targets.clone().count()) else { return };
        let Some(target) = targets.nth(turn) else { return };
        self.stream.turn = turn + 1;
        self.stream.state = State::Opening { target: target.clone(), since: now };
        self.orders.push_back(Order::OpenStream(target));
    }

    pub(super) fn take_stream(&mut self, target: &StreamTarget, event: StreamEvent, now: Instant) {
        let is_ours = match &self.stream.state {
            State::Opening { target: ours, .. } | State::Open { target: ours, .. } => {
                ours == target
            }
            State::Closed => false,
        };
        match (event, is_ours) {
            (StreamEvent::Opened(id), true) => {
                let way = Way::Stream(id);
                self.stream.state = State::Open { id, target: target.clone() };
                self.stream.idle_since = None;
                if let Some(track) = self.track_to(target) {
                    track.set_way(Some(way), now);
                    self.orders.push_back(Order::Initiate { way });
                }
            }
            (StreamEvent::Opened(id), false) => self.orders.push_back(Order::CloseStream(id)),
            (StreamEvent::Gone, true) => {
                let is_open = matches!(self.stream.state, State::Open { .. });
                let answered = self.track_to(target).and_then(|track| track.answered());
                if is_open && answered.is_some() {
                    self.stream.failures = 0;
                }
                let (first, most) = RETRY;
                let pause = (first * (1 << self.stream.failures.min(8))).min(most);
                self.stream.failures += 1;
                self.stream.retry_at = Some(now + pause);
                let gone = self.close_stream(now);
                if gone.is_some() && gone == self.using && self.search.is_none() {
                    self.lose(now);
                }
            }
            (StreamEvent::Gone, false) => {}
        }
    }

    /// Closes the stream if this is its way.
    pub(super) fn drop_stream(&mut self, way: Option<Way>, now: Instant) {
        let State::Open { id, .. } = self.stream.state else { return };
        if way == Some(Way::Stream(id)) {
            self.orders.push_back(Order::CloseStream(id));
            self.stream.failures = 0;
            self.stream.retry_at = None;
            self.close_stream(now);
        }
    }

    /// The stream is no more; returns the way it was.
    fn close_stream(&mut self, now: Instant) -> Option<Way> {
        match std::mem::take(&mut self.stream.state) {
            State::Open { id, target } => {
                if let Some(track) = self.track_to(&target) {
                    track.set_way(None, now);
                }
                Some(Way::Stream(id))
            }
            State::Opening { .. } | State::Closed => None,
        }
    }

    fn track_to(&mut self, target: &StreamTarget) -> Option<&mut Track> {
        let is_to = |track: &&mut Track| match &track.candidate {
            Candidate::Stream(other) => other == target,
            Candidate::Udp(_) | Candidate::Through(_) => false,
        };
        self.tracks.iter_mut().find(is_to)
    }

    /// While the stream carries: a datagram way with full echoes in a row is asked for WireGuard's
    /// handshake, and taken when that is answered; see [`Paths::handle_answered`].
    pub(super) fn try_return(&mut self, now: Instant) {
        if let Some(trial) = self.trial {
            let rtt = self.track(trial.way).and_then(Track::rtt).unwrap_or_default();
            if since(trial.since, now) < TRIAL_PATIENCE + rtt * 2 {
                self.orders.push_back(Order::Initiate { way: trial.way });
                return;
            }
            self.trial = None;
            if let Some(track) = self.track_mut(trial.way) {
                track.mute(now);
            }
        }
        let echoes = self.returns.echoes;
        let serves = |track: &Track| {
            track.kind() != Kind::Stream && track.full_answered() >= echoes && !track.is_mute(now)
        };
        let Some(way) = self.best(serves, now) else { return };
        self.trial = Some(Trial { way, since: now });
        self.orders.push_back(Order::Initiate { way });
    }
}
