//! Which frames a lossy link loses in bursts: all while it is off.

use std::time::{Duration, Instant};

use rand::Rng;

use super::conditions::{Burst, milliseconds};

/// A link that is on and off in turn.
#[derive(Debug, Default)]
pub struct Bursts {
    settings: Burst,
    /// What it is until `until`; none before the first frame.
    state: Option<State>,
}

#[derive(Clone, Copy, Debug)]
struct State {
    is_off: bool,
    until: Instant,
}

impl Bursts {
    /// Whether the link is off at `now`, which must not go back between two calls.
    pub fn is_off(&mut self, settings: Burst, now: Instant, rng: &mut impl Rng) -> bool {
        if settings != self.settings {
            *self = Self { settings, state: None };
        }
        if settings.loss <= 0.0 || settings.mean_ms <= 0.0 {
            return false;
        }
        if settings.loss >= 1.0 {
            return true;
        }
        let mut state = self.state.unwrap_or_else(|| {
            let is_off = rng.random_bool(settings.loss);
            State { is_off, until: now + self.stay(is_off, rng) }
        });
        // After a long silence the past is of no consequence: both whiles have no memory.
        if now.saturating_duration_since(state.until) > self.mean(false) * 20 {
            state = State { is_off: rng.random_bool(settings.loss), until: now };
        }
        while state.until <= now {
            state.is_off = !state.is_off;
            state.until += self.stay(state.is_off, rng);
        }
        self.state = Some(state);
        state.is_off
    }

    fn stay(&self, is_off: bool, rng: &mut impl Rng) -> Duration {
        let uniform: f64 = rng.random();
        // At least a nanosecond, so that time goes on.
        self.mean(is_off).mul_f64(-(1.0 - uniform).ln()) + Duration::from_nanos(1)
    }

    fn mean(&self, is_off: bool) -> Duration {
        let Burst { loss, mean_ms } = self.settings;
        let off = milliseconds(mean_ms);
        if is_off { off } else { off.mul_f64(((1.0 - loss) / loss).min(1e6)) }
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    use super::*;

    /// Share of frames lost, mean length of a burst in ms, and share of bursts that are longer than
    /// twice the mean; of a frame every 100 µs for `seconds`.
    #[allow(clippy::disallowed_methods, reason = "only differences count")]
    fn play(settings: Burst, seconds: u32) -> (f64, f64, f64) {
        let (mut bursts, mut rng) = (Bursts::default(), StdRng::seed_from_u64(1));
        let (start, frames) = (Instant::now(), seconds * 10_000);
        let (mut lengths, mut was_off) = (Vec::<u32>::new(), false);
        for frame in 0..frames {
            let now = start + Duration::from_micros(100) * frame;
            let is_off = bursts.is_off(settings, now, &mut rng);
            if is_off && !was_off {
                lengths.push(0);
            }
            if let (true, Some(length)) = (is_off, lengths.last_mut()) {
                *length += 1;
            }
            was_off = is_off;
        }
        let (lost, count) = (f64::from(lengths.iter().sum::<u32>()), lengths.len().max(1) as f64);
        let mean = lost / count / 10.0;
        let long = lengths.iter().filter(|length| f64::from(**length) > mean * 20.0).count();
        (lost / f64::from(frames), mean, long as f64 / count)
    }

    #[test]
    fn share_and_length_are_as_asked() {
        for (loss, mean_ms) in [(0.01, 5.0), (0.01, 20.0), (0.3, 50.0)] {
            let (share, length, long) = play(Burst { loss, mean_ms }, 2000);
            assert!((share / loss - 1.0).abs() < 0.1, "{share} for {loss}");
            assert!((length / mean_ms - 1.0).abs() < 0.1, "{length} for {mean_ms}");
            // e^-2 of exponentially distributed ones.
            assert!((0.12..0.15).contains(&long), "{long} are long for {mean_ms}");
        }
    }

    #[test]
    fn none_and_all() {
        assert_eq!(play(Burst::default(), 1).0, 0.0);
        assert_eq!(play(Burst { loss: 1.0, mean_ms: 5.0 }, 1).0, 1.0);
        assert_eq!(play(Burst { loss: 0.0, mean_ms: 5.0 }, 1).0, 0.0);
    }

    #[test]
    #[allow(clippy::disallowed_methods, reason = "only differences count")]
    fn a_long_silence_costs_no_time() {
        let (mut bursts, mut rng) = (Bursts::default(), StdRng::seed_from_u64(1));
        let settings = Burst { loss: 0.5, mean_ms: 0.000_001 };
        let start = Instant::now();
        bursts.is_off(settings, start, &mut rng);
        bursts.is_off(settings, start + Duration::from_secs(3600), &mut rng);
        assert!(start.elapsed() < Duration::from_secs(10));
    }
}
