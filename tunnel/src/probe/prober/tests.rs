//! Two ends that probe one another.

use super::*;

const IN_USE: Asking = Asking { full: false, in_use: true };
const OTHER: Asking = Asking { full: true, in_use: false };

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

fn way(port: u16) -> Way {
    Way::from(std::net::SocketAddr::from(([192, 0, 2, 1], port)))
}

fn pair() -> (Prober, Prober, Instant) {
    let now = crate::tunnel::now();
    (Prober::new(1_000, now), Prober::new(5, now), now)
}

fn counts(sent: u64, arrived: u64) -> Counts {
    Counts { sent, arrived, burst_in: ms(6) }
}

#[test]
fn an_echo_tells_the_round_trip_once() {
    let (mut ours, mut theirs, now) = pair();
    let probe = ours.ask(way(1), OTHER, Counts::default(), now);
    let (echo, _) = theirs.answer(&probe, Counts::default(), now + ms(90)).unwrap();
    let echo = Probe { held_us: 10_000, ..echo };
    let heard = Heard::Echo { way: way(1), rtt: ms(190), full: true, in_use: false };
    assert_eq!(ours.handle_echo(&echo, Counts::default(), now + ms(200)), Ok(heard));
    let again = ours.handle_echo(&echo, Counts::default(), now + ms(201));
    assert_eq!(again, Err(ProbeOutcome::Stale));
    assert!(!ours.quality(now).is_measured, "another way's round trip is not that of the link");
}

#[test]
fn a_link_is_measured_from_both_ends_counts() {
    let (mut ours, mut theirs, start) = pair();
    let mut now = start;
    for i in 0..21 {
        now = start + ms(250) * u32::try_from(i).unwrap();
        let probe = ours.ask(way(1), IN_USE, counts(i * 200, 0), now);
        let (echo, _) = theirs.answer(&probe, counts(i * 100, i * 190), now + ms(50)).unwrap();
        now += ms(100);
        ours.handle_echo(&echo, counts(i * 200 + 20, i * 99), now).unwrap();
    }
    let quality = ours.quality(now);
    assert_eq!((quality.rtt, quality.rtt_min), (ms(100), ms(100)));
    assert!((quality.loss_out - 0.05).abs() < 1e-3, "{quality:?}");
    assert!((quality.loss_in - 0.01).abs() < 1e-3, "{quality:?}");
    assert!((quality.packets_out_per_s - 800.0).abs() < 20.0, "{quality:?}");
    assert_eq!((quality.burst_out, quality.burst_in), (ms(6), ms(6)));
}

#[test]
fn another_way_begins_anew() {
    let (mut ours, mut theirs, now) = pair();
    let mut exchange = |port, asking, answer_after: u64| {
        let probe = ours.ask(way(port), asking, counts(0, 0), now);
        let (echo, _) = theirs.answer(&probe, counts(0, 0), now).unwrap();
        ours.handle_echo(&echo, counts(0, 0), now + ms(answer_after)).unwrap();
        ours.quality(now).rtt
    };
    assert_eq!(exchange(1, IN_USE, 100), ms(100));
    assert_eq!(exchange(2, OTHER, 50), ms(100), "only asked about");
    assert_eq!(exchange(2, IN_USE, 50), ms(50));
    assert_eq!(exchange(1, OTHER, 100), ms(50));
}

/// The way had changed while the echo was on its way: its figures are the old way's.
#[test]
fn a_late_echo_of_the_way_before_is_left_out() {
    let (mut ours, mut theirs, now) = pair();
    let old = ours.ask(way(1), IN_USE, counts(0, 0), now);
    let (echo, _) = theirs.answer(&old, counts(0, 0), now).unwrap();
    ours.ask(way(2), IN_USE, counts(0, 0), now);
    assert!(ours.handle_echo(&echo, counts(0, 0), now + ms(100)).is_ok());
    assert!(!ours.quality(now).is_measured);
}

#[test]
fn an_overtaken_echo_does_not_turn_counts_back() {
    let (mut ours, mut theirs, now) = pair();
    let mut asked = [0u64, 1_000, 2_000].map(|sent| {
        let probe = ours.ask(way(1), IN_USE, counts(sent, 0), now);
        theirs.answer(&probe, counts(0, sent * 9 / 10), now).unwrap().0
    });
    asked.swap(1, 2);
    for echo in asked {
        ours.handle_echo(&echo, counts(0, 0), now + ms(100)).unwrap();
    }
    assert!((ours.quality(now).loss_out - 0.1).abs() < 1e-3, "{:?}", ours.quality(now));
}

