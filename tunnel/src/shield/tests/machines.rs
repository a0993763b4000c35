//! Each machine alone, step by step.

use std::time::{Duration, Instant};

use super::super::brake::Brake;
use super::super::budget::Budget;
use super::super::dose::Dose;
use super::super::policy::{LOSSY, Plan, Policy, SPACING_MIN, ShieldState, Weather};
use super::super::trial::Trial;
use crate::tunnel::now;

const RTT: Duration = Duration::from_millis(200);

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn weather(loss: f64) -> Weather {
    Weather {
        loss,
        burst: Duration::ZERO,
        queueing: Duration::ZERO,
        rtt_min: RTT,
        chat_per_s: 1_000.0,
        all_per_s: 1_000.0,
    }
}

/// Steps of 250 ms until the state is left, at most ten minutes.
fn lasts(policy: &mut Policy, at: &mut Instant, weather: &Weather) -> Duration {
    let (began, state) = (*at, policy.plan().state);
    while policy.decide(Some(weather), *at).state == state && *at < began + ms(600_000) {
        *at += ms(250);
    }
    *at - began
}

#[test]
fn a_link_is_full_by_a_fifth_of_its_round_trip_or_fifteen_milliseconds() {
    for (rtt, queueing, is_full) in
        [(200, 40, false), (200, 41, true), (20, 15, false), (20, 16, true)]
    {
        let found = Brake::default().is_on(ms(queueing), ms(rtt), now());
        assert_eq!(found, is_full, "{queueing} ms of {rtt}");
    }
}

#[test]
fn a_full_link_is_free_after_a_while_of_half_as_much() {
    let (mut brake, mut at) = (Brake::default(), now());
    let mut step = |queueing: u64, seconds: u64| {
        at += ms(seconds * 1000);
        brake.is_on(ms(queueing), RTT, at)
    };
    assert!(step(41, 0));
    assert!(step(19, 0) && step(19, 1), "not for long enough");
    assert!(step(20, 1), "it is still there");
    assert!(step(0, 9) && step(0, 1), "and so it begins anew");
    assert!(!step(0, 1));
    assert!(step(41, 9), "soon again:");
    assert!(step(0, 0) && step(0, 3), "it has to be free for twice as long");
    assert!(!step(0, 1));
    assert!(step(41, 11), "long after:");
    assert!(step(0, 0) && !step(0, 2), "for as long as at first");
}

/// `(copies, loss)` of 0.25 s each for so long; whether copies were forbidden at the end.
fn tried(trial: &mut Trial, at: &mut Instant, copies: u8, loss: f64, time: Duration) -> bool {
    let end = *at + time;
    let mut forbidden = false;
    while *at < end {
        forbidden = trial.forbids(copies, loss, *at);
        *at += ms(250);
    }
    forbidden
}

#[test]
fn loss_that_goes_with_the_copies_was_theirs() {
    let (mut trial, mut at) = (Trial::default(), now());
    let mut step =
        |copies, loss, seconds: u64| tried(&mut trial, &mut at, copies, loss, ms(seconds * 1000));
    assert!(!step(0, 0.01, 10) && !step(1, 0.2, 5));
    assert!(step(1, 0.2, 1), "it is tried");
    assert!(step(1, 0.02, 9), "guilty, for five seconds");
    assert!(!step(1, 0.02, 2) && !step(1, 0.2, 5));
    assert!(step(1, 0.2, 1), "again");
    assert!(step(1, 0.02, 14), "guilty, for ten");
    assert!(!step(1, 0.02, 2));
}

#[test]
fn loss_that_stays_is_the_paths() {
    let (mut trial, mut at) = (Trial::default(), now());
    let mut step =
        |copies, loss, seconds: u64| tried(&mut trial, &mut at, copies, loss, ms(seconds * 1000));
    assert!(!step(0, 0.01, 10) && !step(1, 0.2, 5) && step(1, 0.2, 1));
    assert!(!step(1, 0.2, 6), "not guilty");
    assert!(!step(1, 0.3, 60), "no more than half as much again");
    assert!(!step(1, 0.5, 50), "and trusted for two minutes");
    assert!(step(1, 0.5, 15), "but no longer");
    assert!(!step(0, 0.5, 10) && !step(1, 0.9, 60), "a cut is not tried");
    let mut low = Trial::default();
    assert!(!tried(&mut low, &mut at, 0, 0.001, ms(1000)));
    assert!(!tried(&mut low, &mut at, 1, 0.049, ms(60_000)), "little loss is not tried");
}

#[test]
fn an_empty_budget_serves_the_small() {
    let (mut budget, start) = (Budget::default(), now());
    assert!(!budget.take(100, 100, 1, start), "there is no share yet");
    budget.set_share(8_000.0);
    assert!(budget.take(9_000, 1_400, 1, start), "16 KiB at first");
    assert!(!budget.take(1_400, 1_400, 2, start), "of what is left none are for large ones");
    let small = (0..100).filter(|_| budget.take(150, 150, 1, start)).count();
    assert_eq!(small, 49, "7,384 bytes");
    assert!(budget.take(150, 150, 2, start + ms(100)), "800 more");
    let later = start + ms(3_600_000);
    let after = (0..1_000).filter(|_| budget.take(150, 150, 1, later)).count();
    assert_eq!(after, 109, "an hour saves no more than 16 KiB");
}

