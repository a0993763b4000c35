//! Tests of the link's machine.
#![allow(clippy::disallowed_methods, reason = "only differences count")]

use super::*;

const PACKET: Shape = Shape { kind: Kind::Udp(None), ip_bytes: 1000 };
const MS: Duration = Duration::from_millis(1);

fn link(change: impl FnOnce(&mut Conditions)) -> Link {
    let mut conditions = Conditions::default();
    change(&mut conditions);
    let mut link = Link::new(7);
    link.set(conditions);
    link
}

/// How long each of `count` packets was under way that came `every` so often; none: lost.
fn play(link: &mut Link, count: u32, every: Duration) -> Vec<Option<Duration>> {
    let start = Instant::now();
    let one = |number| {
        let now = start + every * number;
        match link.handle_frame(&PACKET, now) {
            Fate::Arrives { at, .. } => Some(at - now),
            Fate::Lost(_) => None,
        }
    };
    (0..count).map(one).collect()
}

fn lost(fates: &[Option<Duration>]) -> usize {
    fates.iter().filter(|fate| fate.is_none()).count()
}

#[test]
fn nothing_happens_by_default() {
    assert!(play(&mut link(|_| ()), 100, MS).iter().all(|way| *way == Some(Duration::ZERO)));
}

#[test]
fn delay_and_jitter() {
    let mut link = link(|to| (to.delay_ms, to.jitter_ms) = (100.0, 20.0));
    let ways: Vec<_> = play(&mut link, 10_000, MS).into_iter().flatten().collect();
    let (least, most) = (ways.iter().min().unwrap(), ways.iter().max().unwrap());
    assert!((100 * MS..101 * MS).contains(least), "{least:?}");
    assert!((119 * MS..=120 * MS).contains(most), "{most:?}");
    let mean = ways.iter().sum::<Duration>() / 10_000;
    assert!((109 * MS..111 * MS).contains(&mean), "{mean:?}");
}

#[test]
fn order_is_kept_if_asked() {
    let arrivals = |keep_order| {
        let mut link = link(|to| (to.jitter_ms, to.keep_order) = (20.0, keep_order));
        let ways = play(&mut link, 1000, MS).into_iter().flatten();
        ways.zip(0..).map(|(way, number)| MS * number + way).collect::<Vec<_>>()
    };
    assert!(arrivals(true).is_sorted());
    assert!(!arrivals(false).is_sorted());
}

#[test]
fn loss_is_as_asked_and_the_same_for_the_same_seed() {
    let fates = play(&mut link(|to| to.loss = 0.03), 100_000, MS);
    assert!((2_800..3_200).contains(&lost(&fates)), "{}", lost(&fates));
    assert_eq!(fates, play(&mut link(|to| to.loss = 0.03), 100_000, MS));
}

#[test]
fn bursts_lose_all_for_a_while() {
    let mut link = link(|to| to.burst = super::super::Burst { loss: 0.1, mean_ms: 50.0 });
    let fates = play(&mut link, 100_000, MS);
    assert!((8_000..12_000).contains(&lost(&fates)), "{}", lost(&fates));
    let pairs = fates.windows(2).filter(|pair| pair[0].is_none() && pair[1].is_none()).count();
    assert!(pairs * 10 > lost(&fates) * 9, "{pairs} of {}", lost(&fates));
    assert_eq!(link.counters.lost.keys().collect::<Vec<_>>(), [&Cause::Burst]);
}

/// 8 Mbit/s is 1,000 bytes a millisecond.
#[test]
fn a_bottleneck_lets_so_much_through() {
    let full = || link(|to| (to.rate_mbit, to.queue_bytes) = (8.0, 10_000));
    assert_eq!(play(&mut full(), 3, MS), [Some(MS); 3], "as fast as they come");
    let mut slow = full();
    let fates = play(&mut slow, 1000, MS / 2);
    assert_eq!(fates[0], Some(MS));
    let ways: Vec<_> = fates.iter().flatten().collect();
    assert!((499..=520).contains(&ways.len()), "{}", ways.len());
    assert!(ways.iter().all(|way| **way <= 10 * MS + MS / 1000), "{:?}", ways.iter().max());
    assert!((9_000..=10_000).contains(&slow.counters.queue_bytes_max));
    assert_eq!(slow.counters.lost[&Cause::QueueFull], 1000 - ways.len() as u64);
}

#[test]
fn a_bottleneck_that_is_free_takes_any_packet() {
    let mut slow = link(|to| (to.rate_mbit, to.queue_bytes) = (8.0, 10));
    assert_eq!(play(&mut slow, 3, 2 * MS), [Some(MS); 3]);
}

#[test]
fn some_are_held_back() {
    let mut link = link(|to| (to.reorder, to.reorder_ms) = (0.1, 5.0));
    let ways: Vec<_> = play(&mut link, 10_000, MS).into_iter().flatten().collect();
    let held = ways.iter().filter(|way| **way == 5 * MS).count();
    assert!((900..1100).contains(&held), "{held}");
    assert_eq!(link.counters.held_back, held as u64);
    assert_eq!(ways.iter().filter(|way| way.is_zero()).count(), 10_000 - held);
}

#[test]
fn some_arrive_twice() {
    let mut link = link(|to| (to.duplicate, to.jitter_ms) = (0.1, 10.0));
    let start = Instant::now();
    let fates = (0..10_000).map(|_| link.handle_frame(&PACKET, start));
    let copies = fates.filter_map(|fate| match fate {
        Fate::Arrives { at, again } => again.map(|again| (at - start, again - start)),
        Fate::Lost(_) => None,
    });
    let copies: Vec<_> = copies.collect();
    assert!((900..1100).contains(&copies.len()), "{}", copies.len());
    assert_eq!(link.counters.duplicated, copies.len() as u64);
    let earlier = copies.iter().filter(|(at, again)| again < at).count();
    assert!((400..600).contains(&earlier), "each has its own jitter: {earlier}");
}

#[test]
fn too_big_blocked_and_cut() {
    let now = Instant::now();
    #[track_caller]
    fn check(mut link: Link, shape: Shape, cause: Option<Cause>, now: Instant) {
        let lost = match link.handle_frame(&shape, now) {
            Fate::Lost(cause) => Some(cause),
            Fate::Arrives { .. } => None,
        };
        assert_eq!(lost, cause);
        assert_eq!(link.counters.lost.keys().copied().next(), cause);
    }
    let other = Shape { kind: Kind::Other, ..PACKET };
    let wire = Shape { kind: Kind::Wire, ..PACKET };
    check(link(|to| to.mtu = 999), PACKET, Some(Cause::TooBig), now);
    check(link(|to| to.mtu = 1000), PACKET, None, now);
    check(link(|to| to.block_udp = true), PACKET, Some(Cause::UdpBlocked), now);
    check(link(|to| to.block_udp = true), other, None, now);
    check(link(|to| to.cut = true), other, Some(Cause::Cut), now);
    check(link(|to| to.cut = true), wire, None, now);
    check(link(|to| to.loss = 1.0), wire, None, now);
}

#[test]
fn a_new_rate_counts_for_what_waits() {
    let mut slow = link(|to| (to.rate_mbit, to.queue_bytes) = (8.0, 100_000));
    let now = Instant::now();
    for _ in 0..10 {
        slow.handle_frame(&PACKET, now);
    }
    slow.set(Conditions { rate_mbit: 16.0, ..slow.conditions().clone() });
    let Fate::Arrives { at, .. } = slow.handle_frame(&PACKET, now) else { panic!("lost") };
    assert_eq!(at - now, MS * 11 / 2);
}
