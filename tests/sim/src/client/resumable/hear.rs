//! What a resumable client hears: the answer to its question, the session's frames, and the rest.

use antipode_proto::resume::{self, Frame};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Cause, Reset};

use super::{PATIENCE, Resumable};
use crate::ctx::Ctx;
use crate::net::{Answer, Item};
use crate::socket::Heard;

impl Resumable {
    pub(super) fn listen_asking(&mut self, ctx: &mut Ctx) {
        let Some(mut asking) = self.asking.take() else { return };
        let mut heard = asking.socket.hear(ctx);
        while let Some(Heard::Ping) = heard {
            heard = asking.socket.hear(ctx);
        }
        match heard {
            Some(Heard::Message(bytes)) => match resume::decode(bytes) {
                Ok(Frame::Attached(attached)) => {
                    ctx.note(self.site, "attached", self.talk, [attached.epoch, attached.received]);
                    if let Some(session) = &mut self.session {
                        session.handle_frame(ctx, Kind::Attached(attached));
                    }
                    if let Some(mut older) = self.current.take() {
                        older.socket.say_close(Some((1000, "")));
                        older.socket.close(ctx);
                    }
                    asking.heard = ctx.ms;
                    asking.pinged = ctx.ms;
                    self.current = Some(asking);
                    self.tries = 0;
                }
                Ok(Frame::Refused(reset)) => self.refused(ctx, &reset),
                other => {
                    let what = format!("the answer to an attach was {other:?}");
                    ctx.model.fail(ctx.ms, Some(self.talk), what);
                }
            },
            None if asking.since + PATIENCE > ctx.ms => self.asking = Some(asking),
            _ => {
                // Nobody knows whether the core has taken it: what is current may be no more.
                asking.socket.abort(ctx);
                if let Some(session) = &mut self.session {
                    session.machine.handle_link_down(ctx.now());
                }
                self.try_again(ctx);
            }
        }
    }

    fn refused(&mut self, ctx: &mut Ctx, reset: &Reset) {
        let cause = u64::try_from(reset.cause).unwrap_or(0);
        ctx.note(self.site, "refused", self.talk, [cause, 0]);
        if reset.cause() == Cause::Replaced {
            if self.doubled(ctx) {
                return;
            }
            ctx.model.fail(ctx.ms, Some(self.talk), "the newest attachment was told it is older");
        }
        if reset.cause() == Cause::Policy {
            ctx.model.fail(ctx.ms, Some(self.talk), "a good token was refused");
        }
        if let Some(session) = &mut self.session {
            session.machine.abandon(reset.cause(), &reset.detail);
        }
    }

    /// Of two sockets with one attach the other may have been first: then this one looks again.
    fn doubled(&mut self, ctx: &mut Ctx) -> bool {
        let has_double = !self.strangers.is_empty();
        if has_double {
            self.try_again(ctx);
        }
        has_double
    }

    pub(super) fn listen_current(&mut self, ctx: &mut Ctx, is_slow: bool) {
        while let Some(attached) = &mut self.current {
            if is_slow {
                return;
            }
            let Some(heard) = attached.socket.hear(ctx) else { return };
            match heard {
                Heard::Message(bytes) => {
                    attached.heard = ctx.ms;
                    match resume::decode(bytes) {
                        Ok(frame) => self.take_frame(ctx, frame),
                        Err(error) => {
                            let what = format!("the client reads no frame: {error}");
                            ctx.model.fail(ctx.ms, Some(self.talk), what);
                        }
                    }
                }
                Heard::Ping | Heard::Pong => attached.heard = ctx.ms,
                Heard::Close(_) | Heard::Lost => {
                    attached.socket.close(ctx);
                    return self.lose_current(ctx);
                }
                Heard::Broken(_) | Heard::Item(_) => {
                    let what = format!("the client's socket brought {heard:?}");
                    return ctx.model.fail(ctx.ms, Some(self.talk), what);
                }
            }
        }
    }

    fn take_frame(&mut self, ctx: &mut Ctx, frame: Frame) {
        match frame {
            Frame::Pong(_) => {}
            Frame::GoAway(go_away) => {
                ctx.note(self.site, "invited", self.talk, [go_away.after_ms, 0]);
                let node = go_away.url.strip_prefix("node").and_then(|node| node.parse().ok());
                self.invited = node;
                let at = ctx.ms + go_away.after_ms;
                self.again = Some(self.again.map_or(at, |again| again.min(at)));
                ctx.wake(self.site, at);
            }
            Frame::Moved(epoch) => {
                ctx.note(self.site, "moved", self.talk, [epoch, 0]);
                if self.current.as_ref().is_some_and(|attached| epoch <= attached.epoch) {
                    let what = "an attachment was told that an older one has the session";
                    ctx.model.fail(ctx.ms, Some(self.talk), what);
                }
                self.lose_current(ctx);
            }
            frame @ (Frame::Welcome(_)
            | Frame::Attach(_)
            | Frame::Attached(_)
            | Frame::Refused(_)
            | Frame::Chunk(..)
            | Frame::End(..)
            | Frame::Ack(_)
            | Frame::Reset(_)
            | Frame::Ping(_)) => {
                // Until the answer the older socket may still bring what the core sent before.
                let (Some(session), Ok(kind)) = (&mut self.session, frame.into_kind()) else {
                    return ctx.model.fail(ctx.ms, Some(self.talk), "a frame out of place");
                };
                session.handle_frame(ctx, kind);
            }
        }
    }

    pub(super) fn lose_current(&mut self, ctx: &mut Ctx) {
        let Some(mut attached) = self.current.take() else { return };
        ctx.note(self.site, "lost its socket", self.talk, [attached.socket.pipe.0.into(), 0]);
        attached.socket.abort(ctx);
        if self.asking.is_none() {
            if let Some(session) = &mut self.session {
                session.machine.handle_link_down(ctx.now());
            }
            self.try_again(ctx);
        }
    }

    pub(super) fn listen_strangers(&mut self, ctx: &mut Ctx) {
        let mut strangers = std::mem::take(&mut self.strangers);
        strangers.retain_mut(|socket| {
            socket.flush(ctx);
            loop {
                match socket.hear(ctx) {
                    None => return true,
                    Some(Heard::Message(bytes)) => match resume::decode(bytes) {
                        // A double that was the first: the session's own socket asks again.
                        Ok(Frame::Refused(_) | Frame::Moved(_) | Frame::Attached(_)) => {}
                        Ok(_) => {}
                        Err(error) => {
                            let what = format!("a stranger reads no frame: {error}");
                            ctx.model.fail(ctx.ms, Some(self.talk), what);
                        }
                    },
                    Some(Heard::Item(Item::Answer(Answer::Upgraded { .. })) | Heard::Ping) => {}
                    Some(_) => {
                        socket.abort(ctx);
                        return false;
                    }
                }
            }
        });
        self.strangers = strangers;
    }
}
