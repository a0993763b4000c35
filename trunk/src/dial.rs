//! The node's end: a trunk to each core, kept up for as long as the core is on the roster.

mod dialler;
mod lanes;
mod rank;
mod redial;
mod trunk;
mod wires;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use antipode_proto::registry::v1::Carrier as CarrierKind;
use antipode_proto::session::Config as SessionConfig;
use antipode_proto::trunk::v1::{Cause, RequestHead};
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_tunnel::TrunkTuning;
use antipode_tunnel::shield::QuicCounts;
use parking_lot::Mutex;
use quinn::AsyncUdpSocket;
use tokio::sync::mpsc;
use tokio::time::interval;

use crate::budget::Budget;
pub use crate::carrier::StartError;
use crate::lane::SWEEP_INTERVAL;
use crate::metrics::Metrics;
use crate::peer::{Incoming, TrunkState};
use crate::port::SessionPort;
use crate::quic_counts::OnQuic;
use crate::sessions::Sessions;
use dialler::OnDial;
use trunk::{Means, Trunk};
use wires::Wires;

/// Settings of a node's end.
#[derive(Clone, Debug)]
pub struct TrunksConfig {
    /// The node's certificate, and the authority that cores' certificates must come from.
    pub tls: Arc<rustls::ClientConfig>,
    /// QUIC's windows and timers.
    pub tuning: TrunkTuning,
    /// Limits of each session.
    pub session: SessionConfig,
    /// Most bytes that all may hold together.
    pub budget: Budget,
    /// gRPC calls to each core. More lanes mean that one lost packet holds up fewer sessions.
    pub lanes: u32,
    /// As many for large frames and bodies, over a connection of their own; 0 for none.
    pub bulk_lanes: u32,
    /// 16 random bytes drawn when the process started.
    pub run: [u8; 16],
    /// Name and version, for the peer's log.
    pub software: String,
}

/// UDP sockets inside the tunnel, for QUIC.
#[derive(Debug)]
pub struct Sockets {
    /// Of the class for chat.
    pub chat: Arc<dyn AsyncUdpSocket>,
    /// Of the class for bulk; without one there are no lanes for bulk.
    pub bulk: Option<Arc<dyn AsyncUdpSocket>>,
}

/// A core on the roster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CoreTarget {
    /// The identity in its certificate.
    pub member_id: String,
    /// What the operator calls it.
    pub name: String,
    /// Its address inside the tunnel, which follows from its WireGuard key.
    pub address: Ipv6Addr,
    /// Where it accepts trunks; those over QUIC have their lanes for bulk on the port after it.
    pub port: u16,
    /// What it accepts them on.
    pub carrier: CarrierKind,
}

/// Why a session can't be opened.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum OpenError {
    /// The roster has no core.
    #[error("no core is registered")]
    NoCore,
    /// There are cores, and no lane to any of them.
    #[error("no trunk to a core is up")]
    TrunkDown,
}

/// The node's end of all trunks. Clones share it.
#[derive(Clone, Debug)]
pub struct Trunks {
    inner: Arc<Inner>,
}

struct Inner {
    config: Option<TrunksConfig>,
    wires: Option<Wires>,
    shutdown: Shutdown,
    metrics: Metrics,
    on_dial: OnDial,
    on_quic: OnQuic,
    trunks: Mutex<BTreeMap<String, Trunk>>,
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trunks").field("trunks", &self.trunks).finish_non_exhaustive()
    }
}

impl Trunks {
    /// Gets ready to dial; [`Trunks::set_cores`] says whom. Without sockets only cores with the TCP
    /// carrier can be reached.
    ///
    /// # Errors
    ///
    /// The TLS settings or a socket don't suit QUIC.
    pub fn start(
        config: TrunksConfig,
        sockets: Option<Sockets>,
        shutdown: &Shutdown,
        metrics: Metrics,
    ) -> Result<Self, StartError> {
        let wires = sockets.map(|sockets| Wires::new(&config, sockets)).transpose()?;
        let trunks = Self::with(Some(config), wires, shutdown.clone(), metrics);
        trunks.sweep();
        Ok(trunks)
    }

