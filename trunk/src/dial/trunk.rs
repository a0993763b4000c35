//! One trunk, dialled again and again: the carrier first, then every lane on it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use antipode_proto::registry::v1::Carrier as CarrierKind;
use antipode_proto::trunk::v1::trunk_client::TrunkClient;
use antipode_proto::trunk::v1::{Batch, Cause, Hello};
use antipode_runtime::backoff::{Backoff, Bounds};
use antipode_runtime::member::names::member_name;
use antipode_runtime::shutdown::Shutdown;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use quinn::Endpoint;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Uri};
use tonic::{Status, Streaming};
use tracing::{Instrument, debug, info, info_span, warn};

use super::{CoreTarget, TrunksConfig};
use crate::batch::{BATCH_BYTES_READ_MAX, greeting};
use crate::carrier::{Carrier, LaneIo};
use crate::lane::{self, BATCHES_AHEAD, KEEP_ALIVE, LANE_WINDOW_BYTES, VERSION};
use crate::peer::TrunkState;
use crate::sessions::Sessions;

/// A lost trunk is dialled again within a second, so that a link that is back is used at once.
const DIAL_AGAIN: Bounds =
    Bounds { first: Duration::from_millis(100), max: Duration::from_secs(1) };

/// Time for the QUIC handshake; three round trips of a bad path.
const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// Time for a lane's greeting to come back.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);

/// A trunk to one core and the task that keeps it up.
#[derive(Debug)]
pub(super) struct Trunk {
    target: Option<CoreTarget>,
    pub(super) sessions: Arc<Sessions>,
    carrier: Arc<Mutex<Option<Carrier>>>,
    stop: CancellationToken,
}

/// What the dialling task needs.
struct Dialler {
    target: CoreTarget,
    sessions: Arc<Sessions>,
    carrier: Arc<Mutex<Option<Carrier>>>,
    config: TrunksConfig,
    endpoint: Option<Endpoint>,
}

