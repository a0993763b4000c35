//! One WebSocket of a resumable client at the core: what `core::resume::attachment` does with
//! tokio, done by hand around the same seat, registry, codec and session machine.

use antipode_core::resume::message::Assembler;
use antipode_core::resume::seat::AttachmentId;
use antipode_proto::resume::{self, Frame};
use antipode_proto::trunk::v1::{Cause, Chunk, End};
use antipode_trunk::{Body, Delivery, Ended, SessionPort};
use antipode_websocket::{BINARY, FIN, close};
use bytes::{Bytes, BytesMut};

use super::held::{Held, Next};
use super::resumes::Resumes;
use crate::ctx::Ctx;
use crate::event::Ms;
use crate::site::Site;

/// Close code: the session can't be resumed, and never will be.
const NOT_RESUMED: u16 = 4410;
/// Close code: a newer attachment has the session.
const MOVED: u16 = 4411;
/// How long the attach is awaited.
const ATTACH_TIMEOUT: Ms = 10_000;
/// Payloads below this share their frame's chunk.
const COPIED_BYTES_MAX: usize = 64;

/// A WebSocket between its upgrade and its end.
#[derive(Debug)]
pub(super) struct Attachment {
    here: Site,
    talk: u16,
    id: AttachmentId,
    port: SessionPort,
    assembler: Assembler,
    stage: Stage,
    since: Ms,
}

#[derive(Debug)]
enum Stage {
    /// The client has to say which session it wants.
    Asked,
    /// It has this one, or had it until a newer one came.
    Attached(u64),
    /// Closed from here; what still comes is thrown away.
    Parting,
}

impl Attachment {
    /// A WebSocket whose client has to say which session it wants.
    #[must_use]
    pub(super) fn asked(
        here: Site,
        talk: u16,
        id: AttachmentId,
        port: SessionPort,
        now: Ms,
    ) -> Self {
        let (assembler, stage) = (Assembler::default(), Stage::Asked);
        Self { here, talk, id, port, assembler, stage, since: now }
    }

    /// The first one of a session.
    #[must_use]
    pub(super) fn first(
        here: Site,
        talk: u16,
        id: AttachmentId,
        port: SessionPort,
        session: u64,
        now: Ms,
    ) -> Self {
        let (assembler, stage) = (Assembler::default(), Stage::Attached(session));
        Self { here, talk, id, port, assembler, stage, since: now }
    }

    /// Sends one frame as one message, its payload as a chunk of its own.
    pub(super) fn send(&self, frame: Frame) -> Result<(), Ended> {
        let mut head = BytesMut::new();
        let mut payload = Bytes::new();
        if let Frame::Chunk(position, chunk) = &frame
            && chunk.payload.len() >= COPIED_BYTES_MAX
        {
            resume::encode_chunk_header(*position, chunk, &mut head);
            payload = chunk.payload.clone();
        } else {
            resume::encode(&frame, &mut head);
        }
        let whole = u64::try_from(head.len() + payload.len()).expect("a length fits 64 bits");
        let first_byte = Some(u32::from(FIN | BINARY));
        let chunk = |frame, frame_len, payload| {
            self.port.send(Chunk { frame, frame_len, payload, shared: 0 }.into())
        };
        if payload.is_empty() {
            return chunk(first_byte, None, head.freeze());
        }
        chunk(first_byte, Some(whole), head.freeze())?;
        chunk(None, None, payload)
    }

    /// Moves everything that can move; returns whether it is over.
    pub(super) fn pump(&mut self, ctx: &mut Ctx, resumes: &mut Resumes) -> bool {
        loop {
            if let Stage::Attached(session) = self.stage {
                self.pump_session(ctx, resumes, session);
            }
            match self.port.try_deliver() {
                Ok(Some(delivery)) => self.take(ctx, resumes, delivery),
                Ok(None) => break,
                Err(_) => {
                    self.leave(ctx, resumes);
                    return true;
                }
            }
        }
        if let Stage::Asked = self.stage {
            if self.since + ATTACH_TIMEOUT <= ctx.ms {
                self.refuse(ctx, Cause::ClientIdle, "no attach came in time");
            }
            ctx.wake(self.here, self.since + ATTACH_TIMEOUT);
        }
        if let Some(invitation) = self.port.try_invited()
            && let Stage::Attached(session) = self.stage
            && let Some(held) = resumes.get(session)
        {
            let token = Bytes::copy_from_slice(held.token().as_bytes());
            let invitation = antipode_proto::trunk::v1::GoAway { token, ..invitation };
            let _ = self.send(Frame::GoAway(invitation));
        }
        self.port.look(|machine| machine.is_finished() || machine.ended().is_some())
    }

