//! The node's settings, valid by construction.
//!
//! A private form of the file is read, checked and turned into what it means; unknown keys, bare
//! seconds and contradictions are refused at the door. `deploy/examples/node.toml` shows every key.

mod file;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use antipode_runtime::admin::AdminTable;
use antipode_runtime::member::{Label, Location, TunnelPlace};
use antipode_runtime::program::Settings;
use antipode_tunnel::shield::ShieldConfig;
use http::HeaderValue;
use serde::Deserialize;

use crate::headers::trusted::TrustedProxies;

pub use limits::{FrontLimits, Pacing, SessionLimits};

/// What one node needs to know.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "file::File")]
pub struct Config {
    /// Where clients come in; at least one.
    pub listen: Vec<Listen>,
    /// The certificates for TLS; none: one for development is made at start.
    pub certificates: Vec<CertificateFiles>,
    /// Who this node is to the gateway.
    pub member: Membership,
    /// The WireGuard tunnel.
    pub tunnel: Tunnel,
    /// Where this node reaches a core's tunnel, by the core's name, whatever the gateway says: over
    /// a private path, or around a NAT that doesn't lead back inside.
    pub core_endpoints: BTreeMap<Label, String>,
    /// Whether datagrams may go over TLS where UDP is blocked.
    pub stream: bool,
    /// Where this node reaches a core for that, by the core's name, whatever the gateway says.
    pub core_stream_endpoints: BTreeMap<Label, String>,
    /// What this node does for others.
    pub forwarding: Forwarding,
    /// What runs in the tunnel.
    pub trunk: Trunk,
    /// What clients may use up before they have a session.
    pub front: FrontLimits,
    /// How fast clients are let in.
    pub pacing: Pacing,
    /// What a session may use up.
    pub session: SessionLimits,
    /// When upgrades are answered.
    pub upgrade: Upgrade,
    /// Whose word about the client's address counts.
    pub trusted_proxies: TrustedProxies,
    /// How long a drain may take before the rest is cut.
    pub drain_grace: Duration,
    /// Sessions that are told to go in a second.
    pub drain_per_second: u32,
    /// The operator's endpoint.
    pub admin: AdminTable,
}

impl Settings for Config {
    fn drain_grace(&self) -> Duration {
        self.drain_grace
    }
}

/// A place where clients come in.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct Listen {
    /// Address and port; port 0 takes a free one.
    pub address: SocketAddr,
    /// TLS, or clear text.
    #[serde(default = "tls_default")]
    pub tls: bool,
}

const fn tls_default() -> bool {
    true
}

/// A certificate as PEM files.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate, then those that lead to its authority.
    pub chain_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// Who this node is to the gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Membership {
    /// Keys and the last roster are kept here.
    pub state_dir: PathBuf,
    /// The join token, needed for the first start only.
    pub join_token_file: Option<PathBuf>,
    /// The gateway's `host:port`, if it is not the one in the join token any more.
    pub gateway: Option<String>,
    /// Unique among the gateway's members.
    pub name: Label,
    /// Which region clients know it under.
    pub region: Label,
    /// Where it stands, for steering by distance.
    pub location: Option<Location>,
    /// What clients open, such as `wss://sg.relay.example`.
    pub public_urls: Vec<String>,
}

/// Where WireGuard runs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Tunnel {
    /// In this process: no interface, no privilege.
    InProcess {
        /// The UDP socket of WireGuard.
        listen: SocketAddr,
        /// Copies of chat datagrams where datagrams get lost.
        shield: ShieldConfig,
    },
    /// An interface of the host, which the operator set up.
    Host {
        /// Its name, such as `wg0`.
        interface: String,
    },
}

impl Tunnel {
    /// As a member asks for it.
    #[must_use]
    pub fn place(&self) -> TunnelPlace<'_> {
        match self {
            Self::InProcess { listen, shield } => {
                TunnelPlace::InProcess { listen: *listen, shield: *shield }
            }
            Self::Host { interface } => TunnelPlace::Host { interface },
        }
    }
}

/// Where other nodes reach this one's tunnel, and whether it sends their datagrams on.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Forwarding {
    /// As `host:port`; empty: it can't be reached.
    pub endpoints: Vec<String>,
    /// It sends on for those that the gateway names.
    pub enabled: bool,
    /// For all of them together, both directions.
    pub bytes_per_second_max: u64,
}

/// What runs in the tunnel.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields, default)]
pub struct Trunk {
    /// Streams that sessions are spread over: one lost packet delays one lane's sessions.
    pub lanes: u16,
    /// As many for large frames and bodies, over a QUIC connection of their own, so that they delay
    /// nobody else; 0 for none.
    pub bulk_lanes: u16,
    /// What carries the lanes.
    pub carrier: Carrier,
}

/// What carries a trunk's lanes.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// QUIC, a stream a lane.
    Quic,
    /// HTTP/2 over TCP through an interface of the host.
    Tcp,
}

impl Default for Trunk {
    /// 256 lanes of QUIC: what is lost twice holds up the rest of its lane, so few should share
    /// one.
    fn default() -> Self {
        Self { lanes: 256, bulk_lanes: 8, carrier: Carrier::Quic }
    }
}

/// When a client's upgrade is answered.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Upgrade {
    /// When the backend has answered: its status, subprotocol, extensions and cookies come through.
    AfterBackend,
    /// At once, which saves a round trip to the core; extensions and cookies are lost.
    Early {
        /// The subprotocols that the backend speaks; the client's first choice among them is
        /// agreed.
        subprotocols: Vec<HeaderValue>,
    },
}
