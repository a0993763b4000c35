//! What the node tells its gateway and its operator of itself, and what limits the gateway sets.

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1::{Heartbeat, TunnelReport};
use antipode_runtime::admin::Readiness;
use antipode_runtime::member::Member;
use antipode_runtime::process::Probe;
use parking_lot::Mutex;

use crate::front::Front;
use crate::metrics::{Direction, Kind};

/// How often readiness is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// The state of the tunnels, as last seen.
pub(super) type Tunnels = Arc<Mutex<Vec<TunnelReport>>>;

/// Keeps readiness true to the trunks, and the limits true to the gateway's word.
pub(super) fn watch(front: &Arc<Front>, member: &Member, readiness: &Readiness) {
    let (looking, readiness) = (Arc::clone(front), readiness.clone());
    front.shutdown.spawn_service(async move {
        loop {
            if looking.trunks.is_up() {
                readiness.ready("trunk");
            } else {
                readiness.waiting("trunk", "no trunk to a core is up");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    });
    let (limited, mut limits) = (Arc::clone(front), member.limits());
    front.shutdown.spawn_service(async move {
        loop {
            let max = limits.borrow_and_update().sessions_max;
            limited.admission.set_sessions_max(max);
            if limits.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Keeps what clients are told of other nodes true to the gateway's word.
pub(super) fn watch_neighbours(front: &Arc<Front>, member: &Member) {
    let (told, mut neighbours) = (Arc::clone(front), member.neighbours());
    front.shutdown.spawn_service(async move {
        loop {
            told.elsewhere().set(&neighbours.borrow_and_update());
            if neighbours.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Draws up a heartbeat each time it is called.
pub(super) fn heartbeat(
    front: Arc<Front>,
    probe: Probe,
    tunnels: Tunnels,
) -> impl Fn() -> Heartbeat + Send + Sync + 'static {
    move || {
        let usage = probe.usage();
        let metrics = &front.metrics;
        Heartbeat {
            accepting: !front.shutdown.is_draining(),
            sessions: front.admission.sessions(),
            client_bytes_in: metrics.payload_bytes(Direction::Up),
            client_bytes_out: metrics.payload_bytes(Direction::Down),
            cpu_permille: usage.cpu_permille,
            memory_bytes: usage.memory_bytes,
            loop_delay_us: u32::try_from(usage.loop_delay.as_micros()).unwrap_or(u32::MAX),
            tunnels: tunnels.lock().clone(),
            sessions_opened: metrics.opened(Kind::WebSocket) + metrics.opened(Kind::Http),
            sessions_failed: metrics.failed(),
        }
    }
}
