//! A backend's WebSocket between two steps: what one process needs to go on where another stopped.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use antipode_proto::handover::v1::handed_session::Owner;
use antipode_proto::handover::v1::{
    HandedSession, HandedWebSocket, OpenMessage, ReadFrame, ResumePlace, SocketKind, WrittenFrame,
    from_predecessor,
};
use antipode_proto::trunk::v1::End;
use antipode_trunk::{Seq, SessionPort};
use antipode_websocket::reader::{MessageState, OpenFrame};
use antipode_websocket::{
    BadState, FrameStart, Policy, Reader, ReaderState, Side, Writer, WriterState,
};
use bytes::{Bytes, BytesMut};

use super::down::{Down, PONGS_MAX};
use super::up::Up;
use crate::backend::Assigned;
use crate::backend::stream::BackendStream;
use crate::handover::Made;
use crate::resume::token::SessionId;

/// A socket and where both directions of its frames stand.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(super) stream: BackendStream,
    /// Counts the session at its backend. `None`: the backend is not in the file any more.
    pub(super) assigned: Option<Assigned>,
    pub(super) reader: Reader,
    /// Read and no event yet.
    pub(super) input: BytesMut,
    pub(super) writer: Writer,
    /// Coded and not written yet.
    pub(super) output: BytesMut,
    /// Consumed once `output` is written.
    pub(super) unwritten: Option<Seq>,
    /// The client's end.
    pub(super) end: Option<End>,
    pub(super) pongs: VecDeque<Bytes>,
    /// The resumable session it belongs to, if it is not one of a trunk.
    pub(super) session: Option<SessionId>,
}

/// No WebSocket stands where a predecessor says.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadParts {
    #[error("no socket came with it")]
    NoSocket(#[source] std::io::Error),
    #[error("where its frames stand")]
    Frames(#[from] BadState),
    #[error("{0} is missing, or too long")]
    Field(&'static str),
}

impl Parts {
    /// A socket that has just been upgraded; `input` came with the answer.
    pub(super) fn new(
        stream: BackendStream,
        assigned: Assigned,
        policy: Policy,
        input: BytesMut,
    ) -> Self {
        Self {
            stream,
            assigned: Some(assigned),
            reader: Reader::new(Side::Client, policy),
            input,
            writer: Writer::client(rand::random()),
            output: BytesMut::new(),
            unwritten: None,
            end: None,
            pongs: VecDeque::new(),
            session: None,
        }
    }

    /// What another process handed over, still without its backend.
    pub(crate) fn import(
        handed: HandedWebSocket,
        descriptor: OwnedFd,
        policy: Policy,
    ) -> Result<Self, BadParts> {
        let kind = handed.socket();
        let reader_state = ReaderState {
            rsv1_allowed: handed.rsv1_allowed,
            message: handed.message.map(message_state),
            frame: handed.read_frame.as_ref().map(read_frame).transpose()?,
            unread: BytesMut::from(handed.unread),
        };
        if handed.pongs.len() > PONGS_MAX {
            return Err(BadParts::Field("pongs"));
        }
        let written = handed.written_frame.as_ref().map(writer_state).transpose()?;
        Ok(Self {
            stream: BackendStream::import(kind, descriptor).map_err(BadParts::NoSocket)?,
            assigned: None,
            reader: Reader::import(Side::Client, policy, &reader_state)?,
            input: reader_state.unread,
            writer: Writer::client(rand::random()).import(written)?,
            output: BytesMut::from(handed.unwritten),
            unwritten: handed.unwritten_seq.map(Seq::from),
            end: handed.end,
            pongs: handed.pongs.into(),
            session: None,
        })
    }

    /// For the count of its backend, if that is still one of ours.
    pub(crate) fn assign(&mut self, assigned: Option<Assigned>) {
        self.assigned = assigned;
    }

    /// The socket belongs to a resumable session.
    pub(crate) fn belongs_to(&mut self, session: SessionId) {
        self.session = Some(session);
    }
}

/// All that another process needs of a session: its machine, where its frames stand, its socket.
/// `None` if it has come to an end, or the system gives no second descriptor.
pub(super) fn export(
    port: &SessionPort,
    session: Option<SessionId>,
    backend: &str,
    (down, up): (&Down<'_>, &Up<'_>),
) -> Option<Made> {
    let machine = port.export()?;
    let (kind, descriptor) = up.socket.export().ok()?;
    let websocket = export_frames(kind, backend, down, up)?;
    let owner = match session {
        Some(id) => Some(Owner::Resume(ResumePlace { session: id.bytes().to_vec().into() })),
        None => port.place().map(Owner::Trunk),
    };
    let session = HandedSession { machine: Some(machine), websocket: Some(websocket), owner };
    Some((from_predecessor::Kind::Session(session), Some(descriptor)))
}

fn export_frames(
    kind: SocketKind,
    backend: &str,
    down: &Down<'_>,
    up: &Up<'_>,
) -> Option<HandedWebSocket> {
    let reader = down.reader.export(&down.input)?;
    Some(HandedWebSocket {
        socket: kind.into(),
        backend: backend.to_owned(),
        rsv1_allowed: reader.rsv1_allowed,
        message: reader.message.map(|message| match message {
            MessageState::Text { pending } => OpenMessage { text: true, pending: pending.into() },
            MessageState::Opaque => OpenMessage { text: false, pending: Bytes::new() },
        }),
        read_frame: reader.frame.map(|frame| ReadFrame {
            first_byte: frame.start.map(|start| start.first_byte.into()),
            last_of_message: frame.last_of_message,
            offset: frame.offset,
            remaining: frame.remaining,
        }),
        unread: reader.unread.freeze(),
        written_frame: up.writer.export().map(|frame| WrittenFrame {
            offset: frame.offset,
            remaining: frame.remaining,
            key: frame.key.map(|key| Bytes::copy_from_slice(&key)).unwrap_or_default(),
        }),
        unwritten: Bytes::copy_from_slice(&up.output),
        unwritten_seq: up.unwritten.map(Seq::get),
        end: up.end.clone(),
        pongs: down.signs.pongs(),
    })
}

fn message_state(open: OpenMessage) -> MessageState {
    match open.text {
        true => MessageState::Text { pending: open.pending.to_vec() },
        false => MessageState::Opaque,
    }
}

fn read_frame(frame: &ReadFrame) -> Result<OpenFrame, BadParts> {
    let start = match frame.first_byte {
        None => None,
        Some(first_byte) => {
            let first_byte = u8::try_from(first_byte).map_err(|_| BadParts::Field("first byte"))?;
            // Nothing of the frame is out before its first chunk.
            Some(FrameStart { first_byte, frame_len: frame.remaining })
        }
    };
    let ReadFrame { last_of_message, offset, remaining, .. } = *frame;
    Ok(OpenFrame { start, last_of_message, key: None, offset, remaining })
}

fn writer_state(frame: &WrittenFrame) -> Result<WriterState, BadParts> {
    let key = <[u8; 4]>::try_from(&*frame.key).map_err(|_| BadParts::Field("mask"))?;
    Ok(WriterState { remaining: frame.remaining, key: Some(key), offset: frame.offset })
}
