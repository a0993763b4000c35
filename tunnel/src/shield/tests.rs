//! What the shield does to messages in the lab, and when it stands back.

mod lab;
mod machines;

use std::time::Duration;

use super::policy::{SPACING_MAX, SPACING_MIN, ShieldState};
use lab::{Channel, Lab, Load, Outcome};

const CHAT: Load = Load { per_s: 1_000.0, bytes: 240 };
const SEEDS: u64 = 5;

/// Every seed's outcome after the first seconds, in which loss has yet to be seen.
fn settled(load: Load, channel: Channel, time: Duration) -> Vec<Outcome> {
    let run = |seed| {
        let mut lab = Lab::new(seed, load, channel);
        lab.run(secs(25));
        lab.run(time)
    };
    (0..SEEDS).map(run).collect()
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn mean(of: &[Outcome], what: impl Fn(&Outcome) -> f64) -> f64 {
    of.iter().map(what).sum::<f64>() / of.len() as f64
}

#[test]
fn a_clean_path_costs_nothing() {
    for random in [0.0, 0.0002] {
        let channel = Channel { random, ..Channel::default() };
        let outcomes = settled(CHAT, channel, secs(120));
        assert_eq!(outcomes.iter().map(|outcome| outcome.copies).sum::<u64>(), 0, "{random}");
    }
}

#[test]
fn one_copy_squares_the_loss() {
    let channel = Channel { random: 0.004, ..Channel::default() };
    let outcomes = settled(CHAT, channel, secs(60));
    let residual = mean(&outcomes, Outcome::residual);
    assert!(residual < 0.000_05, "{residual}");
    let copies = mean(&outcomes, Outcome::copies_each);
    assert!((0.99..1.2).contains(&copies), "{copies} copies a message");
    assert!(outcomes.iter().all(|outcome| outcome.spacing == SPACING_MIN));
}

#[test]
fn much_loss_has_two_copies() {
    for random in [0.01, 0.03, 0.1] {
        let channel = Channel { random, ..Channel::default() };
        let outcomes = settled(CHAT, channel, secs(60));
        let residual = mean(&outcomes, Outcome::residual);
        assert!(residual < random.powi(3) * 1.5 + 0.000_02, "{random}: {residual}");
        assert!(mean(&outcomes, Outcome::copies_each) > 1.9);
    }
}

/// Copies 8 ms behind would be lost in the same burst.
#[test]
fn the_spacing_outgrows_bursts() {
    for (mean_ms, residual_max) in [(5, 0.000_4), (20, 0.000_5)] {
        let bursts = Some((0.01, Duration::from_millis(mean_ms)));
        let outcomes = settled(CHAT, Channel { bursts, ..Channel::default() }, secs(120));
        let residual = mean(&outcomes, Outcome::residual);
        assert!(residual < residual_max, "bursts of {mean_ms} ms: {residual}");
        let late = mean(&outcomes, |outcome| outcome.later_than(Duration::from_millis(45)));
        assert!(mean_ms > 5 || late < 0.000_3, "bursts of {mean_ms} ms: {late}");
        let spacings = outcomes.iter().map(|outcome| outcome.spacing);
        assert!(spacings.clone().all(|spacing| spacing <= SPACING_MAX));
        assert!(spacings.max() > Some(SPACING_MIN * 3 / 2), "bursts of {mean_ms} ms");
    }
}

/// quinn forgets 129 packets, boringtun 1,024 messages: a copy that is later than that is nothing.
#[test]
fn a_copy_is_never_far_behind() {
    let channel = Channel { random: 0.03, ..Channel::default() };
    for per_s in [1_000.0, 5_000.0, 20_000.0] {
        let load = Load { per_s, bytes: 100 };
        for outcome in settled(load, channel, secs(5)) {
            let behind = outcome.spacing.as_secs_f64() * 2.0 * per_s;
            assert!(behind < 101.0 && behind > 15.0, "{behind} packets at {per_s}");
        }
    }
}

#[test]
fn loss_around_a_threshold_does_not_make_it_flap() {
    for random in [0.0007, 0.001, 0.0015, 0.005, 0.007, 0.01] {
        let channel = Channel { random, ..Channel::default() };
        for outcome in settled(CHAT, channel, secs(600)) {
            let switches = outcome.switches;
            assert!(switches <= 14, "{random}: {switches} switches in ten minutes");
        }
    }
}

#[test]
fn loss_that_comes_and_goes_is_met_within_a_second() {
    let mut lab = Lab::new(1, CHAT, Channel::default());
    lab.run(secs(30));
    lab.channel.random = 0.02;
    let onset = lab.run(secs(2));
    assert!(onset.copies > 1_000, "{} copies", onset.copies);
    lab.channel.random = 0.0;
    assert!(lab.run(secs(20)).copies > 19_000, "it is not over yet");
    lab.run(secs(40));
    assert_eq!(lab.run(secs(10)).copies, 0, "now it is");
}

/// 1,000 messages a second are 1.92 Mbit/s. A link with no room for copies gets none of them, or
/// few: small ones, within what it leaves.
#[test]
fn a_full_link_gets_no_copies() {
    let full = Channel { random: 0.005, bottleneck: Some(230e3), ..Channel::default() };
    let outcomes = settled(CHAT, full, secs(300));
    let copies = mean(&outcomes, Outcome::copies_each);
    assert!(copies < 0.05, "{copies} copies a message");
    let too_narrow = Channel { bottleneck: Some(360e3), ..full };
    for outcome in settled(CHAT, too_narrow, secs(300)) {
        let (copies, switches) = (outcome.copies_each(), outcome.switches);
        assert!((0.02..0.55).contains(&copies), "{copies} copies a message");
        assert!(switches < 60, "{switches} switches in five minutes");
        assert!(outcome.share(ShieldState::Full) > 0.0);
    }
    let ample = Channel { bottleneck: Some(1e6), ..full };
    let outcomes = settled(CHAT, ample, secs(60));
    assert!(mean(&outcomes, Outcome::copies_each) > 0.98);
    assert!(mean(&outcomes, Outcome::residual) < 0.000_2);
}

/// A policer has no queue: only loss tells, and only a trial tells whose it is.
#[test]
fn copies_that_cause_loss_stop() {
    let policed = Channel { random: 0.005, policer: Some(290e3), ..Channel::default() };
    let outcomes = settled(CHAT, policed, secs(300));
    assert!(mean(&outcomes, Outcome::copies_each) < 0.35);
    assert!(outcomes.iter().all(|outcome| outcome.share(ShieldState::Harmful) > 0.3));
    let radio = Channel { random: 0.12, ..Channel::default() };
    for outcome in settled(CHAT, radio, secs(300)) {
        let harmful = outcome.share(ShieldState::Harmful);
        assert!(harmful < 0.06, "loss of the path is not the copies' fault: {harmful}");
    }
}

#[test]
fn the_budget_is_kept_and_small_ones_come_first() {
    let channel = Channel { random: 0.005, ..Channel::default() };
    let mut kept = Vec::new();
    for bytes in [120, 1_200] {
        let mut lab = Lab::new(3, Load { per_s: 1_000.0, bytes }, channel);
        lab.dose.budget.set_share(50_000.0);
        lab.run(secs(10));
        let outcome = lab.run(secs(20));
        assert!(outcome.copied_bytes <= 50_000 * 20 + 20_000, "{bytes}");
        kept.push(outcome.copies_each());
    }
    assert!(kept[0] > 0.35, "small: {kept:?}");
    assert!(kept[1] < 0.05, "large: {kept:?}");
}
