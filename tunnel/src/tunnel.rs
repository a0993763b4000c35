//! The tunnel as programs hold it: one real socket, one driver task, many peers.
//!
//! The driver reads the real socket in batches, decrypts, and sorts what is inside into the inboxes
//! of the sockets in the tunnel; it also keeps WireGuard's time. Senders encrypt where they stand
//! and write to the real socket themselves, so the driver is never between a sender and the
//! network. A reader of a socket could decrypt for itself too, but then a handshake would wait
//! until somebody reads, and two sockets would have to read for one another.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, debug, info, info_span};

use crate::device::{Device, Scratch, TICK};
use crate::inbox::Inbox;
use crate::key::{PrivateKey, PublicKey};
use crate::metrics::{DropReason, Metrics};
use crate::outer::{OuterSocket, ReceiveBuffers};
use crate::packet::{INNER_MTU_FLOOR_BYTES, INNER_MTU_MAX_BYTES, read_udp};
use crate::peer::{PeerConfig, PeerState, Reply};
use crate::quic::TunnelSocket;
use crate::send::SendBuffers;

/// Ports for sockets that ask for none, [RFC 6335
/// §6](https://www.rfc-editor.org/rfc/rfc6335#section-6).
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// What a tunnel needs to start.
#[derive(Clone, Debug)]
pub struct TunnelConfig {
    /// Our key.
    pub private_key: PrivateKey,
    /// The real UDP address; port 0 takes any. `[::]` takes IPv4 as well.
    pub listen: SocketAddr,
    /// Largest packet sent inside the tunnel, 1280 to 1420. QUIC starts at 1280 and probes up to
    /// it.
    pub mtu_bytes: u16,
    /// Silence of a peer with a keep-alive after which a new handshake is begun: it may have
    /// restarted and lost its keys. 15 s is WireGuard's own figure for data without an answer (10 +
    /// 5, §6.5).
    pub silence_max: Duration,
}

impl TunnelConfig {
    /// The defaults around a key and an address.
    #[must_use]
    pub fn new(private_key: PrivateKey, listen: SocketAddr) -> Self {
        let silence_max = Duration::from_secs(15);
        Self { private_key, listen, mtu_bytes: INNER_MTU_MAX_BYTES, silence_max }
    }
}

/// Where the tunnel's task is counted, and what stops it: the two halves of a program's shutdown.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    /// Counts the tasks, so that a shutdown can wait for them.
    pub tracker: TaskTracker,
    /// Ends them.
    pub stop: CancellationToken,
}

