//! As many cubic flows as there are busy sessions, each with a window of its own.
//!
//! What the sessions' own TCP connections would do on a full link is best said by doing it: every
//! flow grows by [RFC 9438](https://www.rfc-editor.org/rfc/rfc9438.html), a lost packet hits one
//! of them, by chance and in proportion to their windows, and only that one gives way. The window
//! of the connection is their sum.

use std::time::Instant;

/// RFC 9438, section 5: the constant C, in segments a cubed second.
const C: f64 = 0.4;
/// Section 4.6: what is left of a window after a loss.
const BETA: f64 = 0.7;
/// Section 4.3: segments a round trip, so that a cubic flow gets as much as a Reno flow.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);
/// The least window of a flow, in segments.
const LEAST: f64 = 2.0;

/// The flows.
#[derive(Clone, Debug)]
pub(crate) struct Crowd {
    flows: Vec<Flow>,
    /// State of the generator that says whom a loss hits.
    chance: u64,
}

/// One of them; windows in segments.
#[derive(Clone, Copy, Debug)]
struct Flow {
    window: f64,
    /// The window before the last loss, and after it.
    peak: f64,
    after: f64,
    /// Since when it grows.
    since: Instant,
    /// What was sent before is part of the loss that has been answered.
    answered: Option<Instant>,
}

impl Flow {
    fn new(window: f64, now: Instant) -> Self {
        let window = window.max(LEAST);
        Self { window, peak: window, after: window, since: now, answered: None }
    }

    /// The window `seconds` after the loss, at a round trip of `rtt` seconds.
    fn grown(&self, seconds: f64, rtt: f64) -> f64 {
        let turn = ((self.peak - self.after).max(0.0) / C).cbrt();
        let cubic = C * (seconds - turn).powi(3) + self.peak;
        let rounds = seconds / rtt;
        // A Reno flow's window; it grows by a whole segment once it is past the old peak.
        let until = ((self.peak - self.after) / ALPHA).max(0.0);
        let reno =
            if rounds <= until { self.after + ALPHA * rounds } else { self.peak + rounds - until };
        cubic.max(reno)
    }

    fn grow(&mut self, now: Instant, rtt: f64) {
        let seconds = now.saturating_duration_since(self.since).as_secs_f64();
        let most = self.window * 1.5;
        self.window = self.grown(seconds + rtt, rtt).clamp(self.window, most);
    }

    fn lose(&mut self, now: Instant, sent: Instant) {
        if self.answered.is_some_and(|answered| sent <= answered) {
            return;
        }
        // Section 4.7: a flow that doesn't reach its old peak makes room for newer ones.
        let lower = self.window < self.peak;
        self.peak = if lower { self.window * (1.0 + BETA) / 2.0 } else { self.window };
        self.window = (self.window * BETA).max(LEAST);
        self.after = self.window;
        self.since = now;
        self.answered = Some(now);
    }
}

impl Crowd {
    /// `count` flows that share `window` segments.
    pub(crate) fn new(count: u32, window: f64, now: Instant) -> Self {
        let count = count.max(1);
        let each = Flow::new(window / f64::from(count), now);
        Self { flows: vec![each; usize::try_from(count).unwrap_or(1)], chance: 0x9e37_79b9 }
    }

    /// The sum of the windows, in segments.
    pub(crate) fn window(&self) -> f64 {
        self.flows.iter().map(|flow| flow.window).sum()
    }

    /// Sessions came or went. A flow that comes begins with half of what the others have, one that
    /// goes takes its window along.
    pub(crate) fn resize(&mut self, count: u32, now: Instant) {
        let all = f64::from(u32::try_from(self.flows.len()).unwrap_or(u32::MAX));
        let new = Flow::new(self.window() / all / 2.0, now);
        self.flows.resize(usize::try_from(count.max(1)).unwrap_or(1), new);
    }

    /// A round trip of `rtt` seconds has passed in which the window was used.
    pub(crate) fn grow(&mut self, now: Instant, rtt: f64) {
        self.flows.iter_mut().for_each(|flow| flow.grow(now, rtt));
    }

