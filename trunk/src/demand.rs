//! What a trunk tells the congestion control of its connections: how many sessions are busy on
//! them, and what the path carried lately.

use std::sync::Arc;

use antipode_tunnel::congestion::{Flows, Warmth};
use antipode_tunnel::{Class, TrunkTuning, Way, transport_config};
use parking_lot::Mutex;
use quinn::TransportConfig;

use crate::sessions::Sessions;

/// The demand of one trunk. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    chat: Flows,
    bulk: Flows,
    path: Arc<Mutex<Path>>,
}

/// The path that the connections of a trunk take.
#[derive(Debug, Default)]
struct Path {
    /// What it carried.
    warmth: Warmth,
    /// At a core: the way that the last connection came by.
    way: Option<Way>,
}

impl Demand {
    /// Settings of a connection for lanes of this class.
    pub(crate) fn transport(&self, tuning: TrunkTuning, class: Class) -> Arc<TransportConfig> {
        Arc::new(transport_config(tuning, class, self.flows(class), &self.warmth()))
    }

    /// Counts the sessions that are busy.
    pub(crate) fn count(&self, sessions: &Sessions) {
        for class in [Class::Chat, Class::Bulk] {
            self.flows(class).set(sessions.busy(class));
        }
    }

    /// The path is another one: what the older one carried says nothing of it, nor does what the
    /// connections that are still there have yet to learn.
    pub(crate) fn forget(&self) {
        self.path.lock().warmth = Warmth::default();
    }

    /// A connection comes by this way, as far as is known.
    pub(crate) fn handle_way(&self, way: Option<Way>) {
        let mut path = self.path.lock();
        if let (Some(before), Some(now)) = (path.way, way)
            && !before.leads_like(now)
        {
            path.warmth = Warmth::default();
        }
        path.way = way.or(path.way);
    }

    fn warmth(&self) -> Warmth {
        self.path.lock().warmth.clone()
    }

    const fn flows(&self, class: Class) -> &Flows {
        match class {
            Class::Chat => &self.chat,
            Class::Bulk => &self.bulk,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use antipode_runtime::clock;
    use antipode_tunnel::{StreamId, ThroughId};

    use super::*;

    const WINDOW: u64 = 1 << 20;

    /// Whether a path is still warm after a connection by the one way and one by the other.
    #[track_caller]
    fn check(what: &str, (before, after): (Option<Way>, Option<Way>), stays_warm: bool) {
        let (demand, now) = (Demand::default(), clock::now());
        demand.handle_way(before);
        let older = demand.warmth();
        older.remember(WINDOW, now);
        demand.handle_way(after);
        assert_eq!(demand.warmth().window(now).is_some(), stays_warm, "{what}");
        older.remember(WINDOW, now);
        let is_warm = demand.warmth().window(now).is_some();
        assert_eq!(is_warm, stays_warm, "{what}: the older connection goes on");
    }

    #[test]
    fn a_path_is_remembered_until_the_way_is_another_one() {
        let udp = |host, port| Some(Way::from(SocketAddr::from(([192, 0, 2, host], port))));
        let stream = |id| Some(Way::Stream(StreamId(id)));
        let through = |id| Some(Way::Through(ThroughId(id)));
        check("the same", (udp(1, 1), udp(1, 1)), true);
        check("behind NAT, a port moves", (udp(1, 1), udp(1, 2)), true);
        check("another host", (udp(1, 1), udp(2, 1)), false);
        check("UDP is blocked", (udp(1, 1), stream(1)), false);
        check("another stream", (stream(1), stream(2)), true);
        check("a neighbour", (udp(1, 1), through(1)), false);
        check("another neighbour", (through(1), through(2)), false);
        check("nothing is known", (udp(1, 1), None), true);
        check("nothing was known", (None, udp(1, 1)), true);
    }

    #[test]
    fn a_node_that_hears_of_another_way_forgets() {
        let (demand, now) = (Demand::default(), clock::now());
        let older = demand.warmth();
        older.remember(WINDOW, now);
        demand.forget();
        assert_eq!(demand.warmth().window(now), None);
        older.remember(WINDOW, now);
        assert_eq!(demand.warmth().window(now), None, "what is left of the older one");
    }
}