/// The real socket could not be had.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Somebody has the port.
    #[error("UDP {listen} is in use: stop what has it (`ss -ulpn`) or choose another port")]
    InUse {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The address is not one of this machine's, or its family is switched off.
    #[error("{listen} is no address of this machine: choose one of `ip address`, or 0.0.0.0")]
    NoSuchAddress {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Anything else.
    #[error("bind UDP {listen} for the tunnel")]
    Other {
        /// The address asked for.
        listen: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl BindError {
    fn new(listen: SocketAddr, source: io::Error) -> Self {
        let kind = source.kind();
        let no_family = source.raw_os_error() == Some(EAFNOSUPPORT);
        if kind == io::ErrorKind::AddrInUse {
            return Self::InUse { listen, source };
        }
        if kind == io::ErrorKind::AddrNotAvailable || no_family {
            return Self::NoSuchAddress { listen, source };
        }
        Self::Other { listen, source }
    }
}

/// Linux's errno for a family that is switched off; std has no kind for it.
const EAFNOSUPPORT: i32 = 97;

/// A socket inside the tunnel could not be had.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another socket inside this tunnel has the port.
    #[error("port {0} inside the tunnel is in use by this program")]
    PortInUse(u16),
    /// All ephemeral ports are taken.
    #[error("no free port inside the tunnel")]
    NoPort,
    /// The tunnel has been stopped.
    #[error("the tunnel has stopped")]
    Stopped,
    /// In host mode, the system refused.
    #[error(
        "bind {address} on the host's WireGuard interface; if it lacks the address: `{command}`"
    )]
    Host {
        /// Puts the address on the interface.
        command: String,
        /// The address and port asked for.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// WireGuard in this process. Clones are the same tunnel; it runs until its [`Tasks`] are stopped.
#[derive(Clone, Debug)]
pub struct Tunnel {
    shared: Arc<Shared>,
}

/// What the driver, the senders and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: Device,
    pub(crate) outer: OuterSocket,
    pub(crate) buffers: SendBuffers,
    pub(crate) metrics: Metrics,
    pub(crate) mtu_bytes: u16,
    address: Ipv6Addr,
    ports: RwLock<BTreeMap<u16, Arc<Inbox>>>,
    /// Messages the driver has to send, because their makers could not wait for the socket.
    late: Mutex<Vec<Reply>>,
    /// Wakes the driver for these, or for peers that were added.
    nudge: Notify,
    stop: CancellationToken,
}

impl Tunnel {
    /// Binds the real socket and starts the driver. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// If the address can't be bound; the message says what to do.
    pub fn bind(config: TunnelConfig, tasks: &Tasks, metrics: Metrics) -> Result<Self, BindError> {
        let TunnelConfig { private_key, listen, mtu_bytes, silence_max } = config;
        let outer = OuterSocket::bind(listen).map_err(|source| BindError::new(listen, source))?;
        let public_key = private_key.public_key();
        let shared = Arc::new(Shared {
            device: Device::new(private_key, silence_max, metrics.clone(), now()),
            outer,
            buffers: SendBuffers::default(),
            metrics,
            mtu_bytes: mtu_bytes.clamp(INNER_MTU_FLOOR_BYTES, INNER_MTU_MAX_BYTES),
            address: public_key.address(),
            ports: RwLock::default(),
            late: Mutex::default(),
            nudge: Notify::new(),
            stop: tasks.stop.clone(),
        });
        let span = info_span!("tunnel", key = public_key.short());
        span.in_scope(
            || info!(listen = %shared.outer.local_addr(), address = %shared.address, "up"),
        );
        let driver = Arc::clone(&shared);
        let stop = tasks.stop.clone();
        tasks.tracker.spawn(
            async move {
                stop.run_until_cancelled(driver.drive()).await;
                driver.close();
            }
            .instrument(span),
        );
        Ok(Self { shared })
    }

    /// Our key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.shared.device.public_key()
    }

    /// Our address inside the tunnel.
    #[must_use]
    pub fn address(&self) -> Ipv6Addr {
        self.shared.address
    }

    /// The real address, with the port that was given.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.outer.local_addr()
    }

    /// Sets the whole list of peers; see [`Device::set_peers`]. New ones with a keep-alive are
    /// handshaken with at once.
    pub fn set_peers(&self, peers: Vec<PeerConfig>) {
        self.shared.device.set_peers(peers, now());
        self.shared.nudge.notify_one();
    }

    /// Every peer's state.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerState> {
        self.shared.device.peers(now())
    }

    /// Begins a handshake with a peer now, or repeats the initiation of one under way: for a caller
    /// that has noticed, sooner than WireGuard's own timers (5 s between two, paper, section 6.1),
    /// that nothing comes back. A call too soon after the last one does nothing, see
    /// [`Device::handshake`].
    pub fn handshake(&self, peer: &PublicKey) {
        let mut replies = Vec::new();
        self.shared.device.handshake(peer, now(), &mut replies);
        replies.into_iter().for_each(|reply| self.shared.send_later(reply));
    }

    /// [`Tunnel::handshake`] with the peer that owns an address inside the tunnel.
    pub fn handshake_to(&self, inner: Ipv6Addr) {
        let mut replies = Vec::new();
        self.shared.device.handshake_to(inner.into(), now(), &mut replies);
        replies.into_iter().for_each(|reply| self.shared.send_later(reply));
    }

    /// A UDP socket inside the tunnel, for quinn, on our address and `port` (0: any free one). The
    /// port is free again when the socket is dropped.
    ///
    /// # Errors
    /// If the port is taken, or the tunnel has stopped.
    pub fn udp_socket(&self, port: u16) -> Result<Arc<dyn quinn::AsyncUdpSocket>, SocketError> {
        if self.shared.stop.is_cancelled() {
            return Err(SocketError::Stopped);
        }
        let inbox = Arc::new(Inbox::default());
        let port = self.shared.open_port(port, &inbox)?;
        let local = SocketAddrV6::new(self.shared.address, port, 0, 0);
        Ok(Arc::new(TunnelSocket::new(Arc::clone(&self.shared), inbox, local)))
    }
}