    /// Trunks without a network: what is opened comes out of the receiver, as at a core. For tests.
    #[must_use]
    pub fn in_memory() -> (Self, mpsc::Receiver<Incoming>) {
        let (sessions, accepted) = crate::testing::joined();
        let trunks = Self::with(None, None, Shutdown::default(), Metrics::default());
        let trunk = Trunk::in_memory(sessions);
        trunks.inner.trunks.lock().insert("in-memory".to_owned(), trunk);
        (trunks, accepted)
    }

    /// Names the cores to have a trunk with. The sessions of one that is missing end; one that
    /// moved is dialled at its new place and its sessions go on.
    pub fn set_cores(&self, cores: Vec<CoreTarget>) {
        let Inner { config, wires, shutdown, metrics, on_dial, on_quic, .. } = &*self.inner;
        let Some(config) = config else { return };
        let means = Means { config, wires, on_dial, on_quic, shutdown };
        let mut trunks = self.inner.trunks.lock();
        let mut older = std::mem::take(&mut *trunks);
        for target in cores {
            let kept = older.remove(&target.member_id);
            let trunk = match kept {
                Some(trunk) if trunk.target() == Some(&target) => trunk,
                Some(trunk) => trunk.moved(target.clone(), &means),
                None => {
                    let (lanes, metrics) = (means.lanes(target.carrier), metrics.clone());
                    let budget = config.budget.clone();
                    let sessions = Sessions::new(lanes, config.session, None, budget, metrics);
                    Trunk::dial(target.clone(), sessions, &means)
                }
            };
            trunks.insert(target.member_id, trunk);
        }
        drop(trunks);
        older.into_values().for_each(|trunk| {
            trunk.end(Cause::SessionLost, "the core was taken off the roster");
        });
    }

    /// Names whom to tell, with the core's address in the tunnel, that a core is dialled: ten times
    /// a second for as long as it is.
    ///
    /// A core may have lost its keys with a restart, or may have heard of us only now; WireGuard's
    /// own timers would wait for seconds. The first one that is named stays.
    pub fn on_dial(&self, told: impl Fn(Ipv6Addr) + Send + Sync + 'static) {
        let _ = self.inner.on_dial.set(Box::new(told));
    }

    /// Names whom to tell what QUIC counts on the way to each core, ten times a second. The first
    /// one that is named stays.
    pub fn on_quic(&self, told: impl Fn(Ipv6Addr, QuicCounts) + Send + Sync + 'static) {
        self.inner.on_quic.set(told);
    }

    /// Opens a session at the core that is the client's by rendezvous hash, of those that are heard
    /// and have not refused one lately; if there is none, of those whose lanes are up.
    ///
    /// # Errors
    ///
    /// There is no core, or no trunk to one is up right now.
    pub fn open(&self, head: RequestHead) -> Result<SessionPort, OpenError> {
        let ranked: Vec<_> = {
            let trunks = self.inner.trunks.lock();
            if trunks.is_empty() {
                return Err(OpenError::NoCore);
            }
            let now = clock::now();
            let mut up: Vec<_> = trunks.iter().filter(|(_, trunk)| trunk.is_up()).collect();
            up.sort_by_cached_key(|(core, trunk)| {
                let rank = rank::rank(&head.client_ip, core);
                (trunk.is_silent(), trunk.sessions.refuses(now), Reverse(rank))
            });
            up.into_iter().map(|(_, trunk)| Arc::clone(&trunk.sessions)).collect()
        };
        open_first(&ranked, head).ok_or(OpenError::TrunkDown)
    }

