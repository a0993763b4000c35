//! How much a fan-out saves, and what it costs.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;

/// Series about payloads that cross once for many sessions.
#[derive(Clone, Debug, Default)]
pub struct FanOutMetrics {
    /// Bytes of payload that did not have to be sent, because the peer had them from another chunk.
    pub saved_bytes: Counter,
    /// Sessions held up because they were told a number before its payload had come.
    pub waits: Counter,
    /// Sessions that asked the core where they stand, because a payload did not come.
    pub asked_again: Counter,
}

impl FanOutMetrics {
    pub(super) fn register(&self, registry: &mut Registry) {
        let Self { saved_bytes, waits, asked_again } = self.clone();
        let help = "Payload that crossed once for several sessions, and was saved the other times";
        registry.register("fan_out_saved_bytes", help, saved_bytes);
        let help = "Sessions that waited for a payload which another lane was bringing";
        registry.register("fan_out_waits", help, waits);
        let help = "Sessions that were replayed because such a payload did not come";
        registry.register("fan_out_asked_again", help, asked_again);
    }
}