impl Shared {
    async fn drive(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reader = Reader::default();
        loop {
            tokio::select! {
                biased;
                _ = tick.tick() => self.device.tick(now(), &mut reader.replies),
                () = self.nudge.notified() => {
                    reader.replies.append(&mut self.late.lock());
                    self.device.tick(now(), &mut reader.replies);
                }
                readable = self.outer.readable() => {
                    let outcome = readable.and_then(|()| self.read(&mut reader));
                    if let Err(error) = outcome
                        && error.kind() != io::ErrorKind::WouldBlock
                    {
                        // Nothing the network does may end the tunnel; waiting keeps it from
                        // spinning.
                        debug!(%error, "receive");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            for reply in reader.replies.drain(..) {
                self.reply(&reply).await;
            }
        }
    }

    /// Reads one batch and sorts it into the inboxes; their readers wake once.
    fn read(&self, reader: &mut Reader) -> io::Result<()> {
        let Reader { buffers, scratch, replies, touched } = reader;
        let now = now();
        let outcome = self.outer.try_recv(buffers, |from, datagram| {
            if let Some(packet) = self.device.open(from, datagram, now, scratch, replies) {
                self.deliver(packet, touched);
            }
        });
        for inbox in touched.drain(..) {
            inbox.wake();
        }
        outcome
    }

    fn deliver(&self, packet: &[u8], touched: &mut Vec<Arc<Inbox>>) {
        let outcome = read_udp(packet).and_then(|datagram| {
            if *datagram.destination.ip() != self.address {
                return Err(DropReason::WrongDestination);
            }
            let ports = self.ports.read();
            let inbox = ports.get(&datagram.destination.port()).ok_or(DropReason::NoSocket)?;
            inbox.push(datagram.source, datagram.payload).map_err(|_| DropReason::QueueFull)?;
            if !touched.iter().any(|other| Arc::ptr_eq(other, inbox)) {
                touched.push(Arc::clone(inbox));
            }
            Ok(())
        });
        if let Err(reason) = outcome {
            self.metrics.dropped(reason);
        }
    }

    /// Sends one message, waiting for room: a lost handshake message costs five seconds.
    async fn reply(&self, reply: &Reply) {
        loop {
            match self.outer.try_send(reply.to, &reply.bytes, reply.bytes.len()) {
                Err(full) if full.kind() == io::ErrorKind::WouldBlock => {
                    if self.outer.writable().await.is_err() {
                        self.metrics.dropped(DropReason::NotSent);
                        return;
                    }
                }
                Err(_) => return self.metrics.dropped(DropReason::NotSent),
                Ok(()) => return,
            }
        }
    }

    /// Leaves one message to the driver.
    pub(crate) fn send_later(&self, reply: Reply) {
        self.late.lock().push(reply);
        self.nudge.notify_one();
    }

    fn open_port(&self, port: u16, inbox: &Arc<Inbox>) -> Result<u16, SocketError> {
        let mut ports = self.ports.write();
        let port = match port {
            0 => {
                let start = rand::random_range(EPHEMERAL_PORTS);
                let after = (start..=*EPHEMERAL_PORTS.end()).chain(EPHEMERAL_PORTS);
                let free = after.into_iter().find(|port| !ports.contains_key(port));
                free.ok_or(SocketError::NoPort)?
            }
            port if ports.contains_key(&port) => return Err(SocketError::PortInUse(port)),
            port => port,
        };
        ports.insert(port, Arc::clone(inbox));
        Ok(port)
    }

    pub(crate) fn close_port(&self, port: u16) {
        self.ports.write().remove(&port);
    }

    fn close(&self) {
        for inbox in self.ports.read().values() {
            inbox.close();
        }
    }
}

/// What the driver reads with.
#[derive(Debug, Default)]
struct Reader {
    buffers: ReceiveBuffers,
    scratch: Scratch,
    replies: Vec<Reply>,
    touched: Vec<Arc<Inbox>>,
}

/// tokio's clock, so that a test's paused time holds here too.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
