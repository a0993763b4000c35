//! `[member]`, `[tunnel]` and `[trunk]`: how sessions come to this core.

use std::net::{Ipv6Addr, SocketAddr};
use std::num::NonZeroUsize;
use std::path::PathBuf;

use antipode_runtime::member::token::is_host_port;
use antipode_runtime::member::{Label, Location};
use antipode_tunnel::TRUNK_PORT;
use antipode_tunnel::shield::ShieldConfig;
use serde::Deserialize;

use super::at_least_one;
use super::streams::{self, STREAM_PORT, Setting, StreamListen};

/// WireGuard's customary port.
const TUNNEL_PORT: u16 = 51_820;

/// `[member]`: who this core is to its gateway.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemberTable {
    /// Keys, certificates and the last roster are kept here.
    pub state_dir: PathBuf,
    /// The join token, needed for the first start only.
    #[serde(default)]
    pub join_token_file: Option<PathBuf>,
    /// The gateway's `host:port`, if it is not the one in the join token any more.
    #[serde(default)]
    pub gateway: Option<String>,
    /// Unique among the gateway's members.
    pub name: Label,
    /// Where it stands, in a word.
    pub region: Label,
    /// Where it stands, in degrees.
    #[serde(default)]
    pub location: Option<Location>,
}

impl MemberTable {
    pub(super) fn validate(&self) -> Result<(), String> {
        self.location.map_or(Ok(()), Location::validate)
    }
}

/// Where WireGuard runs.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum TunnelMode {
    /// In this process: no interface, no privilege.
    #[default]
    InProcess,
    /// On an interface of the host, which the operator set up.
    Host,
}

/// `[tunnel]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TunnelTable {
    /// Where WireGuard runs.
    pub mode: TunnelMode,
    /// WireGuard's UDP socket, in process.
    listen: Option<SocketAddr>,
    /// The host's interface, such as `wg0`.
    pub interface: Option<String>,
    /// Where nodes reach WireGuard, as `host:port`: public addresses and names.
    pub endpoints: Vec<String>,
    /// Where datagrams are taken over TLS, from nodes whose UDP is blocked.
    stream_listen: Option<Setting>,
    /// Where nodes reach that.
    stream_endpoints: Vec<String>,
    /// Streams at once; more are closed.
    pub streams_max: NonZeroUsize,
    /// Copies of chat datagrams where datagrams get lost.
    shield: bool,
    /// What copies may cost.
    shield_kbit_per_second_max: u32,
}

impl Default for TunnelTable {
    fn default() -> Self {
        Self {
            mode: TunnelMode::default(),
            listen: None,
            interface: None,
            endpoints: Vec::new(),
            stream_listen: None,
            stream_endpoints: Vec::new(),
            // As many as a gateway takes members by default; a node needs one.
            streams_max: at_least_one(1000),
            shield: ShieldConfig::default().enabled,
            shield_kbit_per_second_max: ShieldConfig::default().kbit_per_second_max,
        }
    }
}

impl TunnelTable {
    /// WireGuard's UDP socket.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, TUNNEL_PORT)))
    }

    /// Copies of what this core sends.
    #[must_use]
    pub const fn shield(&self) -> ShieldConfig {
        let kbit_per_second_max = self.shield_kbit_per_second_max;
        ShieldConfig { enabled: self.shield, kbit_per_second_max }
    }

    /// Where streams are taken.
    #[must_use]
    pub fn stream_listen(&self) -> StreamListen {
        match (self.mode, self.stream_listen) {
            (TunnelMode::Host, _) | (_, Some(Setting::Off)) => StreamListen::Off,
            (TunnelMode::InProcess, Some(Setting::At(address))) => StreamListen::At(address),
            (TunnelMode::InProcess, None) => {
                StreamListen::IfFree(SocketAddr::new(self.listen().ip(), STREAM_PORT))
            }
        }
    }

    /// Where nodes reach streams that are taken at `port`, if WireGuard is reached at `endpoints`.
    #[must_use]
    pub fn stream_endpoints(&self, endpoints: &[String], port: u16) -> Vec<String> {
        streams::endpoints(&self.stream_endpoints, endpoints, port)
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        if self.mode == TunnelMode::Host && matches!(self.stream_listen, Some(Setting::At(_))) {
            return Err("tunnel.stream_listen needs tunnel.mode = \"in_process\"".into());
        }
        let mut streams = self.stream_endpoints.iter();
        if let Some(bad) = streams.find(|endpoint| !is_host_port(endpoint)) {
            return Err(format!("tunnel.stream_endpoints: {bad:?} is not host:port"));
        }
        match (self.mode, &self.interface, self.listen) {
            (TunnelMode::InProcess, Some(_), _) => {
                return Err("tunnel.interface needs tunnel.mode = \"host\"".into());
            }
            (TunnelMode::Host, None, _) => {
                return Err("tunnel.mode = \"host\" needs tunnel.interface".into());
            }
            (TunnelMode::Host, _, Some(_)) => {
                return Err("tunnel.listen needs tunnel.mode = \"in_process\"".into());
            }
            (TunnelMode::InProcess, None, _) | (TunnelMode::Host, Some(_), None) => {}
        }
        match self.endpoints.iter().find(|endpoint| !is_host_port(endpoint)) {
            Some(bad) => Err(format!("tunnel.endpoints: {bad:?} is not host:port")),
            None => Ok(()),
        }
    }
}

/// What carries lanes.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// QUIC over the tunnel.
    #[default]
    Quic,
    /// HTTP/2 over TCP through the host's WireGuard interface.
    Tcp,
}

/// `[trunk]`: what is accepted inside the tunnel.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrunkTable {
    /// What carries the lanes; nodes have to be set to the same.
    pub carrier: Carrier,
    /// The port inside the tunnel.
    pub port: u16,
}

impl Default for TrunkTable {
    fn default() -> Self {
        Self { carrier: Carrier::Quic, port: TRUNK_PORT }
    }
}

impl TrunkTable {
    pub(super) fn validate(&self, tunnel: &TunnelTable) -> Result<(), String> {
        match (self.carrier, tunnel.mode) {
            (Carrier::Tcp, TunnelMode::InProcess) => {
                Err("trunk.carrier = \"tcp\" needs tunnel.mode = \"host\"".into())
            }
            (Carrier::Quic, _) | (Carrier::Tcp, TunnelMode::Host) => {
                if self.port == 0 {
                    return Err("trunk.port can't be 0: nodes are told it".into());
                }
                Ok(())
            }
        }
    }
}
