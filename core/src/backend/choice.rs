//! Which backend takes a session: a pure function, whose answer carries its reason.

use sha2::{Digest, Sha256};

/// A backend as the choice sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Candidate<'a> {
    /// Stable and opaque; what cookies carry and hashes mix in.
    pub(crate) id: &'a str,
    pub(crate) healthy: bool,
    pub(crate) sessions: usize,
    /// This session could not reach it already.
    pub(crate) tried: bool,
}

/// What the client brings that ties it to a backend.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Tie<'a> {
    None,
    /// A cookie of ours names the backend; `key` decides if that one is gone.
    Named {
        id: &'a str,
        key: &'a [u8],
    },
    /// The same key goes to the same backend.
    Hashed {
        key: &'a [u8],
    },
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Choice {
    pub(crate) index: usize,
    pub(crate) reason: Reason,
    /// No backend was healthy, so all of them count as healthy.
    pub(crate) open: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reason {
    LeastSessions,
    Cookie,
    Hash,
}

impl Reason {
    /// `reason` of `antipode_core_backend_choices_total`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::LeastSessions => "least_sessions",
            Self::Cookie => "cookie",
            Self::Hash => "hash",
        }
    }
}

/// Chooses among the healthy, or among all where none is; `None` once every one has been tried.
///
/// `turn` grows with each choice, so that a tie of least sessions goes round.
pub(crate) fn choose(candidates: &[Candidate<'_>], tie: Tie<'_>, turn: usize) -> Option<Choice> {
    let open = !candidates.iter().any(|candidate| candidate.healthy && !candidate.tried);
    let usable = |candidate: &Candidate<'_>| !candidate.tried && (open || candidate.healthy);
    let mut usable_indexes = (0..candidates.len()).filter(|&index| usable(&candidates[index]));

    let (index, reason) = match tie {
        Tie::Named { id, .. } if candidates.iter().any(|c| usable(c) && c.id == id) => {
            (usable_indexes.find(|&index| candidates[index].id == id), Reason::Cookie)
        }
        Tie::Named { key, .. } | Tie::Hashed { key } => {
            (usable_indexes.max_by_key(|&index| weight(key, candidates[index].id)), Reason::Hash)
        }
        Tie::None => {
            let count = candidates.len();
            let from_turn = |index: usize| (index + count - turn % count) % count;
            let least =
                usable_indexes.min_by_key(|&index| (candidates[index].sessions, from_turn(index)));
            (least, Reason::LeastSessions)
        }
    };
    index.map(|index| Choice { index, reason, open })
}

/// Rendezvous hashing: a backend that goes or comes moves only its own keys.
fn weight(key: &[u8], id: &str) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(id.as_bytes());
    hash.update([0]);
    hash.update(key);
    hash.finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    const UP: Candidate<'_> = Candidate { id: "", healthy: true, sessions: 0, tried: false };

    #[test]
    fn choices() {
        let hash = Tie::Hashed { key: b"203.0.113.9" };
        let named = |id| Tie::Named { id, key: b"203.0.113.9" };
        check("least sessions", &[up("a", 3), up("b", 2)], Tie::None, Some((1, false)));
        check("the unhealthy are left out", &[down("a"), up("b", 9)], Tie::None, Some((1, false)));
        check("all down: all are open", &[down("a"), down("b")], Tie::None, Some((0, true)));
        check("the tried are left out", &[tried("a"), up("b", 9)], Tie::None, Some((1, false)));
        check("a healthy one is tried: open", &[tried("a"), down("b")], Tie::None, Some((1, true)));
        check("all tried", &[tried("a"), tried("b")], Tie::None, None);
        check("none at all", &[], Tie::None, None);
        check("a cookie", &[up("a", 0), up("b", 9)], named("b"), Some((1, false)));
        check("a cookie's backend is down", &[up("a", 0), down("b")], named("b"), Some((0, false)));
        check("an unknown cookie", &[up("a", 0)], named("x"), Some((0, false)));
        check("a hash, with one down", &[down("a"), up("b", 9)], hash, Some((1, false)));
    }

    #[test]
    fn equals_take_turns() {
        let backends = [up("a", 1), up("b", 1), up("c", 1)];
        let taken: Vec<_> =
            (0..4).map(|turn| choose(&backends, Tie::None, turn).unwrap().index).collect();
        assert_eq!(taken, [0, 1, 2, 0]);
    }

    #[test]
    fn a_backend_that_goes_moves_only_its_own_keys() {
        let all = [up("a", 0), up("b", 0), up("c", 0)];
        let without_b = [up("a", 0), down("b"), up("c", 0)];
        let mut counts = [0_usize; 3];
        for client in 0..3000_u32 {
            let key = client.to_be_bytes();
            let tie = Tie::Hashed { key: &key };
            let before = choose(&all, tie, 0).unwrap().index;
            let after = choose(&without_b, tie, 7).unwrap().index;
            counts[before] += 1;
            assert!(before == 1 || before == after);
            assert_ne!(after, 1);
        }
        assert!(counts.iter().all(|&count| count > 900), "{counts:?}");
    }

    #[track_caller]
    fn check(
        what: &str,
        candidates: &[Candidate<'_>],
        tie: Tie<'_>,
        expected: Option<(usize, bool)>,
    ) {
        let choice = choose(candidates, tie, 0);
        assert_eq!(choice.map(|choice| (choice.index, choice.open)), expected, "{what}");
    }

    fn up(id: &str, sessions: usize) -> Candidate<'_> {
        Candidate { id, sessions, ..UP }
    }

    fn down(id: &str) -> Candidate<'_> {
        Candidate { id, healthy: false, ..UP }
    }

    fn tried(id: &str) -> Candidate<'_> {
        Candidate { id, tried: true, ..UP }
    }
}
