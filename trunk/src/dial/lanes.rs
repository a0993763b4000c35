//! The lanes on one carrier: each is opened again and again until the carrier is gone or replaced.

use std::future::pending;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use antipode_proto::trunk::v1::trunk_client::TrunkClient;
use antipode_proto::trunk::v1::{Batch, Hello};
use antipode_runtime::backoff::{Backoff, Bounds};
use antipode_tunnel::Class;
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;
use tonic::transport::{Channel, Uri};
use tracing::{Instrument, debug, info_span};

use super::TrunksConfig;
use crate::batch::{BATCH_BYTES_READ_MAX, greeting};
use crate::carrier::{Carrier, Lane};
use crate::lane::{
    self, BATCHES_AHEAD, CONNECTION_WINDOW_BYTES, KEEP_ALIVE, LANE_WINDOW_BYTES, VERSION,
};
use crate::sessions::{HeldLane, Lanes, Sessions};

/// Between two tries to open a lane on a carrier that stands.
const OPEN_AGAIN: Bounds =
    Bounds { first: Duration::from_millis(100), max: Duration::from_secs(1) };

/// Time for a lane's greeting to come back.
const GREETING_PATIENCE: Duration = Duration::from_secs(5);

/// Time for a newer carrier to take the lanes of one that is silent.
const TAKEOVER_PATIENCE: Duration = Duration::from_secs(5);

/// HTTP/2's keep-alive of lanes over QUIC, from the first lane's to the last one's: the connection
/// is asked twice a second, so this only finds a lane that is stuck alone. All 256 together would
/// be 100 KB, 80 ms of a 10 Mbit/s line.
const KEEP_ALIVE_QUIC: Range<Duration> = Duration::from_secs(20)..Duration::from_secs(40);

/// HTTP/2's keep-alive of TCP's first lane: it is what shows that a TCP carrier lives, as QUIC's
/// own shows it of QUIC.
const KEEP_ALIVE_FIRST_TCP: Duration = Duration::from_millis(500);

/// The same of TCP's other lanes: each has a path of its own, and may die alone.
const KEEP_ALIVE_TCP: Duration = Duration::from_secs(2);

