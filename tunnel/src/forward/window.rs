//! Which counters of a sender came already.

/// Counters behind the newest that are still told apart: as far as WireGuard's own window in
/// boringtun, since what is reordered beyond it is of no use to the core either.
pub(crate) const WINDOW_COUNTERS: u64 = 1024;

const WORDS: usize = (WINDOW_COUNTERS / 64) as usize;

/// Takes each counter once, and none that is too old to tell ([RFC 6479]'s idea, a ring of bits).
///
/// [RFC 6479]: https://www.rfc-editor.org/rfc/rfc6479
#[derive(Clone, Debug, Default)]
pub(crate) struct Window {
    /// One more than the highest counter taken; 0: none was.
    next: u64,
    bits: [u64; WORDS],
}

/// How a counter stands to those before it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Fresh {
    /// Higher than all before.
    Newest,
    /// Late, and not seen before.
    Late,
}

impl Window {
    /// Takes `counter`; `None` if it came before, or is too old to tell.
    pub(crate) fn take(&mut self, counter: u64) -> Option<Fresh> {
        if counter == u64::MAX {
            return None;
        }
        if counter >= self.next {
            let ahead = counter - self.next;
            if ahead >= WINDOW_COUNTERS {
                self.bits = [0; WORDS];
            } else {
                (self.next..counter).for_each(|passed| self.clear(passed));
            }
            self.next = counter + 1;
            self.set(counter);
            return Some(Fresh::Newest);
        }
        if self.next - counter > WINDOW_COUNTERS || self.has(counter) {
            return None;
        }
        self.set(counter);
        Some(Fresh::Late)
    }

    fn has(&self, counter: u64) -> bool {
        self.bits[word(counter)] & bit(counter) != 0
    }

    fn set(&mut self, counter: u64) {
        self.bits[word(counter)] |= bit(counter);
    }

    fn clear(&mut self, counter: u64) {
        self.bits[word(counter)] &= !bit(counter);
    }
}

fn word(counter: u64) -> usize {
    usize::try_from(counter % WINDOW_COUNTERS / 64).expect("less than the words of a window")
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_counter_once_and_none_that_is_too_old() {
        let mut window = Window::default();
        assert_eq!(window.take(5000), Some(Fresh::Newest), "the first may be any");
        assert_eq!(window.take(5000), None);
        assert_eq!(window.take(4999), Some(Fresh::Late));
        assert_eq!(window.take(4999), None);
        assert_eq!(window.take(5000 - WINDOW_COUNTERS + 1), Some(Fresh::Late), "the oldest");
        assert_eq!(window.take(5000 - WINDOW_COUNTERS), None, "one beyond");
        assert_eq!(window.take(u64::MAX), None, "nothing could follow it");
        assert_eq!(window.take(u64::MAX - 1), Some(Fresh::Newest));
    }

    proptest! {
        /// Against a model that remembers everything.
        #[test]
        fn a_window_agrees_with_a_set(steps in prop::collection::vec(
            prop_oneof![4 => -2000i64..2000, 1 => -10i64..10, 1 => 5000i64..90_000], 1..300,
        )) {
            let (mut window, mut seen) = (Window::default(), BTreeSet::new());
            let mut at = 1_000_000i64;
            for step in steps {
                let counter = u64::try_from(at + step).unwrap();
                let newest = seen.last().copied();
                let expected = match newest {
                    Some(newest) if newest >= WINDOW_COUNTERS + counter => None,
                    Some(_) if seen.contains(&counter) => None,
                    Some(newest) if counter < newest => Some(Fresh::Late),
                    Some(_) | None => Some(Fresh::Newest),
                };
                prop_assert_eq!(window.take(counter), expected, "{} after {:?}", counter, newest);
                if expected.is_some() {
                    seen.insert(counter);
                }
                at = at.max(at + step);
            }
        }
    }
}
