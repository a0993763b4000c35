//! The mesh: a node's datagrams go through a neighbour when that way is better than its own.
//!
//! A neighbour's forwarder knows by its key whom it sends on for, and sends what is inside to the
//! core from a socket of that flow's own. To the core the node has moved there, as after any change
//! of its address; to WireGuard, QUIC and TLS between the two nothing has changed.
//!
//! | module | idea |
//! |---|---|
//! | `codec` | the 44 bytes around a datagram |
//! | `window` | each counter once |
//! | `allowance` | bytes a second, shared |
//! | `forwarder` | whose datagrams go where: the machine |
//! | `through` | ways through neighbours, for whoever goes them |
//! | [`bare`] | the machines without sockets, by hand |
//! | [`metrics`] | what is counted |

mod allowance;
pub mod bare;
mod codec;
mod forwarder;
pub mod metrics;
mod through;
mod window;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::key::{PrivateKey, PublicKey};
use crate::metrics::{DropReason, Metrics};
use crate::outer::{Message, OuterSocket, ReceiveBuffers, runs};
use crate::path_key::{KeyId, PathKey};
use crate::peer::PeerState;
use crate::probe::first_seq as first_counter;
use crate::shared::Shared;
use crate::tunnel::{Tasks, now};
use crate::way::{ThroughId, Way};
use codec::{HEADER_BYTES, Kind, Wrapped, is_wrapped};
use forwarder::{FLOWS_MAX, FlowId, Forwarder, Leave};
use metrics::Leg;
use through::Throughs;

pub use forwarder::Refused;
pub use through::ForwarderConfig;

/// How often flows are looked at, and forwarders that are silent.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Datagrams that wait for a flow's new socket, some microseconds long.
const WAITING_MAX: usize = 16;

/// What a forwarder spends on all its neighbours where its operator says nothing: 100 Mbit/s.
pub const FORWARD_BYTES_PER_SECOND: u64 = 12_500_000;

/// Both sides of it in one tunnel.
#[derive(Debug)]
pub(crate) struct Mesh {
    private_key: PrivateKey,
    metrics: Metrics,
    throughs: RwLock<Throughs>,
    forwarder: Mutex<Forwarder>,
    flows: Mutex<BTreeMap<FlowId, Arc<Flow>>>,
    /// Flows whose answers nobody reads yet.
    opened: mpsc::Sender<Arc<Flow>>,
    /// For [`Shared::run_mesh`], which takes it.
    unread: Mutex<Option<mpsc::Receiver<Arc<Flow>>>>,
    /// Shared by all flows: they are read one after another.
    buffers: Mutex<ReceiveBuffers>,
}

/// A neighbour's socket towards a core.
#[derive(Debug)]
struct Flow {
    id: FlowId,
    to: SocketAddr,
    socket: OuterSocket,
    /// What came before the socket could be written to; `None` since then.
    waiting: Mutex<Option<Vec<Vec<u8>>>>,
    closed: CancellationToken,
}

impl Mesh {
    pub(crate) fn new(private_key: PrivateKey, metrics: Metrics) -> Self {
        let public_key = private_key.public_key();
        let (opened, unread) = mpsc::channel(FLOWS_MAX);
        Self {
            private_key,
            throughs: RwLock::new(Throughs::new(&public_key, metrics.clone())),
            forwarder: Mutex::new(Forwarder::new(&public_key, FORWARD_BYTES_PER_SECOND, now())),
            flows: Mutex::default(),
            opened,
            unread: Mutex::new(Some(unread)),
            buffers: Mutex::default(),
            metrics,
        }
    }

    /// The ways to a core through neighbours.
    pub(crate) fn ways_to(&self, core: &PublicKey) -> Vec<ThroughId> {
        self.throughs.read().to(core)
    }

    /// Through whom a way goes.
    pub(crate) fn forwarder(&self, id: ThroughId) -> Option<PublicKey> {
        self.throughs.read().forwarder(id)
    }

    /// Sets whom we go through, whole.
    pub(crate) fn set_forwarders(&self, shared: &Shared, forwarders: Vec<ForwarderConfig>) {
        let keyed = forwarders.into_iter().filter_map(|forwarder| {
            let key = PathKey::new(&self.private_key, &forwarder.public_key)?;
            Some((forwarder, key))
        });
        let keyed = keyed.collect();
        self.throughs.write().set_forwarders(keyed, first_counter(), now());
        self.look(shared);
    }

