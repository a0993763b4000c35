//! A core that starts beside another one: what it takes over, and what it offers to the next.

use std::collections::BTreeMap;
use std::time::Duration;

use antipode_proto::handover::v1::TunnelPeer;
use antipode_proto::handover::v1::handed_session::Owner;
use antipode_runtime::member::Member;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{SessionConfig, TrunkServer};
use antipode_tunnel::Underlay;
use bytes::Bytes;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{SOFTWARE, StartError, member_config};
use crate::bridge::Bridge;
use crate::config::Config;
use crate::handover::{self, Inheritance, Inherited, InheritedAttachment, Linger, Predecessor};
use crate::resume;

/// How long a predecessor's ports may stay taken once its process has ended, or should have.
const PORTS_PATIENCE: Duration = Duration::from_secs(3);
const PORTS_STEP: Duration = Duration::from_millis(10);

/// Takes over from the process that serves, if there is one. Then the member is known already.
pub(super) async fn take_over(
    config: &Config,
    shutdown: &Shutdown,
) -> Result<Option<(Member, Inheritance)>, StartError> {
    let Some(found) = handover::find(config).await? else { return Ok(None) };
    let member = Member::join(member_config(config), shutdown).await?;
    let machines = antipode_trunk::handover::machine_config(SessionConfig::default());
    let member_id = member.identity().member_id().to_owned();
    let inheritance = found.take_over(config, &member_id, SOFTWARE, machines).await?;
    Ok(Some((member, inheritance)))
}

/// Binds what a predecessor has just had: a little later, if need be.
pub(super) async fn until_free<T, E>(
    inherited: bool,
    bind: impl AsyncFn() -> Result<T, E>,
) -> Result<T, E> {
    let mut waited = Duration::ZERO;
    loop {
        match bind().await {
            Err(_) if inherited && waited < PORTS_PATIENCE => {
                sleep(PORTS_STEP).await;
                waited += PORTS_STEP;
            }
            outcome => return outcome,
        }
    }
}

/// Goes on with a predecessor's sessions. No node may have been named yet. Returns where the nodes
/// were last heard.
pub(super) fn enter(
    inheritance: Option<Inheritance>,
    server: &TrunkServer,
    bridge: &std::sync::Arc<Bridge>,
) -> Vec<TunnelPeer> {
    let Some(Inheritance { estate, sessions, attachments, .. }) = inheritance else {
        return Vec::new();
    };
    if let Err(error) = server.inherit(estate.trunks) {
        error!(%error, "some of the sessions that were handed over end");
    }
    let sessions_len = u64::try_from(sessions.len()).unwrap_or(u64::MAX);
    let mut carriers = carriers(attachments, server);
    let mut lost = 0_u64;
    for session in sessions {
        let Inherited { owner, machine, answering, backend, parts } = session;
        let place = match owner {
            Owner::Trunk(place) => place,
            Owner::Resume(place) => {
                let carrier = carriers.remove(&place.session);
                let parts = (&*backend, parts);
                if !resume::inherit(bridge, &place, machine, answering, parts, carrier) {
                    lost += 1;
                }
                continue;
            }
        };
        match server.adopt(&place, machine) {
            Ok((port, node)) => bridge.go_on(port, &node, &backend, parts),
            Err(error) => {
                lost += 1;
                warn!(%error, "a session that was handed over ends");
            }
        }
    }
    bridge.metrics.sessions_taken_over.inc_by(sessions_len - lost);
    info!(sessions = sessions_len - lost, lost, "sessions of the core that served go on");
    estate.peers
}

/// The attachments that found their places, by the session that each carries. The client of any
/// other comes back with its token.
fn carriers(
    attachments: Vec<InheritedAttachment>,
    server: &TrunkServer,
) -> BTreeMap<Bytes, resume::Attachment> {
    let mut carriers = BTreeMap::new();
    for InheritedAttachment { place, machine, session, assembler } in attachments {
        match server.adopt(&place, machine) {
            Ok((port, _)) => {
                carriers.insert(session, resume::Attachment { port, assembler });
            }
            Err(error) => warn!(%error, "a client's socket that was handed over ends"),
        }
    }
    carriers
}

/// Offers all this to whoever starts next.
pub(super) fn offer(
    config: &Config,
    bridge: &std::sync::Arc<Bridge>,
    server: &TrunkServer,
    underlay: &Underlay,
    member: &Member,
    run: [u8; 16],
    shutdown: &Shutdown,
) -> Linger {
    let linger = Linger::default();
    let table = &config.handover;
    if !table.enabled {
        return linger;
    }
    let predecessor = Predecessor {
        bridge: bridge.clone(),
        server: server.clone(),
        underlay: underlay.clone(),
        run,
        member_id: member.identity().member_id().to_owned(),
        software: SOFTWARE,
        exchange_grace: table.exchange_grace,
        shutdown: shutdown.clone(),
        linger: linger.clone(),
    };
    let path = table.socket(&config.member.state_dir);
    match handover::listen(predecessor, &path) {
        Ok(()) => info!(socket = %path.display(), "a new process can take over"),
        Err(error) => {
            let socket = path.display();
            warn!(%error, %socket, "no new process can take over: see `handover.socket`");
        }
    }
    linger
}
