//! Copies that wait for their time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

/// What copies may wait, in bytes, all peers together; beyond, they are not made. 50 Mbit/s for the
/// 80 ms of a second copy are half a MiB.
pub const SHIELD_QUEUE_BYTES_MAX: usize = 4 << 20;

/// Buffers kept for reuse, and the largest worth keeping.
const SPARE_COUNT: usize = 256;
const SPARE_BYTES: usize = 4_096;

/// A run of datagrams that goes again, each `segment` long but the last. `T` says where to.
#[derive(Debug)]
pub(crate) struct Copy<T> {
    pub(crate) to: T,
    pub(crate) due: Instant,
    pub(crate) bytes: Vec<u8>,
    pub(crate) segment: usize,
    /// It goes once more so much later.
    pub(crate) again: Option<Duration>,
}

/// The queue: what is due first comes first.
#[derive(Debug)]
pub(crate) struct Delayed<T> {
    heap: BinaryHeap<Reverse<Waiting<T>>>,
    bytes: usize,
    bytes_max: usize,
    count: u64,
    spare: Vec<Vec<u8>>,
}

#[derive(Debug)]
struct Waiting<T> {
    number: u64,
    copy: Copy<T>,
}

impl<T> Delayed<T> {
    pub(crate) const fn new(bytes_max: usize) -> Self {
        Self { heap: BinaryHeap::new(), bytes: 0, bytes_max, count: 0, spare: Vec::new() }
    }

    /// When the next copy is due; moves with each [`Delayed::push`] and [`Delayed::pop`].
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(waiting)| waiting.copy.due)
    }

    /// An empty buffer, for a copy.
    pub(crate) fn buffer(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    /// Gives a buffer back.
    pub(crate) fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_COUNT && buffer.capacity() <= SPARE_BYTES {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// Whether so many bytes more may wait.
    pub(crate) const fn has_room(&self, bytes: usize) -> bool {
        bytes <= self.bytes_max - self.bytes
    }

    /// Lets a copy wait. Returns whether it is due before all others: then the driver has to be
    /// told.
    ///
    /// # Panics
    /// If there is no room, see [`Delayed::has_room`].
    pub(crate) fn push(&mut self, copy: Copy<T>) -> bool {
        assert!(self.has_room(copy.bytes.len()), "asked for room first");
        let is_first = self.next_due().is_none_or(|due| copy.due < due);
        self.bytes += copy.bytes.len();
        self.count += 1;
        self.heap.push(Reverse(Waiting { number: self.count, copy }));
        is_first
    }

    /// The next copy if it is due by `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Copy<T>> {
        if self.next_due()? > now {
            return None;
        }
        let Reverse(Waiting { copy, .. }) = self.heap.pop()?;
        self.bytes -= copy.bytes.len();
        Some(copy)
    }
}

impl<T> Waiting<T> {
    const fn order(&self) -> (Instant, u64) {
        (self.copy.due, self.number)
    }
}

impl<T> PartialEq for Waiting<T> {
    fn eq(&self, other: &Self) -> bool {
        self.order() == other.order()
    }
}

impl<T> Eq for Waiting<T> {}

impl<T> PartialOrd for Waiting<T> {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl<T> Ord for Waiting<T> {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.order().cmp(&other.order())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy(to: u8, due: Instant, len: usize) -> Copy<u8> {
        Copy { to, due, bytes: vec![to; len], segment: len, again: None }
    }

    #[test]
    fn the_first_due_comes_first_and_equals_in_order() {
        let (mut queue, start) = (Delayed::new(1000), crate::tunnel::now());
        let at = |ms| start + Duration::from_millis(ms);
        assert!(queue.push(copy(1, at(20), 1)), "the first of all");
        assert!(!queue.push(copy(2, at(20), 1)));
        assert!(!queue.push(copy(3, at(30), 1)));
        assert!(queue.push(copy(4, at(10), 1)), "before all others");
        assert!(queue.pop(at(9)).is_none());
        let mut pop = |ms| queue.pop(at(ms)).map(|copy| copy.to);
        assert_eq!((pop(10), pop(10)), (Some(4), None));
        assert_eq!((pop(25), pop(25), pop(25)), (Some(1), Some(2), None));
        assert_eq!(queue.next_due(), Some(at(30)));
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut queue, now) = (Delayed::new(100), crate::tunnel::now());
        queue.push(copy(1, now, 60));
        assert!(queue.has_room(40) && !queue.has_room(41));
        let gone = queue.pop(now).unwrap();
        assert!(queue.has_room(100));
        queue.recycle(gone.bytes);
        assert_eq!(queue.buffer().capacity(), 60);
        (0..2 * SPARE_COUNT).for_each(|_| queue.recycle(vec![0; 8]));
        assert_eq!(queue.spare.len(), SPARE_COUNT);
        queue.recycle(vec![0; 2 * SPARE_BYTES]);
        assert!(queue.spare.iter().all(|spare| spare.capacity() < SPARE_BYTES));
    }
}
