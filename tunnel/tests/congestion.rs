//! What the congestion control promises, by real QUIC connections over simulated lines.

mod lab;

use std::time::Duration;

use lab::{Control, Flow, Line, Outcome, run, run_with};

fn alone(line: Line, seconds: usize) -> Outcome {
    run(line, vec![Flow::new(Control::aggregate(8))], seconds)
}

/// Megabits a second of the aggregate and of each cubic flow beside it.
fn beside_cubic(line: Line, sessions: usize, cubic: usize) -> (f64, Vec<f64>) {
    let mut flows = vec![Flow::new(Control::aggregate(sessions))];
    flows.extend((0..cubic).map(|_| Flow::new(Control::Cubic)));
    let outcome = run(line, flows, 50);
    (outcome.mbit(0, 10, 50), (1..=cubic).map(|flow| outcome.mbit(flow, 10, 50)).collect())
}

#[test]
fn a_long_line_is_filled_though_it_loses_one_in_a_hundred() {
    let outcome = alone(Line::new(200.0, 200, 100, 0.01), 12);
    let mbit = outcome.mbit(0, 4, 12);
    assert!(mbit >= 80.0, "{mbit:.1} Mbit/s is less than 10 MB/s");
}

#[test]
fn three_in_a_hundred_do_not_bring_it_down() {
    let outcome = alone(Line::new(50.0, 200, 100, 0.03), 20);
    let mbit = outcome.mbit(0, 8, 20);
    assert!(mbit >= 30.0, "{mbit:.1} Mbit/s");
}

#[test]
fn jitter_is_no_queue_and_being_overtaken_is_no_loss() {
    let line = Line { jitter: Duration::from_millis(20), ..Line::new(20.0, 200, 200, 0.01) };
    let mbit = alone(line, 20).mbit(0, 8, 20);
    assert!(mbit >= 14.0, "{mbit:.1} Mbit/s");
}

/// What a frame waits behind bulk: the issue of every window that fills queues.
#[test]
fn its_own_queue_stays_short_from_the_start() {
    for rtt in [40, 200] {
        let outcome = alone(Line::new(10.0, rtt, 400, 0.0), 20);
        let mbit = outcome.mbit(0, 3, 20);
        assert!(mbit >= 8.5, "{rtt} ms: {mbit:.1} Mbit/s");
        let waits = [outcome.wait_ms(50, 0, 20), outcome.wait_ms(99, 0, 20)];
        assert!(waits[0] <= 10.0 && waits[1] <= 35.0, "{rtt} ms: {waits:?} ms");
    }
}

/// A window that grows again before its last step was seen stands 20 ms high each few seconds.
#[test]
fn its_window_swings_by_no_more_than_a_burst() {
    let outcome = alone(Line::new(10.0, 200, 200, 0.0), 60);
    let wait = outcome.wait_ms(98, 5, 60);
    assert!(wait <= 16.0, "{wait:.1} ms");
}

#[test]
fn beside_cubic_flows_it_takes_the_share_of_its_sessions() {
    for (rtt, queue) in [(200, 200), (40, 50)] {
        for sessions in [1, 8] {
            let line = Line::new(20.0, rtt, queue, 0.0);
            let (own, cubic) = beside_cubic(line, sessions, 8);
            let all = own + cubic.iter().sum::<f64>();
            let share = all * sessions as f64 / (sessions + 8) as f64;
            let told = format!("{rtt} ms, {sessions}: {own:.1} of {share:.1}, beside {cubic:.1?}");
            assert!((0.5 * share..=1.6 * share).contains(&own), "{told}");
            let fair = (all - share) / 8.0;
            assert!(cubic.iter().all(|each| *each >= 0.4 * fair), "{told}");
        }
    }
}

#[test]
fn two_of_them_share_a_line() {
    let both = || Flow::new(Control::aggregate(8));
    let outcome = run(Line::new(20.0, 100, 200, 0.0), vec![both(), both().between(5, 60)], 60);
    let (first, second) = (outcome.mbit(0, 20, 60), outcome.mbit(1, 20, 60));
    assert!(first + second >= 16.0, "{first:.1} and {second:.1} Mbit/s");
    assert!(first.min(second) >= 3.0, "{first:.1} and {second:.1} Mbit/s");
}

/// It fills the queue as long as others do, and no longer.
#[test]
fn the_queue_is_short_again_when_the_others_have_gone() {
    let mut flows = vec![Flow::new(Control::aggregate(8))];
    flows.extend((0..4).map(|_| Flow::new(Control::Cubic).between(5, 25)));
    let outcome = run(Line::new(20.0, 60, 100, 0.0), flows, 50);
    let beside = outcome.mbit(0, 10, 25);
    assert!((8.0..=16.0).contains(&beside), "{beside:.1} Mbit/s beside four");
    let waits = [outcome.wait_ms(50, 40, 50), outcome.wait_ms(90, 40, 50)];
    assert!(waits[1] <= 20.0, "{waits:?} ms after them");
    let after = outcome.mbit(0, 40, 50);
    assert!(after >= 16.0, "{after:.1} Mbit/s after them");
}

#[test]
fn a_line_that_changes_is_followed() {
    let flows = vec![Flow::new(Control::aggregate(8))];
    let outcome = run_with(Line::new(40.0, 100, 200, 0.0), flows, 60, |at, line| {
        let slow = (10..30).contains(&at.as_secs());
        line.mbit = if slow { 5.0 } else { 40.0 };
        line.one_way = Duration::from_millis(if at.as_secs() < 45 { 50 } else { 80 });
    });
    let slow = outcome.mbit(0, 15, 30);
    assert!(slow >= 4.0, "{slow:.1} Mbit/s of 5");
    let wait = outcome.wait_ms(90, 15, 30);
    assert!(wait <= 40.0, "{wait:.0} ms of queue on the slow line");
    let fast = outcome.mbit(0, 38, 45);
    assert!(fast >= 25.0, "{fast:.1} Mbit/s of 40 again");
    let longer = outcome.mbit(0, 50, 60);
    assert!(longer >= 20.0, "{longer:.1} Mbit/s over the longer way");
}

#[test]
fn the_next_connection_starts_with_half_of_what_the_last_had() {
    let control = Control::aggregate(1);
    let line = Line::new(50.0, 200, 200, 0.0);
    let cold = run(line.clone(), vec![Flow::new(control.clone())], 15);
    let warm = run(line, vec![Flow::new(control)], 3);
    let (first, next) = (cold.mbit(0, 0, 1), warm.mbit(0, 0, 1));
    assert!(next > 3.0 * first, "{first:.1} and then {next:.1} Mbit/s in the first second");
    let wait = warm.wait_ms(100, 0, 3);
    assert!(wait <= 60.0, "{wait:.0} ms of queue by a warm start");
}
