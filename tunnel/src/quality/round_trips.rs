//! The round trips of one way: how long, how steady, and what queues add.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The least round trip is that of so many spans,
const SPANS: usize = 12;
/// each this long: a minute. A route that grew longer looks like a queue for that time.
const SPAN: Duration = Duration::from_secs(5);
/// The queue is told from the least round trip of so long: one that a queue made late is not the
/// least, unless all of them were late.
const RECENT: Duration = Duration::from_millis(1_250);
/// Round trips kept for that; probes every 250 ms make 5.
const RECENT_MAX: usize = 16;
/// Smoothing of the round trip, [RFC 6298 §2](https://www.rfc-editor.org/rfc/rfc6298#section-2).
const RTT_SHARE: u32 = 8;
/// Smoothing of the jitter,
/// [RFC 3550 §6.4.1](https://www.rfc-editor.org/rfc/rfc3550#section-6.4.1).
const JITTER_SHARE: u32 = 16;

/// Round trips, as they come.
#[derive(Debug, Default)]
pub(crate) struct RoundTrips {
    smoothed: Option<Duration>,
    last: Duration,
    jitter: Duration,
    /// The least of each span, and when the span began.
    spans: VecDeque<(Instant, Duration)>,
    recent: VecDeque<(Instant, Duration)>,
}

impl RoundTrips {
    /// An echo came after `rtt`.
    pub(crate) fn handle(&mut self, rtt: Duration, now: Instant) {
        match self.smoothed {
            None => self.smoothed = Some(rtt),
            Some(smoothed) => {
                self.smoothed = Some(towards(smoothed, rtt, RTT_SHARE));
                self.jitter = towards(self.jitter, rtt.abs_diff(self.last), JITTER_SHARE);
            }
        }
        self.last = rtt;
        match self.spans.back_mut() {
            Some((began, least)) if now.saturating_duration_since(*began) < SPAN => {
                *least = rtt.min(*least);
            }
            Some(_) | None => self.spans.push_back((now, rtt)),
        }
        while self.spans.len() > SPANS {
            self.spans.pop_front();
        }
        while self.recent.len() >= RECENT_MAX {
            self.recent.pop_front();
        }
        self.recent.push_back((now, rtt));
    }

    /// The round trip, smoothed; `None` if there was none.
    pub(crate) const fn smoothed(&self) -> Option<Duration> {
        self.smoothed
    }

    /// The least in the last minute.
    pub(crate) fn least(&self) -> Duration {
        self.spans.iter().map(|&(_, least)| least).min().unwrap_or_default()
    }

    /// Mean change from one to the next.
    pub(crate) const fn jitter(&self) -> Duration {
        self.jitter
    }

    /// What queues add now: the least of the last ones over the least of all, less the jitter,
    /// since a few that vary rarely have the least among them.
    pub(crate) fn queueing(&self, now: Instant) -> Duration {
        let is_recent = |(at, _): &&(Instant, _)| now.saturating_duration_since(*at) <= RECENT;
        let recent = self.recent.iter().filter(is_recent).map(|&(_, rtt)| rtt).min();
        let recent = recent.or_else(|| self.recent.back().map(|&(_, rtt)| rtt));
        let none = self.least() + self.jitter;
        recent.map_or(Duration::ZERO, |recent| recent.saturating_sub(none))
    }

    /// Forgets everything: the datagrams go another way.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

fn towards(from: Duration, to: Duration, share: u32) -> Duration {
    (from * (share - 1) + to) / share
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn run(trips: &mut RoundTrips, start: Instant, rtts: impl IntoIterator<Item = u64>) -> Instant {
        let mut now = start;
        for rtt in rtts {
            now += ms(250);
            trips.handle(ms(rtt), now);
        }
        now
    }

    #[test]
    fn a_standing_queue_is_seen_within_seconds_and_gone_as_soon() {
        let (mut trips, start) = (RoundTrips::default(), crate::tunnel::now());
        let now = run(&mut trips, start, [200; 20]);
        assert_eq!(trips.queueing(now), Duration::ZERO);
        let now = run(&mut trips, now, [240; 5]);
        assert_eq!(trips.queueing(now), Duration::ZERO, "one short round trip is in sight");
        let now = run(&mut trips, now, [240; 1]);
        assert_eq!(trips.queueing(now).as_millis(), 38);
        assert_eq!(trips.least(), ms(200));
        let now = run(&mut trips, now, [201; 1]);
        assert_eq!(trips.queueing(now), ms(0));
    }

    #[test]
    fn jitter_is_no_queue() {
        let (mut trips, start) = (RoundTrips::default(), crate::tunnel::now());
        // 0 to 20 ms each way: the sum of two numbers that anything may be.
        let mut seed = 7u64;
        let mut one_way = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % 21
        };
        let mut now = start;
        let mut over = 0;
        for i in 0..400 {
            now = run(&mut trips, now, [200 + one_way() + one_way()]);
            over += u32::from(i > 20 && trips.queueing(now) > ms(15));
        }
        assert!(over < 2, "{over} of 380 saw a queue");
        assert!(trips.jitter() > ms(5), "{:?}", trips.jitter());
        let smoothed = trips.smoothed().unwrap();
        assert!(smoothed > ms(205) && smoothed < ms(235), "{smoothed:?}");
    }

    #[test]
    fn figures_follow_slowly_but_the_least() {
        let (mut trips, start) = (RoundTrips::default(), crate::tunnel::now());
        let now = run(&mut trips, start, [200, 190, 210]);
        assert_eq!(trips.least(), ms(190));
        let now = run(&mut trips, now, [200; 200]);
        assert!(trips.jitter() < ms(1), "{:?}", trips.jitter());
        run(&mut trips, now, [280]);
        assert_eq!(trips.smoothed().unwrap().as_millis(), 210);
        run(&mut trips, now, (0..200).map(|i| 200 + i % 2 * 16));
        let jitter = trips.jitter();
        assert!(jitter > ms(15) && jitter < ms(17), "{jitter:?}");
    }

    #[test]
    fn between_two_echoes_the_queue_is_as_it_was() {
        let (mut trips, start) = (RoundTrips::default(), crate::tunnel::now());
        let now = run(&mut trips, start, [200, 230]);
        let jitter = ms(30) / 16;
        assert_eq!(trips.queueing(now + ms(5_000)), ms(30) - jitter);
    }

    #[test]
    fn a_longer_route_is_no_queue_after_a_minute() {
        let (mut trips, start) = (RoundTrips::default(), crate::tunnel::now());
        let now = run(&mut trips, start, [100; 100]);
        let now = run(&mut trips, now, [150; 200]);
        assert_eq!(trips.queueing(now).as_millis(), 50);
        let now = run(&mut trips, now, [150; 40]);
        assert_eq!(trips.queueing(now), Duration::ZERO);
        assert_eq!(trips.least(), ms(150));
    }

    #[test]
    fn memory_is_bounded() {
        let (mut trips, start) = (RoundTrips::default(), crate::tunnel::now());
        run(&mut trips, start, 0..5_000);
        assert!(trips.spans.len() <= SPANS && trips.recent.len() <= RECENT_MAX);
    }
}
