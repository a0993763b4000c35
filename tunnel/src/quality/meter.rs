//! Everything that echoes and counters say of one peer, put together.

use std::time::{Duration, Instant};

use super::Quality;
use super::loss::Loss;
use super::round_trips::RoundTrips;

/// Without an echo for so long nothing is known: probes go every 250 ms, and a round trip takes up
/// to a second on the worst of paths.
const SILENCE_MAX: Duration = Duration::from_secs(4);
/// Smoothing of the rate of datagrams, four times a second.
const RATE_SHARE: f32 = 4.0;

/// What an echo, and our own counters when it came, tell.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Report {
    /// How long the probe and its echo were on their way.
    pub(crate) rtt: Duration,
    /// Of this many of our datagrams,
    pub(crate) sent: u64,
    /// so many had arrived there.
    pub(crate) arrived_there: u64,
    /// Of this many of the peer's,
    pub(crate) sent_there: u64,
    /// so many have arrived here.
    pub(crate) arrived: u64,
    /// How long bursts of loss towards the peer last.
    pub(crate) burst_out: Duration,
}

/// The link with one peer, measured.
#[derive(Debug, Default)]
pub(crate) struct Meter {
    round_trips: RoundTrips,
    out: Loss,
    inward: Loss,
    burst_out: Duration,
    heard: Option<Instant>,
    counted: Option<(Instant, u64)>,
    packets_per_s: f32,
}

impl Meter {
    /// An echo came on the way in use, later than any before it.
    pub(crate) fn handle_report(&mut self, report: Report, now: Instant) {
        self.round_trips.handle(report.rtt, now);
        self.out.handle_counts(report.sent, report.arrived_there, now);
        self.inward.handle_counts(report.sent_there, report.arrived, now);
        self.burst_out = report.burst_out;
        self.heard = Some(now);
    }

    /// We have sent this many datagrams so far.
    pub(crate) fn handle_sent(&mut self, sent: u64, now: Instant) {
        let Some((at, before)) = self.counted else {
            self.counted = Some((now, sent));
            return;
        };
        let passed = now.saturating_duration_since(at).as_secs_f32();
        if passed < 0.1 {
            return;
        }
        let more = u16::try_from(sent.saturating_sub(before) / 16).unwrap_or(u16::MAX);
        let rest = u16::try_from(sent.saturating_sub(before) % 16).unwrap_or(0);
        let rate = (f32::from(more) * 16.0 + f32::from(rest)) / passed;
        self.packets_per_s += (rate - self.packets_per_s) / RATE_SHARE;
        self.counted = Some((now, sent));
    }

    /// The datagrams go another way: what was measured is another path's.
    pub(crate) fn handle_way_change(&mut self) {
        self.round_trips.clear();
        self.out.clear();
        self.inward.clear();
    }

    /// Mean change between two round trips.
    pub(crate) const fn jitter(&self) -> Duration {
        self.round_trips.jitter()
    }

    /// The link as it is. `burst_in` is how long bursts of loss from the peer last.
    pub(crate) fn quality(&self, burst_in: Duration, now: Instant) -> Quality {
        let is_fresh = |at| now.saturating_duration_since(at) <= SILENCE_MAX;
        let Some(rtt) = self.round_trips.smoothed().filter(|_| self.heard.is_some_and(is_fresh))
        else {
            return Quality::default();
        };
        Quality {
            rtt,
            rtt_min: self.round_trips.least(),
            jitter: self.round_trips.jitter(),
            queueing: self.round_trips.queueing(now),
            loss_out: self.out.share(now),
            loss_in: self.inward.share(now),
            burst_out: self.burst_out,
            burst_in,
            packets_out_per_s: self.packets_per_s,
            is_measured: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// 4 reports a second, of 1,000 datagrams out and 500 in each second.
    fn run(meter: &mut Meter, start: Instant, reports: u64) -> Instant {
        let at = |i| start + ms(250 * i);
        for i in 0..reports {
            meter.handle_sent(i * 250, at(i));
            let report = Report {
                rtt: ms(200),
                sent: i * 250,
                arrived_there: i * 245,
                sent_there: i * 125,
                arrived: i * 124,
                burst_out: ms(7),
            };
            meter.handle_report(report, at(i));
        }
        at(reports - 1)
    }

    #[test]
    fn each_direction_has_its_own_figures() {
        let (mut meter, start) = (Meter::default(), crate::tunnel::now());
        let now = run(&mut meter, start, 41);
        let quality = meter.quality(ms(9), now);
        assert!(quality.is_measured);
        assert_eq!((quality.rtt, quality.rtt_min, quality.queueing), (ms(200), ms(200), ms(0)));
        assert_eq!((quality.burst_out, quality.burst_in), (ms(7), ms(9)));
        assert!((quality.loss_out - 0.02).abs() < 0.001, "{quality:?}");
        assert!((quality.loss_in - 0.008).abs() < 0.001, "{quality:?}");
        assert!((quality.packets_out_per_s - 1000.0).abs() < 20.0, "{quality:?}");
    }

    #[test]
    fn silence_and_another_way_make_it_unknown() {
        let (mut meter, start) = (Meter::default(), crate::tunnel::now());
        let now = run(&mut meter, start, 41);
        assert!(meter.quality(ms(0), now + SILENCE_MAX).is_measured);
        assert_eq!(meter.quality(ms(9), now + SILENCE_MAX + ms(1)), Quality::default());
        meter.handle_way_change();
        assert_eq!(meter.quality(ms(9), now), Quality::default());
        let now = run(&mut meter, now, 1);
        assert!(meter.quality(ms(0), now).is_measured);
    }

    #[test]
    fn what_was_lost_on_the_way_before_is_not_told_of_the_next() {
        let (mut meter, start) = (Meter::default(), crate::tunnel::now());
        let mut now = run(&mut meter, start, 41);
        meter.handle_way_change();
        for i in 41..50 {
            now += ms(250);
            let report = Report {
                rtt: ms(100),
                sent: i * 250,
                arrived_there: i * 250 - 200,
                sent_there: i * 125,
                arrived: i * 125 - 40,
                burst_out: ms(0),
            };
            meter.handle_report(report, now);
        }
        let quality = meter.quality(ms(0), now);
        assert_eq!((quality.loss_out, quality.loss_in), (0.0, 0.0));
        assert_eq!((quality.rtt, quality.rtt_min), (ms(100), ms(100)));
    }

    /// Several ways may be asked at one time: that is no rate.
    #[test]
    fn counts_in_quick_succession_make_no_rate() {
        let (mut meter, start) = (Meter::default(), crate::tunnel::now());
        let now = run(&mut meter, start, 41);
        meter.handle_sent(40 * 250 + 50, now + ms(1));
        let rate = meter.quality(ms(0), now).packets_out_per_s;
        assert!((rate - 1000.0).abs() < 20.0, "{rate}");
    }
}