    /// Sets whom we send on for, whole, and how many bytes a second.
    pub(crate) fn set_forwarded(
        &self,
        shared: &Shared,
        nodes: &[PublicKey],
        bytes_per_second: u64,
    ) {
        let keyed = nodes
            .iter()
            .filter_map(|node| Some((KeyId::of(node), PathKey::new(&self.private_key, node)?)));
        let keyed: Vec<_> = keyed.collect();
        {
            let mut forwarder = self.forwarder.lock();
            forwarder.set_bytes_per_second_max(bytes_per_second, now());
            forwarder.set_neighbours(keyed, first_counter(), now());
        }
        self.look(shared);
    }

    /// Looks at a datagram that came. What a forwarder brought back is unwrapped for the caller to
    /// take in, what is to be sent on is sent on, and anything else is returned as it is.
    pub(crate) fn take<'a>(
        &self,
        from: Way,
        datagram: &'a [u8],
        now: Instant,
    ) -> Option<(Way, &'a [u8])> {
        if !is_wrapped(datagram) {
            return Some((from, datagram));
        }
        if from.remote().is_none() {
            // Nothing is wrapped twice, and no forwarder is at the end of a stream.
            self.metrics.dropped(DropReason::Malformed);
            return None;
        }
        let Some(wrapped) = Wrapped::read(datagram) else {
            self.metrics.dropped(DropReason::Malformed);
            return None;
        };
        match wrapped.header.kind {
            Kind::Returned => match self.throughs.read().unwrap(from, &wrapped, now) {
                Ok((id, payload)) => return Some((Way::Through(id), payload)),
                Err(reason) => self.metrics.dropped(reason),
            },
            Kind::Forward => {
                let outcome = self.forwarder.lock().forward(from, &wrapped, now);
                let sent = outcome.and_then(|leave| self.leave(leave, wrapped.payload()));
                match sent {
                    Ok(()) => {
                        self.metrics.forwarding.forwarded(Leg::ToCore, wrapped.payload().len());
                    }
                    Err(refused) => self.metrics.forwarding.refused(refused),
                }
            }
        }
        None
    }

    fn leave(&self, leave: Leave, payload: &[u8]) -> Result<(), Refused> {
        let mut flows = self.flows.lock();
        let flow = match flows.get(&leave.flow) {
            Some(flow) if flow.to == leave.to => Arc::clone(flow),
            Some(_) | None => {
                let flow = Arc::new(Flow::open(leave).map_err(|error| {
                    debug!(%error, to = %leave.to, "a socket to send on from");
                    Refused::NotSent
                })?);
                self.opened.try_send(Arc::clone(&flow)).map_err(|_| Refused::FlowsFull)?;
                if let Some(moved) = flows.insert(leave.flow, Arc::clone(&flow)) {
                    moved.closed.cancel();
                }
                self.count_flows(flows.len());
                flow
            }
        };
        drop(flows);
        flow.send(payload)
    }

    /// Reads what a core answered on a flow, wraps it and sends it to the neighbour.
    fn bring_back(&self, shared: &Shared, flow: &Flow) -> io::Result<()> {
        let now = now();
        let (mut bytes, mut messages, mut to) = (Vec::new(), Vec::new(), None);
        flow.socket.try_recv(&mut self.buffers.lock(), |from, payload| {
            if from.remote() != Some(flow.to) {
                return;
            }
            let at = bytes.len();
            match self.forwarder.lock().returned(flow.id, payload, now, &mut bytes) {
                Ok(way) => {
                    to = Some(way);
                    messages.push(Message::Data(bytes.len() - at));
                }
                Err(refused) => self.metrics.forwarding.refused(refused),
            }
        })?;
        let Some(to) = to else { return Ok(()) };
        for run in runs(&messages, shared.exits.udp().segments_max()) {
            let (bytes, metrics) = (&bytes[run.bytes], &self.metrics.forwarding);
            let is_sent = shared.exits.transmit(to, bytes, run.segment).is_ok();
            for datagram in bytes.chunks(run.segment) {
                match is_sent {
                    true => metrics.forwarded(Leg::ToNeighbour, datagram.len() - HEADER_BYTES),
                    false => metrics.refused(Refused::NotSent),
                }
            }
        }
        Ok(())
    }

    /// Looks at who is silent, and closes what is of no use any more.
    fn look(&self, shared: &Shared) {
        let now = now();
        let peers = shared.device.peers(now);
        self.throughs.write().tick(now);
        self.set_ways(shared, &peers);
        let mut forwarder = self.forwarder.lock();
        if forwarder.is_idle() {
            return;
        }
        let cores: Vec<_> =
            peers.iter().map(|peer| (KeyId::of(&peer.public_key), peer.endpoint)).collect();
        forwarder.set_cores(&cores);
        forwarder.tick(now);
        let mut flows = self.flows.lock();
        flows.retain(|id, flow| {
            let stays = forwarder.is_open(*id, flow.to);
            if !stays {
                flow.closed.cancel();
            }
            stays
        });
        self.count_flows(flows.len());
    }

    /// A way to each peer through each forwarder.
    fn set_ways(&self, shared: &Shared, peers: &[PeerState]) {
        let cores: Vec<PublicKey> = peers.iter().map(|peer| peer.public_key).collect();
        let mut throughs = self.throughs.write();
        if throughs.set_cores(&cores) {
            shared.exits.set_throughs(throughs.outlets());
        }
    }

    fn count_flows(&self, flows: usize) {
        self.metrics.forwarding.flows.set(i64::try_from(flows).unwrap_or(i64::MAX));
    }
}

