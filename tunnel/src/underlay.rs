//! One type for both ways to have a tunnel: in this process, or an interface of the host.

use std::future::pending;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;

use crate::class::Class;
use crate::hosted::{HostedError, HostedTunnel};
use crate::key::PublicKey;
use crate::paths::Candidate;
use crate::peer::{PeerConfig, PeerState};
use crate::shield::QuicCounts;
use crate::tunnel::{SocketError, Tunnel};
use crate::way::Way;

/// What carries a program's trunks.
#[derive(Clone, Debug)]
pub enum Underlay {
    /// WireGuard in this process: no privileges, no interface. The default.
    InProcess(Tunnel),
    /// An interface of the host, kernel or wireguard-go, whose peers we set with `wg`.
    Hosted(HostedTunnel),
}

impl Underlay {
    /// Our key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        match self {
            Self::InProcess(tunnel) => tunnel.public_key(),
            Self::Hosted(hosted) => hosted.public_key(),
        }
    }

    /// Our address inside the tunnel.
    #[must_use]
    pub fn address(&self) -> Ipv6Addr {
        match self {
            Self::InProcess(tunnel) => tunnel.address(),
            Self::Hosted(hosted) => hosted.address(),
        }
    }

    /// The UDP port outside the tunnel, for telling peers where we are.
    #[must_use]
    pub fn listen_port(&self) -> u16 {
        match self {
            Self::InProcess(tunnel) => tunnel.local_addr().port(),
            Self::Hosted(hosted) => hosted.listen_port(),
        }
    }

    /// Sets the whole list of peers; missing ones are gone when this returns.
    ///
    /// # Errors
    /// In host mode, if `wg` or `ip` refuses.
    pub async fn set_peers(&self, peers: Vec<PeerConfig>) -> Result<(), HostedError> {
        match self {
            Self::InProcess(tunnel) => {
                tunnel.set_peers(peers);
                Ok(())
            }
            Self::Hosted(hosted) => hosted.set_peers(peers).await,
        }
    }

    /// Every peer's state.
    ///
    /// # Errors
    /// In host mode, if `wg` refuses.
    pub async fn peers(&self) -> Result<Vec<PeerState>, HostedError> {
        match self {
            Self::InProcess(tunnel) => Ok(tunnel.peers()),
            Self::Hosted(hosted) => hosted.peers().await,
        }
    }

    /// Sets the ways to a peer; see [`Tunnel::set_candidates`]. An interface of the host knows one
    /// endpoint, [`PeerConfig::endpoint`].
    pub fn set_candidates(&self, peer: &PublicKey, candidates: Vec<Candidate>) {
        match self {
            Self::InProcess(tunnel) => tunnel.set_candidates(peer, candidates),
            Self::Hosted(_) => {}
        }
    }

    /// Waits until a peer's names are to be looked up again; see [`Tunnel::unresolved`].
    pub async fn unresolved(&self) -> PublicKey {
        match self {
            Self::InProcess(tunnel) => tunnel.unresolved().await,
            Self::Hosted(_) => pending().await,
        }
    }

    /// Waits until the way to a peer is another one; see [`Tunnel::way_changed`].
    pub async fn way_changed(&self) -> Ipv6Addr {
        match self {
            Self::InProcess(tunnel) => tunnel.way_changed().await,
            Self::Hosted(_) => pending().await,
        }
    }

    /// The way to a peer; see [`Tunnel::way_to`]. An interface of the host does not say.
    #[must_use]
    pub fn way_to(&self, inner: Ipv6Addr) -> Option<Way> {
        match self {
            Self::InProcess(tunnel) => tunnel.way_to(inner),
            Self::Hosted(_) => None,
        }
    }

    /// Begins a handshake with a peer now; see [`Tunnel::handshake`]. An interface of the host
    /// begins its own.
    pub fn handshake(&self, peer: &PublicKey) {
        match self {
            Self::InProcess(tunnel) => tunnel.handshake(peer),
            Self::Hosted(_) => {}
        }
    }

    /// [`Underlay::handshake`] with the peer that owns an address inside the tunnel.
    pub fn handshake_to(&self, inner: Ipv6Addr) {
        match self {
            Self::InProcess(tunnel) => tunnel.handshake_to(inner),
            Self::Hosted(_) => {}
        }
    }

    /// Takes what QUIC has counted towards a peer; see [`Tunnel::note_quic`]. An interface of the
    /// host has no shield.
    pub fn note_quic(&self, inner: Ipv6Addr, counts: QuicCounts) {
        match self {
            Self::InProcess(tunnel) => tunnel.note_quic(inner, counts),
            Self::Hosted(_) => {}
        }
    }

    /// A socket for quinn on our tunnel address; port 0 takes any.
    ///
    /// # Errors
    /// If the port is taken, or the host refuses.
    pub fn quic_socket(
        &self,
        port: u16,
        class: Class,
    ) -> Result<Arc<dyn quinn::AsyncUdpSocket>, SocketError> {
        match self {
            Self::InProcess(tunnel) => tunnel.udp_socket(port, class),
            Self::Hosted(hosted) => hosted.quic_socket(port),
        }
    }

    /// Where to bind TCP for the second carrier; `None` where there is no interface to bind to.
    #[must_use]
    pub fn tcp_bind_address(&self, port: u16) -> Option<SocketAddr> {
        match self {
            Self::InProcess(_) => None,
            Self::Hosted(hosted) => Some(hosted.tcp_bind_address(port)),
        }
    }
}
