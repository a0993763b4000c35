//! Which numbers came before: the last 128 one by one, and whatever is older.

/// Numbers that may still come late.
const WINDOW: u64 = 128;

/// Numbers that grow, and may be overtaken or repeated on their way.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    newest: Option<u64>,
    /// Bit n: the newest less n.
    before: u128,
}

impl Seen {
    /// Notes a number; whether it may be the first time that it came.
    pub(crate) fn is_new(&mut self, number: u64) -> bool {
        let Some(newest) = self.newest else {
            (self.newest, self.before) = (Some(number), 1);
            return true;
        };
        if number > newest {
            let ahead = u32::try_from(number - newest).unwrap_or(u32::MAX);
            self.before = self.before.checked_shl(ahead).unwrap_or(0) | 1;
            self.newest = Some(number);
            return true;
        }
        let behind = newest - number;
        if behind >= WINDOW {
            return false;
        }
        let bit = 1u128 << behind;
        let is_new = self.before & bit == 0;
        self.before |= bit;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_is_a_set_with_a_horizon(numbers in proptest::collection::vec(0u64..400, 0..300)) {
            let (mut seen, mut all) = (Seen::default(), BTreeSet::new());
            for number in numbers {
                let newest = all.last().copied().unwrap_or(0);
                let expected = number + WINDOW > newest && !all.contains(&number);
                prop_assert_eq!(seen.is_new(number), expected);
                all.insert(number);
            }
        }
    }

    #[test]
    fn ends_of_the_range() {
        let mut seen = Seen::default();
        assert!(seen.is_new(0) && seen.is_new(u64::MAX) && !seen.is_new(u64::MAX));
        assert!(seen.is_new(u64::MAX - 127) && !seen.is_new(u64::MAX - 128));
    }
}