impl Flow {
    fn open(leave: Leave) -> io::Result<Self> {
        let any = match leave.to.ip() {
            IpAddr::V4(_) => IpAddr::from([0; 4]),
            IpAddr::V6(_) => IpAddr::from([0; 16]),
        };
        let socket = OuterSocket::bind(SocketAddr::new(any, 0))?;
        let (waiting, closed) = (Mutex::new(Some(Vec::new())), CancellationToken::new());
        Ok(Self { id: leave.flow, to: leave.to, socket, waiting, closed })
    }

    fn send(&self, payload: &[u8]) -> Result<(), Refused> {
        if let Some(waiting) = &mut *self.waiting.lock() {
            if waiting.len() >= WAITING_MAX {
                return Err(Refused::NotSent);
            }
            waiting.push(payload.to_vec());
            return Ok(());
        }
        let sent = self.socket.try_send(self.to, None, payload, payload.len());
        sent.map_err(|_| Refused::NotSent)
    }

    /// Sends what came first: a handshake, whose loss would cost seconds.
    async fn start(&self, metrics: &Metrics) {
        // An error is the next send's too.
        let _ = self.socket.writable().await;
        let waiting = self.waiting.lock().take().unwrap_or_default();
        for payload in waiting {
            if self.send(&payload).is_err() {
                metrics.forwarding.refused(Refused::NotSent);
            }
        }
    }

    async fn carry_back(&self, shared: &Shared) {
        self.start(&shared.metrics).await;
        loop {
            let read = match self.socket.readable().await {
                Ok(()) => shared.mesh.bring_back(shared, self),
                Err(error) => Err(error),
            };
            if let Err(error) = read
                && error.kind() != io::ErrorKind::WouldBlock
            {
                // The core's host may say that nobody listens; it may be starting again.
                debug!(%error, "receive from a core");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

impl Shared {
    /// Keeps the mesh's time, and reads what cores answer to neighbours.
    pub(crate) async fn run_mesh(self: Arc<Self>, tasks: Tasks) {
        let Some(mut opened) = self.mesh.unread.lock().take() else { return };
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = tasks.stop.cancelled() => return,
                _ = look.tick() => self.mesh.look(&self),
                Some(flow) = opened.recv() => {
                    let (shared, stop) = (Arc::clone(&self), tasks.stop.clone());
                    tasks.tracker.spawn(async move {
                        tokio::select! {
                            () = stop.cancelled() => {}
                            () = flow.closed.cancelled() => {}
                            () = flow.carry_back(&shared) => {}
                        }
                    });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
