//! The tunnel as programs hold it: one real socket, one driver task, many peers.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument, info, info_span};

use crate::class::Class;
use crate::device::Device;
use crate::exits::Exits;
use crate::forward::{ForwarderConfig, Mesh};
use crate::inbox::Inbox;
use crate::key::{PrivateKey, PublicKey};
use crate::metrics::Metrics;
use crate::outer::OuterSocket;
use crate::packet::{INNER_MTU_FLOOR_BYTES, INNER_MTU_MAX_BYTES};
use crate::paths::driver::Courses;
use crate::peer::{PeerConfig, PeerState};
use crate::quic::TunnelSocket;
use crate::send::SendBuffers;
use crate::shared::Shared;
use crate::shield::{QuicCounts, Shield, ShieldConfig};
use crate::stream::Streams;
use crate::way::Way;

/// What a tunnel needs to start.
#[derive(Clone, Debug)]
pub struct TunnelConfig {
    /// Our key.
    pub private_key: PrivateKey,
    /// The real UDP address; port 0 takes any. `[::]` takes IPv4 as well.
    pub listen: SocketAddr,
    /// Largest packet sent inside the tunnel, 1280 to 1420. QUIC starts at 1248 and probes up to
    /// it.
    pub mtu_bytes: u16,
    /// Silence of a peer with a keep-alive after which a new handshake is begun: it may have
    /// restarted and lost its keys. 15 s is WireGuard's own figure for data without an answer (10 +
    /// 5, §6.5).
    pub silence_max: Duration,
    /// Copies of chat datagrams where datagrams get lost.
    pub shield: ShieldConfig,
}

impl TunnelConfig {
    /// The defaults around a key and an address.
    #[must_use]
    pub fn new(private_key: PrivateKey, listen: SocketAddr) -> Self {
        let silence_max = Duration::from_secs(15);
        let (mtu_bytes, shield) = (INNER_MTU_MAX_BYTES, ShieldConfig::default());
        Self { private_key, listen, mtu_bytes, silence_max, shield }
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

impl Tunnel {
    /// Binds the real socket and starts the driver. Call it inside a tokio runtime.
    ///
    /// # Errors
    /// If the address can't be bound; the message says what to do.
    pub fn bind(config: TunnelConfig, tasks: &Tasks, metrics: Metrics) -> Result<Self, BindError> {
        let TunnelConfig { private_key, listen, mtu_bytes, silence_max, shield } = config;
        let outer = OuterSocket::bind(listen).map_err(|source| BindError::new(listen, source))?;
        let public_key = private_key.public_key();
        let shared = Arc::new(Shared {
            mesh: Mesh::new(private_key.clone(), metrics.clone()),
            courses: Courses::new(listen),
            device: Device::new(private_key, silence_max, metrics.clone(), now()),
            exits: Exits::new(outer, metrics.clone()),
            streams: Streams::new(tasks.clone()),
            buffers: SendBuffers::default(),
            shield: Shield::new(shield),
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
            || info!(listen = %shared.exits.udp().local_addr(), address = %shared.address, "up"),
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
        tasks.tracker.spawn(Arc::clone(&shared).run_mesh(tasks.clone()));
        tasks.tracker.spawn(Arc::clone(&shared).run_courses(tasks.clone()));
        tasks.tracker.spawn(Arc::clone(&shared).run_shield());
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

    pub(crate) const fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// The real address, with the port that was given.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.exits.udp().local_addr()
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

    /// Sets the neighbours that send our datagrams on, whole; see [`crate::forward`].
    pub fn set_forwarders(&self, forwarders: Vec<ForwarderConfig>) {
        self.shared.mesh.set_forwarders(&self.shared, forwarders);
    }

    /// Sets whose datagrams we send on to our peers, whole, and how many bytes a second for all of
    /// them, both directions together.
    pub fn set_forwarded(&self, nodes: &[PublicKey], bytes_per_second_max: u64) {
        self.shared.mesh.set_forwarded(&self.shared, nodes, bytes_per_second_max);
    }

    /// The ways to a peer through neighbours.
    #[must_use]
    pub fn ways_through(&self, peer: &PublicKey) -> Vec<Way> {
        self.shared.mesh.ways_to(peer).into_iter().map(Way::Through).collect()
    }

    /// Through whom a way goes; `None` if it goes through nobody.
    #[must_use]
    pub fn forwarder_of(&self, way: Way) -> Option<PublicKey> {
        match way {
            Way::Through(id) => self.shared.mesh.forwarder(id),
            Way::Udp { .. } | Way::Stream(_) => None,
        }
    }

    /// The way on which the peer that owns an address inside the tunnel is spoken to right now.
    #[must_use]
    pub fn way_to(&self, inner: Ipv6Addr) -> Option<Way> {
        self.shared.device.peer_for(inner.into())?.link.lock().way()
    }

    /// Takes what QUIC has done towards the peer that owns an address inside the tunnel: the shield
    /// goes by it where a peer answers no probes.
    pub fn note_quic(&self, inner: Ipv6Addr, counts: QuicCounts) {
        if let Some(peer) = self.shared.device.peer_for(inner.into()) {
            peer.shield.note_quic(counts, now());
        }
    }

    /// A UDP socket inside the tunnel, for quinn, on our address and `port` (0: any free one), for
    /// what `class` says. The port is free again when the socket is dropped.
    ///
    /// # Errors
    /// If the port is taken, or the tunnel has stopped.
    pub fn udp_socket(
        &self,
        port: u16,
        class: Class,
    ) -> Result<Arc<dyn quinn::AsyncUdpSocket>, SocketError> {
        if self.shared.stop.is_cancelled() {
            return Err(SocketError::Stopped);
        }
        let inbox = Arc::new(Inbox::default());
        let port = self.shared.open_port(port, &inbox)?;
        let local = SocketAddrV6::new(self.shared.address, port, 0, 0);
        Ok(Arc::new(TunnelSocket::new(Arc::clone(&self.shared), inbox, local, class)))
    }
}

/// tokio's clock, so that a test's paused time holds here too.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
