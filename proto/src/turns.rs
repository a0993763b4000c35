//! Whose turn it is on a lane: deficit round robin (Shreedhar and Varghese, SIGCOMM 1995).
//!
//! Each session in the round may put [`QUANTUM_BYTES`] on the lane, then the next one has its turn.
//! What a session overshoots is taken off its next turn, so that a session with large chunks gets
//! no more bytes than one with small ones.

use std::collections::VecDeque;

/// What one turn may carry, in bytes: one full chunk.
pub const QUANTUM_BYTES: i64 = 16 * 1024;

/// The sessions that have something to send, in the order of their turns.
#[derive(Debug)]
pub struct Turns<T> {
    round: VecDeque<Turn<T>>,
}

/// One session's turn.
#[derive(Debug, Eq, PartialEq)]
pub struct Turn<T> {
    /// Whose turn it is.
    pub session: T,
    /// What it may still send, in bytes; it stops once this is no longer positive.
    pub deficit: i64,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self { round: VecDeque::new() }
    }
}

impl<T> Turns<T> {
    /// Puts a session at the end of the round. The caller sees to it that it is not there already.
    pub fn enqueue(&mut self, session: T) {
        self.round.push_back(Turn { session, deficit: QUANTUM_BYTES });
    }

    /// Takes the next session for its turn. Changes after `enqueue` and `again`.
    #[must_use]
    pub fn next_turn(&mut self) -> Option<Turn<T>> {
        self.round.pop_front()
    }

    /// The session's turn is over and it has more to send.
    pub fn again(&mut self, turn: Turn<T>) {
        let deficit = (turn.deficit + QUANTUM_BYTES).min(QUANTUM_BYTES);
        self.round.push_back(Turn { session: turn.session, deficit });
    }

    /// Whether nobody has anything to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.round.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn large_chunks_get_no_more_bytes_than_small_ones() {
        let chunk = [40_000, 100, 7_000];
        let mut sent = [0_i64; 3];
        let mut turns = Turns::default();
        (0..3).for_each(|session| turns.enqueue(session));

        for _ in 0..3_000 {
            let mut turn = turns.next_turn().expect("all have something to send");
            while turn.deficit > 0 {
                turn.deficit -= chunk[turn.session];
                sent[turn.session] += chunk[turn.session];
            }
            turns.again(turn);
        }

        let (least, most) = (sent.iter().min().unwrap(), sent.iter().max().unwrap());
        assert!(most - least <= 2 * 40_000, "unfair: {sent:?}");
    }

    #[test]
    fn an_unspent_turn_is_not_saved_up() {
        let mut turns = Turns::default();
        turns.enqueue("idle");
        let turn = turns.next_turn().expect("just enqueued");
        turns.again(turn);
        assert_eq!(turns.next_turn(), Some(Turn { session: "idle", deficit: QUANTUM_BYTES }));
    }
}
