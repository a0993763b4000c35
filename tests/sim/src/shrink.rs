//! From a schedule that fails to the fewest of its faults that still do.

use crate::model::Failure;
use crate::plan::Plan;
use crate::world::{Outcome, run_telling};

/// Runs that shrinking may take.
const RUNS_MAX: usize = 400;

/// Leaves out faults for as long as the world still fails; returns what is left and its outcome.
#[must_use]
pub fn shrink(plan: &Plan, lines: usize) -> (Plan, Outcome) {
    let mut best = plan.clone();
    let mut outcome = run_telling(&best, lines);
    let mut runs = 0;
    let mut step = best.faults.len().div_ceil(2);
    while step > 0 && outcome.failure.is_some() {
        let mut at = 0;
        let mut shrunk = false;
        while at < best.faults.len() && runs < RUNS_MAX {
            let mut faults = best.faults.clone();
            faults.drain(at..(at + step).min(faults.len()));
            let candidate = best.with_faults(faults);
            let tried = run_telling(&candidate, lines);
            runs += 1;
            if tried.failure.is_some() {
                (best, outcome, shrunk) = (candidate, tried, true);
            } else {
                at += step;
            }
        }
        step = if shrunk { step.min(best.faults.len()) } else { step / 2 };
    }
    (best, outcome)
}

/// The failure, the schedule and the history of a world, for people.
#[must_use]
pub fn report(plan: &Plan, outcome: &Outcome) -> String {
    use std::fmt::Write;

    let mut text = String::new();
    let Some(Failure { at, talk, what }) = &outcome.failure else { return text };
    let whose = talk.map_or_else(String::new, |talk| format!(", talk {talk}"));
    let _ = writeln!(text, "seed {}: {what} (at {at} ms{whose})", plan.seed);
    let (nodes, cores, talks) = (plan.nodes, plan.cores, plan.talks.len());
    let _ = writeln!(text, "{nodes} nodes, {cores} cores, {talks} talks; the faults it takes:");
    for (index, (at, fault)) in plan.faults.iter().enumerate() {
        let _ = writeln!(text, "  {index}: at {at} ms {fault}");
    }
    if let Some(talk) = talk.and_then(|talk| plan.talks.get(usize::from(talk))) {
        let (up, down) = (talk.up.len(), talk.down.len());
        let (kind, closer) = (talk.kind, talk.closer);
        let _ = writeln!(text, "the talk: {kind:?}, {up} up, {down} down, closed by {closer:?}");
    }
    let _ = write!(text, "what happened last:\n{}", outcome.tail);
    text
}
