//! The gateway's settings: one TOML file, valid by construction.

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use antipode_runtime::admin::AdminTable;
use antipode_runtime::member::token::is_host_port;
use antipode_runtime::program::Settings;
use antipode_tunnel::Cidr;
use serde::Deserialize;

use crate::health::Thresholds;
use crate::steer::Policy;

/// A gateway's settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "File")]
pub struct Config {
    /// Where members call.
    pub listen: SocketAddr,
    /// What members call, for join tokens; `None`: [`Config::listen`] as bound.
    pub public_address: Option<String>,
    /// Where the authority, the store and the command line's socket are.
    pub state_dir: PathBuf,
    /// Most members.
    pub members_max: usize,
    /// Most sockets open at once on each listener.
    pub sockets_max: usize,
    /// How long SIGTERM waits for calls under way.
    pub drain_grace: Duration,
    /// When a member is Suspect, Dead, Alive.
    pub thresholds: Thresholds,
    /// How long a Dead member stays in its peers' rosters.
    pub peer_retention: Duration,
    /// Attempts to join that one address has in a minute.
    pub enrolments_per_minute_max: u32,
    /// How steering weighs nodes.
    pub policy: Policy,
    /// What an answer without a candidate says about coming back.
    pub retry_after: Duration,
    /// Who may speak for clients: their address and their country.
    pub trust: Trust,
    /// The HTTP face.
    pub http: Face,
    /// The gRPC face.
    pub grpc: Face,
    /// The mmdb file, if any.
    pub mmdb: Option<Mmdb>,
    /// The operator's endpoint.
    pub admin: AdminTable,
}

/// Which callers are believed about their clients.
#[derive(Clone, Debug, Default)]
pub struct Trust {
    /// Their networks.
    pub proxies: Vec<Cidr>,
    /// The header in which they name a client's country, in lower case.
    pub country_header: Option<http::HeaderName>,
}

/// Where a face listens.
#[derive(Clone, Debug)]
pub struct Face {
    /// `None`: it is off.
    pub listen: Option<SocketAddr>,
    /// Certificate chain and key, PEM; `None`: no TLS.
    pub tls: Option<PemFiles>,
}

/// A certificate chain and its key.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct PemFiles {
    /// The chain, the leaf first.
    pub certificate_file: PathBuf,
    /// The private key.
    pub key_file: PathBuf,
}

/// The operator's geography.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Mmdb {
    /// The file.
    pub file: PathBuf,
    /// How often it is looked at for a newer one.
    pub check_interval: Duration,
}

/// The file as written; [`Config`] is what it means.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct File {
    listen: SocketAddr,
    public_address: Option<String>,
    state_dir: PathBuf,
    members_max: usize,
    sockets_max: usize,
    #[serde(with = "humantime_serde")]
    drain_grace: Duration,
    health: HealthTable,
    enrol: EnrolTable,
    steer: SteerTable,
    http: FaceTable,
    grpc: FaceTable,
    locate: LocateTable,
    admin: AdminTable,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HealthTable {
    #[serde(with = "humantime_serde")]
    heartbeat_interval: Duration,
    #[serde(with = "humantime_serde")]
    suspect_after: Duration,
    #[serde(with = "humantime_serde")]
    dead_after: Duration,
    alive_count: u32,
    recover_count: u32,
    no_trunk_count: u32,
    #[serde(with = "humantime_serde")]
    peer_retention: Duration,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct EnrolTable {
    per_minute_max: u32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct SteerTable {
    load_spill_percent: u32,
    #[serde(with = "humantime_serde")]
    retry_after: Duration,
    trusted_proxies: Vec<String>,
    country_header: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct FaceTable {
    /// Absent: the face's default; "off": none.
    listen: Option<String>,
    tls: Option<PemFiles>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct LocateTable {
    mmdb_file: PathBuf,
    #[serde(with = "humantime_serde")]
    mmdb_check_interval: Duration,
}

const HTTP_DEFAULT: &str = "127.0.0.1:7480";
const GRPC_DEFAULT: &str = "127.0.0.1:7481";

impl Default for File {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([0; 8], 7443)),
            public_address: None,
            state_dir: PathBuf::from("/var/lib/antipode-gateway"),
            members_max: 1000,
            sockets_max: 4096,
            drain_grace: Duration::from_secs(5),
            health: HealthTable::default(),
            enrol: EnrolTable::default(),
            steer: SteerTable::default(),
            http: FaceTable::default(),
            grpc: FaceTable::default(),
            locate: LocateTable::default(),
            admin: AdminTable::default(),
        }
    }
}

impl Default for HealthTable {
    fn default() -> Self {
        let thresholds = Thresholds::default();
        Self {
            heartbeat_interval: thresholds.heartbeat_interval,
            suspect_after: thresholds.suspect_after,
            dead_after: thresholds.dead_after,
            alive_count: thresholds.alive_count,
            recover_count: thresholds.recover_count,
            no_trunk_count: thresholds.no_trunk_count,
            peer_retention: Duration::from_hours(24),
        }
    }
}

impl Default for EnrolTable {
    fn default() -> Self {
        Self { per_minute_max: 20 }
    }
}

impl Default for SteerTable {
    fn default() -> Self {
        Self {
            load_spill_percent: Policy::default().load_spill_percent,
            retry_after: Duration::from_secs(2),
            trusted_proxies: Vec::new(),
            country_header: String::new(),
        }
    }
}

impl Default for LocateTable {
    fn default() -> Self {
        Self { mmdb_file: PathBuf::new(), mmdb_check_interval: Duration::from_secs(10) }
    }
}

impl Default for Config {
    fn default() -> Self {
        Self::try_from(File { public_address: Some("localhost:7443".into()), ..File::default() })
            .expect("the defaults are valid")
    }
}

impl Settings for Config {
    fn drain_grace(&self) -> Duration {
        self.drain_grace
    }
}

impl TryFrom<File> for Config {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        let thresholds = thresholds(&file.health)?;
        check_public_address(&file)?;
        at_least_one("members_max", file.members_max)?;
        at_least_one("sockets_max", file.sockets_max)?;
        if file.enrol.per_minute_max == 0 {
            return Err("enrol.per_minute_max must be at least 1, or nobody can join".into());
        }
        if !(1..=100).contains(&file.steer.load_spill_percent) {
            return Err("steer.load_spill_percent must be from 1 to 100".into());
        }
        let mmdb = Some(Mmdb {
            file: file.locate.mmdb_file,
            check_interval: file.locate.mmdb_check_interval.max(Duration::from_secs(1)),
        });
        Ok(Self {
            listen: file.listen,
            public_address: file.public_address,
            state_dir: file.state_dir,
            members_max: file.members_max,
            sockets_max: file.sockets_max,
            drain_grace: file.drain_grace,
            thresholds,
            peer_retention: file.health.peer_retention,
            enrolments_per_minute_max: file.enrol.per_minute_max,
            policy: Policy { load_spill_percent: file.steer.load_spill_percent },
            retry_after: file.steer.retry_after,
            trust: trust(&file.steer.trusted_proxies, &file.steer.country_header)?,
            http: face("http", file.http, HTTP_DEFAULT)?,
            grpc: face("grpc", file.grpc, GRPC_DEFAULT)?,
            mmdb: mmdb.filter(|mmdb| !mmdb.file.as_os_str().is_empty()),
            admin: file.admin,
        })
    }
}

