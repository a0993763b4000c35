//! Worlds: every application sees what it must, whatever breaks; and one seed is one world.
//! `just sim` runs more of them, and tells the history of one that fails.

use std::sync::atomic::{AtomicU64, Ordering};

use antipode_sim::plan::Plan;
use antipode_sim::{shrink, world};

/// Worlds in CI: about a minute on two cores. `SIM_SEEDS` sets another number.
const SEEDS: u64 = 3_000;
/// Worlds that are run twice.
const TWICE: u64 = 60;
/// Lines of history around a failure.
const LINES: usize = 60;

#[test]
fn whatever_breaks_nothing_is_lost_and_nobody_hangs() {
    let seeds = std::env::var("SIM_SEEDS").ok().and_then(|seeds| seeds.parse().ok());
    let (seeds, next) = (seeds.unwrap_or(SEEDS), AtomicU64::new(0));
    let (whole, excused) = (AtomicU64::new(0), AtomicU64::new(0));
    let count = |of: &AtomicU64, count: usize| {
        of.fetch_add(u64::try_from(count).unwrap_or(0), Ordering::Relaxed);
    };
    let run = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds {
                return;
            }
            let plan = Plan::draw(seed);
            let outcome = world::run(&plan);
            if outcome.failure.is_some() {
                let (plan, outcome) = shrink::shrink(&plan, LINES);
                panic!("{}", shrink::report(&plan, &outcome));
            }
            count(&whole, outcome.whole);
            count(&excused, outcome.excused);
        }
    };
    std::thread::scope(|scope| {
        let workers = [scope.spawn(run), scope.spawn(run)];
        for worker in workers {
            worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        }
    });
    let (whole, excused) = (whole.into_inner(), excused.into_inner());
    assert!(whole > 2 * excused, "most talks are held to all of it: {whole}, {excused} excused");
}

#[test]
fn one_seed_is_one_world() {
    for seed in 0..TWICE {
        let plan = Plan::draw(seed);
        let (first, second) = (world::run(&plan), world::run(&plan));
        assert_eq!(first.hash, second.hash, "seed {seed} had two histories");
        assert_eq!(first.events, second.events, "seed {seed}");
    }
}
