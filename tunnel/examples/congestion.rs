//! Our congestion control beside quinn's BBR and cubic, on lines of several kinds.
//!
//! `cargo run --release -p antipode-tunnel --example congestion` prints the tables of
//! `docs/decisions/014-congestion.md`: real QUIC connections in simulated time.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

#[path = "../tests/lab/mod.rs"]
mod lab;

use std::time::Duration;

use lab::{Control, Flow, Line, Outcome, run};

/// Sessions that ours stands for, where it is alone.
const FLOWS: usize = 8;

fn main() {
    println!("alone: one way's rate, round trip, queue, loss of each way, jitter of each way\n");
    println!("| line | by | Mbit/s | second 2 | wait p50 / p99 ms | of seconds 1 to 5 |");
    println!("|---|---|---|---|---|---|");
    for (mbit, rtt, queue, loss, jitter) in [
        (10.0, 200, 200, 0.0, 0),
        (10.0, 200, 200, 0.01, 0),
        (10.0, 40, 100, 0.0, 0),
        (100.0, 200, 100, 0.0, 0),
        (100.0, 200, 100, 0.01, 0),
        (100.0, 200, 100, 0.03, 0),
        (100.0, 200, 100, 0.01, 20),
        (100.0, 200, 5, 0.0, 0),
    ] {
        let jitter_ms = Duration::from_millis(jitter);
        let line = Line { jitter: jitter_ms, ..Line::new(mbit, rtt, queue, loss) };
        let name = format!("{mbit} Mbit/s, {rtt} ms, {queue} ms, {loss}, {jitter} ms");
        alone(&name, &line);
    }
    println!("\nbeside 8 cubic flows on 20 Mbit/s: round trip, queue, sessions\n");
    println!("| line | by | Mbit/s | its share | each cubic flow, least to most |");
    println!("|---|---|---|---|---|");
    for (rtt, queue) in [(200, 200), (200, 50), (40, 20), (40, 100), (40, 400), (200, 10)] {
        for flows in [1, 8, 32] {
            beside(&Line::new(20.0, rtt, queue, 0.0), rtt, queue, flows);
        }
    }
}

fn alone(name: &str, line: &Line) {
    let contenders =
        [("ours", Control::aggregate(FLOWS)), ("bbr", Control::Bbr), ("cubic", Control::Cubic)];
    for (by, control) in contenders {
        let outcome = run(line.clone(), vec![Flow::new(control)], 30);
        if let Some(why) = &outcome.lost[0] {
            println!("| {name} | {by} | closed: {why} | | | |");
            continue;
        }
        let waits = |from, until| {
            let wait = |percent| outcome.wait_ms(percent, from, until);
            format!("{:.0} / {:.0}", wait(50), wait(99))
        };
        let (late, soon) = (outcome.mbit(0, 5, 30), outcome.mbit(0, 1, 2));
        let (waits_late, waits_soon) = (waits(5, 30), waits(0, 5));
        println!("| {name} | {by} | {late:.1} | {soon:.1} | {waits_late} | {waits_soon} |");
    }
}

fn beside(line: &Line, rtt: u64, queue: u64, flows: usize) {
    for (by, control) in [("ours", Control::aggregate(flows)), ("bbr", Control::Bbr)] {
        let mut all = vec![Flow::new(control)];
        all.extend((0..8).map(|_| Flow::new(Control::Cubic)));
        let outcome: Outcome = run(line.clone(), all, 60);
        let cubic: Vec<f64> = (1..9).map(|flow| outcome.mbit(flow, 10, 60)).collect();
        let own = outcome.mbit(0, 10, 60);
        let all: f64 = cubic.iter().sum::<f64>() + own;
        let share = all * flows as f64 / (flows + 8) as f64;
        let least = cubic.iter().copied().fold(f64::MAX, f64::min);
        let most = cubic.iter().copied().fold(0.0, f64::max);
        println!(
            "| {rtt} ms, {queue} ms, {flows} | {by} | {own:.1} | {share:.1} | {least:.1} to \
             {most:.1} |"
        );
    }
}