#[test]
fn a_probe_is_answered_once_and_a_peer_only_so_often() {
    let (mut ours, mut theirs, now) = pair();
    let probe = ours.ask(way(1), IN_USE, counts(0, 0), now);
    assert!(theirs.answer(&probe, counts(0, 0), now).is_ok());
    assert_eq!(theirs.answer(&probe, counts(0, 0), now), Err(ProbeOutcome::Repeated));
    let mut asked = |now| {
        let probe = ours.ask(way(1), IN_USE, counts(0, 0), now);
        theirs.answer(&probe, counts(0, 0), now)
    };
    let answered = (0..200).filter(|_| asked(now).is_ok()).count();
    assert_eq!(answered, usize::try_from(ECHOES_PER_SECOND_MAX).unwrap() - 1);
    assert_eq!(asked(now), Err(ProbeOutcome::Limited));
    let later = now + ms(500);
    let answered = (0..200).filter(|_| asked(later).is_ok()).count();
    assert_eq!(answered, usize::try_from(ECHOES_PER_SECOND_MAX).unwrap() / 2);
    let much_later = now + ms(60_000);
    let answered = (0..200).filter(|_| asked(much_later).is_ok()).count();
    assert_eq!(answered, usize::try_from(ECHOES_PER_SECOND_MAX).unwrap());
}

/// What is left of a part of a second is not thrown away.
#[test]
fn who_asks_a_little_too_often_is_answered_as_often_as_may_be() {
    let (mut ours, mut theirs, start) = pair();
    let mut answered = 0u32;
    for step in 0..1_000u32 {
        let now = start + ms(10) * step;
        let probe = ours.ask(way(1), IN_USE, counts(0, 0), now);
        answered += u32::from(theirs.answer(&probe, counts(0, 0), now).is_ok());
    }
    let expected = ECHOES_PER_SECOND_MAX * 11;
    assert!(answered.abs_diff(expected) <= 2, "{answered} of about {expected}");
}

#[test]
fn reordering_follows_jitter_within_bounds() {
    let (mut ours, mut theirs, start) = pair();
    assert_eq!(ours.reordering(), ms(2));
    for i in 0..100 {
        let now = start + ms(250 * i);
        let probe = ours.ask(way(1), IN_USE, counts(0, 0), now);
        let (echo, _) = theirs.answer(&probe, counts(0, 0), now).unwrap();
        let rtt = if i % 2 == 0 { ms(10) } else { ms(200) };
        ours.handle_echo(&echo, counts(0, 0), now + rtt).unwrap();
    }
    assert_eq!(ours.reordering(), ms(30));
}

#[test]
fn figures_are_shown_once_a_second() {
    let (mut ours, _, start) = pair();
    let shown = (0..40u32).filter(|tick| ours.is_to_be_shown(start + ms(250) * *tick)).count();
    assert_eq!(shown, 10);
}

#[test]
fn only_the_newest_word_of_the_way_in_use_counts() {
    let (mut ours, mut theirs, now) = pair();
    let mut asked = |port, asking| ours.ask(way(port), asking, counts(0, 0), now);
    let [first, second, third] = [asked(1, IN_USE), asked(2, IN_USE), asked(3, OTHER)];
    let mut is_used = |probe| theirs.answer(&probe, counts(0, 0), now).unwrap().1;
    assert!(!is_used(third));
    assert!(is_used(second), "a newer one that only asks says nothing");
    assert!(!is_used(first), "it was overtaken");
}

#[test]
fn a_silent_peer_is_asked_less_often() {
    let (mut ours, mut theirs, start) = pair();
    let mut asked = Vec::new();
    for tick in 0..120u32 {
        let now = start + ms(250) * tick;
        if ours.is_due(now) {
            asked.push(ours.ask(way(1), IN_USE, counts(0, 0), now));
        }
    }
    assert_eq!(asked.len(), 20 + 5, "5 s of four a second, then every 5 s");
    let now = start + ms(250) * 120;
    let late = ours.ask(way(1), IN_USE, counts(0, 0), now);
    let (echo, _) = theirs.answer(&late, counts(0, 0), now).unwrap();
    ours.handle_echo(&echo, counts(0, 0), now).unwrap();
    assert!(!ours.is_due(now + ms(150)) && ours.is_due(now + ms(200)));
}

#[test]
fn memory_is_bounded() {
    let (mut ours, _, now) = pair();
    (0..10_000).for_each(|_| _ = ours.ask(way(1), IN_USE, counts(0, 0), now));
    assert!(ours.outstanding.len() <= OUTSTANDING_MAX);
    ours.ask(way(1), IN_USE, counts(0, 0), now + OUTSTANDING_AGE_MAX + ms(1));
    assert_eq!(ours.outstanding.len(), 1);
}
