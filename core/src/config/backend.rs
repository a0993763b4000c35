//! `[[backend]]`, `[health]` and `[sticky]`: who takes the sessions.

use std::path::PathBuf;
use std::time::Duration;

use http::header::{HeaderName, HeaderValue};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::backend::address::{Address, Security};

/// One `[[backend]]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackendTable {
    /// `http://`, `https://` (or `ws://`, `wss://`, the same) or `unix:`.
    pub url: Address,
    /// What metrics and the sticky cookie call it; absent: made from the url.
    #[serde(default)]
    pub name: Option<String>,
    /// What the backend gets as `Host`; absent: what the client sent.
    #[serde(default)]
    pub host: Option<String>,
    /// PEM file of the CAs to trust; absent: those that browsers trust.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// The name the backend's certificate bears; absent: the url's.
    #[serde(default)]
    pub server_name: Option<String>,
}

impl BackendTable {
    /// A backend with nothing but an address.
    ///
    /// # Errors
    /// As the configuration file's: what is wrong with the url.
    pub fn new(url: &str) -> Result<Self, String> {
        let url = Address::try_from(url.to_owned())?;
        Ok(Self { url, name: None, host: None, ca_file: None, server_name: None })
    }

    /// The name, or 16 hex digits that stay the same for the same url and don't show it.
    #[must_use]
    pub fn id(&self) -> String {
        if let Some(name) = &self.name {
            return name.clone();
        }
        let digest = Sha256::digest(format!("antipode backend {}", self.url));
        digest[..8].iter().map(|byte| format!("{byte:02x}")).collect()
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        let url = &self.url;
        if self.name.as_deref().is_some_and(|name| !is_name(name)) {
            return Err(format!("the name of [[backend]] {url} is not 1 to 32 of [A-Za-z0-9._-]"));
        }
        if self.host.as_deref().is_some_and(|host| HeaderValue::from_str(host).is_err()) {
            return Err(format!("the host of [[backend]] {url} can't stand in a header"));
        }
        let tls_only = self.ca_file.is_some() || self.server_name.is_some();
        if tls_only && url.security() == Security::Plain {
            return Err(format!("ca_file and server_name need https://, but [[backend]] is {url}"));
        }
        Ok(())
    }
}

fn is_name(name: &str) -> bool {
    (1..=32).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

/// How a backend is looked at.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// A socket opens, with TLS where it is spoken.
    #[default]
    Connect,
    /// `GET path` answers with a status below 400.
    Http,
    /// Not at all: healthy until sessions fail to reach it.
    None,
}

/// `[health]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthTable {
    /// How to look.
    pub check: Check,
    /// What to GET.
    pub path: String,
    /// Time from one check to the next.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Time that one check may take.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Good checks in a row that bring a backend back.
    pub up: u32,
    /// Failures in a row, of checks or of sessions' connects, that take it out.
    pub down: u32,
}

impl Default for HealthTable {
    fn default() -> Self {
        Self {
            check: Check::Connect,
            path: "/".to_owned(),
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(2),
            up: 2,
            down: 3,
        }
    }
}

impl HealthTable {
    pub(super) fn validate(&self) -> Result<(), String> {
        if self.up == 0 || self.down == 0 {
            return Err("health.up and health.down must be at least 1".into());
        }
        if self.interval.is_zero() || self.timeout.is_zero() {
            return Err("health.interval and health.timeout must be above zero".into());
        }
        if !self.path.starts_with('/') || self.path.parse::<http::uri::PathAndQuery>().is_err() {
            return Err("health.path must be a path, as in \"/healthz\"".into());
        }
        Ok(())
    }
}

/// What ties a client to a backend.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "snake_case")]
pub enum StickyMode {
    /// Nothing: least sessions.
    #[default]
    None,
    /// The client's address.
    Ip,
    /// A cookie that the core sets; the client's address until it comes back.
    Cookie,
    /// A cookie that the backend's own answers set; the client's address until it is there.
    AppCookie,
}

/// `[sticky]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StickyTable {
    /// What ties.
    pub mode: StickyMode,
    /// The cookie's name, for the two modes that have one.
    pub cookie: String,
}

impl Default for StickyTable {
    fn default() -> Self {
        Self { mode: StickyMode::None, cookie: "antipode_backend".to_owned() }
    }
}

impl StickyTable {
    pub(super) fn validate(&self) -> Result<(), String> {
        // RFC 6265 section 4.1.1: a cookie's name is a token, as a header's is.
        match HeaderName::from_bytes(self.cookie.as_bytes()) {
            Ok(_) => Ok(()),
            Err(_) => Err("sticky.cookie can't be a cookie's name".into()),
        }
    }
}
