//! Carries frames between one WebSocket of a client, which a trunk relays in chunks, and the
//! client's session.

use std::sync::Arc;

use antipode_proto::body::Body;
use antipode_proto::resume::{self, DecodeError, Frame};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Cause, Chunk, End, GoAway};
use antipode_trunk::{Delivery, Ended, SessionPort};
use antipode_websocket::{BINARY, FIN, close};
use bytes::{Bytes, BytesMut};
use tracing::{Instrument, debug, info_span};

use super::handover;
use super::held::{Held, Next};
use super::message::{Assembler, BadMessage};
use super::seat::AttachmentId;
use crate::bridge::Bridge;
use crate::handover::{Verdict, Wave};

/// Close code: the session can't be resumed, and never will be.
pub(super) const NOT_RESUMED: u16 = 4410;
/// Close code: a newer attachment has the session.
pub(super) const MOVED: u16 = 4411;

/// Frames for the client at a time, before anything else gets its turn.
const FRAMES_A_TURN: usize = 32;

/// Payloads below this share their frame's chunk: a chunk of their own costs as much.
const COPIED_BYTES_MAX: usize = 64;

/// One WebSocket of a client, from its 101 on.
#[derive(Debug)]
pub(super) struct Socket {
    port: SessionPort,
    assembler: Assembler,
}

/// What came over a WebSocket.
#[derive(Debug)]
pub(super) enum Came {
    Frame(Frame),
    /// A part of a message.
    Piece,
    /// The client, or its node, has ended it.
    End(Cause),
}

/// What came is no frame, or not the client's to send: the name of what is wrong with it.
#[derive(Debug)]
pub(super) struct Broken(pub(super) &'static str);

impl From<BadMessage> for Broken {
    fn from(bad: BadMessage) -> Self {
        Self(bad.label())
    }
}

impl From<DecodeError> for Broken {
    fn from(error: DecodeError) -> Self {
        Self(error.label())
    }
}

impl Socket {
    pub(super) fn new(port: SessionPort) -> Self {
        Self { port, assembler: Assembler::default() }
    }

    /// One that another process has begun to read.
    pub(super) const fn go_on(port: SessionPort, assembler: Assembler) -> Self {
        Self { port, assembler }
    }

    pub(super) const fn assembler(&self) -> &Assembler {
        &self.assembler
    }

    /// The trunk's end of it.
    pub(super) const fn port(&self) -> &SessionPort {
        &self.port
    }

    /// Takes a segment, and acknowledges it: from here on the session's own credit counts.
    pub(super) fn take(&mut self, delivery: Delivery) -> Result<Came, Broken> {
        let Delivery { seq, body } = delivery;
        self.port.consumed(seq);
        let message = match body {
            Body::Chunk(chunk) => self.assembler.handle_chunk(chunk),
            Body::End(end) => return Ok(Came::End(end.cause())),
            Body::Request(_) | Body::Response(_) => return Ok(Came::Piece),
        };
        match message? {
            Some(message) => Ok(Came::Frame(resume::decode(message)?)),
            None => Ok(Came::Piece),
        }
    }

    /// Waits for the first whole frame; `None` if the socket ends before.
    pub(super) async fn first_frame(&mut self) -> Result<Option<Frame>, Broken> {
        loop {
            let Ok(delivery) = self.port.deliver().await else { return Ok(None) };
            match self.take(delivery)? {
                Came::Frame(frame) => return Ok(Some(frame)),
                Came::Piece => {}
                Came::End(_) => return Ok(None),
            }
        }
    }

    /// Sends one frame as one message. A payload stays a chunk of its own, as it is: so a lane can
    /// tell that several sessions get the same.
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
        if payload.is_empty() {
            return self.send_chunk(first_byte, None, head.freeze());
        }
        self.send_chunk(first_byte, Some(whole), head.freeze())?;
        self.send_chunk(None, None, payload)
    }

    /// Ends our direction.
    pub(super) fn close(&self, cause: Cause, code: Option<u16>, reason: &str) {
        let end = End {
            cause: cause.into(),
            close_code: code.map(u32::from),
            reason: close::fit_reason(reason).to_owned(),
            trailers: Vec::new(),
        };
        // A session that is over needs no end.
        let _ = self.port.send(end.into());
    }

    fn send_chunk(
        &self,
        frame: Option<u32>,
        frame_len: Option<u64>,
        payload: Bytes,
    ) -> Result<(), Ended> {
        self.port.send(Chunk { frame, frame_len, payload, shared: 0 }.into())
    }
}

