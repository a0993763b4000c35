//! `[member]`, `[tunnel]` and `[trunk]`: how sessions come to this core.

use std::net::{Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use antipode_runtime::member::Label;
use antipode_runtime::member::token::is_host_port;
use antipode_tunnel::TRUNK_PORT;
use serde::Deserialize;

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

/// WGS 84 degrees.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Location {
    /// North is positive.
    pub latitude: f64,
    /// East is positive.
    pub longitude: f64,
}

impl MemberTable {
    pub(super) fn validate(&self) -> Result<(), String> {
        if let Some(Location { latitude, longitude }) = self.location
            && !((-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude))
        {
            return Err("member.location must lie within ±90 and ±180 degrees".into());
        }
        Ok(())
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
#[derive(Clone, Debug, Default, Deserialize)]
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
}

impl TunnelTable {
    /// WireGuard's UDP socket.
    #[must_use]
    pub fn listen(&self) -> SocketAddr {
        self.listen.unwrap_or_else(|| SocketAddr::from((Ipv6Addr::UNSPECIFIED, TUNNEL_PORT)))
    }

    pub(super) fn validate(&self) -> Result<(), String> {
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
