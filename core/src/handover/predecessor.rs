//! The process that serves: listens for a successor, and hands over.
//!
//! Up to [`Round::let_go`] everything can be undone, and is when the round is dropped: lanes come
//! up again, and sessions go on.

use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::handover::v1::{
    Claim, Complete, Estate, FromPredecessor, FromSuccessor, LetGo, Refusal, TunnelPeer,
    from_predecessor, from_successor,
};
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_runtime::telemetry::chain;
use antipode_trunk::TrunkServer;
use antipode_tunnel::Underlay;
use parking_lot::Mutex;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};
use tracing::{Instrument, info, info_span, warn};

use super::summons::{Offer, Wave};
use super::wire::{Wire, WireError};
use super::{SESSIONS_HANDED_MAX, VERSION};
use crate::bridge::Bridge;

/// For the successor's next word.
const PATIENCE: Duration = Duration::from_secs(10);

/// For the next session to come where it was called. Each is woken once and copies its state.
const GATHER_PATIENCE: Duration = Duration::from_secs(2);

/// How often counts are looked at.
const STEP: Duration = Duration::from_millis(5);

/// After the resets are with their lanes: a flush, and the way to quinn's buffers.
const LAST_BATCH: Duration = Duration::from_millis(50);

/// What a process needs to hand over.
#[derive(Debug)]
pub(crate) struct Predecessor {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) server: TrunkServer,
    pub(crate) underlay: Underlay,
    pub(crate) run: [u8; 16],
    pub(crate) member_id: String,
    pub(crate) software: &'static str,
    pub(crate) exchange_grace: Duration,
    pub(crate) shutdown: Shutdown,
    /// Keeps the socket to the successor open until the process ends: that is how the successor
    /// knows.
    pub(crate) linger: Linger,
}

/// Holds the socket to a successor for as long as the program lives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Linger(Arc<Mutex<Option<Wire>>>);

/// Why a hand-over came to nothing.
#[derive(Debug, thiserror::Error)]
enum HandOverError {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0}")]
    Refused(String),
    #[error("the successor says something out of place")]
    Protocol,
    #[error("{0} sessions did not come within {GATHER_PATIENCE:?}")]
    Stuck(usize),
}

/// Listens for a successor at `path`, for as long as the services of `shutdown` run.
pub(crate) fn listen(predecessor: Predecessor, path: &Path) -> io::Result<()> {
    let listener = bind(path)?;
    let shutdown = predecessor.shutdown.clone();
    let task = async move {
        loop {
            let socket = match listener.accept().await {
                Ok((socket, _)) => socket,
                Err(error) => {
                    warn!(%error, "cannot accept a successor");
                    sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            if predecessor.serve(socket).await {
                return;
            }
        }
    };
    shutdown.spawn_service(task.instrument(info_span!("handover")));
    Ok(())
}

/// A socket that only this user can open. It takes the place of an older one at once, so that
/// whoever starts next finds the process that serves.
fn bind(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;

    let fresh = PathBuf::from(format!("{}.{}", path.display(), std::process::id()));
    let _ = std::fs::remove_file(&fresh);
    let listener = UnixListener::bind(&fresh)?;
    let placed = std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))
        .and_then(|()| std::fs::rename(&fresh, path));
    if placed.is_err() {
        let _ = std::fs::remove_file(&fresh);
    }
    placed.map(|()| listener)
}

impl Predecessor {
    /// Whether the sessions are another process's now.
    async fn serve(&self, socket: UnixStream) -> bool {
        let own = rustix::process::geteuid().as_raw();
        if socket.peer_cred().map(|peer| peer.uid()).ok() != Some(own) {
            warn!("somebody else's process wants to take over");
            return false;
        }
        let mut wire = Wire::new(socket);
        match self.hand_over(&mut wire).await {
            Ok(sessions) => {
                info!(sessions, "handed over: this process ends");
                *self.linger.0.lock() = Some(wire);
                self.server.part().await;
                self.shutdown.stop_now();
                true
            }
            Err(error) => {
                self.bridge.metrics.handovers_failed.inc();
                warn!(error = chain(&error), "not handed over: this process serves on");
                let reason = error.to_string();
                let _ = say(&mut wire, from_predecessor::Kind::Refusal(Refusal { reason })).await;
                false
            }
        }
    }

    async fn hand_over(&self, wire: &mut Wire) -> Result<usize, HandOverError> {
        let began = clock::now();
        let claim = match hear(wire).await? {
            from_successor::Kind::Claim(claim) => claim,
            from_successor::Kind::Ready(_) => return Err(HandOverError::Protocol),
        };
        self.check(&claim).map_err(HandOverError::Refused)?;
        info!(software = claim.software, "a new process takes over");
        let mut round = Round::begin(self);
        round.exchanges_end().await;
        round.leave().await;
        let stopped = clock::now();
        round.halt();
        say(wire, from_predecessor::Kind::Estate(self.estate())).await?;
        round.gather(wire, Wave::Attachments).await?;
        let sessions = round.gather(wire, Wave::Sockets).await?;
        let count = u64::try_from(sessions).unwrap_or(u64::MAX);
        say(wire, from_predecessor::Kind::Complete(Complete { sessions: count })).await?;
        match hear(wire).await? {
            from_successor::Kind::Ready(ready) if ready.sessions == count => {}
            from_successor::Kind::Ready(_) | from_successor::Kind::Claim(_) => {
                return Err(HandOverError::Protocol);
            }
        }
        say(wire, from_predecessor::Kind::LetGo(LetGo {})).await?;
        round.let_go();
        let now = clock::now();
        let (took_ms, still_ms) =
            (now.duration_since(began).as_millis(), now.duration_since(stopped).as_millis());
        info!(sessions, took_ms, still_ms, "sessions are the new process's");
        Ok(sessions)
    }

