//! What must be true once everything is calm and nothing is under way any more.

use super::{BACKEND_CODE, BackendEnd, CLIENT_CODE, ClientEnd, Model, Talk, is_all};
use crate::event::Ms;
use crate::plan::Closer;

impl Model {
    /// Whether nobody waits for anything any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        let sockets_ended = |talk: &Talk| talk.backend.values().all(|side| side.end.is_some());
        self.talks.iter().all(|talk| talk.client_end.is_some() && sockets_ended(talk))
    }

    /// Checks the end of every talk.
    pub fn check_finally(&mut self, at: Ms) {
        for number in 0..self.talks.len() {
            if let Err(what) = self.talks[number].check_finally() {
                let number = u16::try_from(number).ok();
                self.fail(at, number, what);
            }
        }
    }

    /// What somebody still waits for.
    #[must_use]
    pub fn waiting(&self) -> Option<(u16, String)> {
        self.talks.iter().zip(0..).find_map(|(talk, number)| {
            let open = talk.backend.iter().find(|(_, side)| side.end.is_none());
            match (&talk.client_end, open) {
                (None, _) => Some((number, "the client never sees an end".to_owned())),
                (_, Some((attempt, _))) => {
                    Some((number, format!("the backend's socket {attempt} never ends")))
                }
                _ => None,
            }
        })
    }
}

impl Talk {
    fn check_finally(&self) -> Result<(), String> {
        if self.excuse.is_some() {
            return Ok(());
        }
        let side = self.live().ok_or("it never came about")?;
        let ends = (&self.client_end, &side.end);
        let (by_client, heard_all) = match self.plan.closer {
            Closer::ClientHavingHeardAll => (true, true),
            Closer::ClientAtOnce => (true, false),
            Closer::BackendHavingHeardAll => (false, true),
            Closer::BackendAtOnce => (false, false),
        };
        let up_must = by_client || heard_all;
        let down_must = !by_client || heard_all;
        if up_must && !is_all(side.said.heard, self.plan.up.len()) {
            let (heard, all) = (side.said.heard, self.plan.up.len());
            return Err(format!("the backend heard {heard} of {all} before {ends:?}"));
        }
        if down_must && !self.client_heard_all() {
            let (heard, all) = (self.client.heard, self.plan.down.len());
            return Err(format!("the client heard {heard} of {all} before {ends:?}"));
        }
        // Whoever closes first is echoed or crossed; the other must have seen that very code.
        if by_client && side.end != Some(BackendEnd::Closed(Some(CLIENT_CODE))) {
            return Err(format!("the client closed, and the backend saw {:?}", side.end));
        }
        if !by_client && self.client_end != Some(ClientEnd::Closed(Some(BACKEND_CODE))) {
            return Err(format!("the backend closed, and the client saw {:?}", self.client_end));
        }
        Ok(())
    }
}
