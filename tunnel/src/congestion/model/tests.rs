//! The machine on a line without chance: what is sent arrives a round trip later.

use super::*;

const SEGMENT: u16 = 1200;
const RTT: Duration = Duration::from_millis(100);
const COLD: u64 = 100_000;

/// A window goes out in each round, all of it is acknowledged `rtt` later but for `lost` bytes.
struct Line {
    model: Model,
    now: Instant,
}

impl Line {
    fn new(window: u64) -> Self {
        let now = tokio::time::Instant::now().into_std();
        let (flows, warmth) = (Flows::default(), Warmth::default());
        flows.set(8);
        Self { model: Model::new(window, COLD, SEGMENT, flows, warmth, now), now }
    }

    fn round(&mut self, rtt: Duration, lost: u64) {
        let (sent, window) = (self.now, self.model.window());
        self.now += rtt;
        if lost > 0 {
            self.model.on_lost(self.now, sent, lost, false);
        }
        let packets = u32::try_from(window.saturating_sub(lost) / u64::from(SEGMENT)).unwrap();
        for left in (0..packets).rev() {
            // Evenly over the round trip, as they were sent.
            let now = self.now + rtt * (packets - 1 - left) / packets;
            self.model.on_ack(now, now - rtt, SEGMENT.into(), false);
            self.model.on_end_acks(now, u64::from(left) * u64::from(SEGMENT), SEGMENT.into());
        }
    }

    /// A round that begins with a full window, whose sender has nothing more for a while.
    fn pause(&mut self) {
        let sent = self.now;
        self.now += RTT * 2;
        self.model.on_ack(self.now, sent, SEGMENT.into(), true);
        self.model.on_end_acks(self.now, self.model.window(), SEGMENT.into());
    }

    /// Just a packet in each round trip.
    fn rest(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            let sent = self.now;
            self.now += RTT;
            self.model.on_ack(self.now, sent, SEGMENT.into(), true);
            self.model.on_end_acks(self.now, 0, SEGMENT.into());
        }
    }

    /// Until it is alone, on a line that is full at `window`.
    fn alone(window: u64) -> Self {
        let mut line = Self::new(window / 2);
        line.round(RTT, 0);
        (0..4).for_each(|_| line.round(RTT + Duration::from_millis(40), 0));
        (0..2).for_each(|_| line.round(RTT, 0));
        assert!(matches!(line.model.mode, Mode::Alone { .. }), "{:?}", line.model.mode);
        line
    }
}

#[test]
fn the_start_doubles_until_a_queue_shows() {
    let mut line = Line::new(60_000);
    line.round(RTT, 0);
    assert!((115_000..=125_000).contains(&line.model.window()), "{}", line.model.window());
    line.round(RTT, 0);
    let before = line.model.window();
    line.round(RTT + Duration::from_millis(40), 0);
    assert!(line.model.window() < before, "{} of {before}", line.model.window());
    assert!(matches!(line.model.mode, Mode::Alone { .. }));
}

#[test]
fn a_start_that_has_nothing_to_send_is_not_at_its_end() {
    let mut line = Line::new(60_000);
    (0..2).for_each(|_| line.round(RTT, 0));
    let before = line.model.window();
    (0..6).for_each(|_| line.pause());
    assert!(matches!(line.model.mode, Mode::Starting { .. }), "{:?}", line.model.mode);
    line.round(RTT, 0);
    assert!(line.model.window() > before * 3 / 2, "{} of {before}", line.model.window());
}

#[test]
fn a_line_that_is_far_from_full_is_started_again() {
    let mut line = Line::alone(200_000);
    let mut rounds = 0;
    while line.model.window() < 4_000_000 {
        line.round(RTT, 0);
        rounds += 1;
        assert!(rounds < 40, "{} after {rounds} rounds", line.model.window());
    }
    assert!(matches!(line.model.mode, Mode::Starting { .. }), "{:?}", line.model.mode);
}

#[test]
fn loss_without_a_queue_is_the_line_s() {
    let mut line = Line::alone(200_000);
    let before = line.model.window();
    (0..20).for_each(|_| line.round(RTT, 4 * u64::from(SEGMENT)));
    assert!(line.model.window() >= before, "{} of {before}", line.model.window());
}

#[test]
fn loss_beyond_the_line_s_own_is_answered() {
    let mut line = Line::alone(200_000);
    (0..10).for_each(|_| line.round(RTT, 0));
    let before = line.model.window();
    (0..3).for_each(|_| {
        let lost = line.model.window() / 4;
        line.round(RTT, lost);
    });
    assert!(line.model.window() < before * 9 / 10, "{} of {before}", line.model.window());
}

