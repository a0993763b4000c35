//! What the choice of ways counts.

use prometheus_client::encoding::{EncodeLabelSet, LabelSetEncoder};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

use crate::way::Way;

/// The counters; clones share them.
#[derive(Clone, Debug, Default)]
pub struct PathMetrics {
    changes: Family<WayLabel, Counter>,
    /// Times that nothing answered on any way to a peer.
    pub lost: Counter,
    /// Fresh real sockets.
    pub rebinds: Counter,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct WayLabel(&'static str);

impl EncodeLabelSet for WayLabel {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> std::fmt::Result {
        [("way", self.0)].encode(encoder)
    }
}

impl PathMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        for kind in Way::KINDS {
            drop(self.changes.get_or_create(&WayLabel(kind)));
        }
        registry.register(
            "way_changes",
            "Times that a way was taken to a peer, the first one included, by its kind",
            self.changes.clone(),
        );
        registry.register(
            "ways_lost",
            "Times that no way to a peer answered any more",
            self.lost.clone(),
        );
        registry.register(
            "rebinds",
            "Fresh UDP sockets taken because nothing came back to the old one",
            self.rebinds.clone(),
        );
    }

    /// A way was taken.
    pub(crate) fn taken(&self, way: Way) {
        self.changes.get_or_create(&WayLabel(way.kind())).inc();
    }
}
