//! The core's settings, valid by construction: [`Config`]'s `Deserialize` is the only way to get
//! one.
//!
//! The file as written is `File`; what it means is [`Config`]. Every key with its default stands in
//! `deploy/examples/core.toml`.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroUsize;
use std::time::Duration;

use antipode_runtime::admin::AdminTable;
use antipode_runtime::program::Settings;
use serde::Deserialize;

mod backend;
mod carriage;
mod handover;
mod limits;
mod streams;
#[cfg(test)]
pub(crate) mod tests;

pub use crate::backend::{Address, Security};
pub use backend::{BackendTable, Check, HealthTable, StickyMode, StickyTable};
pub use carriage::{Carrier, MemberTable, TrunkTable, TunnelMode, TunnelTable};
pub use handover::{HandoverTable, TakeOver};
pub use limits::{LimitsTable, ResumeTable, TimeoutsTable, WebSocketTable};
pub use streams::StreamListen;

/// A core's settings.
#[derive(Clone, Debug, Deserialize)]
#[serde(try_from = "File")]
pub struct Config {
    /// Who this core is and how it joins its gateway.
    pub member: MemberTable,
    /// Its WireGuard socket.
    pub tunnel: TunnelTable,
    /// What it accepts inside the tunnel.
    pub trunk: TrunkTable,
    /// How long SIGTERM waits for sessions to end.
    pub drain_grace: Duration,
    /// Local addresses that take turns as the source of TCP to backends.
    pub source_addresses: Vec<IpAddr>,
    /// The user's own servers; at least one.
    pub backends: Vec<BackendTable>,
    /// How backends are looked after.
    pub health: HealthTable,
    /// What ties a client to a backend.
    pub sticky: StickyTable,
    /// What may be held, and how much of it.
    pub limits: LimitsTable,
    /// What may be waited for, and how long.
    pub timeouts: TimeoutsTable,
    /// What concerns WebSockets only.
    pub websocket: WebSocketTable,
    /// Clients whose sessions outlive their sockets.
    pub resume: ResumeTable,
    /// How a new process takes over from this one.
    pub handover: HandoverTable,
    /// Where `/healthz`, `/readyz` and `/metrics` are.
    pub admin: AdminTable,
}

impl Settings for Config {
    fn drain_grace(&self) -> Duration {
        self.drain_grace
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "drain_grace_default", with = "humantime_serde")]
    drain_grace: Duration,
    #[serde(default)]
    source_addresses: Vec<IpAddr>,
    member: MemberTable,
    #[serde(default)]
    tunnel: TunnelTable,
    #[serde(default)]
    trunk: TrunkTable,
    #[serde(default)]
    backend: Vec<BackendTable>,
    #[serde(default)]
    health: HealthTable,
    #[serde(default)]
    sticky: StickyTable,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    timeouts: TimeoutsTable,
    #[serde(default)]
    websocket: WebSocketTable,
    #[serde(default)]
    resume: ResumeTable,
    #[serde(default)]
    handover: HandoverTable,
    #[serde(default)]
    admin: AdminTable,
}

fn drain_grace_default() -> Duration {
    Duration::from_secs(30)
}

impl TryFrom<File> for Config {
    type Error = String;

    fn try_from(file: File) -> Result<Self, String> {
        if file.backend.is_empty() {
            return Err(
                "no [[backend]]: name at least one, as in url = \"http://127.0.0.1:3000\"".into()
            );
        }
        let mut ids = BTreeSet::new();
        for backend in &file.backend {
            backend.validate()?;
            if !ids.insert(backend.id()) {
                let url = &backend.url;
                return Err(format!("[[backend]] {url} stands twice, or its name does"));
            }
        }
        file.member.validate()?;
        file.tunnel.validate()?;
        file.trunk.validate(&file.tunnel)?;
        file.health.validate()?;
        file.sticky.validate()?;
        file.websocket.validate()?;
        file.resume.validate()?;
        Ok(Self {
            member: file.member,
            tunnel: file.tunnel,
            trunk: file.trunk,
            drain_grace: file.drain_grace,
            source_addresses: file.source_addresses,
            backends: file.backend,
            health: file.health,
            sticky: file.sticky,
            limits: file.limits,
            timeouts: file.timeouts,
            websocket: file.websocket,
            resume: file.resume,
            handover: file.handover,
            admin: file.admin,
        })
    }
}

/// A count that can't be zero.
const fn at_least_one(count: usize) -> NonZeroUsize {
    match NonZeroUsize::new(count) {
        Some(count) => count,
        None => NonZeroUsize::MIN,
    }
}
