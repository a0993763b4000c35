//! What a trunk tells the congestion control of its connections: how many sessions are busy on
//! them, and what the path carried lately.

use std::sync::Arc;

use antipode_tunnel::congestion::{Flows, Warmth};
use antipode_tunnel::{Class, TrunkTuning, transport_config};
use quinn::TransportConfig;

use crate::sessions::Sessions;

/// The demand of one trunk. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    chat: Flows,
    bulk: Flows,
    warmth: Warmth,
}

impl Demand {
    /// Settings of a connection for lanes of this class.
    pub(crate) fn transport(&self, tuning: TrunkTuning, class: Class) -> Arc<TransportConfig> {
        Arc::new(transport_config(tuning, class, self.flows(class), &self.warmth))
    }

    /// Counts the sessions that are busy.
    pub(crate) fn count(&self, sessions: &Sessions) {
        for class in [Class::Chat, Class::Bulk] {
            self.flows(class).set(sessions.busy(class));
        }
    }

    /// The path is another one: what the older one carried says nothing of it.
    pub(crate) fn forget(&self) {
        self.warmth.forget();
    }

    const fn flows(&self, class: Class) -> &Flows {
        match class {
            Class::Chat => &self.chat,
            Class::Bulk => &self.bulk,
        }
    }
}