fn thresholds(table: &HealthTable) -> Result<Thresholds, String> {
    let thresholds = Thresholds {
        heartbeat_interval: table.heartbeat_interval,
        suspect_after: table.suspect_after,
        dead_after: table.dead_after,
        alive_count: table.alive_count,
        recover_count: table.recover_count,
        no_trunk_count: table.no_trunk_count,
    };
    if thresholds.heartbeat_interval < Duration::from_millis(100) {
        return Err("health.heartbeat_interval must be at least 100ms".into());
    }
    if thresholds.suspect_after <= thresholds.heartbeat_interval {
        return Err(
            "health.suspect_after must exceed health.heartbeat_interval: 2 to 3 times".into()
        );
    }
    if thresholds.dead_after <= thresholds.suspect_after {
        return Err("health.dead_after must exceed health.suspect_after".into());
    }
    let counts = [table.alive_count, table.recover_count, table.no_trunk_count];
    if counts.contains(&0) {
        return Err("health.alive_count, recover_count and no_trunk_count begin at 1".into());
    }
    Ok(thresholds)
}

fn check_public_address(file: &File) -> Result<(), String> {
    match &file.public_address {
        Some(address) if is_host_port(address) => Ok(()),
        Some(address) => Err(format!("public_address {address:?} is not host:port")),
        None if file.listen.ip().is_unspecified() => Err(format!(
            "public_address is missing: members can't call {}; set the host:port they reach this \
             gateway at, such as \"gateway.example.com:{}\"",
            file.listen,
            file.listen.port()
        )),
        None => Ok(()),
    }
}

fn at_least_one(key: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{key} must be at least 1")) } else { Ok(()) }
}

fn trust(proxies: &[String], country_header: &str) -> Result<Trust, String> {
    let network = |text: &String| {
        text.parse().map_err(|error| format!("steer.trusted_proxies: {text:?}: {error}"))
    };
    let proxies: Vec<Cidr> = proxies.iter().map(network).collect::<Result<_, String>>()?;
    if country_header.is_empty() {
        return Ok(Trust { proxies, country_header: None });
    }
    if proxies.is_empty() {
        return Err(
            "steer.country_header is believed from steer.trusted_proxies only: name them".into()
        );
    }
    let header = country_header.parse().map_err(|_| {
        format!("steer.country_header {country_header:?} is no header name, such as CF-IPCountry")
    })?;
    Ok(Trust { proxies, country_header: Some(header) })
}

fn face(name: &str, table: FaceTable, default: &str) -> Result<Face, String> {
    let listen = match table.listen.as_deref().unwrap_or(default) {
        "off" => None,
        address => Some(address.parse().map_err(|_| {
            format!("{name}.listen {address:?} is neither address:port nor \"off\"")
        })?),
    };
    Ok(Face { listen, tls: table.tls })
}
