//! Binding a TCP port, with an error that says which key to change.

use std::io::ErrorKind;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A port couldn't be bound.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Somebody else has it.
    #[error(
        "{address} is in use: stop what listens there (`ss -ltnup`), or set `{key}` to another port"
    )]
    InUse {
        /// The address that was asked for.
        address: SocketAddr,
        /// The configuration key that it came from.
        key: &'static str,
    },
    /// A port that only root may bind.
    #[error(
        "this user may not listen on {address}: grant CAP_NET_BIND_SERVICE, or set `{key}` to a \
         port from 1024 up"
    )]
    NotPermitted {
        /// The address that was asked for.
        address: SocketAddr,
        /// The configuration key that it came from.
        key: &'static str,
    },
    /// The address belongs to another machine.
    #[error(
        "this machine has no address {}: set `{key}` to one of its own, or to [::]", address.ip()
    )]
    NotOurs {
        /// The address that was asked for.
        address: SocketAddr,
        /// The configuration key that it came from.
        key: &'static str,
    },
    /// Anything else.
    #[error("can't listen on {address} (`{key}`)")]
    Other {
        /// The address that was asked for.
        address: SocketAddr,
        /// The configuration key that it came from.
        key: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
}

impl ListenError {
    /// What `source` means for whoever set `key` to `address`; for sockets of any kind.
    pub fn new(key: &'static str, address: SocketAddr, source: std::io::Error) -> Self {
        let kind = source.kind();
        if kind == ErrorKind::AddrInUse {
            return Self::InUse { address, key };
        }
        if kind == ErrorKind::PermissionDenied {
            return Self::NotPermitted { address, key };
        }
        if kind == ErrorKind::AddrNotAvailable {
            return Self::NotOurs { address, key };
        }
        Self::Other { address, key, source }
    }
}

/// Binds `address`, which the configuration key `key` gave.
///
/// # Errors
///
/// When the port is taken, not permitted, or not this machine's.
pub async fn bind_tcp(key: &'static str, address: SocketAddr) -> Result<TcpListener, ListenError> {
    TcpListener::bind(address).await.map_err(|source| ListenError::new(key, address, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_taken_port_names_the_key() {
        let first = bind_tcp("admin.listen", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = first.local_addr().unwrap();
        let error = bind_tcp("admin.listen", address).await.unwrap_err();
        assert!(matches!(error, ListenError::InUse { .. }), "{error:?}");
        let told = error.to_string();
        assert!(told.contains(&address.to_string()) && told.contains("`admin.listen`"), "{told}");
    }

    #[tokio::test]
    async fn a_foreign_address_is_told_apart() {
        let error = bind_tcp("listen", "192.0.2.1:0".parse().unwrap()).await.unwrap_err();
        assert!(matches!(error, ListenError::NotOurs { .. }), "{error:?}");
    }
}
