//! The resumable sessions of a core, found by their tokens. No clock, no socket: a session's time
//! is up when its own machine says so, and then it is taken off here.

use std::collections::BTreeMap;

use super::token::{SessionId, Token, TokenKey};

/// Sessions by number. `S` is what the caller keeps of each.
#[derive(Debug)]
pub struct Registry<S> {
    key: TokenKey,
    sessions: BTreeMap<SessionId, S>,
    places_taken: usize,
    places_max: usize,
}

/// Why a token finds no session.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotFound {
    /// This core has not signed it.
    #[error("this token was not made here")]
    BadToken,
    /// Signed here, but the session is over: its time was up, or it ended, or the core has been
    /// restarted since.
    #[error("the session is over")]
    Over,
}

impl<S> Registry<S> {
    /// A registry with room for `places_max` sessions.
    #[must_use]
    pub const fn new(key: TokenKey, places_max: usize) -> Self {
        Self { key, sessions: BTreeMap::new(), places_taken: 0, places_max }
    }

    /// Takes a place for a session to come. `false`: there is none.
    #[must_use]
    pub const fn take_place(&mut self) -> bool {
        let has_room = self.places_taken < self.places_max;
        if has_room {
            self.places_taken += 1;
        }
        has_room
    }

    /// The place of a session that had one in another process: it is not turned away here.
    pub const fn keep_place(&mut self) {
        self.places_taken += 1;
    }

    /// Gives back a place, after the session's [`Registry::remove`] if there was one.
    pub const fn give_back_place(&mut self) {
        self.places_taken = self.places_taken.saturating_sub(1);
    }

    /// Keeps a session under a number that nobody else has.
    pub fn insert(&mut self, id: SessionId, session: S) {
        let before = self.sessions.insert(id, session);
        debug_assert!(before.is_none(), "16 random bytes twice");
    }

    /// What the client of session `id` comes back with.
    #[must_use]
    pub fn token(&self, id: SessionId) -> Token {
        self.key.sign(id)
    }

    /// The session that a token is for.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn find(&self, token: &[u8]) -> Result<&S, NotFound> {
        let id = self.key.verify(token).ok_or(NotFound::BadToken)?;
        self.sessions.get(&id).ok_or(NotFound::Over)
    }

    /// The session is over.
    pub fn remove(&mut self, id: SessionId) -> Option<S> {
        self.sessions.remove(&id)
    }

    /// All sessions, by number.
    pub fn iter(&self) -> impl Iterator<Item = (SessionId, &S)> {
        self.sessions.iter().map(|(id, session)| (*id, session))
    }

    /// How many sessions there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sessions.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sessions.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resume::token::KEY_BYTES;

    #[test]
    fn a_token_finds_its_session_until_it_is_over() {
        let mut registry = Registry::new(TokenKey::new(&[1; KEY_BYTES]), 10);
        let (a, b) = (SessionId::new([1; 16]), SessionId::new([2; 16]));
        registry.insert(a, "a");
        registry.insert(b, "b");
        let (for_a, for_b) = (registry.token(a), registry.token(b));
        assert_eq!(registry.find(for_a.as_bytes()), Ok(&"a"));
        assert_eq!(registry.find(for_b.as_bytes()), Ok(&"b"));
        assert_eq!(registry.remove(a), Some("a"));
        assert_eq!(registry.find(for_a.as_bytes()), Err(NotFound::Over));
        assert_eq!(registry.len(), 1);

        let elsewhere = TokenKey::new(&[2; KEY_BYTES]).sign(b);
        assert_eq!(registry.find(elsewhere.as_bytes()), Err(NotFound::BadToken));
        assert_eq!(registry.find(b""), Err(NotFound::BadToken));
    }

    #[test]
    fn places_are_counted() {
        let mut registry: Registry<()> = Registry::new(TokenKey::new(&[1; KEY_BYTES]), 2);
        assert!(registry.take_place() && registry.take_place());
        assert!(!registry.take_place());
        registry.give_back_place();
        assert!(registry.take_place());
        assert!(!registry.take_place());
        registry.keep_place();
        registry.give_back_place();
        assert!(!registry.take_place(), "one more than there is room for");
        registry.give_back_place();
        assert!(registry.take_place());
    }
}
