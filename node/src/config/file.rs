//! The file as written; [`super::Config`] is what it means.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use antipode_runtime::admin::AdminTable;
use antipode_runtime::member::token::is_host_port;
use antipode_runtime::member::{Label, Location};
use antipode_tunnel::shield::ShieldConfig;
use http::HeaderValue;
use serde::Deserialize;

use super::{
    Carrier, CertificateFiles, Config, Forwarding, FrontLimits, Listen, Membership, Pacing,
    SessionLimits, Trunk, Tunnel, Upgrade,
};
use crate::headers::trusted::TrustedProxies;

/// Long enough for a full node's clients to be told one by one, and for those that fail elsewhere
/// to try again. A supervisor needs as much patience: systemd's `TimeoutStopSec`.
const DRAIN_GRACE_DEFAULT: Duration = Duration::from_secs(600);
/// A tenth of what one neighbour takes (`pacing.resumes_per_second_max`).
const DRAIN_PER_SECOND_DEFAULT: u32 = 100;

/// What a small host has over beside its own clients.
const FORWARD_KBIT_PER_SECOND_MAX_DEFAULT: u32 = 100_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    listen: Vec<Listen>,
    #[serde(default)]
    certificate: Vec<CertificateFiles>,
    member: MemberTable,
    #[serde(default)]
    tunnel: TunnelTable,
    #[serde(default)]
    trunk: Trunk,
    #[serde(default)]
    front: FrontLimits,
    #[serde(default)]
    pacing: Pacing,
    #[serde(default)]
    session: SessionLimits,
    #[serde(default)]
    upgrade: UpgradeTable,
    #[serde(default)]
    forwarded: ForwardedTable,
    #[serde(with = "humantime_serde", default = "drain_grace_default")]
    drain_grace: Duration,
    #[serde(default = "drain_per_second_default")]
    drain_per_second: u32,
    #[serde(default)]
    admin: AdminTable,
}

const fn drain_grace_default() -> Duration {
    DRAIN_GRACE_DEFAULT
}

