//! The core's end: takes lanes from the nodes on its roster and gives out their sessions.

mod listen;
mod register;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::DESCRIPTORS;
use antipode_proto::session::Config as SessionConfig;
use antipode_proto::trunk::v1::trunk_server::TrunkServer as TrunkService;
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_tunnel::shield::QuicCounts;
use antipode_tunnel::{TrunkTuning, Way};
use tokio::sync::{mpsc, watch};
use tokio::time::interval;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Server;

pub use listen::{Listen, StartError};
pub(crate) use register::Register;
pub use register::{AdoptError, BadTrunk};

use crate::batch::BATCH_BYTES_READ_MAX;
use crate::budget::Budget;
use crate::carrier::AcceptedLane;
use crate::lane::{CONNECTION_WINDOW_BYTES, KEEP_ALIVE, LANE_WINDOW_BYTES, SWEEP_INTERVAL};
use crate::metrics::Metrics;
use crate::peer::{Incoming, NodeIdentity, TrunkState};
use crate::service::LaneService;

/// Lanes accepted and not yet served.
const LANES_WAITING_MAX: usize = 256;

/// How often a node whose process is said to be gone is listened for.
const GONE_INTERVAL: Duration = Duration::from_millis(250);

/// A core keeps a session this much longer than its node does: a node that comes back in time must
/// find it, or it would tell the core a request for the second time.
pub(crate) const CORE_PATIENCE: Duration = Duration::from_secs(30);

/// Settings of a core's end.
#[derive(Clone, Debug)]
pub struct AcceptConfig {
    /// The core's certificate, and the authority that nodes' certificates must come from.
    pub tls: Arc<rustls::ServerConfig>,
    /// QUIC's windows and timers.
    pub tuning: TrunkTuning,
    /// Limits of each session.
    pub session: SessionConfig,
    /// Most sessions over all trunks.
    pub sessions_max: usize,
    /// Most bytes that they may hold together.
    pub budget: Budget,
    /// 16 random bytes drawn when the process started.
    pub run: [u8; 16],
    /// Name and version, for the peer's log.
    pub software: String,
}

/// The core's end of all trunks. Clones share it.
#[derive(Clone, Debug)]
pub struct TrunkServer {
    register: Arc<Register>,
    nodes: Arc<watch::Sender<BTreeMap<Ipv6Addr, NodeIdentity>>>,
}

impl TrunkServer {
    /// Serves lanes on `listen` until the services of `shutdown` stop.
    ///
    /// Nobody is let in before [`TrunkServer::set_nodes`] names them.
    ///
    /// # Errors
    ///
    /// The TLS settings don't suit QUIC, or a socket can't be used.
    pub fn start(
        config: AcceptConfig,
        listen: Vec<Listen>,
        shutdown: &Shutdown,
        metrics: Metrics,
    ) -> Result<(Self, mpsc::Receiver<Incoming>), StartError> {
        let (incoming, accepted) = mpsc::channel(1024);
        let (nodes, on_roster) = watch::channel(BTreeMap::new());
        let mut session = config.session;
        session.resume_window += CORE_PATIENCE;
        let register =
            Register::new(session, config.sessions_max, incoming, config.budget.clone(), metrics);

        let service = LaneService {
            register: Arc::clone(&register),
            on_roster: on_roster.clone(),
            shutdown: shutdown.clone(),
            run: config.run,
            software: config.software.clone(),
        };
        for listen in listen {
            let lanes = serve(service.clone(), listen.keep_alive(), shutdown);
            listen::start(listen, &config, &on_roster, &lanes, &register, shutdown)?;
        }
        sweep(Arc::clone(&register), shutdown);
        Ok((Self { register, nodes: Arc::new(nodes) }, accepted))
    }

    /// Names the nodes that may open lanes. One that is missing is cut off at once, and its
    /// sessions end.
    pub fn set_nodes(&self, nodes: Vec<NodeIdentity>) {
        let nodes: BTreeMap<_, _> = nodes.into_iter().map(|node| (node.address, node)).collect();
        let stay: BTreeSet<_> = nodes.values().map(|node| node.member_id.clone()).collect();
        // First nobody gets in any more, then those who are in have to go.
        self.nodes.send_replace(nodes);
        self.register.retain(|member_id| stay.contains(member_id));
    }

    /// Names whom to tell what QUIC counts on the way to each node, four times a second. The first
    /// one that is named stays.
    pub fn on_quic(&self, told: impl Fn(Ipv6Addr, QuicCounts) + Send + Sync + 'static) {
        self.register.on_quic.set(told);
    }

    /// Names whom to ask, as a node connects, which way the tunnel speaks to it: a path starts warm
    /// only as long as it is the same. The first one that is named stays.
    pub fn ask_way(&self, asked: impl Fn(Ipv6Addr) -> Option<Way> + Send + Sync + 'static) {
        self.register.way_to.set(asked);
    }

    /// Somebody who would know, the gateway, says that the process of one of a node's runs is gone.
    ///
    /// If its trunk has been silent for 2 s, or becomes so, its sessions end with
    /// [`Cause::ClientLost`](antipode_proto::trunk::v1::Cause::ClientLost), without waiting for the
    /// node to come back. Nothing follows if it is heard again before that.
    pub fn handle_process_gone(&self, member_id: &str, run: &[u8]) {
        self.register.handle_process_gone(member_id, run, clock::now());
    }

    /// What all sessions may hold, for sessions beside the trunks to count with them.
    #[must_use]
    pub fn budget(&self) -> &Budget {
        self.register.budget()
    }

    /// Every trunk that has sessions or lanes.
    #[must_use]
    pub fn states(&self) -> Vec<TrunkState> {
        self.register.states()
    }

    pub(crate) fn register(&self) -> &Register {
        &self.register
    }

    /// Sessions held over all trunks.
    #[must_use]
    pub fn sessions_count(&self) -> usize {
        self.register.sessions_count()
    }
}

/// Serves what lanes come in at one place, and asks those that are silent for `keep_alive`.
fn serve(
    service: LaneService,
    keep_alive: Option<Duration>,
    shutdown: &Shutdown,
) -> mpsc::Sender<AcceptedLane> {
    let (lanes, waiting) = mpsc::channel(LANES_WAITING_MAX);
    let (health_reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .build_v1()
        .expect("the descriptors were made by our own build");
    let trunk = TrunkService::new(service)
        .max_decoding_message_size(BATCH_BYTES_READ_MAX)
        .max_encoding_message_size(BATCH_BYTES_READ_MAX);
    let server = Server::builder()
        .initial_stream_window_size(LANE_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(keep_alive)
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .add_service(health)
        .add_service(reflection)
        .add_service(trunk);
    shutdown.spawn_essential("trunk server", async move {
        health_reporter.set_serving::<TrunkService<LaneService>>().await;
        let lanes =
            tokio_stream::StreamExt::map(ReceiverStream::new(waiting), Ok::<_, std::io::Error>);
        server.serve_with_incoming(lanes).await
    });
    lanes
}

fn sweep(register: Arc<Register>, shutdown: &Shutdown) {
    shutdown.spawn_service(async move {
        let mut tick = interval(SWEEP_INTERVAL);
        let mut look = interval(GONE_INTERVAL);
        loop {
            tokio::select! {
                _ = tick.tick() => register.handle_timeout(clock::now()),
                _ = look.tick() => register.end_gone(clock::now()),
            }
        }
    });
}
