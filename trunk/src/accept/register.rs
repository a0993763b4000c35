//! Which node has which trunk: one run of a node's process is one trunk.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use antipode_proto::session::Config;
use antipode_proto::trunk::v1::{Cause, Hello};
use antipode_runtime::clock;
use antipode_tunnel::Class;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::Status;
use tracing::info;

use crate::budget::Budget;
use crate::carrier::LanePeer;
use crate::demand::Demand;
use crate::metrics::Metrics;
use crate::peer::{Incoming, NodeIdentity, TrunkState};
use crate::quic_counts::OnQuic;
use crate::sessions::{Admission, Lanes, Pause, SessionLimit, Sessions};
use crate::way_to::WayTo;

mod gone;
mod handover;

use gone::Life;
pub use handover::{AdoptError, BadTrunk};

/// How long a stopping core waits for its sessions' ends to be taken by their lanes.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// And then for the batches that hold them to be sent: closing QUIC throws away what it still has.
const LAST_BATCH: Duration = Duration::from_millis(200);

/// The trunks of a core, by the member at their other end.
#[derive(Debug)]
pub(crate) struct Register {
    config: Config,
    limit: Arc<SessionLimit>,
    incoming: mpsc::Sender<Incoming>,
    budget: Budget,
    metrics: Metrics,
    trunks: Mutex<BTreeMap<String, Trunk>>,
    pub(super) pause: Arc<Pause>,
    /// Whether lanes for bulk can come in.
    takes_bulk: AtomicBool,
    /// What each node's connections are told, by member id.
    demands: Mutex<BTreeMap<String, Demand>>,
    pub(super) on_quic: OnQuic,
    pub(super) way_to: WayTo,
    /// Where QUIC comes in.
    pub(super) endpoints: Mutex<Vec<quinn::Endpoint>>,
}

#[derive(Debug)]
struct Trunk {
    run: Vec<u8>,
    lanes: Lanes,
    sessions: Arc<Sessions>,
    life: Life,
}

impl Register {
    pub(crate) fn new(
        config: Config,
        sessions_max: usize,
        incoming: mpsc::Sender<Incoming>,
        budget: Budget,
        metrics: Metrics,
    ) -> Arc<Self> {
        let limit = SessionLimit::new(sessions_max);
        Arc::new(Self {
            config,
            limit,
            incoming,
            budget,
            metrics,
            trunks: Mutex::default(),
            pause: Arc::default(),
            on_quic: OnQuic::default(),
            way_to: WayTo::default(),
            takes_bulk: AtomicBool::new(false),
            demands: Mutex::default(),
            endpoints: Mutex::default(),
        })
    }

    /// There is a socket for lanes of this class.
    pub(crate) fn lets_in(&self, class: Class) {
        self.takes_bulk.fetch_or(class == Class::Bulk, Ordering::AcqRel);
    }

    /// What a node's connections are told.
    pub(crate) fn demand(&self, member_id: &str) -> Demand {
        self.demands.lock().entry(member_id.to_owned()).or_default().clone()
    }

    /// The trunk that a lane belongs to, made if it is the first lane of the node's run, and the
    /// run to tell the node if it is not this process's. The sessions of an older run end: the
    /// process that held their clients is gone.
    pub(crate) fn trunk(
        &self,
        peer: &LanePeer,
        hello: &Hello,
    ) -> Result<(Arc<Sessions>, Option<[u8; 16]>), Status> {
        let LanePeer { node, heard } = peer;
        let mut trunks = self.trunks.lock();
        if self.pause.is_halted() {
            return Err(Status::unavailable("a new process takes over: come back"));
        }
        if let Some(trunk) = trunks.get_mut(&node.member_id) {
            // A trunk that another process began may have no lanes for bulk.
            if trunk.run == hello.run && trunk.lanes.chat == hello.lanes {
                trunk.life.carried_by(heard);
                return Ok((Arc::clone(&trunk.sessions), trunk.life.told_run));
            }
            if trunk.run == hello.run {
                return Err(Status::invalid_argument("a run keeps its number of lanes"));
            }
            // What a kernel still sends for a process that has died comes late, and must not end
            // the sessions of the one after it.
            if trunk.life.replaced(&hello.run) {
                return Err(Status::aborted("a newer process of this node has the trunk"));
            }
        }
        let bulk = if self.takes_bulk.load(Ordering::Acquire) { hello.bulk_lanes } else { 0 };
        let lanes = Lanes { chat: hello.lanes, bulk };
        let mut trunk = self.begin(node.clone(), hello.run.to_vec(), lanes);
        trunk.life.carried_by(heard);
        let sessions = Arc::clone(&trunk.sessions);
        let mut older = trunks.remove(&node.member_id);
        if let Some(older) = &mut older {
            trunk.life.replace(&older.run, &mut older.life);
        }
        trunks.insert(node.member_id.clone(), trunk);
        drop(trunks);
        let (Lanes { chat, bulk }, software) = (lanes, &hello.software);
        info!(node = %node.name, %software, lanes = chat, bulk_lanes = bulk, "trunk opened");
        if let Some(older) = older {
            older.end(Cause::ClientLost, "the node was restarted");
        }
        Ok((sessions, None))
    }

