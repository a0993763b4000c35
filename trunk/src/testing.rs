//! Both ends of a trunk in one process, for tests of what stands on top of them.
//!
//! The lanes are channels of batches instead of gRPC calls; everything else is the real thing.

use std::sync::Arc;

use antipode_proto::session::Config;
use antipode_proto::trunk::v1::{Batch, RequestHead};
use antipode_runtime::shutdown::Shutdown;
use tokio::sync::mpsc;

use crate::budget::Budget;
use crate::lane;
use crate::metrics::Metrics;
use crate::peer::{Incoming, NodeIdentity};
use crate::port::SessionPort;
use crate::sessions::{Admission, SessionLimit, Sessions};

const LANES: u32 = 4;
const SESSIONS_MAX: usize = 100_000;

/// Two registers of sessions joined by lanes in memory. Must be called inside a tokio runtime.
pub(crate) fn joined() -> (Arc<Sessions>, mpsc::Receiver<Incoming>) {
    let (incoming, accepted) = mpsc::channel(1024);
    let admission = Admission {
        incoming,
        node: NodeIdentity::for_tests("node-in-memory"),
        limit: SessionLimit::new(SESSIONS_MAX),
        pause: Arc::default(),
    };
    let node =
        Sessions::new(LANES, Config::default(), None, Budget::unlimited(), Metrics::default());
    let core = Sessions::new(
        LANES,
        Config::default(),
        Some(admission),
        Budget::unlimited(),
        Metrics::default(),
    );
    let shutdown = Shutdown::default();
    for index in 0..LANES {
        let (up_tx, up_rx) = mpsc::channel(2);
        let (down_tx, down_rx) = mpsc::channel(2);
        join(&shutdown, &core, index, down_tx, up_rx);
        join(&shutdown, &node, index, up_tx, down_rx);
    }
    (node, accepted)
}

/// A session's two ends: the node's, and what the core was given.
///
/// # Panics
///
/// If the core does not get the session, which would be a bug of this module.
pub async fn port_pair(head: RequestHead) -> (SessionPort, Incoming) {
    let (node, mut accepted) = joined();
    let port = node.open(head).expect("lanes in memory are up");
    let incoming = accepted.recv().await.expect("the core takes the session");
    (port, incoming)
}

fn join(
    shutdown: &Shutdown,
    sessions: &Arc<Sessions>,
    index: u32,
    out: mpsc::Sender<Batch>,
    mut inward: mpsc::Receiver<Batch>,
) {
    let sessions = Arc::clone(sessions);
    let held = sessions.lane_up(index).expect("the lane exists");
    shutdown.spawn_service(async move {
        let read = async {
            while let Some(batch) = inward.recv().await {
                sessions.handle_batch(batch, index).expect("both ends keep the protocol");
            }
        };
        tokio::join!(
            read,
            lane::write_batches(&held.writer, &out, &sessions.metrics, |batch| batch)
        );
    });
}
