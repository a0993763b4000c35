//! What the core tells its gateway and its operator of itself, and what limits the gateway sets.

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1::Heartbeat;
use antipode_runtime::admin::Readiness;
use antipode_runtime::member::Member;
use antipode_runtime::process::Probe;
use antipode_runtime::shutdown::Shutdown;

use super::roster::Tunnels;
use crate::bridge::Bridge;
use crate::metrics::{DOWN, Metrics, UP};

/// How often readiness is looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// Keeps readiness true to the backends, and the limit true to the gateway's word.
pub(super) fn watch(
    bridge: &Arc<Bridge>,
    member: &Member,
    readiness: &Readiness,
    shutdown: &Shutdown,
) {
    let (looking, readiness) = (Arc::clone(bridge), readiness.clone());
    shutdown.spawn_service(async move {
        loop {
            if looking.backends().any_healthy() {
                readiness.ready("backend");
            } else {
                readiness.waiting("backend", "no backend is known to be well");
            }
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    });
    let (limited, mut limits) = (Arc::clone(bridge), member.limits());
    shutdown.spawn_service(async move {
        loop {
            let max = limits.borrow_and_update().sessions_max;
            limited.set_sessions_max(max);
            if limits.changed().await.is_err() {
                return;
            }
        }
    });
}

/// Draws up a heartbeat each time it is called; `accepting` is overruled in a drain.
pub(super) fn heartbeat(
    bridge: Arc<Bridge>,
    metrics: Metrics,
    probe: Probe,
    tunnels: Tunnels,
) -> impl Fn() -> Heartbeat + Send + Sync + 'static {
    move || {
        let usage = probe.usage();
        // One after the other: a reference into a family locks it until the end of its statement.
        let client_bytes_in = metrics.payload_bytes.get_or_create(&UP).get();
        let client_bytes_out = metrics.payload_bytes.get_or_create(&DOWN).get();
        Heartbeat {
            accepting: true,
            sessions: u32::try_from(bridge.sessions_len()).unwrap_or(u32::MAX),
            client_bytes_in,
            client_bytes_out,
            cpu_permille: usage.cpu_permille,
            memory_bytes: usage.memory_bytes,
            loop_delay_us: u32::try_from(usage.loop_delay.as_micros()).unwrap_or(u32::MAX),
            tunnels: tunnels.lock().clone(),
            sessions_opened: metrics.opened(),
            sessions_failed: metrics.sessions_failed.get(),
        }
    }
}
