//! Ways: how WireGuard's datagrams get to a peer.
//!
//! WireGuard itself knows one: UDP to an endpoint. Where UDP is blocked they go over a stream, and
//! where the direct path is bad through a neighbour. The peer answers the way it was spoken to.

use std::net::{IpAddr, SocketAddr};

/// A stream that carries datagrams, by a number that this process gave it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct StreamId(pub u64);

/// A way through a neighbour, by a number that this process gave it.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ThroughId(pub u64);

/// Where a datagram comes from or goes to.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Way {
    /// A datagram of the real socket.
    Udp {
        /// The far address.
        remote: SocketAddr,
        /// Our own address, where the socket has several.
        local: Option<IpAddr>,
    },
    /// A message on a stream.
    Stream(StreamId),
    /// Wrapped, to a neighbour that sends it on.
    Through(ThroughId),
}

impl Way {
    /// Every kind of way, as it is shown.
    pub const KINDS: [&str; 3] = ["udp", "stream", "through"];

    /// Which kind it is.
    #[must_use]
    pub const fn kind(self) -> &'static str {
        match self {
            Self::Udp { .. } => "udp",
            Self::Stream(_) => "stream",
            Self::Through(_) => "through",
        }
    }

    /// The far address; only UDP has one.
    #[must_use]
    pub const fn remote(self) -> Option<SocketAddr> {
        match self {
            Self::Udp { remote, .. } => Some(remote),
            Self::Stream(_) | Self::Through(_) => None,
        }
    }

    /// Whether both lead along one path, as far as can be told: by the same neighbour, over
    /// streams, or from the same host, whose port NAT may have changed.
    #[must_use]
    pub fn leads_like(self, other: Self) -> bool {
        match (self, other) {
            (Self::Udp { remote, .. }, Self::Udp { remote: other, .. }) => {
                remote.ip() == other.ip()
            }
            (Self::Stream(_), Self::Stream(_)) => true,
            (Self::Through(id), Self::Through(other)) => id == other,
            (Self::Udp { .. } | Self::Stream(_) | Self::Through(_), _) => false,
        }
    }

    /// The same, with the system to choose our own address.
    #[must_use]
    pub const fn from_any(self) -> Self {
        match self {
            Self::Udp { remote, .. } => Self::Udp { remote, local: None },
            Self::Stream(_) | Self::Through(_) => self,
        }
    }
}

impl From<SocketAddr> for Way {
    fn from(remote: SocketAddr) -> Self {
        Self::Udp { remote, local: None }
    }
}
