//! Tables, and a property: while the core is silent an attempt is never far.

use antipode_runtime::clock;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

use super::*;
use crate::dial::dialler::DIAL_PATIENCE;

/// The machine, and attempts that nobody answers.
struct Lab {
    redial: Redial,
    start: Instant,
    now: Instant,
    rng: StdRng,
    under_way: VecDeque<Instant>,
    began_ms: Vec<u128>,
}

impl Lab {
    fn new() -> Self {
        Self::of(Class::Chat)
    }

    fn of(class: Class) -> Self {
        let start = clock::now();
        let rng = StdRng::seed_from_u64(1);
        let (under_way, began_ms) = (VecDeque::new(), Vec::new());
        Self { redial: Redial::new(class, start), start, now: start, rng, under_way, began_ms }
    }

    fn drain(&mut self) {
        while let Some(output) = self.redial.poll_output() {
            match output {
                Output::Attempt => {
                    self.under_way.push_back(self.now);
                    self.began_ms.push((self.now - self.start).as_millis());
                }
                Output::CallOff => self.under_way.clear(),
            }
        }
        assert!(self.under_way.len() <= ATTEMPTS_MAX);
    }

    /// Lets time pass; attempts end as `failure` says.
    fn pass(&mut self, time: Duration, failure: Failure) {
        let until = self.now + time;
        while self.now <= until {
            let patience = if failure == Failure::Refused { Duration::ZERO } else { DIAL_PATIENCE };
            while self.under_way.front().is_some_and(|began| *began + patience <= self.now) {
                self.under_way.pop_front();
                self.redial.handle_failed(failure, self.now, &mut self.rng);
            }
            self.redial.handle_timeout(self.now);
            let due = self.redial.poll_timeout();
            assert!(due.is_none_or(|due| due > self.now), "it would spin");
            self.drain();
            self.now += Duration::from_millis(10);
        }
    }
}

#[test]
fn attempts_are_staggered_while_nothing_is_heard() {
    let mut lab = Lab::new();
    lab.pass(Duration::from_secs(60), Failure::Unanswered);
    assert_eq!(lab.began_ms[..4], [0, 300, 600, 900]);
    assert!(lab.began_ms.windows(2).all(|pair| pair[1] - pair[0] <= 310), "never a pause");
    lab.began_ms.clear();
    lab.pass(Duration::from_secs(100), Failure::Unanswered);
    lab.began_ms.clear();
    lab.pass(Duration::from_secs(10), Failure::Unanswered);
    assert_eq!(lab.began_ms.len(), 10, "a core that is off costs one attempt a second");
}

/// Its port may be blocked for ever, and chat is up.
#[test]
fn bulk_that_nobody_answers_is_tried_ever_more_rarely() {
    for failure in [Failure::Unanswered, Failure::Refused] {
        let mut lab = Lab::of(Class::Bulk);
        lab.pass(Duration::from_secs(30), failure);
        assert!((5..=30).contains(&lab.began_ms.len()), "{failure:?}: {:?}", lab.began_ms);
        lab.pass(Duration::from_secs(600), failure);
        lab.began_ms.clear();
        lab.pass(Duration::from_secs(3600), failure);
        assert!((50..=65).contains(&lab.began_ms.len()), "{failure:?}: {:?}", lab.began_ms);
        lab.redial.handle_reachable(lab.now);
        lab.began_ms.clear();
        lab.pass(Duration::from_secs(3), Failure::Unanswered);
        assert!(lab.began_ms.len() >= 3, "soon, once chat is heard again: {:?}", lab.began_ms);
    }
    let mut lab = Lab::of(Class::Bulk);
    let waits = (0..100).map(|_| {
        lab.redial.handle_up();
        lab.redial.handle_lost(Lost::Unproven, lab.now, &mut lab.rng);
        lab.redial.poll_timeout().unwrap() - lab.now
    });
    let longest = waits.max().unwrap();
    assert!(longest > BULK_GAP / 2, "a core that takes no lane on it: {longest:?}");
}

#[test]
fn refusals_are_backed_off_and_what_served_is_replaced_at_once() {
    let mut lab = Lab::new();
    lab.pass(Duration::from_secs(30), Failure::Refused);
    // Full jitter up to a second, and never sooner than the stagger.
    assert!((30..=60).contains(&lab.began_ms.len()), "{}", lab.began_ms.len());

    lab.redial.handle_up();
    lab.drain();
    lab.redial.handle_proven();
    assert_eq!(lab.redial.poll_timeout(), None, "carried");
    lab.redial.handle_lost(Lost::Proven, lab.now, &mut lab.rng);
    assert_eq!(lab.redial.poll_timeout(), Some(lab.now));
    lab.redial.handle_up();
    let waits: Vec<_> = (0..100)
        .map(|_| {
            lab.redial.handle_lost(Lost::Unproven, lab.now, &mut lab.rng);
            let due = lab.redial.poll_timeout().unwrap();
            lab.redial.handle_up();
            due - lab.now
        })
        .collect();
    assert!(waits.iter().any(|wait| *wait > Duration::from_millis(500)), "it backs off");
}

