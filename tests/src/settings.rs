//! The configuration files of a world's programs: as short as a user's could be.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use crate::certificate::Certificates;
use crate::namespaces::Host;

/// Where a member runs, and whose WireGuard it uses.
#[derive(Clone, Debug)]
pub struct Site {
    /// Where it listens, and where the others find it.
    pub address: IpAddr,
    /// Where its WireGuard's UDP socket listens; none: at its address.
    pub tunnel_address: Option<IpAddr>,
    /// Where a core's WireGuard can be reached, where that is not its own port.
    pub endpoints: Vec<String>,
    /// More for the table `[tunnel]`.
    pub tunnel_more: String,
    /// The namespace it runs in; none: this one.
    pub host: Option<Host>,
    /// Whose WireGuard.
    pub tunnel: Tunnel,
    /// What runs inside: `quic` or `tcp`.
    pub carrier: &'static str,
}

/// Whose WireGuard a member uses.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tunnel {
    /// Our own, in the process.
    InProcess,
    /// An interface of its host.
    Interface(String),
}

impl Site {
    /// In this namespace, with everything as by default.
    #[must_use]
    pub fn here(address: IpAddr) -> Self {
        Self {
            address,
            tunnel_address: None,
            endpoints: Vec::new(),
            tunnel_more: String::new(),
            host: None,
            tunnel: Tunnel::InProcess,
            carrier: "quic",
        }
    }

    /// The tables of the file that say so. `port` is WireGuard's where it is ours; `more` belongs
    /// to `[tunnel]`.
    fn tables(&self, port: u16, more: &str) -> String {
        let (address, carrier) = (self.tunnel_address.unwrap_or(self.address), self.carrier);
        let tunnel = match &self.tunnel {
            Tunnel::InProcess => format!("listen = \"{}\"", SocketAddr::new(address, port)),
            Tunnel::Interface(name) => format!("mode = \"host\"\ninterface = \"{name}\""),
        };
        let own = &self.tunnel_more;
        format!("[tunnel]\n{tunnel}\n{more}\n{own}\n[trunk]\ncarrier = \"{carrier}\"\n")
    }
}

/// WireGuard's customary one.
pub const WIREGUARD_PORT: u16 = 51820;

/// Where clients find a node.
#[must_use]
pub fn front(address: IpAddr, node: usize) -> SocketAddr {
    SocketAddr::new(address, numbered(8443, node))
}

/// Where a program answers its operator: 0 the gateway, 1 the core, then nodes.
#[must_use]
pub fn admin(address: IpAddr, program: usize) -> SocketAddr {
    SocketAddr::new(address, numbered(9400, program))
}

/// Where the gateway answers which node is best.
#[must_use]
pub fn steering(address: IpAddr) -> SocketAddr {
    SocketAddr::new(address, 7480)
}

/// The file with a member's join token.
#[must_use]
pub fn token_file(folder: &Path, name: &str) -> PathBuf {
    folder.join(format!("{name}.token"))
}

fn numbered(base: u16, index: usize) -> u16 {
    base + u16::try_from(index).expect("a world is small")
}

/// The gateway's file.
#[must_use]
pub fn gateway(folder: &Path, address: IpAddr) -> String {
    format!(
        r#"
listen = "{address}:7443"
state_dir = "{state}"

[http]
listen = "{http}"

[grpc]
listen = "{address}:7481"

[admin]
listen = "{admin}"
"#,
        state = folder.join("gateway").display(),
        http = steering(address),
        admin = admin(address, 0),
    )
}

/// The core's file.
#[must_use]
pub fn core(folder: &Path, site: &Site, name: &str, backend: &str) -> String {
    let own = [SocketAddr::new(site.address, WIREGUARD_PORT).to_string()];
    let endpoints = if site.endpoints.is_empty() { &own[..] } else { &site.endpoints };
    let mut tunnel = format!("endpoints = {endpoints:?}\n");
    // Only in a namespace of its own port 443 is nobody else's.
    if site.host.is_none() && !site.tunnel_more.contains("stream_listen") {
        tunnel += "stream_listen = \"off\"\n";
    }
    format!(
        r#"
[member]
state_dir = "{state}"
join_token_file = "{token}"
name = "{name}"
region = "test"

{tables}
[[backend]]
url = "{backend}"

[admin]
listen = "{admin}"
"#,
        state = folder.join(name).display(),
        token = token_file(folder, name).display(),
        tables = site.tables(WIREGUARD_PORT, &tunnel),
        admin = admin(site.address, 1),
    )
}

/// A node's file.
#[must_use]
pub fn node(folder: &Path, site: &Site, index: usize, certificates: &Certificates) -> String {
    let address = site.address;
    let name = format!("node{index}");
    format!(
        r#"
[[listen]]
address = "{front}"

[[certificate]]
chain_file = "{chain}"
key_file = "{key}"

[member]
state_dir = "{state}"
join_token_file = "{token}"
name = "{name}"
region = "test"
public_urls = ["wss://{front}"]

{tables}
[admin]
listen = "{admin}"
"#,
        front = front(address, index),
        chain = certificates.chain_file.display(),
        key = certificates.key_file.display(),
        state = folder.join(&name).display(),
        token = token_file(folder, &name).display(),
        tables = site.tables(0, ""),
        admin = admin(address, 2 + index),
    )
}
