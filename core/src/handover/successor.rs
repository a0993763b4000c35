//! The process that starts: finds a predecessor, and takes over.
//!
//! Nothing is bound and nobody is told before the predecessor has let go: until then it is enough
//! to close the socket, and the predecessor serves on.

use std::io;
use std::path::Path;
use std::time::Duration;

use antipode_proto::handover::v1::handed_session::Owner;
use antipode_proto::handover::v1::{
    Claim, Estate, FromPredecessor, FromSuccessor, HandedAttachment, HandedSession, Ready,
    TrunkPlace, from_predecessor, from_successor,
};
use antipode_proto::session::{BadState, Config as SessionConfig, Session};
use antipode_runtime::clock;
use antipode_websocket::Policy;
use bytes::Bytes;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tracing::{info, warn};

use super::wire::{Wire, WireError};
use super::{SESSIONS_HANDED_MAX, VERSION};
use crate::bridge::websocket::{BadParts, Parts};
use crate::config::{Config, TakeOver};
use crate::resume;
use crate::resume::message::Assembler;

/// For the predecessor's next word. Its exchanges have their own grace, which comes on top.
const PATIENCE: Duration = Duration::from_secs(10);

/// For the predecessor's process to end once it has let go.
const LEAVING_PATIENCE: Duration = Duration::from_secs(5);

/// A predecessor that answers.
#[derive(Debug)]
pub(crate) struct Found {
    wire: Wire,
}

/// All that a predecessor has left to this process.
#[derive(Debug)]
pub(crate) struct Inheritance {
    pub(crate) estate: Estate,
    pub(crate) run: [u8; 16],
    pub(crate) sessions: Vec<Inherited>,
    pub(crate) attachments: Vec<InheritedAttachment>,
}

/// What carries a resumable session.
#[derive(Debug)]
pub(crate) struct InheritedAttachment {
    pub(crate) place: TrunkPlace,
    pub(crate) machine: Session,
    /// The session's number.
    pub(crate) session: Bytes,
    pub(crate) assembler: Assembler,
}

/// A session that goes on.
#[derive(Debug)]
pub(crate) struct Inherited {
    pub(crate) owner: Owner,
    pub(crate) machine: Session,
    /// Its client has asked where it stands, and has no answer yet.
    pub(crate) answering: bool,
    /// The predecessor's word for its backend.
    pub(crate) backend: String,
    pub(crate) parts: Parts,
}