    /// `packets` are lost, the latest of them sent at `sent`.
    pub(crate) fn lose(&mut self, packets: u64, now: Instant, sent: Instant) {
        // More can't hit anybody who has not been hit.
        let most = 8 * u64::try_from(self.flows.len()).unwrap_or(1);
        for _ in 0..packets.min(most) {
            let mut at = self.draw() * self.window();
            let hit = self.flows.iter_mut().find(|flow| {
                at -= flow.window;
                at <= 0.0
            });
            if let Some(flow) = hit {
                flow.lose(now, sent);
            }
        }
    }

    /// From 0 to 1, by a linear congruential generator (Knuth's MMIX constants).
    fn draw(&mut self) -> f64 {
        const MULTIPLIER: u64 = 6_364_136_223_846_793_005;
        const INCREMENT: u64 = 1_442_695_040_888_963_407;
        self.chance = self.chance.wrapping_mul(MULTIPLIER).wrapping_add(INCREMENT);
        (self.chance >> 11) as f64 / (1u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const RTT: f64 = 0.1;

    #[test]
    fn one_flow_answers_a_loss_as_cubic_does() {
        let now = tokio::time::Instant::now().into_std();
        let mut crowd = Crowd::new(1, 100.0, now);
        crowd.lose(5, now, now);
        assert!((crowd.window() - 70.0).abs() < 1e-9, "one answer for a batch");
        // K = cbrt(100 * 0.3 / 0.4) = 4.22 s: back at the peak, and flat there.
        let at = |seconds| now + Duration::from_secs_f64(seconds);
        (1..=42).for_each(|tick| crowd.grow(at(f64::from(tick) / 10.0), RTT));
        assert!((crowd.window() - 100.0).abs() < 1.0, "{}", crowd.window());
        (43..=60).for_each(|tick| crowd.grow(at(f64::from(tick) / 10.0), RTT));
        assert!(crowd.window() > 102.0, "{}", crowd.window());
    }

    #[test]
    fn a_loss_hits_one_flow_of_many() {
        let now = tokio::time::Instant::now().into_std();
        let mut crowd = Crowd::new(10, 1000.0, now);
        crowd.lose(1, now, now);
        assert!((crowd.window() - 970.0).abs() < 1e-9, "{}", crowd.window());
    }

    /// A queue that overflows takes a packet or more of most of the flows.
    #[test]
    fn many_losses_hit_nearly_all() {
        let now = tokio::time::Instant::now().into_std();
        let mut crowd = Crowd::new(10, 1000.0, now);
        crowd.lose(40, now, now);
        assert!((700.0..760.0).contains(&crowd.window()), "{}", crowd.window());
        crowd.lose(80, now + Duration::from_millis(50), now);
        assert!(crowd.window() >= 700.0, "what was sent before is answered");
    }

    #[test]
    fn a_window_never_falls_below_two_segments_a_flow() {
        let now = tokio::time::Instant::now().into_std();
        let mut crowd = Crowd::new(4, 8.0, now);
        for second in 1..20 {
            let then = now + Duration::from_secs(second);
            crowd.lose(40, then, then);
        }
        assert!((crowd.window() - 8.0).abs() < 1e-9);
    }

    #[test]
    fn flows_come_with_half_a_share_and_take_their_share_away() {
        let now = tokio::time::Instant::now().into_std();
        let mut crowd = Crowd::new(4, 100.0, now);
        crowd.resize(6, now);
        assert!((crowd.window() - 125.0).abs() < 1e-9);
        crowd.resize(2, now);
        assert!((crowd.window() - 50.0).abs() < 1e-9);
    }

    #[test]
    fn a_slow_path_s_flow_is_at_least_a_reno_flow() {
        let now = tokio::time::Instant::now().into_std();
        let mut crowd = Crowd::new(1, 10.0, now);
        crowd.lose(1, now, now);
        let before = crowd.window();
        crowd.grow(now + Duration::from_secs_f64(RTT), RTT);
        let grown = crowd.window() - before;
        assert!(grown >= 2.0 * ALPHA - 1e-9, "{grown}");
    }
}
