//! The frames under way, by the time that they arrive.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Instant;

/// More than 10 Gbit/s for a second hold.
const BYTES_MAX: usize = 1 << 30;
/// Emptied buffers that are kept for the next frames.
const SPARE_MAX: usize = 4096;

/// Frames under way; those of one time in the order that they came in.
#[derive(Debug, Default)]
pub struct Flight {
    heap: BinaryHeap<Underway>,
    serial: u64,
    bytes: usize,
    spare: Vec<Vec<u8>>,
}

/// A frame under way.
#[derive(Debug, Eq, PartialEq)]
struct Underway {
    at: Instant,
    serial: u64,
    frame: Vec<u8>,
}

impl Ord for Underway {
    /// The greatest is the first to arrive.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl PartialOrd for Underway {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Flight {
    /// Sends a frame on its way; false if too much is under way already.
    #[must_use]
    pub fn depart(&mut self, frame: &[u8], at: Instant) -> bool {
        if self.bytes + frame.len() > BYTES_MAX {
            return false;
        }
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(frame);
        self.bytes += frame.len();
        self.heap.push(Underway { at, serial: self.serial, frame: buffer });
        self.serial += 1;
        true
    }

    /// The next frame that has arrived at `now`, and when it did.
    #[must_use]
    pub fn arrive(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        if self.heap.peek()?.at > now {
            return None;
        }
        let Underway { at, frame, .. } = self.heap.pop()?;
        self.bytes -= frame.len();
        Some((at, frame))
    }

    /// Takes back a frame's buffer.
    pub fn recycle(&mut self, mut buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }

    /// When the next one arrives.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|underway| underway.at)
    }

    /// How many are under way.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, reason = "only differences count")]
    fn frames_arrive_in_time_and_in_order() {
        let (mut flight, start) = (Flight::default(), Instant::now());
        let ms = |number| start + Duration::from_millis(number);
        for (frame, at) in [(b"c", 7), (b"a", 5), (b"b", 5), (b"d", 9)] {
            assert!(flight.depart(frame, ms(at)));
        }
        assert_eq!(flight.arrive(ms(4)), None);
        assert_eq!(flight.next(), Some(ms(5)));
        for (frame, at) in [(b"a", 5), (b"b", 5), (b"c", 7)] {
            assert_eq!(flight.arrive(ms(8)), Some((ms(at), frame.to_vec())));
        }
        assert_eq!(flight.arrive(ms(8)), None);
        assert_eq!((flight.len(), flight.bytes), (1, 1));

        for frame in 0..100 {
            flight.recycle(vec![frame; 3]);
            assert!(flight.depart(&[frame], ms(20)));
        }
        assert_eq!(flight.arrive(ms(20)), Some((ms(9), b"d".to_vec())));
        for frame in 0..100 {
            assert_eq!(flight.arrive(ms(20)), Some((ms(20), vec![frame])));
        }
        assert!(flight.is_empty());
    }
}
