//! A peer as it should be and as it is, and the words its link speaks in.

use std::net::SocketAddr;
use std::time::Duration;

use crate::cidr::Cidr;
use crate::key::PublicKey;
use crate::quality::Quality;
use crate::shield::ShieldReport;
use crate::stream::StreamTls;
use crate::way::Way;

/// A peer as it should be.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PeerConfig {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where it is; `None` if it is to come to us.
    pub endpoint: Option<SocketAddr>,
    /// How to know it on a stream; without this none is opened to it.
    pub stream_tls: Option<StreamTls>,
    /// Keep the path open: handshake at once, and never be silent for longer than this.
    pub keepalive: Option<Duration>,
    /// What it may send from, and what is sent to it. Empty: its own tunnel address.
    pub allowed_ips: Vec<Cidr>,
}

impl PeerConfig {
    /// A peer that comes to us and owns its own tunnel address.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            endpoint: None,
            stream_tls: None,
            keepalive: None,
            allowed_ips: Vec::new(),
        }
    }

    /// The ranges it owns, the default written out.
    #[must_use]
    pub fn allowed(&self) -> Vec<Cidr> {
        if self.allowed_ips.is_empty() {
            return vec![self.public_key.address().into()];
        }
        self.allowed_ips.clone()
    }
}

/// A peer as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerState {
    /// Who it is.
    pub public_key: PublicKey,
    /// Where its last authenticated message came from, or where it is configured to be.
    pub endpoint: Option<SocketAddr>,
    /// How datagrams get to it now.
    pub way: Option<Way>,
    /// The link with it, as probes find it.
    pub quality: Quality,
    /// What the shield does for it.
    pub shield: ShieldReport,
    /// WireGuard data messages sent to it, copies included.
    pub sent: u64,
    /// WireGuard data messages that arrived from it, copies included.
    pub arrived: u64,
    /// Age of the keys in use; `None` without keys. Over 180 s cannot be.
    pub handshake_age: Option<Duration>,
    /// Since its last authenticated message; `None` if there was none.
    pub silence: Option<Duration>,
    /// Bytes of inner packets from it.
    pub bytes_in: u64,
    /// Bytes of inner packets to it, padding included.
    pub bytes_out: u64,
    /// Share of its messages that did not arrive, over the last sessions; `None` where unknown.
    pub loss: Option<f32>,
    /// Round trip of the last handshake we began.
    pub rtt: Option<Duration>,
    /// Its initiations that were not newer than its last. More than a few: its clock went back.
    pub stale_handshakes: u64,
}

impl PeerState {
    /// A peer of which nothing is known.
    #[must_use]
    pub fn new(public_key: PublicKey) -> Self {
        Self {
            public_key,
            endpoint: None,
            way: None,
            quality: Quality::default(),
            shield: ShieldReport::default(),
            sent: 0,
            arrived: 0,
            handshake_age: None,
            silence: None,
            bytes_in: 0,
            bytes_out: 0,
            loss: None,
            rtt: None,
            stale_handshakes: 0,
        }
    }
}

/// A datagram the driver has to send.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Reply {
    /// Where to.
    pub to: Way,
    /// What.
    pub bytes: Vec<u8>,
}

/// What became of an inner packet on its way out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Sealed {
    /// A data message of this length.
    Data(usize),
    /// There are no keys: the packet waits, and this long a handshake message goes first.
    Handshake(usize),
    /// There are no keys and a handshake is under way: the packet waits.
    Waits,
}
