//! A member as the gateway knows it: role, name rules, and what it says of itself.
//!
//! Everything here came over the network and is checked before it is kept, shown or pushed on.

use antipode_proto::registry::v1 as wire;
use antipode_runtime::member::names::Label;
use antipode_runtime::member::token::is_host_port;
use serde::{Deserialize, Serialize};

use crate::position::Position;

/// Most public URLs or endpoints a member may have.
pub const ADDRESSES_MAX: usize = 8;
/// Longest URL, endpoint or software name, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// Most tunnels one heartbeat may report on.
pub const TUNNELS_MAX: usize = 1024;

/// What a member is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A regional relay.
    Node,
    /// The far end of the trunks.
    Core,
}

impl Role {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Node, Self::Core];

    /// The word for people and counters.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Core => "core",
        }
    }

    /// Whom this one has tunnels with.
    #[must_use]
    pub fn peer(self) -> Self {
        match self {
            Self::Node => Self::Core,
            Self::Core => Self::Node,
        }
    }

    /// From the wire; `None` if unspecified.
    #[must_use]
    pub fn from_wire(role: i32) -> Option<Self> {
        match wire::Role::try_from(role).ok()? {
            wire::Role::Node => Some(Self::Node),
            wire::Role::Core => Some(Self::Core),
            wire::Role::Unspecified => None,
        }
    }

    /// To the wire.
    #[must_use]
    pub fn to_wire(self) -> wire::Role {
        match self {
            Self::Node => wire::Role::Node,
            Self::Core => wire::Role::Core,
        }
    }
}

/// What carries a core's trunks.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Carrier {
    /// QUIC over the tunnel.
    #[default]
    Quic,
    /// HTTP/2 over TCP through a WireGuard interface.
    Tcp,
}

impl Carrier {
    fn from_wire(carrier: i32) -> Self {
        match wire::Carrier::try_from(carrier) {
            Ok(wire::Carrier::Tcp) => Self::Tcp,
            Ok(wire::Carrier::Quic | wire::Carrier::Unspecified) | Err(_) => Self::Quic,
        }
    }

    fn to_wire(self) -> wire::Carrier {
        match self {
            Self::Quic => wire::Carrier::Quic,
            Self::Tcp => wire::Carrier::Tcp,
        }
    }
}

/// What a member said when it introduced itself, checked.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Profile {
    /// Drawn when its process started; it says nothing after a restart, so it is not kept.
    #[serde(skip)]
    pub run: [u8; 16],
    /// Name and version of its program.
    pub software: String,
    /// Its region's code.
    pub region: String,
    /// Latitude and longitude, if it said so.
    pub location: Option<(f64, f64)>,
    /// Node: what clients open.
    pub public_urls: Vec<String>,
    /// Most sessions it takes; 0: unlimited.
    pub sessions_max: u32,
    /// Where its WireGuard socket can be reached.
    pub endpoints: Vec<String>,
    /// Core: where it takes WireGuard's datagrams over TLS.
    #[serde(default)]
    pub stream_endpoints: Vec<String>,
    /// Core: where trunks are accepted inside the tunnel.
    pub trunk_port: u16,
    /// Core: what carries them.
    pub carrier: Carrier,
    /// Node: sends other nodes' datagrams on, at its endpoints.
    #[serde(default)]
    pub forwards: bool,
}

/// Why a name, a profile or a heartbeat is refused.
#[derive(Debug, Eq, PartialEq, thiserror::Error)]
pub enum ProfileError {
    /// Not a label.
    #[error("{what} {text:?} is not 1 to 32 of [a-z0-9-]")]
    NotALabel {
        /// Name or region.
        what: &'static str,
        /// What was sent, cut short.
        text: String,
    },
    /// A text is too long or holds control characters.
    #[error("{what} is longer than {TEXT_BYTES_MAX} bytes, empty, or not printable ASCII")]
    Text {
        /// Which one.
        what: &'static str,
    },
    /// Too many of something.
    #[error("more {what} than {max}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The limit.
        max: usize,
    },
    /// A public URL is none that a client can open.
    #[error("public URL {url:?} does not begin with ws://, wss://, http:// or https://")]
    Url {
        /// The URL.
        url: String,
    },
    /// An endpoint is no `host:port`.
    #[error("endpoint {endpoint:?} is not host:port")]
    Endpoint {
        /// The endpoint.
        endpoint: String,
    },
    /// The location is no place on earth.
    #[error("location is not a latitude of -90 to 90 and a longitude of -180 to 180")]
    Location,
    /// A trunk port is no port.
    #[error("trunk port {port} is not a port; a core needs one from 1 to 65535")]
    TrunkPort {
        /// What was sent.
        port: u32,
    },
}

