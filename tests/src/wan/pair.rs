//! Two namespaces of their own, joined by a link: all that a test of the link itself needs.

use std::io;
use std::net::{TcpListener, TcpStream, UdpSocket};

use super::{Change, End, Plan, Wan, Way};
use crate::namespaces::{Namespace, inside};

/// The left side's addresses.
pub const LEFT: [&str; 2] = ["10.9.0.1", "fd09::1"];
/// The right side's addresses.
pub const RIGHT: [&str; 2] = ["10.9.0.2", "fd09::2"];

/// Two namespaces and the link between them.
#[derive(Debug)]
pub struct Pair {
    /// The link.
    pub wan: Wan,
    /// The left side.
    pub left: Namespace,
    /// The right side.
    pub right: Namespace,
}

impl Pair {
    /// Makes one; several may stand at once.
    ///
    /// # Errors
    ///
    /// If namespaces or devices can't be made.
    pub fn make() -> anyhow::Result<Self> {
        let (left, right) = (Namespace::make()?, Namespace::make()?);
        let end = |namespace: &Namespace, [v4, v6]: [&str; 2]| End {
            namespace: Some(namespace.name.clone()),
            interface: "wan0".to_owned(),
            addresses: vec![format!("{v4}/24"), format!("{v6}/64")],
        };
        let plan = Plan { left: end(&left, LEFT), right: end(&right, RIGHT), seed: 1 };
        Ok(Self { wan: Wan::start(&plan)?, left, right })
    }

    /// Changes the link; `change` is JSON, as the program reads it.
    ///
    /// # Errors
    ///
    /// If it is none, or no link can be so.
    pub fn set(&self, way: Way, change: &str) -> anyhow::Result<()> {
        Ok(self.wan.set(way, &serde_json::from_str::<Change>(change)?)?)
    }
}

/// A UDP socket in a namespace.
///
/// # Errors
///
/// If it can't be bound.
pub fn udp(namespace: &str, address: &str, port: u16) -> anyhow::Result<UdpSocket> {
    let address = address.to_owned();
    Ok(inside(namespace, move || UdpSocket::bind((address.as_str(), port)))??)
}

/// A listening TCP socket in a namespace.
///
/// # Errors
///
/// If it can't be bound.
pub fn listen(namespace: &str, address: &str, port: u16) -> anyhow::Result<TcpListener> {
    let address = address.to_owned();
    Ok(inside(namespace, move || TcpListener::bind((address.as_str(), port)))??)
}

/// A TCP socket from a namespace, within `limit`.
///
/// # Errors
///
/// If it does not connect.
pub fn connect(
    namespace: &str,
    to: std::net::SocketAddr,
    limit: std::time::Duration,
) -> anyhow::Result<io::Result<TcpStream>> {
    inside(namespace, move || TcpStream::connect_timeout(&to, limit))
}
