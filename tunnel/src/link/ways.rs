//! A link's part in the choice among ways: where it was heard, what was not answered, and
//! initiations that go out on several ways at once.

use std::time::{Duration, Instant};

use boringtun::noise::TunnResult;

use super::{Link, MESSAGE_BYTES_MAX, Outcome};
use crate::metrics::HandshakeOutcome;
use crate::paths::followed::Followed;
use crate::peer::Reply;
use crate::stream::StreamTls;
use crate::way::Way;

/// An initiation is sent on other ways too as long as it is so young: its answer is accepted until
/// two newer ones went.
const SHARED_FOR: Duration = Duration::from_millis(300);
/// Where an initiation has its first MAC, which covers all before it
/// ([paper §5.4.4](https://www.wireguard.com/papers/wireguard.pdf)).
const MAC1: std::ops::Range<usize> = 116..132;

/// What a link knows of its ways.
#[derive(Debug, Default)]
pub(super) struct Ways {
    /// What the peer says, where it is the one that chooses.
    pub(super) followed: Followed,
    heard: Option<(Way, Instant)>,
    /// Our first initiation since.
    unanswered: Option<Instant>,
    /// A handshake of ours was answered by this way; taken by whoever chooses.
    answered: Option<Way>,
    initiation: Option<Initiation>,
    /// The MAC of the peer's last initiation that was taken.
    taken: Option<[u8; MAC1.end - MAC1.start]>,
}

/// Our last initiation, and where it went.
#[derive(Debug)]
struct Initiation {
    at: Instant,
    bytes: Vec<u8>,
    ways: Vec<Way>,
}

/// What whoever chooses among ways asks a link.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Pulse {
    /// Where its newest authentic message came from, and when.
    pub(crate) heard: Option<(Way, Instant)>,
    /// Our first initiation since.
    pub(crate) unanswered: Option<Instant>,
}

impl Ways {
    pub(super) fn hear(&mut self, from: Way, now: Instant) {
        self.heard = Some((from.from_any(), now));
        self.unanswered = None;
    }

    /// This initiation goes this way, if any; for a while others may follow.
    pub(super) fn initiate(&mut self, initiation: &[u8], way: Option<Way>, now: Instant) {
        self.unanswered.get_or_insert(now);
        let ways = way.map(Way::from_any).into_iter().collect();
        self.initiation = Some(Initiation { at: now, bytes: initiation.to_vec(), ways });
    }

    pub(super) const fn answer(&mut self, from: Way) {
        self.answered = Some(from.from_any());
    }

    /// Takes note of an initiation of the peer's that was answered.
    pub(super) fn take(&mut self, initiation: &[u8]) {
        self.taken = mac1(initiation);
    }

    /// Whether this is the same one again, by another way: no replay, and no clock that went back.
    pub(super) fn is_repeated(&self, initiation: &[u8]) -> bool {
        self.taken.is_some() && self.taken == mac1(initiation)
    }
}

impl Link {
    /// Goes this way from now on, wherever the peer is heard from.
    pub(crate) const fn choose_way(&mut self, way: Way) {
        self.way = Some(way);
        self.is_chosen = true;
    }

    /// The peer is where it is heard from again.
    pub(crate) const fn release_way(&mut self) {
        self.is_chosen = false;
    }

    /// The peer says that its datagrams come this way: so it is answered.
    pub(crate) fn follow(&mut self, way: Way, now: Instant) {
        self.ways.followed.handle_used(way, now);
        let has_called = self.config.endpoint.is_none();
        if has_called && !self.is_chosen {
            self.way = Some(way);
        }
    }

    /// The peer probed a way that it does not use.
    pub(crate) fn note_beside(&mut self, way: Way, now: Instant) {
        self.ways.followed.handle_beside(way, now);
    }

    /// A second way to a peer that chooses for itself, for copies.
    pub(crate) fn second_followed(&self, now: Instant) -> Option<Way> {
        self.ways.followed.second(now).filter(|_| !self.is_chosen)
    }

    pub(crate) const fn pulse(&self) -> Pulse {
        Pulse { heard: self.ways.heard, unanswered: self.ways.unanswered }
    }

    /// By which way a handshake of ours was answered, if one was since the last time.
    pub(crate) const fn take_answered(&mut self) -> Option<Way> {
        self.ways.answered.take()
    }

    pub(crate) fn stream_tls(&self) -> Option<StreamTls> {
        self.config.stream_tls.clone()
    }

    /// Begins a handshake by this way; the initiation that has just gone by another one goes by
    /// this one too, and nothing if neither is due.
    pub(crate) fn initiate_by(&mut self, way: Way, now: Instant, out: &mut Outcome<'_>) {
        let (_, _, _, _, rtt_ms) = self.tunn.stats();
        if self.pace.allows(rtt_ms.map(|ms| Duration::from_millis(ms.into())), now) {
            let mut message = [0u8; MESSAGE_BYTES_MAX];
            let outcome = self.tunn.format_handshake_initiation(&mut message, true);
            let TunnResult::WriteToNetwork(bytes) = outcome else { return };
            self.expired = false;
            self.pace.initiated(now);
            self.ways.initiate(bytes, None, now);
        }
        let Some(initiation) = &mut self.ways.initiation else { return };
        let is_young = now.saturating_duration_since(initiation.at) < SHARED_FOR;
        if is_young && !self.pace.is_fresh(now) && !initiation.ways.contains(&way) {
            initiation.ways.push(way);
            self.sent = Some(now);
            out.metrics.handshake(HandshakeOutcome::Initiated);
            out.replies.push(Reply { to: way, bytes: initiation.bytes.clone() });
        }
    }
}

fn mac1(initiation: &[u8]) -> Option<[u8; MAC1.end - MAC1.start]> {
    initiation.get(MAC1)?.try_into().ok()
}
