//! What the last half minute was like: a few seconds of a calm path hold too few losses to tell a
//! little loss from none, and too few bursts to tell their length.

use std::time::{Duration, Instant};

use super::policy::Weather;

/// What is remembered fades with this time.
const FADES_OVER_S: f64 = 20.0;
/// What [`Weather`] sums up is about so long.
const WEATHER_OVER_S: f64 = 4.0;
/// Fewer losses than this may be chance.
const LOSSES_MIN: f64 = 2.5;
/// Loss of the last seconds alone is believed when it is so much more than asked for,
const SUDDEN: f64 = 3.0;
/// or so much more than this,
const SUDDEN_LOSS: f64 = 0.01;
/// and when so many datagrams were lost.
const SUDDEN_LOSSES_MIN: f64 = 4.0;
/// A longer burst is believed by this share each time.
const BURST_RISE: f64 = 0.3;

/// Fading sums of what was sent and what was lost, and the length of bursts.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    sent: f64,
    lost: f64,
    burst_s: f64,
    at: Option<Instant>,
}

impl Memory {
    /// Adds what was since the last call.
    pub(crate) fn note(&mut self, weather: &Weather, now: Instant) {
        let before = self.at.replace(now).unwrap_or(now);
        let seconds = now.saturating_duration_since(before).as_secs_f64();
        let kept = (-seconds / FADES_OVER_S).exp();
        let sent = weather.all_per_s * seconds;
        self.sent = self.sent * kept + sent;
        self.lost = self.lost * kept + sent * weather.loss;
        let burst_s = weather.burst.as_secs_f64();
        if burst_s > self.burst_s {
            self.burst_s += (burst_s - self.burst_s) * BURST_RISE;
        } else {
            self.burst_s = burst_s.max(self.burst_s * kept);
        }
    }

    /// Whether the path loses so much: lastingly, or suddenly and more.
    pub(crate) fn shows(&self, loss: f64, weather: &Weather) -> bool {
        let lost_now = weather.loss * weather.all_per_s * WEATHER_OVER_S;
        let is_sudden = weather.loss >= (loss * SUDDEN).min(loss + SUDDEN_LOSS)
            && lost_now >= SUDDEN_LOSSES_MIN;
        is_sudden || (self.lost >= LOSSES_MIN && self.lost >= loss * self.sent)
    }

    pub(crate) fn burst(&self) -> Duration {
        Duration::from_secs_f64(self.burst_s)
    }

    /// Forgets losses, so that new ones only raise what they made be lowered.
    pub(crate) fn forget_loss(&mut self) {
        self.lost = 0.0;
    }
}