    fn pump_session(&mut self, ctx: &mut Ctx, resumes: &mut Resumes, session: u64) {
        while let Some(held) = resumes.get(session) {
            if !held.is_held_by(self.id) {
                let epoch = held.epoch();
                let _ = self.send(Frame::Moved(epoch));
                self.close(Cause::Replaced, Some(MOVED), "a newer socket has the session");
                self.stage = Stage::Parting;
                return;
            }
            if !self.port.try_ready().unwrap_or(false) {
                return;
            }
            match held.next_frame(ctx, self.id) {
                Next::Frame(kind) => {
                    if let Some(frame) = Frame::from_kind(kind) {
                        let _ = self.send(frame);
                    }
                }
                Next::Nothing => return,
                Next::Finished(ended) => {
                    let (cause, code) = match &ended {
                        None => (Cause::BackendClosed, Some(close::NORMAL)),
                        Some(ended) => (ended.cause, None),
                    };
                    held.leave(ctx, self.id);
                    self.close(cause, code, "");
                    self.stage = Stage::Parting;
                    return;
                }
            }
        }
    }

    fn take(&mut self, ctx: &mut Ctx, resumes: &mut Resumes, delivery: Delivery) {
        let Delivery { seq, body } = delivery;
        self.port.consumed(seq);
        let message = match body {
            Body::Chunk(chunk) => self.assembler.handle_chunk(chunk),
            Body::End(end) => {
                let cause = end.cause();
                self.leave(ctx, resumes);
                if !matches!(self.stage, Stage::Parting) {
                    self.close(cause, None, "");
                }
                self.stage = Stage::Parting;
                return;
            }
            Body::Request(_) | Body::Response(_) => return,
        };
        let frame = match message {
            Ok(None) => return,
            Ok(Some(message)) => resume::decode(message).map_err(|error| error.to_string()),
            Err(error) => Err(error.to_string()),
        };
        match frame {
            Ok(frame) => self.take_frame(ctx, resumes, frame),
            Err(what) => {
                let what = format!("the core reads no frame: {what}");
                ctx.model.fail(ctx.ms, Some(self.talk), what);
            }
        }
    }

    fn take_frame(&mut self, ctx: &mut Ctx, resumes: &mut Resumes, frame: Frame) {
        match (&self.stage, frame) {
            (Stage::Parting, _) => {}
            (Stage::Asked, Frame::Attach(attach)) => {
                ctx.note(self.here, "attach", self.talk, [attach.epoch, attach.received]);
                match resumes.attach(ctx, attach, self.id) {
                    Ok(session) => self.stage = Stage::Attached(session),
                    Err((cause, why)) => self.refuse(ctx, cause, why),
                }
            }
            (Stage::Attached(_), Frame::Ping(number)) => {
                if self.port.try_ready().unwrap_or(false) {
                    let _ = self.send(Frame::Pong(number));
                }
            }
            (Stage::Attached(session), frame) => {
                let held = resumes.get(*session);
                let (Some(held), Ok(kind)) = (held, frame.into_kind()) else { return };
                held.handle_frame(ctx, self.id, kind);
            }
            (Stage::Asked, frame) => {
                let what = format!("a client began with {frame:?}");
                ctx.model.fail(ctx.ms, Some(self.talk), what);
            }
        }
    }

    fn refuse(&mut self, ctx: &mut Ctx, cause: Cause, why: &'static str) {
        let number = u64::try_from(i32::from(cause)).unwrap_or(0);
        ctx.note(self.here, "refuses", self.talk, [number, 0]);
        let _ = self.send(Frame::refused(cause, why));
        self.close(cause, Some(NOT_RESUMED), why);
        self.stage = Stage::Parting;
    }

    fn leave(&self, ctx: &mut Ctx, resumes: &mut Resumes) {
        if let Stage::Attached(session) = self.stage
            && let Some(held) = resumes.get(session)
        {
            held.leave(ctx, self.id);
        }
    }

    fn close(&self, cause: Cause, code: Option<u16>, reason: &str) {
        let end = End {
            cause: cause.into(),
            close_code: code.map(u32::from),
            reason: close::fit_reason(reason).to_owned(),
            trailers: Vec::new(),
        };
        let _ = self.port.send(end.into());
    }
}

/// What the core holds of one session, as its attachments need it.
impl Held {
    /// Whether the attachment has the session.
    pub(super) fn is_held_by(&self, attachment: AttachmentId) -> bool {
        self.seat.is_held_by(attachment)
    }
}
