//! One resumable session at the core: the real machine behind a lane of its own, the real seat, and
//! the relay to the backend. The order of the calls is that of `core::resume::held`.

use std::time::Duration;

use antipode_core::resume::seat::{AttachmentId, Left, Seat, Stale};
use antipode_core::resume::token::Token;
use antipode_proto::handover::v1::SessionState;
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Ack, Attach, Segment};
use antipode_trunk::solo::{Solo, solo};
use antipode_trunk::{Ended, SessionPort};
use prost::Message;

use super::bridge::Bridge;
use crate::ctx::Ctx;
use crate::event::Ms;
use crate::site::Site;

/// How long a session is kept that nobody carries.
pub(super) const WINDOW: Duration = Duration::from_secs(120);

/// A session and its seat.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) seat: Seat,
    here: Site,
    talk: u16,
    token: Token,
    port: SessionPort,
    solo: Solo,
    config: Config,
    bridge: Option<Bridge>,
    /// Since when nobody carries it.
    vacant: Option<Ms>,
    /// What the client was last told to be acknowledged.
    acked: u64,
}

/// What an attachment finds when it asks for a frame.
#[derive(Debug)]
pub(super) enum Next {
    /// To be sent.
    Frame(Kind),
    /// Nothing for now.
    Nothing,
    /// Nothing ever again.
    Finished(Option<Ended>),
}

impl Held {
    /// A session whose backend has taken the socket, with its first attachment.
    #[must_use]
    pub(super) fn new(
        ctx: &Ctx,
        config: Config,
        token: Token,
        first: AttachmentId,
        bridge: Bridge,
        (here, talk): (Site, u16),
    ) -> Self {
        let config = Config { resume_window: WINDOW, ..config };
        let machine = Session::new(Side::Server, config, ctx.now());
        let (port, solo) = solo(machine, talk.into());
        solo.link_up();
        let (seat, bridge) = (Seat::new(first), Some(bridge));
        Self { seat, here, talk, token, port, solo, config, bridge, vacant: None, acked: 0 }
    }

    /// What its client comes back with.
    #[must_use]
    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// The attachment that counts.
    #[must_use]
    pub(super) fn epoch(&self) -> u64 {
        self.seat.epoch()
    }

    /// Why it ended before its time.
    #[must_use]
    pub(super) fn ended(&self) -> Option<Ended> {
        self.solo.ended()
    }

    /// What came over an attachment; what comes late over an older one is left out.
    pub(super) fn handle_frame(&self, ctx: &mut Ctx, by: AttachmentId, kind: Kind) {
        if self.seat.is_held_by(by) {
            ctx.model.talk(self.talk).confirmed = true;
            self.solo.handle_frame(kind);
            self.check(ctx);
        }
    }

    /// The next frame for an attachment that has the session.
    pub(super) fn next_frame(&mut self, ctx: &mut Ctx, by: AttachmentId) -> Next {
        if !self.seat.is_held_by(by) {
            return Next::Nothing;
        }
        match self.solo.next_frame() {
            Some(kind) => {
                self.check_ack(ctx, &kind);
                Next::Frame(kind)
            }
            None if self.solo.is_finished() => Next::Finished(self.ended()),
            None => Next::Nothing,
        }
    }

    /// Gives the seat to a new attachment, whoever has it now.
    ///
    /// # Errors
    ///
    /// It is not newer than the one that is known.
    pub(super) fn attach(
        &mut self,
        ctx: &mut Ctx,
        attach: Attach,
        by: AttachmentId,
    ) -> Result<(), Stale> {
        self.seat.handle_attach(by, attach.epoch)?;
        ctx.model.talk(self.talk).confirmed = true;
        self.solo.handle_frame(Kind::Attach(attach));
        self.vacant = None;
        self.check(ctx);
        Ok(())
    }

    /// An attachment has ended: without a newer one, the session waits for its client.
    pub(super) fn leave(&mut self, ctx: &mut Ctx, by: AttachmentId) {
        match self.seat.handle_lost(by) {
            Left::ToNewer => {}
            Left::Vacant => {
                self.solo.link_down(ctx.now());
                self.vacant = Some(ctx.ms);
                ctx.note(self.here, "detached", self.talk, [self.seat.epoch(), 0]);
                if let Some(due) = self.solo.poll_timeout() {
                    let due = ctx.ms_of(due);
                    ctx.wake(self.here, due);
                }
                if self.solo.ended().is_some() && !ctx.model.talk(self.talk).confirmed {
                    ctx.model.excuse(self.talk, "the client was never heard");
                }
            }
        }
    }

    /// The machine goes to another process as a message; the backend's socket goes with it.
    pub(super) fn hand_over(&mut self, ctx: &mut Ctx) {
        if self.solo.ended().is_some() {
            return;
        }
        let state = self.solo.look(Session::export).encode_to_vec();
        let state = SessionState::decode(&*state).expect("what was encoded decodes");
        match Session::import(state, self.config, ctx.now()) {
            Ok(machine) => (self.port, self.solo) = solo(machine, self.talk.into()),
            Err(error) => {
                let what = format!("a session can't be handed over: {error}");
                ctx.model.fail(ctx.ms, Some(self.talk), what);
            }
        }
        self.seat = Seat::vacant(self.seat.epoch());
        self.vacant.get_or_insert(ctx.ms);
    }

    /// Moves everything that can move; returns whether nothing is left of it.
    pub(super) fn pump(&mut self, ctx: &mut Ctx) -> bool {
        self.solo.handle_timeout(ctx.now());
        if let Some(ended) = self.solo.ended() {
            let waited = self.vacant.is_some_and(|since| since + WINDOW_MS <= ctx.ms);
            if waited && ended.cause == antipode_proto::trunk::v1::Cause::ClientLost {
                ctx.model.excuse(self.talk, "the client did not come back within the window");
            }
        }
        let port = &self.port;
        if self.bridge.as_mut().is_some_and(|bridge| bridge.pump(ctx, port)) {
            self.bridge = None;
        }
        if let Some(due) = self.solo.poll_timeout() {
            let due = ctx.ms_of(due);
            ctx.wake(self.here, due.max(ctx.ms + 1));
        }
        self.check(ctx);
        let deserted = self.vacant.is_some() && self.solo.ended().is_some();
        self.bridge.is_none() && (self.solo.is_finished() || deserted)
    }

    /// Limits hold at all times.
    fn check(&self, ctx: &mut Ctx) {
        self.solo.look(|machine| ctx.model.check_held(ctx.ms, self.talk, machine));
    }

    /// What is acknowledged has been given to the backend's socket.
    fn check_ack(&mut self, ctx: &mut Ctx, kind: &Kind) {
        let (Kind::Segment(Segment { ack, .. }) | Kind::Ack(Ack { ack, .. })) = kind else {
            return;
        };
        if *ack < self.acked {
            let what = format!("an acknowledgement went back from {} to {ack}", self.acked);
            ctx.model.fail(ctx.ms, Some(self.talk), what);
        }
        self.acked = *ack;
        let written = self.bridge.as_ref().map_or(u64::MAX, |bridge| bridge.written());
        if *ack > written {
            let what = format!("segment {ack} was acknowledged, {written} is written");
            ctx.model.fail(ctx.ms, Some(self.talk), what);
        }
    }
}

/// [`WINDOW`] in milliseconds.
const WINDOW_MS: Ms = 120_000;