const fn drain_per_second_default() -> u32 {
    DRAIN_PER_SECOND_DEFAULT
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MemberTable {
    state_dir: PathBuf,
    join_token_file: Option<PathBuf>,
    gateway: Option<String>,
    name: Label,
    region: Label,
    location: Option<Location>,
    #[serde(default)]
    public_urls: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct TunnelTable {
    mode: TunnelMode,
    listen: Option<SocketAddr>,
    interface: Option<String>,
    core_endpoints: BTreeMap<Label, String>,
    stream: bool,
    core_stream_endpoints: BTreeMap<Label, String>,
    shield: bool,
    shield_kbit_per_second_max: u32,
    endpoints: Vec<String>,
    forward: bool,
    forward_kbit_per_second_max: u32,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum TunnelMode {
    InProcess,
    Host,
}

impl Default for TunnelTable {
    fn default() -> Self {
        let ShieldConfig { enabled, kbit_per_second_max } = ShieldConfig::default();
        Self {
            mode: TunnelMode::InProcess,
            listen: None,
            interface: None,
            core_endpoints: BTreeMap::new(),
            stream: true,
            core_stream_endpoints: BTreeMap::new(),
            shield: enabled,
            shield_kbit_per_second_max: kbit_per_second_max,
            endpoints: Vec::new(),
            forward: true,
            forward_kbit_per_second_max: FORWARD_KBIT_PER_SECOND_MAX_DEFAULT,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct UpgradeTable {
    answer: Answer,
    subprotocols: Vec<String>,
}

#[derive(Clone, Copy, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Answer {
    AfterBackend,
    Early,
}

impl Default for UpgradeTable {
    fn default() -> Self {
        Self { answer: Answer::AfterBackend, subprotocols: Vec::new() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ForwardedTable {
    trusted_proxies: Vec<String>,
}

impl TryFrom<File> for Config {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let File { listen, certificate, member, tunnel, trunk, front, session, .. } = file;
        if listen.is_empty() {
            return Err("at least one [[listen]] is needed: clients have to come in".into());
        }
        front.check()?;
        session.check()?;
        file.pacing.check()?;
        if file.drain_per_second == 0 {
            return Err("drain_per_second must be at least 1, or nobody would ever go".into());
        }
        let core_endpoints = tunnel.core_endpoints()?;
        let (stream, core_stream_endpoints) = (tunnel.stream, tunnel.core_stream_endpoints()?);
        let forwarding = tunnel.forwarding()?;
        let tunnel = tunnel.check()?;
        match (trunk.carrier, &tunnel) {
            (Carrier::Tcp, Tunnel::InProcess { .. }) => {
                return Err("trunk.carrier = \"tcp\" needs tunnel.mode = \"host\"".into());
            }
            (Carrier::Quic, _) | (Carrier::Tcp, Tunnel::Host { .. }) => {}
        }
        if !(1..=1024).contains(&trunk.lanes) {
            return Err("trunk.lanes must be 1 to 1024".into());
        }
        if trunk.lanes.saturating_add(trunk.bulk_lanes) > 1024 {
            return Err("trunk.lanes and trunk.bulk_lanes must be 1024 at most, together".into());
        }
        Ok(Self {
            listen,
            certificates: certificate,
            member: member.check()?,
            tunnel,
            core_endpoints,
            stream,
            core_stream_endpoints,
            forwarding,
            trunk,
            front,
            pacing: file.pacing,
            session,
            upgrade: file.upgrade.check()?,
            trusted_proxies: file.forwarded.check()?,
            drain_grace: file.drain_grace,
            drain_per_second: file.drain_per_second,
            admin: file.admin,
        })
    }
}

impl MemberTable {
    fn check(self) -> Result<Membership, String> {
        let Self { state_dir, join_token_file, gateway, name, region, location, public_urls } =
            self;
        location.map_or(Ok(()), Location::validate)?;
        for url in &public_urls {
            let scheme = url.split_once("://").map(|(scheme, _)| scheme);
            if !matches!(scheme, Some("ws" | "wss" | "http" | "https")) {
                return Err(format!("member.public_urls: {url:?} is no ws:// or wss:// address"));
            }
        }
        Ok(Membership { state_dir, join_token_file, gateway, name, region, location, public_urls })
    }
}

impl TunnelTable {
    fn core_endpoints(&self) -> Result<BTreeMap<Label, String>, String> {
        if self.mode == TunnelMode::Host && !self.core_endpoints.is_empty() {
            return Err("tunnel.core_endpoints needs tunnel.mode = \"in_process\"".into());
        }
        match self.core_endpoints.values().find(|endpoint| !is_host_port(endpoint)) {
            Some(bad) => Err(format!("tunnel.core_endpoints: {bad:?} is not host:port")),
            None => Ok(self.core_endpoints.clone()),
        }
    }

    fn core_stream_endpoints(&self) -> Result<BTreeMap<Label, String>, String> {
        if self.mode == TunnelMode::Host && !self.core_stream_endpoints.is_empty() {
            return Err("tunnel.core_stream_endpoints needs tunnel.mode = \"in_process\"".into());
        }
        match self.core_stream_endpoints.values().find(|endpoint| !is_host_port(endpoint)) {
            Some(bad) => Err(format!("tunnel.core_stream_endpoints: {bad:?} is not host:port")),
            None => Ok(self.core_stream_endpoints.clone()),
        }
    }

    fn forwarding(&self) -> Result<Forwarding, String> {
        if let Some(bad) = self.endpoints.iter().find(|endpoint| !is_host_port(endpoint)) {
            return Err(format!("tunnel.endpoints: {bad:?} is not host:port"));
        }
        if self.endpoints.is_empty() {
            return Ok(Forwarding::default());
        }
        if self.mode == TunnelMode::Host {
            return Err("tunnel.endpoints needs tunnel.mode = \"in_process\"".into());
        }
        if self.listen.is_none_or(|listen| listen.port() == 0) {
            return Err("tunnel.endpoints needs a tunnel.listen with a port that stays".into());
        }
        if self.forward && self.forward_kbit_per_second_max == 0 {
            return Err("tunnel.forward_kbit_per_second_max = 0 is tunnel.forward = false".into());
        }
        let bytes_per_second_max = u64::from(self.forward_kbit_per_second_max) * 1000 / 8;
        Ok(Forwarding {
            endpoints: self.endpoints.clone(),
            enabled: self.forward,
            bytes_per_second_max,
        })
    }

    fn check(self) -> Result<Tunnel, String> {
        match (self.mode, self.interface) {
            (TunnelMode::InProcess, Some(_)) => {
                Err("tunnel.interface needs tunnel.mode = \"host\"".into())
            }
            (TunnelMode::InProcess, None) => {
                let any = SocketAddr::from((std::net::Ipv6Addr::UNSPECIFIED, 0));
                let kbit_per_second_max = self.shield_kbit_per_second_max;
                let shield = ShieldConfig { enabled: self.shield, kbit_per_second_max };
                Ok(Tunnel::InProcess { listen: self.listen.unwrap_or(any), shield })
            }
            (TunnelMode::Host, _) if self.listen.is_some() => {
                Err("tunnel.listen needs tunnel.mode = \"in_process\"".into())
            }
            (TunnelMode::Host, Some(interface)) => Ok(Tunnel::Host { interface }),
            (TunnelMode::Host, None) => Err("tunnel.mode = \"host\" needs tunnel.interface".into()),
        }
    }
}

impl UpgradeTable {
    fn check(self) -> Result<Upgrade, String> {
        if self.answer == Answer::AfterBackend {
            if self.subprotocols.is_empty() {
                return Ok(Upgrade::AfterBackend);
            }
            return Err("upgrade.subprotocols needs upgrade.answer = \"early\"".into());
        }
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
        let subprotocols = self.subprotocols.iter().map(|name| {
            let good = !name.is_empty() && name.bytes().all(is_token);
            let value = HeaderValue::from_str(name).ok().filter(|_| good);
            value.ok_or_else(|| format!("upgrade.subprotocols: {name:?} is no subprotocol's name"))
        });
        Ok(Upgrade::Early { subprotocols: subprotocols.collect::<Result<_, _>>()? })
    }
}

impl ForwardedTable {
    fn check(self) -> Result<TrustedProxies, String> {
        let ranges = self.trusted_proxies.iter().map(|text| text.parse());
        let ranges = ranges.collect::<Result<_, antipode_tunnel::cidr::CidrError>>();
        ranges.map(TrustedProxies::new).map_err(|e| format!("forwarded.trusted_proxies: {e}"))
    }
}