#[test]
fn what_a_line_loses_all_the_time_is_learned() {
    let mut line = Line::alone(400_000);
    let first = line.model.window();
    let lossy = |line: &mut Line| {
        let lost = line.model.window() * 7 / 100;
        line.round(RTT + Duration::from_millis(3), lost);
    };
    (0..100).for_each(|_| lossy(&mut line));
    let before = line.model.window();
    (0..20).for_each(|_| lossy(&mut line));
    assert!(line.model.window() > before, "{} of {before}", line.model.window());
    assert!(line.model.window() > first, "{} of {first}", line.model.window());
}

#[test]
fn a_queue_that_stays_is_others_and_is_shared() {
    let mut line = Line::alone(200_000);
    let before = line.model.window();
    (0..12).for_each(|_| line.round(RTT + Duration::from_millis(50), 0));
    assert!(matches!(line.model.mode, Mode::Shared(_)), "{:?}", line.model.mode);
    let window = line.model.window();
    assert!(window >= before * 9 / 10, "{window}: what was given up in vain comes back");
    (0..2).for_each(|_| line.round(RTT, 0));
    assert!(matches!(line.model.mode, Mode::Alone { .. }), "the queue has gone");
}

#[test]
fn shared_loss_costs_one_flow_of_eight() {
    let mut line = Line::alone(400_000);
    (0..12).for_each(|_| line.round(RTT + Duration::from_millis(50), 0));
    let before = line.model.window();
    let now = line.now;
    line.model.on_lost(now, now, 1, false);
    let left = line.model.window() as f64 / before as f64;
    assert!((0.93..0.98).contains(&left), "{left:.3} of the window");
}

#[test]
fn a_look_makes_room_and_gives_it_back() {
    let mut line = Line::alone(400_000);
    let mut windows = Vec::new();
    (0..130).for_each(|_| {
        line.round(RTT + Duration::from_millis(3), 0);
        windows.push(line.model.window());
    });
    let falls = |pair: &[u64]| pair[1] * 100 < pair[0] * 92;
    assert_eq!(windows.windows(2).filter(|pair| falls(pair)).count(), 1, "{windows:?}");
    let after = windows.windows(2).position(falls).unwrap();
    let back = windows[after + 1..].iter().take(6).max();
    assert!(back.unwrap() >= &windows[after], "{windows:?}");
}

#[test]
fn a_window_that_was_not_used_for_long_is_tried_again() {
    let mut line = Line::alone(1_600_000);
    let before = line.model.window();
    line.rest(UNUSED - RTT);
    assert!(matches!(line.model.mode, Mode::Alone { .. }), "not yet: {:?}", line.model.mode);
    line.rest(RTT * 4);
    assert!(matches!(line.model.mode, Mode::Starting { .. }), "{:?}", line.model.mode);
    let tried = line.model.window();
    assert!(tried >= before / 2 && tried < before * 6 / 10, "{tried} of {before}");
    line.rest(UNUSED * 3);
    assert_eq!(line.model.window(), tried, "once");
    // The line has become narrow: seen in the first round trip, not after some.
    line.round(RTT * 5, 0);
    assert!(line.model.window() < tried / 3, "{} of {tried}", line.model.window());
}

#[test]
fn what_a_new_connection_begins_with_is_kept() {
    let mut line = Line::alone(COLD * 3);
    line.rest(UNUSED * 2);
    assert_eq!(line.model.window(), COLD);
    let mut line = Line::alone(COLD / 2);
    let before = line.model.window();
    line.rest(UNUSED * 2);
    assert!(line.model.window() >= before, "{} of {before}", line.model.window());
    assert!(matches!(line.model.mode, Mode::Alone { .. }), "{:?}", line.model.mode);
}

#[test]
fn nothing_coming_through_begins_again_and_small() {
    let mut line = Line::alone(800_000);
    let now = line.now;
    line.model.on_lost(now, now, 100_000, true);
    assert!(line.model.window() <= 32 * u64::from(SEGMENT));
    assert!(matches!(line.model.mode, Mode::Starting { .. }));
}

#[test]
fn the_window_never_vanishes() {
    let mut line = Line::new(10_000);
    for _ in 0..50 {
        let now = line.now;
        line.model.on_lost(now, now, 5_000, true);
        assert!(line.model.window() >= 4 * u64::from(SEGMENT));
        line.now += RTT;
    }
}
