//! All resumable sessions of a core: the real registry and its tokens.

use std::collections::BTreeMap;

use antipode_core::resume::registry::{NotFound, Registry};
use antipode_core::resume::seat::AttachmentId;
use antipode_core::resume::token::{SessionId, Token, TokenKey};
use antipode_proto::trunk::v1::{Attach, Cause};

use super::held::Held;
use crate::ctx::Ctx;

/// Sessions by number, found by their tokens.
#[derive(Debug)]
pub(super) struct Resumes {
    registry: Registry<u64>,
    held: BTreeMap<u64, Held>,
    count: u64,
    attachments: u64,
    /// The run of the process that made it; a successor goes on with it.
    run: u64,
}

impl Resumes {
    /// None yet. The key outlives the process.
    #[must_use]
    pub(super) fn new(core: u8, run: u64) -> Self {
        let registry = Registry::new(TokenKey::new(&[core; 32]), 1_000);
        Self { registry, held: BTreeMap::new(), count: 0, attachments: 0, run }
    }

    /// A number that no attachment had.
    pub(super) fn next_attachment(&mut self) -> AttachmentId {
        self.attachments += 1;
        AttachmentId::new(self.attachments)
    }

    /// A number and a token for a session to come.
    pub(super) fn draw(&mut self) -> (u64, Token) {
        self.count += 1;
        let token = self.registry.token(id(self.run, self.count));
        (self.count, token)
    }

    /// Makes a session findable.
    pub(super) fn insert(&mut self, number: u64, held: Held) {
        self.registry.insert(id(self.run, number), number);
        self.held.insert(number, held);
    }

    /// One session.
    pub(super) fn get(&mut self, number: u64) -> Option<&mut Held> {
        self.held.get_mut(&number)
    }

    /// Gives a session to a new attachment.
    ///
    /// # Errors
    ///
    /// What the client is told.
    pub(super) fn attach(
        &mut self,
        ctx: &mut Ctx,
        attach: Attach,
        by: AttachmentId,
    ) -> Result<u64, (Cause, &'static str)> {
        let number = *self.registry.find(&attach.token).map_err(|not| match not {
            NotFound::BadToken => (Cause::Policy, "bad token"),
            NotFound::Over => (Cause::SessionLost, "unknown"),
        })?;
        let held = self.held.get_mut(&number).ok_or((Cause::SessionLost, "unknown"))?;
        if let Some(ended) = held.ended() {
            return Err((ended.cause, "over"));
        }
        held.attach(ctx, attach, by).map_err(|_| (Cause::Replaced, "stale"))?;
        match held.ended() {
            Some(ended) => {
                held.leave(ctx, by);
                Err((ended.cause, "over"))
            }
            None => Ok(number),
        }
    }

    /// Moves all sessions; those that are over go.
    pub(super) fn pump(&mut self, ctx: &mut Ctx) {
        let mut over = Vec::new();
        for (number, held) in &mut self.held {
            if held.pump(ctx) {
                over.push(*number);
            }
        }
        for number in over {
            self.held.remove(&number);
            self.registry.remove(id(self.run, number));
        }
    }

    /// Another process takes all of them over.
    pub(super) fn hand_over(&mut self, ctx: &mut Ctx) {
        self.held.values_mut().for_each(|held| held.hand_over(ctx));
    }

    /// How many there are.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.held.len().max(self.registry.len())
    }
}

fn id(run: u64, number: u64) -> SessionId {
    SessionId::new((u128::from(run) << 64 | u128::from(number)).to_be_bytes())
}
