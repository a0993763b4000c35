//! The node's side: payloads kept under their numbers, the newest of them.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use super::announce::{NAMED_BYTES_MAX, NAMED_COUNT_MAX};

/// What is kept of one trunk: four times what its core may name, so that a lane can be late by
/// three times as much as all others together bring in the meantime.
pub(crate) const KEPT_BYTES_MAX: usize = 4 * NAMED_BYTES_MAX;
pub(crate) const KEPT_COUNT_MAX: usize = 4 * NAMED_COUNT_MAX;

/// One trunk's kept payloads.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    by_number: HashMap<u64, Bytes>,
    /// Oldest first.
    order: VecDeque<u64>,
    bytes: usize,
}

impl Kept {
    /// A number keeps what it first meant.
    pub(crate) fn keep(&mut self, number: u64, payload: Bytes) {
        if payload.len() > KEPT_BYTES_MAX || self.by_number.contains_key(&number) {
            return;
        }
        while self.order.len() >= KEPT_COUNT_MAX || self.bytes + payload.len() > KEPT_BYTES_MAX {
            let oldest = self.order.pop_front().and_then(|oldest| self.by_number.remove(&oldest));
            self.bytes -= oldest.map_or(0, |oldest| oldest.len());
        }
        self.bytes += payload.len();
        self.order.push_back(number);
        self.by_number.insert(number, payload);
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Bytes> {
        self.by_number.get(&number)
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_are_kept() {
        let mut kept = Kept::default();
        let large = Bytes::from(vec![0; 16 * 1024]);
        for number in 0..1000 {
            kept.keep(number, large.clone());
        }
        assert!(kept.bytes <= KEPT_BYTES_MAX && kept.get(743).is_none());
        assert_eq!(kept.get(744), Some(&large));
        for number in 1000..100_000 {
            kept.keep(number, Bytes::from_static(b"small"));
        }
        assert_eq!((kept.order.len(), kept.by_number.len()), (KEPT_COUNT_MAX, KEPT_COUNT_MAX));
        assert_eq!(kept.bytes, 5 * KEPT_COUNT_MAX);
    }

    #[test]
    fn a_number_keeps_its_meaning_and_nothing_is_too_large() {
        let mut kept = Kept::default();
        kept.keep(7, Bytes::from_static(b"first"));
        kept.keep(7, Bytes::from_static(b"second"));
        assert_eq!(kept.get(7), Some(&Bytes::from_static(b"first")));
        kept.keep(8, Bytes::from(vec![0; KEPT_BYTES_MAX + 1]));
        assert_eq!((kept.get(8), kept.bytes), (None, 5));
        kept.clear();
        assert_eq!(kept.get(7), None);
    }
}
