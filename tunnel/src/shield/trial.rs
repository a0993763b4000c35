//! Do copies cause the loss that they are there against? Loss without a queue looks the same
//! whether a radio makes it or a policer; so, when it is high, it is tried out.

use std::time::{Duration, Instant};

/// Loss under which nothing is tried. Copies pay there even if they make it: at 5 % with a copy,
/// 0.25 % stays lost, which is less than the 1 % that may have been before.
const SUSPICIOUS: f64 = 0.05;
/// And it must be this many times what it was before the copies.
const RISEN: f64 = 2.0;
/// Over that the path is cut rather than full: three times the datagrams lose two thirds at most.
const CUT: f64 = 0.67;
/// Loss must stay so for this long: longer than what is counted together, a few seconds.
const SETTLE: Duration = Duration::from_secs(5);
/// Copies are guilty if loss without them is under this share of loss with them.
const GUILTY_SHARE: f64 = 0.6;
/// After an acquittal, nothing is tried again for so long.
const TRUST: Duration = Duration::from_secs(120);
/// First sentence; it doubles with each that follows within its own length.
const SENTENCE: Duration = Duration::from_secs(5);
const SENTENCE_LONGEST: Duration = Duration::from_secs(300);

/// The machine that watches loss with and without copies.
#[derive(Debug)]
pub(crate) struct Trial {
    stage: Stage,
    sentence: Duration,
    released: Option<Instant>,
    trusted_until: Option<Instant>,
}

#[derive(Clone, Copy, Debug)]
enum Stage {
    /// No copies go: this is what is lost on its own.
    Bare { loss: f64 },
    /// Copies go.
    Copying { before: f64, high_since: Option<Instant> },
    /// None go, to see.
    Testing { with: f64, until: Instant },
    /// None go: they did harm.
    Serving { until: Instant, loss: f64 },
}

impl Default for Trial {
    fn default() -> Self {
        Self {
            stage: Stage::Bare { loss: 0.0 },
            sentence: SENTENCE,
            released: None,
            trusted_until: None,
        }
    }
}

impl Trial {
    /// Whether `copies`, which would go otherwise, must not.
    pub(crate) fn forbids(&mut self, copies: u8, loss: f64, now: Instant) -> bool {
        self.stage = match self.stage {
            Stage::Bare { .. } if copies == 0 => Stage::Bare { loss },
            Stage::Bare { loss } => Stage::Copying { before: loss, high_since: None },
            Stage::Copying { .. } if copies == 0 => Stage::Bare { loss },
            Stage::Copying { before, high_since } => self.watch(before, high_since, loss, now),
            Stage::Testing { with, until } if now >= until => self.judge(with, loss, now),
            Stage::Serving { until, loss } if now >= until => {
                self.released = Some(now);
                Stage::Copying { before: loss, high_since: None }
            }
            same @ (Stage::Testing { .. } | Stage::Serving { .. }) => same,
        };
        matches!(self.stage, Stage::Testing { .. } | Stage::Serving { .. })
    }

    fn watch(&self, before: f64, high_since: Option<Instant>, loss: f64, now: Instant) -> Stage {
        let is_trusted = self.trusted_until.is_some_and(|until| now < until);
        let is_high = loss >= SUSPICIOUS.max(before * RISEN) && loss < CUT;
        if is_trusted || !is_high {
            return Stage::Copying { before, high_since: None };
        }
        let since = high_since.unwrap_or(now);
        if now.saturating_duration_since(since) >= SETTLE {
            return Stage::Testing { with: loss, until: now + SETTLE };
        }
        Stage::Copying { before, high_since: Some(since) }
    }

    fn judge(&mut self, with: f64, without: f64, now: Instant) -> Stage {
        if without > with * GUILTY_SHARE {
            self.trusted_until = Some(now + TRUST);
            return Stage::Copying { before: without, high_since: None };
        }
        let is_again = |at| now.saturating_duration_since(at) < self.sentence + 4 * SETTLE;
        self.sentence = match self.released {
            Some(at) if is_again(at) => (self.sentence * 2).min(SENTENCE_LONGEST),
            Some(_) | None => SENTENCE,
        };
        Stage::Serving { until: now + self.sentence, loss: without }
    }
}
