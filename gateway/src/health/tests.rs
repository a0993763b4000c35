//! Stories of one member, told as rows of steps and the changes they make.

use std::time::{Duration, Instant};

use super::Health::{Alive, Dead, Draining, Joining, Suspect};
use super::HealthReason as Why;
use super::{
    Admission, Changed, Due, Health, HealthReason, Lease, NodeHealth, Pulse, Thresholds, Trunk,
};

#[derive(Clone, Copy, Debug)]
enum Step {
    Introduce(u64),
    /// A heartbeat of this lease.
    Beat(u64),
    /// One without a trunk.
    Bare(u64),
    /// One that accepts nothing.
    Closing(u64),
    Lost(u64),
    /// Its process has gone.
    Gone(u64),
    Drain(u64),
    Wait(u64),
    /// The driver's timer.
    Tick,
}
use Step::{Bare, Beat, Closing, Drain, Gone, Introduce, Lost, Tick, Wait};

const UP: [Step; 4] = [Introduce(1), Beat(1), Wait(500), Beat(1)];

#[test]
fn a_steady_member_becomes_alive_and_silence_kills_it() {
    check("two heartbeats in a row", &[], &[(Joining, Alive, Why::HeartbeatsSteady)]);
    check("short silence", &[Wait(1499), Tick], &[(Joining, Alive, Why::HeartbeatsSteady)]);
    let silent = [
        (Joining, Alive, Why::HeartbeatsSteady),
        (Alive, Suspect, Why::Silent),
        (Suspect, Dead, Why::Silent),
    ];
    check("suspect", &[Wait(1500), Tick], &silent[..2]);
    check("not yet dead", &[Wait(2499), Tick], &silent[..2]);
    check("dead", &[Wait(1500), Tick, Wait(1000), Tick], &silent);
    check("a late timer makes both steps", &[Wait(60_000), Tick], &silent);
}

#[test]
fn a_flapping_member_stays_out_until_it_is_steady() {
    let suspect = [(Joining, Alive, Why::HeartbeatsSteady), (Alive, Suspect, Why::Silent)];
    let gap = [Wait(1600), Tick];
    let three = [Beat(1), Wait(500), Beat(1), Wait(500), Beat(1)];
    check("three do not suffice", &[&gap[..], &three].concat(), &suspect);
    check("a gap begins anew", &[&gap[..], &three, &gap, &three].concat(), &suspect);
    let burst = [Beat(1); 20];
    check("a burst counts once", &[&gap[..], &burst].concat(), &suspect);
    let back = [&suspect[..], &[(Suspect, Alive, Why::HeartbeatsSteady)]].concat();
    check("four do", &[&gap[..], &three, &[Wait(500), Beat(1)]].concat(), &back);
}

#[test]
fn a_lost_stream_makes_suspect_at_once_and_a_new_lease_begins_anew() {
    let lost = [(Joining, Alive, Why::HeartbeatsSteady), (Alive, Suspect, Why::StreamLost)];
    check("lost", &[Lost(1)], &lost);
    check("an older stream's end is stale", &[Lost(0)], &lost[..1]);
    let again = [
        lost[0],
        lost[1],
        (Suspect, Joining, Why::Introduced),
        (Joining, Alive, Why::HeartbeatsSteady),
    ];
    let returns = [Lost(1), Wait(300), Introduce(2), Beat(2), Wait(500), Beat(2)];
    check("it comes back", &returns, &again);
    check("its old lease says nothing", &[&returns[..], &[Lost(1), Drain(1)]].concat(), &again);
    check("a new lease counts anew", &[Introduce(2), Wait(500), Beat(2)], &again_joining());
    let late = [Wait(500), Beat(1), Wait(500), Beat(1), Lost(1), Wait(500), Beat(1)];
    check("a late heartbeat does not heal", &late, &lost);
    check("a lower lease does not count", &[Introduce(1), Introduce(0)], &lost[..1]);
}

fn again_joining() -> [(Health, Health, HealthReason); 2] {
    [(Joining, Alive, Why::HeartbeatsSteady), (Alive, Joining, Why::Introduced)]
}