    fn check(&self, claim: &Claim) -> Result<(), String> {
        let Claim { version, member_id, software } = claim;
        if *version != VERSION {
            return Err(format!(
                "it speaks version {VERSION} of the hand-over, {software} version {version}: stop \
                 it (SIGTERM) and start the new one"
            ));
        }
        if *member_id != self.member_id {
            return Err(
                "it is another member of the gateway: choose another handover.socket".into()
            );
        }
        if self.shutdown.is_draining() {
            return Err("it is draining: wait for its end".into());
        }
        Ok(())
    }

    fn estate(&self) -> Estate {
        Estate {
            run: self.run.to_vec().into(),
            software: self.software.to_owned(),
            tunnel_port: self.underlay.listen_port().into(),
            trunks: self.server.trunks(),
            peers: match &self.underlay {
                Underlay::InProcess(tunnel) => {
                    let peer = |state: antipode_tunnel::PeerState| {
                        let endpoint = state.endpoint?.to_string();
                        let public_key = state.public_key.as_bytes().to_vec().into();
                        Some(TunnelPeer { public_key, endpoint })
                    };
                    tunnel.peers().into_iter().filter_map(peer).collect()
                }
                // The interface keeps what it knows.
                Underlay::Hosted(_) => Vec::new(),
            },
        }
    }
}

/// One attempt. Dropping it undoes it.
struct Round<'a> {
    predecessor: &'a Predecessor,
    taken: Vec<oneshot::Sender<()>>,
    over: bool,
}

impl<'a> Round<'a> {
    fn begin(predecessor: &'a Predecessor) -> Self {
        predecessor.server.hold();
        Self { predecessor, taken: Vec::new(), over: false }
    }

    /// Gives what can't be handed over its time to end.
    async fn exchanges_end(&self) {
        let Predecessor { bridge, exchange_grace, .. } = self.predecessor;
        let ended = async {
            while bridge.summons.staying_len() > 0 {
                sleep(STEP).await;
            }
        };
        let _ = timeout(*exchange_grace, ended).await;
    }

    /// Tells the rest to leave, and waits until their clients are on the way to know.
    async fn leave(&self) {
        let Predecessor { bridge, server, .. } = self.predecessor;
        bridge.summons.tell_to_leave();
        let left = async {
            while bridge.summons.staying_len() > 0 {
                sleep(STEP).await;
            }
        };
        let _ = timeout(GATHER_PATIENCE, left).await;
        server.spoken().await;
        sleep(LAST_BATCH).await;
    }

    fn halt(&self) {
        self.predecessor.server.halt();
    }

    /// Sends everything of a wave that comes; how much it was.
    async fn gather(&mut self, wire: &mut Wire, wave: Wave) -> Result<usize, HandOverError> {
        let summons = &self.predecessor.bridge.summons;
        let mut offers = summons.gather(wave);
        let (mut sent, mut waited) = (0, Duration::ZERO);
        while sent < SESSIONS_HANDED_MAX {
            match timeout(STEP, offers.recv()).await {
                Ok(Some(offer)) => {
                    self.send(wire, offer).await?;
                    (sent, waited) = (sent + 1, Duration::ZERO);
                }
                // All had come, and the last one was sent.
                Err(_) | Ok(None) if summons.movable_len(wave) == 0 && offers.is_empty() => break,
                Err(_) | Ok(None) if waited >= GATHER_PATIENCE => {
                    return Err(HandOverError::Stuck(summons.movable_len(wave)));
                }
                Err(_) | Ok(None) => waited += STEP,
            }
        }
        offers.close();
        Ok(sent)
    }

    async fn send(&mut self, wire: &mut Wire, offer: Offer) -> Result<(), HandOverError> {
        let Offer { made: (kind, socket), taken } = offer;
        let message = FromPredecessor { kind: Some(kind) };
        wire.send(&message, socket.as_ref().map(AsFd::as_fd)).await?;
        self.taken.push(taken);
        Ok(())
    }

    /// The point of no return.
    fn let_go(mut self) {
        for taken in self.taken.drain(..) {
            // A session that does not wait any more has been cut with the program.
            let _ = taken.send(());
        }
        self.over = true;
    }
}

impl Drop for Round<'_> {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        // Before sessions hear that they stay: they would come again.
        self.predecessor.bridge.summons.calm();
        self.predecessor.server.go_on();
    }
}

async fn say(wire: &mut Wire, kind: from_predecessor::Kind) -> Result<(), WireError> {
    wire.send(&FromPredecessor { kind: Some(kind) }, None).await
}

async fn hear(wire: &mut Wire) -> Result<from_successor::Kind, HandOverError> {
    let message: FromSuccessor = wire.receive(PATIENCE).await?;
    message.kind.ok_or(HandOverError::Protocol)
}