impl Profile {
    /// Checks an introduction.
    ///
    /// # Errors
    ///
    /// Names the first thing that is out of bounds.
    pub fn check(role: Role, said: &wire::Introduction) -> Result<Self, ProfileError> {
        check_label("region", &said.region)?;
        check_text("software", &said.software)?;
        check_count("public URLs", said.public_urls.len(), ADDRESSES_MAX)?;
        check_count("endpoints", said.endpoints.len(), ADDRESSES_MAX)?;
        check_count("stream endpoints", said.stream_endpoints.len(), ADDRESSES_MAX)?;
        said.public_urls.iter().try_for_each(|url| check_url(url))?;
        let mut endpoints = said.endpoints.iter().chain(&said.stream_endpoints);
        endpoints.try_for_each(|endpoint| check_endpoint(endpoint))?;
        let place = |at: &wire::Location| {
            let position = Position::new(at.latitude, at.longitude)?;
            Some((position.latitude(), position.longitude()))
        };
        let location = said.location.as_ref();
        let location = location.map(|at| place(at).ok_or(ProfileError::Location)).transpose()?;
        let no_port = ProfileError::TrunkPort { port: said.trunk_port };
        let trunk_port = match u16::try_from(said.trunk_port) {
            Ok(0) if role == Role::Core => return Err(no_port),
            Ok(port) => port,
            Err(_) => return Err(no_port),
        };
        Ok(Self {
            run: <[u8; 16]>::try_from(&*said.run).unwrap_or_default(),
            software: said.software.clone(),
            region: said.region.clone(),
            location,
            public_urls: said.public_urls.clone(),
            sessions_max: said.sessions_max,
            endpoints: said.endpoints.clone(),
            stream_endpoints: said.stream_endpoints.clone(),
            trunk_port,
            carrier: Carrier::from_wire(said.carrier),
            // Who can't be reached can't be a forwarder.
            forwards: said.forwards && role == Role::Node && !said.endpoints.is_empty(),
        })
    }

    /// Where the member stands.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        let (latitude, longitude) = self.location?;
        Position::new(latitude, longitude)
    }

    /// As a peer in a roster.
    #[must_use]
    pub fn to_peer(&self, member_id: &str, name: &str, role: Role, key: [u8; 32]) -> wire::Peer {
        wire::Peer {
            member_id: member_id.to_owned(),
            name: name.to_owned(),
            role: role.to_wire().into(),
            region: self.region.clone(),
            wireguard_public_key: key.to_vec().into(),
            endpoints: self.endpoints.clone(),
            trunk_port: u32::from(self.trunk_port),
            carrier: self.carrier.to_wire().into(),
            stream_endpoints: self.stream_endpoints.clone(),
        }
    }
}

/// Checks a member's name: safe as a DNS label, a metric label and a file name.
///
/// # Errors
///
/// If it is not 1 to 32 of `[a-z0-9-]`.
pub fn check_name(name: &str) -> Result<(), ProfileError> {
    check_label("name", name)
}

fn check_label(what: &'static str, text: &str) -> Result<(), ProfileError> {
    let label = text.parse::<Label>();
    label.map(drop).map_err(|_| ProfileError::NotALabel { what, text: cut(text) })
}

fn check_text(what: &'static str, text: &str) -> Result<(), ProfileError> {
    let printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if (1..=TEXT_BYTES_MAX).contains(&text.len()) && printable {
        return Ok(());
    }
    Err(ProfileError::Text { what })
}

fn check_count(what: &'static str, count: usize, max: usize) -> Result<(), ProfileError> {
    if count > max { Err(ProfileError::TooMany { what, max }) } else { Ok(()) }
}

fn check_url(url: &str) -> Result<(), ProfileError> {
    check_text("public URL", url)?;
    let opens = ["wss://", "ws://", "https://", "http://"];
    let host = opens.iter().find_map(|scheme| url.strip_prefix(scheme));
    if host.is_some_and(|host| !host.is_empty() && !url.contains(' ')) {
        return Ok(());
    }
    Err(ProfileError::Url { url: cut(url) })
}

fn check_endpoint(endpoint: &str) -> Result<(), ProfileError> {
    let good = is_host_port(endpoint);
    if good { Ok(()) } else { Err(ProfileError::Endpoint { endpoint: cut(endpoint) }) }
}

/// At most 64 characters of what a stranger sent, for an error text.
fn cut(text: &str) -> String {
    text.chars().take(64).collect()
}

#[cfg(test)]
mod tests;
