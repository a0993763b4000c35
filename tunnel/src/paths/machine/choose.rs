//! Which of several ways that answer is the best, and when one is better for long enough.

use std::time::{Duration, Instant};

use super::{NARROW_AFTER, Paths, since};
use crate::paths::track::{Kind, Track};
use crate::way::Way;

/// A way that answered no longer ago may be taken.
pub(super) const FRESH: Duration = Duration::from_secs(3);
/// Another way is taken once it was better all this time.
const BETTER_FOR: Duration = Duration::from_secs(10);
/// Better: by a fifth, and by [`BETTER_BY`] on top, so that it is worth a new connection.
const BETTER_SHARE: f32 = 0.8;
const BETTER_BY: Duration = Duration::from_millis(10);
/// The direct way is taken back once it is about as good: it costs the neighbour nothing.
const BACK_SHARE: f32 = 1.05;
/// A copy over a second way that takes longer than this share more, and [`SECOND_BY`], would come
/// hardly sooner than a repetition on the first.
const SECOND_SHARE: f32 = 1.25;
const SECOND_BY: Duration = Duration::from_millis(20);

/// Another way that is better, and since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Better {
    way: Way,
    since: Instant,
}

impl Paths {
    /// A way of another kind that carries about as well as the one in use: for copies of datagrams
    /// that must not be lost on both.
    #[must_use]
    pub fn second(&self, now: Instant) -> Option<Way> {
        let using = self.using_track().filter(|_| self.is_up())?;
        let bound = using.rtt()?.mul_f32(SECOND_SHARE) + SECOND_BY;
        let serves = |track: &&Track| {
            let other = match (using.kind(), track.kind()) {
                (Kind::Direct, Kind::Through) | (Kind::Through, Kind::Direct) => true,
                (Kind::Direct | Kind::Through | Kind::Stream, _) => false,
            };
            other
                && is_fresh(track, now)
                && !track.is_mute(now)
                && track.rtt().is_some_and(|rtt| rtt <= bound)
        };
        let best = self.tracks.iter().filter(serves).min_by_key(|track| track.score());
        best.and_then(|track| track.way)
    }

    /// Whether a way has carried since then, both ways.
    pub(super) fn answers_since(&self, track: &Track, since: Instant) -> bool {
        let heard = if self.answers_probes { None } else { track.alive() };
        let last = track.answered().max(track.shaken()).max(heard);
        last.is_some_and(|at| at >= since)
    }

    /// The best of those ways: the direct one, unless a neighbour is clearly better; a stream if
    /// there is nothing else; one on which WireGuard was not answered if there is not even that.
    pub(super) fn best(&self, serves: impl Fn(&Track) -> bool, now: Instant) -> Option<Way> {
        let of = |kind: Kind, mute: bool| {
            let eligible = |track: &&Track| {
                track.way.is_some()
                    && track.kind() == kind
                    && track.is_mute(now) == mute
                    && serves(track)
            };
            let score = |track: &&Track| track.score().unwrap_or(Duration::MAX);
            self.tracks.iter().filter(eligible).min_by_key(score)
        };
        let pair = |mute| match (of(Kind::Direct, mute), of(Kind::Through, mute)) {
            (Some(direct), Some(through)) if is_better(through, direct) => Some(through),
            (direct, through) => direct.or(through),
        };
        let best = pair(false).or_else(|| of(Kind::Stream, false)).or_else(|| pair(true));
        best.and_then(|track| track.way)
    }

    /// While the way in use carries: a better one, once it was so for long enough.
    pub(super) fn improve(&mut self, now: Instant) {
        let Some(using) = self.using_track().filter(|_| self.is_up()) else { return };
        if !using.is_listed {
            let serves = |track: &Track| track.is_listed && is_fresh(track, now);
            if let Some(way) = self.best(serves, now) {
                self.take(way, now);
            }
            return;
        }
        if using.kind() == Kind::Stream {
            return self.try_return(now);
        }
        let rival = |track: &&Track| is_rival(track, using, now);
        let stays = |better: &Better| {
            self.tracks.iter().any(|track| track.way == Some(better.way) && rival(&track))
        };
        let better = self.better.filter(stays).or_else(|| {
            let best = self.tracks.iter().filter(rival).min_by_key(|track| track.score())?;
            Some(Better { way: best.way?, since: now })
        });
        self.better = better;
        if let Some(better) = better
            && since(better.since, now) >= BETTER_FOR
        {
            self.take(better.way, now);
        }
    }
}

/// Whether it would serve better than the way in use.
fn is_rival(track: &Track, using: &Track, now: Instant) -> bool {
    let is_usable = track.way != using.way
        && track.is_listed
        && is_fresh(track, now)
        && !track.is_mute(now)
        && track.full_lost() < NARROW_AFTER;
    is_usable
        && match (track.kind(), using.kind()) {
            (Kind::Stream, _) => false,
            (Kind::Direct, Kind::Through) => {
                let (Some(ours), Some(theirs)) = (track.score(), using.score()) else {
                    return false;
                };
                ours <= theirs.mul_f32(BACK_SHARE)
            }
            (Kind::Direct | Kind::Through, _) => is_better(track, using),
        }
}

/// Clearly better, whatever the kind.
fn is_better(track: &Track, than: &Track) -> bool {
    let (Some(ours), Some(theirs)) = (track.score(), than.score()) else { return false };
    ours + BETTER_BY < theirs.mul_f32(BETTER_SHARE)
}

fn is_fresh(track: &Track, now: Instant) -> bool {
    track.answered().is_some_and(|at| since(at, now) < FRESH)
}
