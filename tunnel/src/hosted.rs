//! The second way: the WireGuard interface is the host's, and we only tell it its peers.
//!
//! The interface, its key and its address are the operator's: kernel WireGuard or wireguard-go,
//! made once with the commands that [`HostedError`] prints. We run `wg` and `ip`, which need
//! CAP_NET_ADMIN. QUIC then runs on an ordinary UDP socket on the tunnel address, and TCP works
//! too.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use quinn::Runtime;
use tokio::process::Command;

use crate::cidr::Cidr;
use crate::key::PublicKey;
use crate::peer::{PeerConfig, PeerState};
use crate::tunnel::SocketError;
use crate::way::Way;

/// The host's interface could not be used.
#[derive(Debug, thiserror::Error)]
pub enum HostedError {
    /// A program we need is not installed.
    #[error("`{program}` is not installed: run `apt-get install wireguard-tools iproute2`")]
    NoProgram {
        /// `wg` or `ip`.
        program: &'static str,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// There is no such WireGuard interface.
    #[error("{}", no_interface(interface, said))]
    NoInterface {
        /// The name in the settings.
        interface: String,
        /// What `wg` said.
        said: String,
    },
    /// The interface has no key yet.
    #[error("{interface} has no key: run `wg set {interface} private-key FILE listen-port 51820`")]
    NoKey {
        /// The name in the settings.
        interface: String,
    },
    /// We may not change it.
    #[error(
        "`{command}` needs CAP_NET_ADMIN: run as root or with AmbientCapabilities=CAP_NET_ADMIN"
    )]
    NotAllowed {
        /// What was run.
        command: String,
    },
    /// A program refused.
    #[error("`{command}` failed: {said}")]
    Refused {
        /// What was run.
        command: String,
        /// What it said.
        said: String,
    },
    /// A program answered something we don't understand.
    #[error("`wg show` printed a line that is not understood: {line:?}")]
    Answer {
        /// The line.
        line: String,
    },
}

fn no_interface(interface: &str, said: &str) -> String {
    format!(
        "no WireGuard interface {interface} ({said}). Make one:\n  \
         ip link add {interface} type wireguard    # or: wireguard-go {interface}\n  \
         wg set {interface} private-key FILE listen-port 51820\n  \
         ip link set {interface} mtu 1420 up\n\
         and start again: the error then names the address to put on it"
    )
}

/// A WireGuard interface of the host.
#[derive(Clone, Debug)]
pub struct HostedTunnel {
    interface: Arc<str>,
    public_key: PublicKey,
    listen_port: u16,
}

impl HostedTunnel {
    /// Looks at the interface `interface`, which has to exist and to have a key.
    ///
    /// # Errors
    /// If it doesn't, or `wg` is missing; the message has the commands that help.
    pub async fn open(interface: &str) -> Result<Self, HostedError> {
        let dump = run("wg", &["show", interface, "dump"]).await?;
        let line = dump.lines().next().unwrap_or_default();
        let understood = || HostedError::Answer { line: hide_secret(line) };
        let mut fields = line.split('\t').skip(1);
        let public_key = fields.next().ok_or_else(understood)?;
        if public_key == "(none)" {
            return Err(HostedError::NoKey { interface: interface.into() });
        }
        let public_key = public_key.parse().map_err(|_| understood())?;
        let listen_port =
            fields.next().and_then(|port| port.parse().ok()).ok_or_else(understood)?;
        Ok(Self { interface: interface.into(), public_key, listen_port })
    }

    /// The interface's key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// The tunnel address that its key gives it; it has to be on the interface.
    #[must_use]
    pub fn address(&self) -> Ipv6Addr {
        self.public_key.address()
    }

    /// The interface's UDP port outside the tunnel.
    #[must_use]
    pub fn listen_port(&self) -> u16 {
        self.listen_port
    }

    /// Sets the interface's whole list of peers, and a route to each range. Missing ones are gone
    /// when this returns; the others keep their keys.
    ///
    /// # Errors
    /// If `wg` or `ip` refuses.
    pub async fn set_peers(&self, peers: Vec<PeerConfig>) -> Result<(), HostedError> {
        let wanted: BTreeSet<PublicKey> = peers.iter().map(|peer| peer.public_key).collect();
        for gone in self.peers().await? {
            if !wanted.contains(&gone.public_key) {
                let key = gone.public_key.to_string();
                run("wg", &["set", &self.interface, "peer", &key, "remove"]).await?;
            }
        }
        for peer in peers.iter().filter(|peer| peer.public_key != self.public_key) {
            let arguments = peer_arguments(&self.interface, peer);
            run("wg", &arguments.iter().map(String::as_str).collect::<Vec<_>>()).await?;
            for range in peer.allowed() {
                let family = if range.is_ipv6() { "-6" } else { "-4" };
                let range = range.to_string();
                let route = [family, "route", "replace", &range, "dev", &self.interface];
                run("ip", &route).await?;
            }
        }
        Ok(())
    }