/// How an attachment came to its end.
#[derive(Debug)]
enum Departure {
    /// The session is over; this is what ended it before its time.
    Finished(Option<Ended>),
    /// A newer attachment, of this epoch, has the session.
    Moved(u64),
    /// The client broke the protocol.
    Broken(&'static str),
    /// Its WebSocket has ended: the session waits for another.
    Lost(Cause),
    /// Another process has both.
    HandedOver,
}

/// Carries frames until the attachment is over, and says goodbye.
pub(super) async fn run(bridge: &Bridge, held: Arc<Held>, id: AttachmentId, mut socket: Socket) {
    let departure = carry(bridge, &held, id, &mut socket).await;
    debug!(?departure, epoch = held.epoch(), "attachment over");
    held.leave(id);
    // From here on the session does without this task.
    drop(held);
    match departure {
        Departure::Finished(None) => socket.close(Cause::BackendClosed, Some(close::NORMAL), ""),
        Departure::Finished(Some(Ended { cause, detail })) => socket.close(cause, None, &detail),
        Departure::Moved(epoch) => {
            let _ = socket.send(Frame::Moved(epoch));
            socket.close(Cause::Replaced, Some(MOVED), "a newer socket has the session");
        }
        Departure::Broken(what) => {
            socket.close(Cause::ClientProtocol, Some(close::PROTOCOL_ERROR), what);
        }
        Departure::Lost(cause) => socket.close(cause, None, ""),
        Departure::HandedOver => socket.port().release(),
    }
    part(bridge, socket).await;
}

/// Carries frames as a task of its own.
pub(super) fn spawn(bridge: &Arc<Bridge>, held: Arc<Held>, id: AttachmentId, socket: Socket) {
    let span = info_span!("attachment", epoch = held.epoch());
    let carrying = Arc::clone(bridge);
    let task = async move { run(&carrying, held, id, socket).await };
    bridge.shutdown.spawn(task.instrument(span));
}

/// Takes what still comes over a WebSocket that is closed from here, up to its end.
pub(super) async fn part(bridge: &Bridge, socket: Socket) {
    let port = socket.port();
    if !port.look(|machine| machine.is_complete() || machine.ended().is_some()) {
        let _ = bridge.discard(port).await;
    }
    port.finished().await;
}

async fn carry(bridge: &Bridge, held: &Held, id: AttachmentId, socket: &mut Socket) -> Departure {
    let summons = &bridge.summons;
    let mut movable = summons.movable(Wave::Attachments);
    let (moved, gathered) = (held.moved(id), summons.gathered(Wave::Attachments));
    tokio::pin!(moved, gathered);
    loop {
        tokio::task::consume_budget().await;
        match pump(held, id, socket) {
            Ok(None) => {}
            Ok(Some(departure)) => return departure,
            Err(ended) => return Departure::Lost(ended.cause),
        }
        let port = socket.port();
        let outgoing = async {
            match port.ready().await {
                Ok(()) => held.ready().await,
                // `deliver` says so, too.
                Err(_) => std::future::pending().await,
            }
        };
        let came = tokio::select! {
            biased;
            epoch = &mut moved => return Departure::Moved(epoch),
            offers = &mut gathered => {
                match movable.go(offers, || handover::export(held, id, socket)).await {
                    Verdict::Taken => return Departure::HandedOver,
                    Verdict::Stays => {}
                    Verdict::Unable => bridge.reset_for_successor(socket.port()),
                }
                gathered.set(summons.gathered(Wave::Attachments));
                continue;
            }
            delivery = port.deliver() => match delivery {
                Ok(delivery) => socket.take(delivery),
                Err(ended) => return Departure::Lost(ended.cause),
            },
            invitation = port.invited() => invite(held, socket, invitation),
            () = outgoing => Ok(Came::Piece),
        };
        match came {
            Ok(Came::Piece) => {}
            Ok(Came::End(cause)) => return Departure::Lost(cause),
            Ok(Came::Frame(frame)) => {
                if let Err(Broken(what)) = take_frame(held, id, socket, frame) {
                    return break_off(bridge, held, id, socket, what);
                }
            }
            Err(Broken(what)) => return break_off(bridge, held, id, socket, what),
        }
    }
}

/// Sends what the session has, as long as the trunk has room.
fn pump(held: &Held, id: AttachmentId, socket: &Socket) -> Result<Option<Departure>, Ended> {
    for _ in 0..FRAMES_A_TURN {
        if !socket.port().try_ready()? {
            return Ok(None);
        }
        match held.next_frame(id) {
            Next::Frame(kind) => send_kind(socket, kind)?,
            Next::Finished => return Ok(Some(Departure::Finished(held.ended()))),
            // Who has it now is told by `moved`.
            Next::Nothing | Next::Moved => return Ok(None),
        }
    }
    Ok(None)
}

fn send_kind(socket: &Socket, kind: Kind) -> Result<(), Ended> {
    match Frame::from_kind(kind) {
        Some(frame) => socket.send(frame),
        // Neither direction of this session has a head.
        None => Ok(()),
    }
}

fn take_frame(held: &Held, id: AttachmentId, socket: &Socket, frame: Frame) -> Result<(), Broken> {
    match frame {
        Frame::Ping(number) => {
            // One that the trunk has no room for goes unanswered: its client sees other frames.
            if socket.port().try_ready().unwrap_or(false) {
                let _ = socket.send(Frame::Pong(number));
            }
            Ok(())
        }
        Frame::Chunk(..) | Frame::End(..) | Frame::Ack(_) | Frame::Reset(_) => {
            let kind = frame.into_kind().expect("these are the session's");
            held.handle_frame(id, kind);
            Ok(())
        }
        Frame::Welcome(_)
        | Frame::Attach(_)
        | Frame::Attached(_)
        | Frame::Refused(_)
        | Frame::GoAway(_)
        | Frame::Pong(_)
        | Frame::Moved(_) => Err(Broken("out_of_place")),
    }
}

/// The node asks the client to go elsewhere: it needs its token for that.
fn invite(held: &Held, socket: &Socket, invitation: GoAway) -> Result<Came, Broken> {
    let token = Bytes::copy_from_slice(held.token().as_bytes());
    let _ = socket.send(Frame::GoAway(GoAway { token, ..invitation }));
    Ok(Came::Piece)
}

/// A client that speaks otherwise has no session here: it, and the backend, are told.
fn break_off(
    bridge: &Bridge,
    held: &Held,
    id: AttachmentId,
    socket: &Socket,
    what: &'static str,
) -> Departure {
    bridge.metrics.resume.broke(what);
    if held.is_held_by(id) {
        held.reset(Cause::ClientProtocol, what);
        let _ = pump(held, id, socket);
    }
    Departure::Broken(what)
}