/// Why a lane can't be had, or broke.
#[derive(Debug, thiserror::Error)]
enum LaneError {
    #[error("cannot reach the core through the tunnel")]
    Carrier(#[source] io::Error),
    #[error("cannot start HTTP/2 on the lane")]
    Http(#[source] tonic::transport::Error),
    #[error("the core ended the lane: {0}")]
    Call(#[from] Status),
    #[error("the core did not greet within {GREETING_PATIENCE:?}")]
    Silent,
}

impl Trunk {
    pub(super) fn dial(
        target: CoreTarget,
        sessions: Arc<Sessions>,
        config: &TrunksConfig,
        endpoint: &Option<Endpoint>,
        shutdown: &Shutdown,
    ) -> Self {
        let (carrier, stop) = (Arc::default(), CancellationToken::new());
        let dialler = Dialler {
            target: target.clone(),
            sessions: Arc::clone(&sessions),
            carrier: Arc::clone(&carrier),
            config: config.clone(),
            endpoint: endpoint.clone(),
        };
        let stopped = stop.clone();
        let span = info_span!("trunk", core = %target.name);
        shutdown.spawn_service(
            async move {
                stopped.run_until_cancelled(dialler.keep_up()).await;
            }
            .instrument(span),
        );
        Self { target: Some(target), sessions, carrier, stop }
    }

    pub(super) fn in_memory(sessions: Arc<Sessions>) -> Self {
        let (carrier, stop) = (Arc::default(), CancellationToken::new());
        Self { target: None, sessions, carrier, stop }
    }

    /// The same sessions, dialled at another place.
    pub(super) fn moved(
        self,
        target: CoreTarget,
        config: &TrunksConfig,
        endpoint: &Option<Endpoint>,
        shutdown: &Shutdown,
    ) -> Self {
        self.stop.cancel();
        Self::dial(target, self.sessions, config, endpoint, shutdown)
    }

    pub(super) fn end(self, cause: Cause, detail: &str) {
        self.stop.cancel();
        self.sessions.end_all(cause, detail);
    }

    pub(super) const fn target(&self) -> Option<&CoreTarget> {
        self.target.as_ref()
    }

    pub(super) fn state(&self, member_id: &str) -> TrunkState {
        let carrier = self.carrier.lock();
        TrunkState {
            member_id: member_id.to_owned(),
            lanes_up: self.sessions.lanes_up(),
            sessions: self.sessions.len(),
            rtt: carrier.as_ref().and_then(Carrier::rtt),
            loss_ppm: carrier.as_ref().map_or(0, Carrier::loss_ppm),
        }
    }
}

impl Dialler {
    async fn keep_up(self) {
        let dialler = Arc::new(self);
        let mut backoff = Backoff::new(DIAL_AGAIN);
        let mut told = false;
        loop {
            match dialler.carrier().await {
                Ok(carrier) => {
                    info!("trunk is up");
                    backoff.reset();
                    told = false;
                    let reason = Arc::clone(&dialler).run_lanes(carrier).await;
                    warn!(reason, "trunk lost: dialling again");
                }
                // Once a change, not once a try.
                Err(error) if !told => {
                    told = true;
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    warn!(%error, cause, "no trunk: check the core's port, and clocks; trying on");
                }
                Err(error) => debug!(%error, "no trunk"),
            }
            let delay = backoff.next_delay(&mut rand::rng());
            sleep(delay).await;
        }
    }

    async fn carrier(&self) -> Result<Carrier, LaneError> {
        let address = SocketAddr::from((self.target.address, self.target.port));
        let dial = async {
            match (self.target.carrier, &self.endpoint) {
                (CarrierKind::Tcp, _) => {
                    let carrier = Carrier::Tcp(address);
                    drop(carrier.open().await?);
                    Ok(carrier)
                }
                (CarrierKind::Quic | CarrierKind::Unspecified, Some(endpoint)) => {
                    let name = member_name(&self.target.member_id);
                    let connecting = endpoint.connect(address, &name).map_err(io::Error::other)?;
                    Ok(Carrier::Quic(connecting.await?))
                }
                (CarrierKind::Quic | CarrierKind::Unspecified, None) => {
                    Err(io::Error::other("the core wants QUIC, and this node has only TCP"))
                }
            }
        };
        let dialled = timeout(DIAL_PATIENCE, dial).await;
        let dialled = dialled.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        dialled.map_err(LaneError::Carrier)
    }

    /// Runs every lane on the carrier until the carrier is gone; says why it went.
    async fn run_lanes(self: Arc<Self>, carrier: Carrier) -> String {
        *self.carrier.lock() = Some(carrier.clone());
        let mut lanes = JoinSet::new();
        for index in 0..self.config.lanes {
            let lane = Arc::clone(&self).keep_lane(index, carrier.clone());
            lanes.spawn(lane.instrument(info_span!("lane", lane.id = index)));
        }
        // A lane gives up only when the carrier is gone: then it is gone for the others too, and
        // one that has not noticed yet would keep the rest from being dialled again.
        let reason = match lanes.join_next().await {
            Some(ended) => ended.unwrap_or_else(|error| error.to_string()),
            None => "no lanes".to_owned(),
        };
        lanes.shutdown().await;
        *self.carrier.lock() = None;
        reason
    }

    async fn keep_lane(self: Arc<Self>, index: u32, carrier: Carrier) -> String {
        let mut backoff = Backoff::new(DIAL_AGAIN);
        loop {
            let mut carried = false;
            let error = match self.run_lane(index, &carrier, &mut carried).await {
                Ok(()) => "the core ended the lane".to_owned(),
                Err(error) => error.to_string(),
            };
            if carried {
                backoff.reset();
                self.sessions.metrics.lanes_lost.inc();
            }
            if let Some(reason) = carrier.close_reason() {
                return reason;
            }
            debug!(error, "lane broke");
            // A TCP carrier has no state of its own: it is gone when none of its lanes is up.
            if matches!(carrier, Carrier::Tcp(_)) && !carried && self.sessions.lanes_up() == 0 {
                return error;
            }
            let delay = backoff.next_delay(&mut rand::rng());
            sleep(delay).await;
        }
    }

    async fn run_lane(
        &self,
        index: u32,
        carrier: &Carrier,
        carried: &mut bool,
    ) -> Result<(), LaneError> {
        let io = carrier.open().await.map_err(LaneError::Carrier)?;
        let mut client = TrunkClient::new(channel(io).await.map_err(LaneError::Http)?)
            .max_decoding_message_size(BATCH_BYTES_READ_MAX)
            .max_encoding_message_size(BATCH_BYTES_READ_MAX);
        let (out, stream) = mpsc::channel(BATCHES_AHEAD);
        let _ = out.send(greeting(self.hello(index))).await;

        let begin = async {
            let mut inward = client.lane(ReceiverStream::new(stream)).await?.into_inner();
            let hello = lane::read_hello(&mut inward).await?;
            Ok::<_, Status>((inward, hello))
        };
        let (mut inward, hello) =
            timeout(GREETING_PATIENCE, begin).await.map_err(|_| LaneError::Silent)??;
        self.sessions.handle_peer_run(&hello.run);
        *carried = true;
        self.carry(index, &mut inward, &out).await
    }

    async fn carry(
        &self,
        index: u32,
        inward: &mut Streaming<Batch>,
        out: &mpsc::Sender<Batch>,
    ) -> Result<(), LaneError> {
        let sessions = &self.sessions;
        let Some(held) = sessions.lane_up(index) else { return Ok(()) };
        tokio::select! {
            () = held.revoked() => Ok(()),
            outcome = lane::read_batches(sessions, index, inward) => Ok(outcome?),
            () = lane::write_batches(&held.writer, out, &sessions.metrics, |batch| batch) => Ok(()),
        }
    }

    fn hello(&self, index: u32) -> Hello {
        Hello {
            version: VERSION,
            run: self.config.run.to_vec().into(),
            lane: index,
            lanes: self.config.lanes,
            software: self.config.software.clone(),
            keeps_payloads: true,
        }
    }
}

/// HTTP/2 on one lane's bytes.
async fn channel(io: LaneIo) -> Result<Channel, tonic::transport::Error> {
    Channel::from_static("http://core.antipode")
        .initial_stream_window_size(LANE_WINDOW_BYTES)
        .initial_connection_window_size(2 * LANE_WINDOW_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(Ready(Some(io)))
        .await
}

/// A connector whose bytes are there already. It can't give them twice: a lane that breaks is
/// opened anew.
struct Ready(Option<LaneIo>);

impl tower_service::Service<Uri> for Ready {
    type Response = TokioIo<LaneIo>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let io = self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into());
        std::future::ready(io.map(TokioIo::new))
    }
}