#[test]
fn silence_dials_and_only_a_voice_that_lasts_calls_it_off() {
    let mut lab = Lab::new();
    lab.redial.handle_up();
    lab.pass(Duration::from_secs(5), Failure::Unanswered);
    assert_eq!(lab.began_ms, [] as [u128; 0], "carried");
    let silent = lab.now;
    lab.redial.handle_silent(lab.now);
    lab.redial.handle_silent(lab.now);
    assert_eq!(lab.redial.poll_timeout(), Some(silent), "at once");
    lab.pass(Duration::from_millis(700), Failure::Unanswered);
    assert_eq!(lab.under_way.len(), 3);
    lab.redial.handle_heard(lab.now);
    lab.drain();
    assert_eq!((lab.under_way.len(), lab.redial.poll_timeout()), (3, None), "no more, no less");
    lab.redial.handle_silent(lab.now);
    assert!(lab.redial.poll_timeout().is_some(), "it was one word");
    lab.redial.handle_heard(lab.now);
    lab.pass(HEARD_FOR, Failure::Unanswered);
    assert_eq!(lab.under_way.len(), 3);
    lab.redial.handle_heard(lab.now);
    lab.drain();
    assert_eq!((lab.under_way.len(), lab.redial.poll_timeout()), (0, None));
    lab.redial.handle_heard(lab.now);
    assert_eq!(lab.redial.poll_output(), None, "nothing to call off");
    lab.redial.handle_silent(lab.now);
    lab.redial.handle_heard(lab.now);
    assert_eq!(lab.redial.poll_timeout(), None, "nothing had begun");
}

#[test]
fn a_silent_carrier_that_is_lost_changes_nothing() {
    let mut lab = Lab::new();
    lab.redial.handle_up();
    lab.redial.handle_silent(lab.now);
    lab.pass(Duration::from_millis(10), Failure::Unanswered);
    let due = lab.redial.poll_timeout();
    lab.redial.handle_lost(Lost::Proven, lab.now, &mut lab.rng);
    assert_eq!(lab.redial.poll_timeout(), due, "the attempts go on");
}

proptest! {
    #[test]
    fn whatever_happened_a_silent_core_is_dialled_soon(
        steps in prop::collection::vec(0..7_u8, 1..60),
    ) {
        let mut lab = Lab::new();
        for step in steps {
            match step {
                0 => lab.redial.handle_silent(lab.now),
                1 => lab.redial.handle_heard(lab.now),
                2 => lab.redial.handle_up(),
                3 => lab.redial.handle_lost(Lost::Proven, lab.now, &mut lab.rng),
                4 => lab.redial.handle_lost(Lost::Unproven, lab.now, &mut lab.rng),
                5 => lab.pass(Duration::from_millis(500), Failure::Unanswered),
                _ => lab.pass(Duration::from_millis(500), Failure::Refused),
            }
            lab.drain();
        }
        lab.redial.handle_silent(lab.now);
        lab.began_ms.clear();
        lab.pass(Duration::from_secs(10), Failure::Unanswered);
        // The longest wait is one refusal's, the shortest a stagger.
        prop_assert!(lab.began_ms.len() >= 25, "{:?}", lab.began_ms);
    }
}

/// A way that changes twice gets an attempt each time, and the carrier that is there keeps its
/// lanes until one is up, or for good.
#[test]
fn another_way_gets_one_attempt() {
    let mut lab = Lab::new();
    lab.redial.handle_timeout(lab.now);
    lab.redial.handle_up();
    lab.drain();
    lab.began_ms.clear();
    lab.redial.handle_way_changed(lab.now);
    lab.drain();
    lab.redial.handle_way_changed(lab.now);
    lab.drain();
    assert_eq!((lab.began_ms.len(), lab.under_way.len()), (2, 1), "the older one is called off");
    lab.pass(Duration::from_secs(10), Failure::Unanswered);
    assert_eq!(lab.began_ms.len(), 2, "nothing is wrong with the carrier that is there");
    assert!(!lab.redial.is_dialling());
    assert_eq!(lab.redial.under_way, 0);
}