    /// Opens a session at one core and no other: one that goes on with what this core holds.
    ///
    /// # Errors
    ///
    /// There is no such core, or its trunk is not up right now.
    pub fn open_at(&self, core: &str, head: RequestHead) -> Result<SessionPort, OpenError> {
        let sessions = self.inner.trunks.lock().get(core).map(|trunk| Arc::clone(&trunk.sessions));
        let sessions = sessions.ok_or(OpenError::NoCore)?;
        sessions.open(head).map_err(|_| OpenError::TrunkDown)
    }

    /// The tunnel's way to the core with this address is another one: its trunk is dialled anew
    /// beside what it has. The older connection has measured another path.
    pub fn handle_way_changed(&self, address: Ipv6Addr) {
        let trunks = self.inner.trunks.lock();
        let to_core = |trunk: &&Trunk| trunk.target().is_some_and(|core| core.address == address);
        trunks.values().filter(to_core).for_each(Trunk::handle_way_changed);
    }

    /// Whether a session could be opened now.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.inner.trunks.lock().values().any(Trunk::is_up)
    }

    /// Whether a session could be opened now at this core, by its member id.
    #[must_use]
    pub fn is_up_to(&self, core: &str) -> bool {
        self.inner.trunks.lock().get(core).is_some_and(Trunk::is_up)
    }

    /// Every trunk, by core.
    #[must_use]
    pub fn states(&self) -> Vec<TrunkState> {
        let trunks = self.inner.trunks.lock();
        trunks.iter().map(|(member_id, trunk)| trunk.state(member_id)).collect()
    }

    fn with(
        config: Option<TrunksConfig>,
        wires: Option<Wires>,
        shutdown: Shutdown,
        metrics: Metrics,
    ) -> Self {
        let (on_dial, on_quic, trunks) = (OnDial::default(), OnQuic::default(), Mutex::default());
        let inner = Inner { config, wires, shutdown, metrics, on_dial, on_quic, trunks };
        Self { inner: Arc::new(inner) }
    }

    fn sweep(&self) {
        let inner = Arc::downgrade(&self.inner);
        self.inner.shutdown.spawn_service(async move {
            let mut tick = interval(SWEEP_INTERVAL);
            loop {
                tick.tick().await;
                let Some(inner) = inner.upgrade() else { return };
                let now = clock::now();
                let trunks = inner.trunks.lock();
                let silence = trunks.values().map(|trunk| trunk.silence(now)).max();
                inner.metrics.silence.set(silence.unwrap_or_default().as_secs_f64());
                let all: Vec<_> = trunks
                    .values()
                    .map(|trunk| (Arc::clone(&trunk.sessions), trunk.demand.clone()))
                    .collect();
                drop(trunks);
                for (sessions, demand) in all {
                    sessions.handle_timeout(now);
                    demand.count(&sessions);
                }
            }
        });
    }
}

/// A trunk may go down between the look and the opening: then it is the next one's.
fn open_first(ranked: &[Arc<Sessions>], head: RequestHead) -> Option<SessionPort> {
    let mut head = head;
    for sessions in ranked {
        match sessions.open(head) {
            Ok(port) => return Some(port),
            Err(back) => head = *back,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare::Bare;

    #[test]
    fn a_trunk_that_has_just_gone_down_gives_its_client_to_the_next() {
        let node = || Bare::node(2, SessionConfig::default(), Metrics::default());
        let (mut gone, mut left) = (node(), node());
        gone.lane_up(0);
        left.lane_up(1);
        let ranked = [&gone, &left].map(|node| Arc::clone(node.sessions()));
        gone.lane_down(0);
        let head = RequestHead { target: "/a".into(), ..RequestHead::default() };
        let _port = open_first(&ranked, head).expect("one of them is up");
        assert_eq!([&gone, &left].map(Bare::sessions_count), [0, 1]);
        let batch = left.collect_batch(1, clock::now()).expect("the head");
        assert!(format!("{batch:?}").contains("/a"), "{batch:?}");
        left.lane_down(1);
        assert!(open_first(&ranked, RequestHead::default()).is_none());
    }
}