    pub(crate) const fn budget(&self) -> &Budget {
        &self.budget
    }

    /// A trunk without sessions.
    fn begin(&self, node: NodeIdentity, run: Vec<u8>, lanes: Lanes) -> Trunk {
        let admission = Admission {
            incoming: self.incoming.clone(),
            node,
            limit: Arc::clone(&self.limit),
            pause: Arc::clone(&self.pause),
        };
        let (config, metrics) = (self.config, self.metrics.clone());
        let sessions = Sessions::new(lanes, config, Some(admission), self.budget.clone(), metrics);
        Trunk { run, lanes, sessions, life: Life::default() }
    }

    /// Cuts off every node that `stays` does not name.
    pub(crate) fn retain(&self, stays: impl Fn(&str) -> bool) {
        let mut trunks = self.trunks.lock();
        let gone: Vec<_> = trunks.keys().filter(|member| !stays(member)).cloned().collect();
        let gone: Vec<_> = gone.iter().filter_map(|member| trunks.remove(member)).collect();
        drop(trunks);
        self.demands.lock().retain(|member, _| stays(member));
        gone.iter().for_each(|trunk| trunk.end(Cause::Policy, "the node was taken off the roster"));
    }

    pub(crate) fn handle_timeout(&self, now: Instant) {
        let longest = |trunks: &mut BTreeMap<String, Trunk>| {
            let in_use = trunks.values_mut().filter(|trunk| trunk.sessions.is_in_use());
            in_use.map(|trunk| trunk.silence(now)).max().unwrap_or_default()
        };
        self.metrics.silence.set(longest(&mut self.trunks.lock()).as_secs_f64());
        let all = self.all();
        for (_, sessions) in &all {
            sessions.handle_timeout(now);
            if let Some(node) = sessions.node() {
                self.demand(&node.member_id).count(sessions);
            }
        }
        drop(all);
        // A lane that has greeted and is not up yet holds the trunk too: were it dropped here, that
        // lane's sessions would be on no register.
        self.trunks.lock().retain(|_, trunk| {
            let is_held = Arc::strong_count(&trunk.sessions) > 1;
            is_held || trunk.sessions.is_in_use() || trunk.life.told_run.is_some()
        });
    }

    pub(crate) fn states(&self) -> Vec<TrunkState> {
        let now = clock::now();
        let state = |(member_id, trunk): (&String, &mut Trunk)| TrunkState {
            member_id: member_id.clone(),
            lanes_up: trunk.sessions.lanes_up(),
            sessions: trunk.sessions.len(),
            silence: trunk.silence(now),
            rtt: None,
            loss_ppm: 0,
        };
        self.trunks.lock().iter_mut().map(state).collect()
    }

    pub(crate) fn sessions_count(&self) -> usize {
        self.all().iter().map(|(_, sessions)| sessions.len()).sum()
    }

    /// Waits until the last words of all sessions are on their way, but not for those that the far
    /// end does not acknowledge.
    pub(crate) async fn spoken_out(&self) {
        let silence = async {
            while self.sessions_count() > 0 {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = timeout(LAST_WORDS, silence).await;
        sleep(LAST_BATCH).await;
    }

    fn all(&self) -> Vec<(String, Arc<Sessions>)> {
        let trunks = self.trunks.lock();
        let pair = |(id, trunk): (&String, &Trunk)| (id.clone(), Arc::clone(&trunk.sessions));
        trunks.iter().map(pair).collect()
    }
}

impl Trunk {
    fn silence(&mut self, now: Instant) -> Duration {
        self.life.heard().map_or(Duration::ZERO, |heard| now.saturating_duration_since(heard))
    }

    fn end(&self, cause: Cause, detail: &str) {
        self.sessions.close(cause, detail);
    }
}
