//! The trunks of a core on their way from one process to the next.

use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::handover::v1::{HandedTrunk, TrunkPlace};
use antipode_proto::session::Session;
use antipode_runtime::clock;
use antipode_tunnel::tuning::LANES_MAX;
use tokio::time::{sleep, timeout};

use super::gone::Life;
use super::{LAST_WORDS, Register, Trunk};
use crate::accept::TrunkServer;
use crate::peer::NodeIdentity;
use crate::port::SessionPort;
use crate::sessions::{Lanes, Sessions};

/// QUIC's application error for a core whose successor is waiting to be dialled.
const TAKEN_OVER: u32 = 3;

/// How long the last datagrams may take to leave this machine.
const PARTING: Duration = Duration::from_millis(50);

/// What a predecessor said of a trunk makes none.
#[derive(Debug, thiserror::Error)]
#[error("the trunk with {name} has no {what}")]
pub struct BadTrunk {
    name: String,
    what: &'static str,
}

/// A session finds no place.
#[derive(Debug, thiserror::Error)]
pub enum AdoptError {
    /// Its trunk was not handed over.
    #[error("no trunk with {0}")]
    NoTrunk(String),
    /// The number or the lane is not to be had.
    #[error("no place for session {id} on lane {lane}")]
    NoPlace {
        /// The node's number.
        id: u64,
        /// The lane it was on.
        lane: u32,
    },
}

/// A core's process that has a successor calls [`TrunkServer::hold`], [`TrunkServer::spoken`],
/// [`TrunkServer::halt`], [`TrunkServer::trunks`] and then every [`SessionPort::export`], and at
/// last [`TrunkServer::part`]; until then [`TrunkServer::go_on`] undoes it. The successor calls
/// [`TrunkServer::inherit`] and [`TrunkServer::adopt`] before it names any nodes.
impl TrunkServer {
    /// From here on new sessions are not answered: their nodes tell them again to whoever takes
    /// the lanes next.
    pub fn hold(&self) {
        self.register().pause.hold();
    }

    /// Waits until every reset so far has gone to its lane; not for lanes that take none.
    pub async fn spoken(&self) {
        let register = self.register();
        let unspoken = || register.all().iter().any(|(_, sessions)| sessions.unspoken() > 0);
        let silence = async {
            while unspoken() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        let _ = timeout(LAST_WORDS, silence).await;
    }

    /// Takes down every lane and lets none come up: nothing is acknowledged any more.
    pub fn halt(&self) {
        let register = self.register();
        register.pause.halt();
        register.all().iter().for_each(|(_, sessions)| sessions.halt());
    }

    /// Nobody took over: lanes come up again, and sessions go on.
    pub fn go_on(&self) {
        let register = self.register();
        // What was left unanswered is told again only on a new lane.
        register.all().iter().for_each(|(_, sessions)| sessions.halt());
        register.pause.go_on();
    }

    /// Every trunk, without its sessions. What has been taken on by now and does not come after it
    /// is at its end.
    #[must_use]
    pub fn trunks(&self) -> Vec<HandedTrunk> {
        let trunks = self.register().trunks.lock();
        let handed = |trunk: &Trunk| {
            let node = trunk.sessions.node()?;
            let mut handed = HandedTrunk {
                member_id: node.member_id.clone(),
                name: node.name.clone(),
                region: node.region.clone(),
                address: node.address.octets().to_vec().into(),
                run: trunk.run.clone().into(),
                lanes: trunk.lanes.chat,
                bulk_lanes: trunk.lanes.bulk,
                taken_on: trunk.sessions.taken_on(),
                ..HandedTrunk::default()
            };
            trunk.life.export(&mut handed);
            Some(handed)
        };
        trunks.values().filter_map(handed).collect()
    }

    /// Tells the nodes to dial again, and gives that the time to leave.
    pub async fn part(&self) {
        let endpoints = self.register().endpoints.lock().clone();
        for endpoint in &endpoints {
            endpoint.close(TAKEN_OVER.into(), b"a new process takes over");
        }
        sleep(PARTING).await;
    }

    /// Takes on a predecessor's trunks.
    ///
    /// # Errors
    ///
    /// One of them can't be.
    pub fn inherit(&self, trunks: Vec<HandedTrunk>) -> Result<(), BadTrunk> {
        for handed in trunks {
            let bad = |what| BadTrunk { name: handed.name.clone(), what };
            let address = <[u8; 16]>::try_from(&*handed.address);
            let address = Ipv6Addr::from(address.map_err(|_| bad("address"))?);
            let lanes = Lanes { chat: handed.lanes, bulk: handed.bulk_lanes };
            if lanes.chat == 0 || lanes.chat.saturating_add(lanes.bulk) > LANES_MAX {
                return Err(bad("number of lanes"));
            }
            let life = Life::import(&handed, clock::now());
            let node = NodeIdentity {
                member_id: handed.member_id.clone(),
                name: handed.name,
                region: handed.region,
                address,
            };
            let mut trunk = self.register().begin(node, handed.run.to_vec(), lanes);
            trunk.life = life;
            trunk.sessions.settle(handed.taken_on);
            self.register().trunks.lock().insert(handed.member_id, trunk);
        }
        Ok(())
    }

    /// Takes on a predecessor's session: its node attaches it once it has found its way here.
    ///
    /// # Errors
    ///
    /// It has no place.
    pub fn adopt(
        &self,
        place: &TrunkPlace,
        machine: Session,
    ) -> Result<(SessionPort, NodeIdentity), AdoptError> {
        let sessions = self.register().sessions_with(&place.member_id);
        let sessions = sessions.ok_or_else(|| AdoptError::NoTrunk(place.member_id.clone()))?;
        let node = sessions.node().cloned();
        let port = sessions.adopt(place.session, place.lane, machine);
        let no_place = AdoptError::NoPlace { id: place.session, lane: place.lane };
        port.zip(node).ok_or(no_place)
    }
}

impl Register {
    fn sessions_with(&self, member_id: &str) -> Option<Arc<Sessions>> {
        self.trunks.lock().get(member_id).map(|trunk| Arc::clone(&trunk.sessions))
    }
}
