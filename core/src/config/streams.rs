//! `tunnel.stream_listen`: where nodes come whose UDP is blocked.

use std::net::SocketAddr;

use serde::Deserialize;

/// The port that is open wherever one is: HTTPS.
pub(super) const STREAM_PORT: u16 = 443;

/// Where streams are taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamListen {
    /// Nowhere.
    Off,
    /// There, if it is to be had: nobody asked for it.
    IfFree(SocketAddr),
    /// There.
    At(SocketAddr),
}

/// The key as written: an address, or "off".
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
#[serde(try_from = "String")]
pub(super) enum Setting {
    Off,
    At(SocketAddr),
}

impl TryFrom<String> for Setting {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "off" {
            return Ok(Self::Off);
        }
        let address = text.parse();
        address.map(Self::At).map_err(|_| {
            format!("tunnel.stream_listen: {text:?} is no address:port, and not \"off\"")
        })
    }
}

/// Where nodes come: what the operator names; if nothing, the hosts of `endpoints`, at the port of
/// `listen`.
pub(super) fn endpoints(named: &[String], endpoints: &[String], port: u16) -> Vec<String> {
    if !named.is_empty() {
        return named.to_vec();
    }
    let host = |endpoint: &String| endpoint.rsplit_once(':').map(|(host, _)| host.to_owned());
    let mut told: Vec<String> = Vec::new();
    for endpoint in endpoints.iter().filter_map(host).map(|host| format!("{host}:{port}")) {
        if !told.contains(&endpoint) {
            told.push(endpoint);
        }
    }
    told
}