/// Why a lane can't be had, or broke.
#[derive(Debug, thiserror::Error)]
enum LaneError {
    #[error("cannot open a stream to the core")]
    Open(#[source] io::Error),
    #[error("cannot start HTTP/2 on the lane")]
    Http(#[source] tonic::transport::Error),
    #[error("the core ended the lane: {0}")]
    Call(#[from] Status),
    #[error("the core did not greet within {GREETING_PATIENCE:?}")]
    Silent,
}

/// A carrier and the lanes on it.
#[derive(Debug)]
pub(super) struct Carried {
    pub(super) carrier: Carrier,
    fate: Fate,
    lanes: JoinSet<String>,
}

/// What a carrier's lanes and its keeper tell each other.
#[derive(Clone, Debug, Default)]
struct Fate {
    /// The core has greeted on one of the lanes.
    proven: Arc<AtomicBool>,
    /// A newer carrier takes the lanes: what ends here is not opened again.
    retired: CancellationToken,
    /// The core has taken our lanes before, and the carrier vouches for it: sessions ask for their
    /// place without waiting for its greeting, which saves a round trip.
    is_known: bool,
}

/// What is known of a core before it greets.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Acquaintance {
    /// It took our lanes the last time.
    Known,
    /// It was never there, or refused our lanes.
    Unknown,
}

/// What every lane needs.
#[derive(Debug)]
pub(super) struct LaneDialler {
    pub(super) sessions: Arc<Sessions>,
    pub(super) config: TrunksConfig,
    /// Of which lanes.
    pub(super) class: Class,
}

impl Carried {
    /// Begins to open the lanes. `core` says whether it took them the last time.
    pub(super) fn start(carrier: Carrier, core: Acquaintance, dialler: &Arc<LaneDialler>) -> Self {
        let is_known = core == Acquaintance::Known && matches!(carrier, Carrier::Quic(_));
        let (fate, mut lanes) = (Fate { is_known, ..Fate::default() }, JoinSet::new());
        for index in dialler.indices() {
            let lane = Arc::clone(dialler).keep_lane(index, carrier.clone(), fate.clone());
            lanes.spawn(lane.instrument(info_span!("lane", lane.id = index)));
        }
        Self { carrier, fate, lanes }
    }

    /// Whether the core has taken a lane.
    pub(super) fn is_proven(&self) -> bool {
        self.fate.proven.load(Ordering::Acquire)
    }

    /// Waits until the carrier is gone; says why it went. Cancel-safe.
    ///
    /// A lane gives up only when the carrier is gone: then it is gone for the others too, and one
    /// that has not noticed yet would keep the rest from being dialled again.
    pub(super) async fn lost(&mut self) -> String {
        match self.lanes.join_next().await {
            Some(ended) => ended.unwrap_or_else(|error| error.to_string()),
            None => "no lanes".to_owned(),
        }
    }

    /// A newer carrier is about to take the lanes: from here on none is opened here, or the two
    /// would take them from each other.
    pub(super) fn yield_lanes(&self) {
        self.fate.retired.cancel();
    }

    /// After [`Carried::yield_lanes`]: closes the carrier when its lanes are taken, or after a
    /// while.
    pub(super) async fn retire(mut self) {
        let taken = async { while self.lanes.join_next().await.is_some() {} };
        let _ = timeout(TAKEOVER_PATIENCE, taken).await;
        self.carrier.close();
    }
}

impl LaneDialler {
    fn indices(&self) -> Range<u32> {
        let Lanes { chat, bulk } = self.sessions.count();
        match self.class {
            Class::Chat => 0..chat,
            Class::Bulk => chat..chat + bulk,
        }
    }

    async fn keep_lane(self: Arc<Self>, index: u32, carrier: Carrier, fate: Fate) -> String {
        let mut backoff = Backoff::new(OPEN_AGAIN);
        loop {
            let mut carried = false;
            let error = match self.run_lane(index, &carrier, &fate, &mut carried).await {
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
            if matches!(carrier, Carrier::Tcp(..)) && !carried && self.sessions.lanes_up() == 0 {
                return error;
            }
            let delay = backoff.next_delay(&mut rand::rng());
            if fate.retired.run_until_cancelled(sleep(delay)).await.is_none() {
                return "replaced".to_owned();
            }
        }
    }

    async fn run_lane(
        &self,
        index: u32,
        carrier: &Carrier,
        fate: &Fate,
        carried: &mut bool,
    ) -> Result<(), LaneError> {
        let count = self.sessions.count();
        let keep_alive = match carrier {
            Carrier::Quic(_) => keep_alive_quic(index, count.chat + count.bulk),
            Carrier::Tcp(..) if index == 0 => KEEP_ALIVE_FIRST_TCP,
            Carrier::Tcp(..) => KEEP_ALIVE_TCP,
        };
        let bytes = carrier.open().await.map_err(LaneError::Open)?;
        let channel = channel(bytes, keep_alive).await.map_err(LaneError::Http)?;
        let mut client = TrunkClient::new(channel)
            .max_decoding_message_size(BATCH_BYTES_READ_MAX)
            .max_encoding_message_size(BATCH_BYTES_READ_MAX);
        let (out, stream) = mpsc::channel(BATCHES_AHEAD);
        let _ = out.send(greeting(self.hello(index))).await;
        let is_early = fate.is_known && !fate.retired.is_cancelled();
        let early = if is_early { self.sessions.lane_up(index) } else { None };

        let begin = async {
            let mut inward = client.lane(ReceiverStream::new(stream)).await?.into_inner();
            let hello = lane::read_hello(&mut inward).await?;
            Ok::<_, Status>((inward, hello))
        };
        let (mut inward, hello) = tokio::select! {
            greeted = timeout(GREETING_PATIENCE, begin) => greeted.map_err(|_| LaneError::Silent)??,
            () = self.write_early(early.as_ref(), &out) => return Ok(()),
        };
        // Before anything else that the core says: what it answers may be a new process's answer.
        self.sessions.handle_peer_run(&hello.run);
        self.sessions.handle_hello(&hello);
        fate.proven.store(true, Ordering::Release);
        *carried = true;
        let take =
            || (!fate.retired.is_cancelled()).then(|| self.sessions.lane_up(index)).flatten();
        let Some(held) = early.or_else(take) else { return Ok(()) };
        tokio::select! {
            outcome = lane::read_batches(&self.sessions, index, &mut inward) => Ok(outcome?),
            () = self.write(&held, &out) => Ok(()),
        }
    }

    /// Writes until the call has ended, or a newer one has the lane. Cancel-safe.
    async fn write(&self, held: &HeldLane, out: &mpsc::Sender<Batch>) {
        tokio::select! {
            () = held.revoked() => {}
            () = lane::write_batches(&held.writer, out, &self.sessions.metrics, |batch| batch) => {}
        }
    }

    async fn write_early(&self, held: Option<&HeldLane>, out: &mpsc::Sender<Batch>) {
        match held {
            Some(held) => self.write(held, out).await,
            None => pending().await,
        }
    }

    fn hello(&self, index: u32) -> Hello {
        Hello {
            version: VERSION,
            run: self.config.run.to_vec().into(),
            lane: index,
            lanes: self.sessions.count().chat,
            software: self.config.software.clone(),
            keeps_payloads: true,
            bulk_lanes: self.sessions.count().bulk,
        }
    }
}

/// Lanes that were opened together are not asked together.
fn keep_alive_quic(index: u32, lanes: u32) -> Duration {
    let Range { start, end } = KEEP_ALIVE_QUIC;
    start + (end - start) * index / lanes.max(1)
}

/// HTTP/2 on one lane's bytes.
async fn channel(
    bytes: Lane<()>,
    keep_alive: Duration,
) -> Result<Channel, tonic::transport::Error> {
    Channel::from_static("http://core.antipode")
        .initial_stream_window_size(LANE_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(keep_alive)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector(Ready(Some(bytes)))
        .await
}

/// A connector whose bytes are there already. It can't give them twice: a lane that breaks is
/// opened anew.
struct Ready(Option<Lane<()>>);

impl tower_service::Service<Uri> for Ready {
    type Response = TokioIo<Lane<()>>;
    type Error = io::Error;
    type Future = std::future::Ready<io::Result<Self::Response>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: Uri) -> Self::Future {
        let bytes = self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into());
        std::future::ready(bytes.map(TokioIo::new))
    }
}
