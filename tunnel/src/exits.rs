//! Where datagrams leave: the real socket, streams, and ways through neighbours.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::Arc;

use parking_lot::RwLock;

use crate::metrics::{DropReason, Metrics};
use crate::outer::OuterSocket;
use crate::way::{StreamId, ThroughId, Way};

/// Where datagrams leave other than as they are by the real socket.
pub(crate) trait Exit: fmt::Debug + Send + Sync {
    /// Sends a run of datagrams, each `segment` long but the last. What there is no room for is
    /// dropped and counted, as UDP does.
    ///
    /// # Errors
    /// `WouldBlock` of the real socket, with nothing sent.
    fn send(&self, udp: &OuterSocket, run: &[u8], segment: usize) -> io::Result<()>;
}

/// All exits of a tunnel.
#[derive(Debug)]
pub(crate) struct Exits {
    udp: RwLock<Arc<OuterSocket>>,
    streams: RwLock<BTreeMap<StreamId, Arc<dyn Exit>>>,
    throughs: RwLock<BTreeMap<ThroughId, Arc<dyn Exit>>>,
    metrics: Metrics,
}

impl Exits {
    pub(crate) fn new(udp: OuterSocket, metrics: Metrics) -> Self {
        let udp = RwLock::new(Arc::new(udp));
        Self { udp, streams: RwLock::default(), throughs: RwLock::default(), metrics }
    }

    /// The real socket.
    pub(crate) fn udp(&self) -> Arc<OuterSocket> {
        Arc::clone(&self.udp.read())
    }

    /// Takes another real socket, and returns the one before.
    pub(crate) fn replace_udp(&self, udp: OuterSocket) -> Arc<OuterSocket> {
        std::mem::replace(&mut *self.udp.write(), Arc::new(udp))
    }

    /// Datagrams by this way go out there from now on.
    pub(crate) fn add_stream(&self, id: StreamId, exit: Arc<dyn Exit>) {
        self.streams.write().insert(id, exit);
    }

    pub(crate) fn remove_stream(&self, id: StreamId) {
        self.streams.write().remove(&id);
    }

    /// Sets where datagrams by ways through neighbours go out, all of them.
    pub(crate) fn set_throughs(&self, throughs: BTreeMap<ThroughId, Arc<dyn Exit>>) {
        *self.throughs.write() = throughs;
    }

    /// Sends a run of datagrams, each `segment` long but the last.
    ///
    /// # Errors
    /// `WouldBlock` of the real socket, with nothing sent.
    pub(crate) fn transmit(&self, way: Way, run: &[u8], segment: usize) -> io::Result<()> {
        let udp = self.udp();
        let exit = match way {
            Way::Udp { remote, local } => return udp.try_send(remote, local, run, segment),
            Way::Stream(id) => self.streams.read().get(&id).cloned(),
            Way::Through(id) => self.throughs.read().get(&id).cloned(),
        };
        let Some(exit) = exit else {
            let datagrams = run.len().div_ceil(segment.max(1));
            (0..datagrams).for_each(|_| self.metrics.dropped(DropReason::NoWay));
            return Ok(());
        };
        exit.send(&udp, run, segment)
    }
}