#[test]
fn one_that_drains_is_never_alive_under_that_lease() {
    let drains = [(Joining, Alive, Why::HeartbeatsSteady), (Alive, Draining, Why::Drains)];
    let beats = [Wait(500), Beat(1), Wait(500), Beat(1), Wait(500), Beat(1), Wait(500), Beat(1)];
    check("it says so", &[Closing(1)], &drains);
    check("it is told so", &[Drain(1)], &drains);
    let late = [drains[0], (Alive, Suspect, Why::Silent)];
    check("a drain behind a late timer", &[Wait(1500), Drain(1)], &late);
    check("it takes it back", &[&[Closing(1)][..], &beats].concat(), &drains);
    let silent = [&drains[..], &[(Draining, Suspect, Why::Silent)]].concat();
    check("silent", &[Drain(1), Wait(1500), Tick], &silent);
    let returned = [&silent[..], &[(Suspect, Draining, Why::Drains)]].concat();
    let story = [&[Drain(1), Wait(1500), Tick][..], &beats].concat();
    check("silent, then heard", &story, &returned);
    let anew = [&drains[..], &[(Draining, Joining, Why::Introduced)]].concat();
    check("a new lease", &[Drain(1), Introduce(2)], &anew);
}

#[test]
fn one_whose_process_has_gone_is_dead_at_once_and_one_that_fell_silent_first_is_not() {
    let up = (Joining, Alive, Why::HeartbeatsSteady);
    let gone = [up, (Alive, Suspect, Why::ProcessGone), (Suspect, Dead, Why::ProcessGone)];
    check("gone", &[Gone(1)], &gone);
    check("between two heartbeats", &[Wait(499), Gone(1)], &gone);
    check("an older stream's end is stale", &[Gone(0)], &gone[..1]);
    check("twice", &[Gone(1), Gone(1), Wait(9000), Tick], &gone);
    let silent = [up, (Alive, Suspect, Why::Silent)];
    check("silence came first: a cut", &[Wait(1500), Gone(1)], &silent);
    check("and late", &[Wait(1500), Tick, Wait(100), Gone(1)], &silent);
    let drained = [
        up,
        (Alive, Draining, Why::Drains),
        (Draining, Suspect, Why::ProcessGone),
        (Suspect, Dead, Why::ProcessGone),
    ];
    check("after its drain", &[Closing(1), Gone(1)], &drained);
    let back = [
        gone[0],
        gone[1],
        gone[2],
        (Dead, Joining, Why::Introduced),
        (Joining, Alive, Why::HeartbeatsSteady),
    ];
    check("it starts again", &[Gone(1), Introduce(2), Beat(2), Wait(500), Beat(2)], &back);
}

#[test]
fn no_trunk_keeps_a_member_out() {
    let up = (Joining, Alive, Why::HeartbeatsSteady);
    check("once is an accident", &[Wait(500), Bare(1)], &[up]);
    let out = [up, (Alive, Suspect, Why::NoTrunk)];
    let apart = [Wait(500), Bare(1), Wait(500), Beat(1), Wait(500), Bare(1)];
    check("twice, but not in a row", &apart, &[up]);
    let without = [Introduce(2), Beat(2), Wait(500), Bare(2)];
    check("one without does not complete a row", &without, &again_joining());
    let silent = [up, (Alive, Suspect, Why::Silent)];
    let beats = [Beat(1), Wait(500), Beat(1), Wait(500), Beat(1), Wait(500)];
    let mixed =
        [&[Wait(1600), Tick][..], &beats, &[Bare(1), Wait(500), Bare(1), Wait(500), Beat(1)]];
    check("nor heal a Suspect", &mixed.concat(), &silent);
    check("twice is not", &[Wait(500), Bare(1), Wait(500), Bare(1)], &out);
    let mut health = NodeHealth::new(Thresholds::default(), origin());
    let mut now = origin();
    for step in [Introduce(1), Bare(1), Wait(500), Bare(1), Wait(500), Bare(1)] {
        apply(&mut health, &mut now, step);
    }
    assert_eq!((health.health(), health.reason()), (Joining, Why::NoTrunk), "not Suspect: not yet");
    apply(&mut health, &mut now, Introduce(2));
    apply(&mut health, &mut now, Bare(2));
    assert_eq!(health.reason(), Why::Introduced, "a new lease counts anew");
}