#[test]
fn what_fills_a_link_is_halved_and_comes_back_slowly() {
    let (mut budget, mut at) = (Budget::default(), now());
    budget.set_share(1_000_000.0);
    let mut second = |budget: &mut Budget| {
        let went = (0..1_000u64).filter(|_| {
            at += ms(1);
            budget.take(100, 100, 1, at)
        });
        went.count() * 100
    };
    (0..10).for_each(|_| assert_eq!(second(&mut budget), 100_000));
    budget.brake();
    second(&mut budget);
    let halved = second(&mut budget);
    assert!((45_000..65_000).contains(&halved), "{halved}");
    (0..20).for_each(|_| _ = second(&mut budget));
    assert_eq!(second(&mut budget), 100_000);
}

#[test]
fn less_is_done_after_half_a_minute_and_later_if_it_was_too_soon() {
    let (mut policy, mut at) = (Policy::default(), now());
    assert_eq!(policy.decide(Some(&weather(0.005)), at).copies, 1, "at once");
    let clean = weather(0.0);
    assert_eq!(lasts(&mut policy, &mut at, &clean), ms(30_000));
    assert_eq!(policy.plan().state, ShieldState::Clean);
    assert_eq!(lasts(&mut policy, &mut at, &clean), ms(600_000));
    for (away, hold) in [(1_000, 30_000), (29_000, 60_000), (59_000, 120_000), (121_000, 30_000)] {
        at += ms(away);
        policy.decide(Some(&weather(0.005)), at);
        assert_eq!(lasts(&mut policy, &mut at, &clean), ms(hold), "after {away} ms");
    }
    assert!(lasts(&mut policy, &mut at, &weather(LOSSY * 0.6)) > ms(599_000), "it is over");
}

#[test]
fn bursts_are_outlasted() {
    let plan = |loss, burst, per_s| {
        let (mut policy, mut at, mut plan) = (Policy::default(), now(), Plan::default());
        let weather = Weather { burst: ms(burst), chat_per_s: per_s, ..weather(loss) };
        for _ in 0..40 {
            plan = policy.decide(Some(&weather), at);
            at += ms(250);
        }
        (plan.copies, plan.spacing.as_micros().div_ceil(1000))
    };
    assert_eq!(plan(0.005, 0, 500.0), (1, SPACING_MIN.as_millis()));
    assert_eq!(plan(0.005, 10, 500.0), (1, 15), "beyond");
    assert_eq!(plan(0.005, 20, 500.0), (2, 30), "beyond, and once more");
    assert_eq!(plan(0.002, 20, 500.0), (1, 30), "so little needs one");
    assert_eq!(plan(0.005, 60, 500.0), (2, 40), "no later than this");
    assert_eq!(plan(0.03, 0, 500.0), (2, 8));
    assert_eq!(plan(0.03, 0, 10_000.0), (2, 5), "100 datagrams for the last");
}

#[test]
fn what_was_done_goes_on_for_a_while_without_measurements() {
    let (mut policy, at) = (Policy::default(), now());
    assert_eq!(policy.decide(None, at).state, ShieldState::Unmeasured);
    policy.decide(Some(&weather(0.005)), at);
    assert_eq!(policy.decide(None, at + ms(5_000)).state, ShieldState::On);
    assert_eq!(policy.decide(None, at + ms(5_250)).state, ShieldState::Unmeasured);
}

#[test]
fn a_path_that_lost_much_before_is_not_suspected_for_half_as_much_more() {
    let (mut trial, mut at) = (Trial::default(), now());
    assert!(!tried(&mut trial, &mut at, 0, 0.1, ms(10_000)));
    assert!(!tried(&mut trial, &mut at, 1, 0.15, ms(60_000)));
    assert!(tried(&mut trial, &mut at, 1, 0.2, ms(6_000)));
}

#[test]
fn few_losses_may_be_chance() {
    let state = |per_s| {
        let weather = Weather { all_per_s: per_s, ..weather(0.02) };
        Policy::default().decide(Some(&weather), now()).state
    };
    assert_eq!(state(1_000.0), ShieldState::On);
    assert_eq!(state(10.0), ShieldState::Clean);
}

#[test]
fn bursts_are_remembered() {
    let (mut policy, mut at) = (Policy::default(), now());
    for _ in 0..40 {
        policy.decide(Some(&Weather { burst: ms(10), ..weather(0.005) }), at);
        at += ms(250);
    }
    let calm = policy.decide(Some(&weather(0.005)), at + ms(2_000));
    assert!(calm.spacing > ms(12), "{calm:?}");
    let later = policy.decide(Some(&weather(0.005)), at + ms(60_000));
    assert_eq!(later.spacing, SPACING_MIN);
}

/// The brake is put on once, not at each look while the link is full.
#[test]
fn after_a_full_link_half_of_the_copies_go() {
    let (mut dose, mut at) = (Dose::default(), now());
    dose.budget.set_share(1e6);
    let mut seconds = |dose: &mut Dose, seconds: u64, queueing: u64| {
        let weather = Weather { queueing: ms(queueing), ..weather(0.005) };
        let mut went = 0;
        for step in 0..seconds * 1_000 {
            at += ms(1);
            if step % 250 == 0 {
                dose.decide(Some(&weather), at);
            }
            went += usize::from(dose.take(100, 100, at).is_ok_and(|plan| plan.copies > 0)) * 100;
        }
        went
    };
    assert_eq!(seconds(&mut dose, 5, 0), 500_000);
    assert_eq!(seconds(&mut dose, 5, 100), 0);
    seconds(&mut dose, 3, 0);
    let went = seconds(&mut dose, 1, 0);
    assert!((45_000..75_000).contains(&went), "{went}");
}
