//! A member's tunnel: WireGuard with the key that it joined with, in the process or on an interface
//! of the host.

use std::net::SocketAddr;

use antipode_tunnel::shield::ShieldConfig;
use antipode_tunnel::{
    BindError, HostedError, HostedTunnel, Metrics, Tunnel, TunnelConfig, Underlay,
};

use super::Member;
use crate::shutdown::Shutdown;

/// Where WireGuard runs.
#[derive(Clone, Copy, Debug)]
pub enum TunnelPlace<'a> {
    /// In this process.
    InProcess {
        /// The UDP address.
        listen: SocketAddr,
        /// Copies where datagrams get lost.
        shield: ShieldConfig,
    },
    /// On an interface of the host, which the operator made.
    Host {
        /// Its name.
        interface: &'a str,
    },
}

/// There is no tunnel.
#[derive(Debug, thiserror::Error)]
pub enum TunnelError {
    /// WireGuard's UDP socket can't be had.
    #[error("the tunnel (`tunnel.listen`)")]
    Bind(#[from] BindError),
    /// The host's interface can't be used.
    #[error("the tunnel's interface (`tunnel.interface`)")]
    Hosted(#[from] HostedError),
    /// The interface has a key that the gateway does not know.
    #[error(
        "the interface {interface} has another key than this member joined with: run \
         `wg set {interface} private-key {key_file}`"
    )]
    HostKey {
        /// The interface.
        interface: String,
        /// Where the right key is.
        key_file: String,
    },
}

impl Member {
    /// Starts the tunnel, or takes the host's.
    ///
    /// # Errors
    ///
    /// What can't be had, and what to do about it.
    pub async fn tunnel(
        &self,
        place: TunnelPlace<'_>,
        shutdown: &Shutdown,
        metrics: &Metrics,
    ) -> Result<Underlay, TunnelError> {
        let key = self.identity.wireguard_key();
        match place {
            TunnelPlace::InProcess { listen, shield } => {
                let config = TunnelConfig { shield, ..TunnelConfig::new(key.clone(), listen) };
                let tunnel = Tunnel::bind(config, &shutdown.tasks(), metrics.clone())?;
                Ok(Underlay::InProcess(tunnel))
            }
            TunnelPlace::Host { interface } => {
                let hosted = HostedTunnel::open(interface).await?;
                if hosted.public_key() == key.public_key() {
                    return Ok(Underlay::Hosted(hosted));
                }
                let key_file = self.identity.state_dir().join("wireguard.key");
                Err(TunnelError::HostKey {
                    interface: interface.to_owned(),
                    key_file: key_file.display().to_string(),
                })
            }
        }
    }
}
