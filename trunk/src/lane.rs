//! One gRPC call that carries a lane: batches out as they fill, batches in as they come.

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::trunk::v1::{Batch, Hello};
use antipode_runtime::clock;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::{Status, Streaming};
use tracing::warn;

use crate::batch::{BATCH_BYTES_MAX, Draft, FIRST_BATCH_BYTES};
use crate::metrics::{Direction, Metrics};
use crate::queue::Writer;
use crate::sessions::Sessions;

/// The version of the trunk protocol that this program speaks.
pub(crate) const VERSION: u32 = 1;

/// Batches between the lane's writer and the gRPC call: one in flight, one to follow.
pub(crate) const BATCHES_AHEAD: usize = 2;

/// What HTTP/2 lets one lane have unread. Its own defaults (64 KiB, hyper's 1 MiB) would hold a
/// lane to 4 MiB/s at 250 ms.
pub(crate) const LANE_WINDOW_BYTES: u32 = 8 * 1024 * 1024;

/// The same for the HTTP/2 connection, which has one lane and nothing else: the lane's own window
/// bounds what it has unread. What this decides is how many small DATA frames may come in a burst:
/// h2 ends a connection whose unread frames below 256 bytes fall short of that size by more than
/// half of the window in all. The other end's send buffer (hyper: 1 MiB) holds 52,000 batches of 20
/// bytes, which fall short by 12 MiB, and all of them come at once when a link is back.
pub(crate) const CONNECTION_WINDOW_BYTES: u32 = 4 * LANE_WINDOW_BYTES;

/// A lane that is asked whether it lives has so long to answer. A core asks those over TCP that
/// are silent for as long.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(5);

/// How often sessions without a lane are looked at.
pub(crate) const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A busy lane gathers for this long before it flushes. One write a message costs 4 to 12 µs of
/// processor time, a batch of 16 to 64 messages 0.4 to 0.6 µs a message; a lane that last carried a
/// single frame doesn't wait at all.
const FLUSH_INTERVAL: Duration = Duration::from_millis(1);

/// While its batches grow, a lane waits for this long after a full one. After a cut all lanes
/// have a backlog, and begin within some 20 ms: what each has in front is in the connection's
/// buffer before any other's second batch can fill it. It keeps gRPC from joining two batches to
/// one, too, of which nothing can be read until its end is there. A lane is at full size after
/// five of them.
const GROWTH_INTERVAL: Duration = Duration::from_millis(20);

/// Moves what waits in the queue to the call, until the call has ended. `wrap` makes a batch what
/// the call's stream wants.
pub(crate) async fn write_batches<T>(
    writer: &Writer,
    out: &mpsc::Sender<T>,
    metrics: &Metrics,
    wrap: impl Fn(Batch) -> T,
) {
    let (mut gather_until, mut bytes_max) = (None, FIRST_BATCH_BYTES);
    loop {
        tokio::select! {
            () = writer.ready() => {}
            () = out.closed() => return,
        }
        if let Some(until) = gather_until {
            sleep_until(until).await;
        }
        let Ok(permit) = out.reserve().await else { return };
        let mut draft = Draft::up_to(bytes_max);
        if writer.collect(&mut draft, clock::now()).is_err() {
            return;
        }
        let frames = draft.frames_count();
        if frames == 0 {
            continue;
        }
        let gather = match (draft.is_full(), draft.is_growing()) {
            (true, true) => {
                bytes_max = (2 * bytes_max).min(BATCH_BYTES_MAX);
                Some(GROWTH_INTERVAL)
            }
            (true, false) => None,
            (false, _) => (frames > 1).then_some(FLUSH_INTERVAL),
        };
        gather_until = gather.map(|length| Instant::now() + length);
        metrics.count_frames(Direction::Out, frames);
        permit.send(wrap(draft.finish()));
    }
}

/// Takes batches from the call until it has ended.
pub(crate) async fn read_batches(
    sessions: &Arc<Sessions>,
    lane: u32,
    inward: &mut Streaming<Batch>,
) -> Result<(), Status> {
    loop {
        sessions.answers_gone(lane).await;
        let Some(batch) = inward.message().await? else { return Ok(()) };
        if let Err(error) = sessions.handle_batch(batch, lane) {
            sessions.metrics.protocol_errors.inc();
            warn!(lane.id = lane, %error, "the peer broke the trunk's protocol");
            return Err(Status::invalid_argument(error.to_string()));
        }
    }
}

/// Reads the greeting that begins each direction.
pub(crate) async fn read_hello(inward: &mut Streaming<Batch>) -> Result<Hello, Status> {
    let first = inward.message().await?.and_then(|batch| batch.hello);
    let hello = first.ok_or_else(|| Status::invalid_argument("the first batch has no hello"))?;
    if hello.version != VERSION {
        let Hello { version, software, .. } = hello;
        return Err(Status::failed_precondition(format!(
            "this end speaks version {VERSION} of the trunk protocol, {software:?} version \
             {version}: bring both to the same release"
        )));
    }
    if hello.run.len() != 16 {
        return Err(Status::invalid_argument("a run is 16 bytes"));
    }
    Ok(hello)
}