#[test]
fn the_dead_join_again_when_heard() {
    let story = [Wait(3000), Tick, Beat(1), Wait(500), Beat(1)];
    let changes = [
        (Joining, Alive, Why::HeartbeatsSteady),
        (Alive, Suspect, Why::Silent),
        (Suspect, Dead, Why::Silent),
        (Dead, Joining, Why::HeardAgain),
        (Joining, Alive, Why::HeartbeatsSteady),
    ];
    check("dead, heard, steady", &story, &changes);
}

#[test]
fn a_silent_member_is_dead_in_under_three_seconds_with_slow_heartbeats_too() {
    for interval_ms in [500, 1000] {
        let heartbeat_interval = Duration::from_millis(interval_ms);
        let thresholds = Thresholds { heartbeat_interval, ..Thresholds::default() };
        let mut health = NodeHealth::new(thresholds, origin());
        health.handle_introduction(Lease(1), origin());
        let mut now = origin();
        for _ in 0..5 {
            health.handle_heartbeat(Lease(1), pulse(), now);
            now += heartbeat_interval;
        }
        assert_eq!(health.health(), Alive, "every {interval_ms} ms");
        let last = now - heartbeat_interval;
        while health.health() != Dead {
            let (at, _) = health.poll_timeout().expect("a living member has a deadline");
            health.handle_timeout(at);
            now = at;
        }
        assert!(now - last < Duration::from_secs(3), "{:?}", now - last);
    }
}

#[test]
fn the_deadline_names_its_reason() {
    let mut health = NodeHealth::new(Thresholds::default(), origin());
    let first = origin() + Duration::from_millis(1500);
    assert_eq!(health.poll_timeout(), Some((first, Due::Suspect)));
    health.handle_timeout(first);
    assert_eq!(health.poll_timeout(), Some((origin() + Duration::from_millis(2500), Due::Dead)));
}

/// Plays [`UP`] and then `steps`; `expected` is every change.
#[track_caller]
fn check(what: &str, steps: &[Step], expected: &[(Health, Health, HealthReason)]) {
    let mut now = origin();
    let mut health = NodeHealth::new(Thresholds::default(), now);
    for &step in UP.iter().chain(steps) {
        apply(&mut health, &mut now, step);
    }
    let changes: Vec<_> = std::iter::from_fn(|| health.poll_output())
        .map(|Changed { from, to, reason }| (from, to, reason))
        .collect();
    assert_eq!(changes, expected, "{what}");
}

fn apply(health: &mut NodeHealth, now: &mut Instant, step: Step) {
    match step {
        Introduce(lease) => health.handle_introduction(Lease(lease), *now),
        Beat(lease) => health.handle_heartbeat(Lease(lease), pulse(), *now),
        Bare(lease) => {
            let bare = Pulse { trunk: Trunk::Down, ..pulse() };
            health.handle_heartbeat(Lease(lease), bare, *now);
        }
        Closing(lease) => {
            let closing = Pulse { admission: Admission::Closed, ..pulse() };
            health.handle_heartbeat(Lease(lease), closing, *now);
        }
        Lost(lease) => health.handle_stream_lost(Lease(lease), *now),
        Gone(lease) => {
            let _ = health.handle_process_gone(Lease(lease), *now);
        }
        Drain(lease) => health.handle_drain(Lease(lease), *now),
        Wait(ms) => *now += Duration::from_millis(ms),
        Tick => health.handle_timeout(*now),
    }
}

fn pulse() -> Pulse {
    Pulse { admission: Admission::Open, trunk: Trunk::Up }
}

/// One fixed moment for all rows of a test.
fn origin() -> Instant {
    use std::sync::OnceLock;
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    *ORIGIN.get_or_init(antipode_runtime::clock::now)
}