    /// Every peer's state, as far as `wg` tells.
    ///
    /// # Errors
    /// If `wg` refuses.
    pub async fn peers(&self) -> Result<Vec<PeerState>, HostedError> {
        let dump = run("wg", &["show", &self.interface, "dump"]).await?;
        let now = unix_now();
        let peer = |line: &str| {
            peer_state(line, now).ok_or_else(|| HostedError::Answer { line: hide_secret(line) })
        };
        dump.lines().skip(1).map(peer).collect()
    }

    /// An ordinary UDP socket on the tunnel address, for quinn.
    ///
    /// # Errors
    /// If the address is not on the interface, or the port is taken.
    pub fn quic_socket(&self, port: u16) -> Result<Arc<dyn quinn::AsyncUdpSocket>, SocketError> {
        let address = self.tcp_bind_address(port);
        let refused = |source| {
            let command = self.address_command();
            SocketError::Host { command, address, source }
        };
        let socket = UdpSocket::bind(address).map_err(refused)?;
        quinn::TokioRuntime.wrap_udp_socket(socket).map_err(refused)
    }

    /// Where to bind TCP.
    #[must_use]
    pub fn tcp_bind_address(&self, port: u16) -> SocketAddr {
        SocketAddr::new(self.address().into(), port)
    }

    /// The command that puts the tunnel address on the interface, for error texts.
    #[must_use]
    pub fn address_command(&self) -> String {
        format!("ip -6 address add {}/128 dev {}", self.address(), self.interface)
    }
}

/// `wg set`'s arguments that make one peer what it should be.
fn peer_arguments(interface: &str, peer: &PeerConfig) -> Vec<String> {
    let ranges: Vec<String> = peer.allowed().iter().map(Cidr::to_string).collect();
    let mut arguments = vec!["set".into(), interface.into(), "peer".into()];
    arguments.push(peer.public_key.to_string());
    arguments.extend(["allowed-ips".into(), ranges.join(",")]);
    if let Some(endpoint) = peer.endpoint {
        arguments.extend(["endpoint".into(), endpoint.to_string()]);
    }
    // 0 switches it off; WireGuard counts in seconds, to 65,535.
    let keepalive = peer.keepalive.map_or(0, |keepalive| keepalive.as_secs().clamp(1, 65_535));
    arguments.extend(["persistent-keepalive".into(), keepalive.to_string()]);
    arguments
}

/// One peer's line of `wg show IFACE dump`: key, preshared key, endpoint, allowed IPs, latest
/// handshake (Unix time), bytes received, bytes sent, keep-alive.
fn peer_state(line: &str, now: Duration) -> Option<PeerState> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [key, _, endpoint, _, handshake, bytes_in, bytes_out, _] = fields[..] else { return None };
    let handshake: u64 = handshake.parse().ok()?;
    let handshake_age = (handshake > 0).then(|| now.saturating_sub(Duration::from_secs(handshake)));
    Some(PeerState {
        endpoint: endpoint.parse().ok(),
        way: endpoint.parse().ok().map(|remote: SocketAddr| Way::from(remote)),
        handshake_age,
        bytes_in: bytes_in.parse().ok()?,
        bytes_out: bytes_out.parse().ok()?,
        ..PeerState::new(key.parse().ok()?)
    })
}

/// The interface's own line of a dump begins with its private key.
fn hide_secret(line: &str) -> String {
    let rest: String = line.chars().skip_while(|c| *c != '\t').take(80).collect();
    format!("(key){rest}")
}

async fn run(program: &'static str, arguments: &[&str]) -> Result<String, HostedError> {
    let output = Command::new(program).args(arguments).kill_on_drop(true).output().await;
    let output = output.map_err(|source| HostedError::NoProgram { program, source })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    let command = format!("{program} {}", arguments.join(" "));
    // The programs speak English whatever the locale, and have no exit codes to tell these apart.
    if said.contains("Operation not permitted") {
        return Err(HostedError::NotAllowed { command });
    }
    if said.contains("No such device") || said.contains("Unable to access interface") {
        let interface = arguments.get(1).copied().unwrap_or_default().to_owned();
        return Err(HostedError::NoInterface { interface, said });
    }
    Err(HostedError::Refused { command, said })
}

#[allow(
    clippy::disallowed_methods,
    reason = "wg tells handshakes in Unix time, and the crate with the clock depends on this one"
)]
fn unix_now() -> Duration {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests;