/// This process can't take over. The predecessor serves on.
#[derive(Debug, thiserror::Error)]
pub enum TakeOverError {
    /// The command line wants one.
    #[error("no core serves with this state directory, and --take-over always wants one")]
    NoPredecessor,
    /// The socket is there and can't be used.
    #[error("the socket of the core that serves (`handover.socket`)")]
    Socket(#[source] io::Error),
    /// The predecessor does not want to.
    #[error("the core that serves does not hand over: {0}")]
    Refused(String),
    /// The conversation broke.
    #[error("the core that serves did not hand over; it serves on")]
    Wire(#[from] WireError),
    /// One of its messages is out of place.
    #[error("the core that serves says {0}; it serves on")]
    Protocol(&'static str),
    /// A session's machine.
    #[error("a session of the core that serves; it serves on")]
    Machine(#[from] BadState),
    /// A session's WebSocket.
    #[error(transparent)]
    Session(#[from] SessionError),
}

/// A session's WebSocket can't go on here.
#[derive(Debug, thiserror::Error)]
#[error("a session of the core that serves; it serves on")]
pub struct SessionError(#[source] BadParts);

/// Looks for a predecessor. A socket that nobody listens on is what a crash leaves.
pub(crate) async fn find(config: &Config) -> Result<Option<Found>, TakeOverError> {
    let table = &config.handover;
    if !table.enabled || table.take_over == TakeOver::Never {
        return Ok(None);
    }
    let path = table.socket(&config.member.state_dir);
    match connect(&path).await {
        Ok(Some(wire)) => {
            info!(socket = %path.display(), "a core serves with this state directory: taking over");
            Ok(Some(Found { wire }))
        }
        Ok(None) if table.take_over == TakeOver::Always => Err(TakeOverError::NoPredecessor),
        Ok(None) => Ok(None),
        Err(error) => Err(TakeOverError::Socket(error)),
    }
}

async fn connect(path: &Path) -> io::Result<Option<Wire>> {
    // The last one: the path is too long for any socket.
    use io::ErrorKind::{ConnectionRefused, InvalidInput, NotFound};

    match UnixStream::connect(path).await {
        Ok(socket) => Ok(Some(Wire::new(socket))),
        Err(error) if matches!(error.kind(), NotFound | ConnectionRefused | InvalidInput) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Found {
    /// Takes everything over. When this returns, the predecessor's process is at its end.
    pub(crate) async fn take_over(
        mut self,
        config: &Config,
        member_id: &str,
        software: &str,
        machines: SessionConfig,
    ) -> Result<Inheritance, TakeOverError> {
        let began = clock::now();
        let claim = Claim {
            version: VERSION,
            software: software.to_owned(),
            member_id: member_id.to_owned(),
        };
        self.say(from_successor::Kind::Claim(claim)).await?;
        let estate = match self.hear(PATIENCE + config.handover.exchange_grace).await? {
            from_predecessor::Kind::Estate(estate) => estate,
            from_predecessor::Kind::Refusal(refusal) => {
                return Err(TakeOverError::Refused(refusal.reason));
            }
            from_predecessor::Kind::Session(_)
            | from_predecessor::Kind::Attachment(_)
            | from_predecessor::Kind::Complete(_)
            | from_predecessor::Kind::LetGo(_) => {
                return Err(TakeOverError::Protocol("something before its estate"));
            }
        };
        let run = <[u8; 16]>::try_from(&*estate.run);
        let run = run.map_err(|_| TakeOverError::Protocol("no run"))?;
        let (attachments, sessions) = self.sessions(config, machines).await?;
        let count = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
        self.say(from_successor::Kind::Ready(Ready { sessions: count })).await?;
        match self.hear(PATIENCE).await? {
            from_predecessor::Kind::LetGo(_) => {}
            from_predecessor::Kind::Refusal(refusal) => {
                return Err(TakeOverError::Refused(refusal.reason));
            }
            from_predecessor::Kind::Estate(_)
            | from_predecessor::Kind::Session(_)
            | from_predecessor::Kind::Attachment(_)
            | from_predecessor::Kind::Complete(_) => {
                return Err(TakeOverError::Protocol("something after it was complete"));
            }
        }
        if timeout(LEAVING_PATIENCE, self.wire.ended()).await.is_err() {
            warn!("the core that served has let go and does not end: its ports may be in use");
        }
        let took_ms = clock::now().duration_since(began).as_millis();
        info!(sessions = count, trunks = estate.trunks.len(), took_ms, "took over");
        Ok(Inheritance { estate, run, sessions, attachments })
    }

    async fn sessions(
        &mut self,
        config: &Config,
        machines: SessionConfig,
    ) -> Result<(Vec<InheritedAttachment>, Vec<Inherited>), TakeOverError> {
        let (mut attachments, mut sessions) = (Vec::new(), Vec::new());
        loop {
            match self.hear(PATIENCE).await? {
                from_predecessor::Kind::Session(_) | from_predecessor::Kind::Attachment(_)
                    if sessions.len().max(attachments.len()) == SESSIONS_HANDED_MAX =>
                {
                    return Err(TakeOverError::Protocol("more sessions than there can be"));
                }
                from_predecessor::Kind::Attachment(handed) => {
                    attachments.push(attachment(handed, machines)?);
                }
                from_predecessor::Kind::Session(session) => {
                    sessions.push(self.session(session, config, machines)?);
                }
                from_predecessor::Kind::Complete(complete) => {
                    if u64::try_from(sessions.len()) != Ok(complete.sessions) {
                        return Err(TakeOverError::Protocol("another number of sessions"));
                    }
                    return Ok((attachments, sessions));
                }
                from_predecessor::Kind::Refusal(refusal) => {
                    return Err(TakeOverError::Refused(refusal.reason));
                }
                from_predecessor::Kind::Estate(_) | from_predecessor::Kind::LetGo(_) => {
                    return Err(TakeOverError::Protocol("something among its sessions"));
                }
            }
        }
    }

    fn session(
        &mut self,
        session: HandedSession,
        config: &Config,
        machines: SessionConfig,
    ) -> Result<Inherited, TakeOverError> {
        let missing = TakeOverError::Protocol;
        let HandedSession { owner, machine, websocket } = session;
        let owner = owner.ok_or_else(|| missing("a session of nobody"))?;
        let machines = match owner {
            Owner::Trunk(_) => machines,
            Owner::Resume(_) => resume::machine_config(&config.resume),
        };
        let machine = machine.ok_or_else(|| missing("a session without its machine"))?;
        let answering = machine.answering;
        let websocket = websocket.ok_or_else(|| missing("a session without its WebSocket"))?;
        let socket = self.wire.take_descriptor();
        let socket = socket.ok_or_else(|| missing("a session without its socket"))?;
        let policy = Policy {
            frame_bytes_max: config.websocket.frame_bytes_max,
            chunk_bytes_max: antipode_trunk::CHUNK_BYTES_MAX,
            rsv1_allowed: websocket.rsv1_allowed,
        };
        let machine = Session::import(machine, machines, clock::now())?;
        let backend = websocket.backend.clone();
        let parts = Parts::import(websocket, socket, policy).map_err(SessionError)?;
        Ok(Inherited { owner, machine, answering, backend, parts })
    }

    async fn say(&mut self, kind: from_successor::Kind) -> Result<(), WireError> {
        self.wire.send(&FromSuccessor { kind: Some(kind) }, None).await
    }

    async fn hear(&mut self, patience: Duration) -> Result<from_predecessor::Kind, TakeOverError> {
        let message: FromPredecessor = self.wire.receive(patience).await?;
        message.kind.ok_or(TakeOverError::Protocol("what only a later release understands"))
    }
}

fn attachment(
    handed: HandedAttachment,
    machines: SessionConfig,
) -> Result<InheritedAttachment, TakeOverError> {
    let missing = TakeOverError::Protocol;
    let assembler = Assembler::import(&handed);
    let assembler = assembler.map_err(|_| missing("a message longer than any"))?;
    let HandedAttachment { place, machine, session, .. } = handed;
    let place = place.ok_or_else(|| missing("an attachment of no trunk"))?;
    let machine = machine.ok_or_else(|| missing("an attachment without its machine"))?;
    let machine = Session::import(machine, machines, clock::now())?;
    Ok(InheritedAttachment { place, machine, session, assembler })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// None of these keeps a core from starting.
    #[tokio::test]
    async fn where_nobody_listens_there_is_no_predecessor() {
        let dir = tempfile::tempdir().unwrap();
        assert!(connect(&dir.path().join("none.sock")).await.unwrap().is_none());
        let crashed = dir.path().join("crashed.sock");
        drop(tokio::net::UnixListener::bind(&crashed).unwrap());
        assert!(crashed.exists());
        assert!(connect(&crashed).await.unwrap().is_none());
        assert!(connect(&dir.path().join("x".repeat(200))).await.unwrap().is_none());
    }
}
