//! What the sessions of the process hold, and who had to go.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::EndLabels;

/// Series about the byte budget.
#[derive(Clone, Debug, Default)]
pub struct BudgetMetrics {
    /// Bytes that sessions hold: unacknowledged, or received and not yet written.
    pub used_bytes: Gauge,
    /// Most that they may hold.
    pub max_bytes: Gauge,
    /// Sessions ended because the budget was short and they held much of it without moving.
    pub sessions_shed: Family<EndLabels, Counter>,
}

impl BudgetMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { used_bytes, max_bytes, sessions_shed } = self.clone();
        registry.register("session_bytes", "Bytes that sessions hold", used_bytes);
        registry.register("session_bytes_max", "Most bytes that sessions may hold", max_bytes);
        let help = "Sessions ended to stay within the bytes that all may hold";
        registry.register("sessions_shed", help, sessions_shed);
    }
}
