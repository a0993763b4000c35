//! `just sim`: runs worlds, and tells of the first that fail.
#![allow(clippy::print_stdout, reason = "prints for people")]

use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use antipode_sim::plan::Plan;
use antipode_sim::{shrink, world};
use clap::Parser;

/// Runs worlds: one seed, one world.
#[derive(Debug, Parser)]
struct Args {
    /// How many seeds to run.
    #[arg(long, default_value_t = 2_000)]
    seeds: u64,
    /// The first of them.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// Threads, each with worlds of its own.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Failing seeds to tell of before giving up.
    #[arg(long, default_value_t = 1)]
    failures: usize,
    /// Lines of history to tell of each.
    #[arg(long, default_value_t = 60)]
    lines: usize,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let next = AtomicU64::new(args.from);
    let failed = Mutex::new(Vec::new());
    let (whole, excused) = (AtomicU64::new(0), AtomicU64::new(0));
    std::thread::scope(|scope| {
        for _ in 0..args.threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let enough = failed.lock().expect("no panics").len() >= args.failures;
                    if seed >= args.from + args.seeds || enough {
                        return;
                    }
                    let plan = Plan::draw(seed);
                    let outcome = world::run(&plan);
                    let count = |count: usize| u64::try_from(count).unwrap_or(0);
                    whole.fetch_add(count(outcome.whole), Ordering::Relaxed);
                    excused.fetch_add(count(outcome.excused), Ordering::Relaxed);
                    if outcome.failure.is_some() {
                        let (plan, outcome) = shrink::shrink(&plan, args.lines);
                        let report = shrink::report(&plan, &outcome);
                        failed.lock().expect("no panics").push(report);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panics");
    let (whole, excused) = (whole.into_inner(), excused.into_inner());
    for report in &failed {
        println!("{report}");
    }
    println!("{} seeds: {whole} talks whole, {excused} excused by a fault", args.seeds);
    if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
