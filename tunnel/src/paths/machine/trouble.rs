//! What may be wrong with the way in use, and how long it takes to be sure.

use std::time::{Duration, Instant};

use super::{Paths, since};
use crate::paths::track::Kind;

/// Silence after which a way is dead, besides two round trips.
pub const DEAD_AFTER: Duration = Duration::from_millis(1500);
/// And so many probes without an echo: ten go in that time, since a way that is silent is asked
/// more often. At 12 % loss each way ten are lost, or their echoes, once in three million.
const SILENT_PROBES: usize = 8;
/// The same for a stream, which repeats what is lost and is silent meanwhile.
pub const STREAM_DEAD_AFTER: Duration = Duration::from_secs(4);
/// Silence after which the others are asked too, besides one and a half round trips.
const SUSPECT_AFTER: Duration = Duration::from_millis(500);
/// No echo for so long is a dead way, even if the peer is heard: it does not hear us.
const DEAF_AFTER: Duration = Duration::from_millis(2500);
/// So many probes without an echo make a way deaf.
const DEAF_PROBES: usize = 8;
/// An unanswered handshake is begun again; of a peer that answers no probes: on the others too.
pub(super) const HANDSHAKE_SUSPECT_AFTER: Duration = Duration::from_secs(1);
/// The same, and the way is dead; and of one that does: WireGuard does not pass where probes do.
const HANDSHAKE_DEAD_AFTER: Duration = Duration::from_secs(3);
/// Full probes lost in a row, while small ones pass, after which a way is of no use to QUIC; more
/// where small ones get lost too.
pub(super) const NARROW_AFTER: u32 = 4;
/// The most of them, whatever gets lost.
const NARROW_LATEST: u32 = 16;
/// That they are lost by chance is to be as unlikely as this.
const CHANCE: f32 = 1e-5;

/// What is wrong with the way in use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Trouble {
    /// It is dead.
    Dead,
    /// It is not, but of no use.
    Flawed(Flaw),
}

/// Why a way that is not dead is of no use.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Flaw {
    /// Small probes pass, full ones don't.
    Narrow,
    /// Probes pass, WireGuard's handshake does not.
    Stuck,
}

impl Paths {
    /// What is wrong with the way in use; notes since when it is silent.
    pub(super) fn trouble(&mut self, now: Instant) -> Option<Trouble> {
        if self.search.is_some() {
            return None;
        }
        let track = self.track(self.using?)?;
        let rtt = track.rtt().unwrap_or_default();
        let is_stream = track.kind() == Kind::Stream;
        let unanswered = self.unanswered.map_or(Duration::ZERO, |at| since(at, now));
        if !self.answers_probes {
            let doubted = unanswered >= HANDSHAKE_SUSPECT_AFTER;
            self.suspect = doubted.then(|| self.suspect.unwrap_or(now));
            return (unanswered >= HANDSHAKE_DEAD_AFTER).then_some(Trouble::Dead);
        }
        let begun = self.since.max(self.awake);
        let alive = track.alive().unwrap_or(begun).max(begun);
        let echoed = track.answered().unwrap_or(begun).max(begun);
        let dead_after = if is_stream { STREAM_DEAD_AFTER } else { DEAD_AFTER };
        let is_silent = since(alive, now) >= dead_after + rtt * 2
            && (is_stream || track.unanswered(alive) >= SILENT_PROBES);
        let is_deaf = !is_stream
            && since(echoed, now) >= DEAF_AFTER + rtt * 2
            && track.unanswered(echoed) >= DEAF_PROBES;
        let is_narrow = !is_stream && track.full_lost() >= narrow_after(track.small_loss());
        let is_stuck = unanswered >= HANDSHAKE_DEAD_AFTER;
        let doubted = since(alive, now) >= SUSPECT_AFTER + rtt * 3 / 2;
        self.suspect = doubted.then(|| self.suspect.unwrap_or(now));
        if is_silent || is_deaf {
            return Some(Trouble::Dead);
        }
        if is_stuck {
            return Some(Trouble::Flawed(Flaw::Stuck));
        }
        is_narrow.then_some(Trouble::Flawed(Flaw::Narrow))
    }
}

/// So many full probes are not lost in a row on a way that loses this share of the small ones.
fn narrow_after(small_loss: f32) -> u32 {
    let (mut probes, mut chance) = (NARROW_AFTER, small_loss.powi(4));
    while chance > CHANCE && probes < NARROW_LATEST {
        probes += 1;
        chance *= small_loss;
    }
    probes
}
