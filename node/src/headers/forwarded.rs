//! Who the client is: `X-Forwarded-*` and `Forwarded` (RFC 7239), read only from trusted proxies.

use std::net::{IpAddr, SocketAddr};

use http::header::{HeaderMap, HeaderName, HeaderValue};

use super::trusted::TrustedProxies;

/// How the peer on the socket reached this node.
#[derive(Clone, Copy, Debug)]
pub struct Arrival<'a> {
    /// The address at the other end of the socket.
    pub peer: IpAddr,
    /// What the peer spoke to us.
    pub scheme: Scheme,
    /// What the request named as its host; checked before.
    pub authority: &'a str,
}

/// What a client spoke to the relay.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scheme {
    /// Clear text.
    Http,
    /// TLS.
    Https,
}

impl Scheme {
    /// As it stands in `X-Forwarded-Proto`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }
}

/// What is known of the client after its own claims were sorted out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Client {
    /// The nearest address that is not a trusted proxy.
    pub ip: IpAddr,
    /// What the client spoke to the first trusted hop.
    pub scheme: Scheme,
}

/// Most addresses of a chain that are read; a longer one is cut on the client's side.
const CHAIN_MAX: usize = 32;

/// Replaces every claim about the client's address by what this node can vouch for.
///
/// From an untrusted peer all such fields are dropped. From a trusted proxy the chain is kept from
/// the rightmost untrusted address on: what stands left of it was written by the client itself.
pub fn rewrite(headers: &mut HeaderMap, arrival: Arrival<'_>, trusted: &TrustedProxies) -> Client {
    let peer = arrival.peer.to_canonical();
    let claims = trusted.contains(peer).then(|| Claims::read(headers));
    super::drop_fields(headers, is_claim);

    let (chain, scheme, host) = match claims {
        Some(claims) => (
            vouched_chain(claims.chain, peer, trusted),
            claims.scheme.unwrap_or(arrival.scheme),
            claims.host,
        ),
        None => (vec![peer], arrival.scheme, None),
    };
    let host = host.as_deref().unwrap_or(arrival.authority);
    insert(headers, "x-forwarded-for", &list(&chain));
    insert(headers, "x-forwarded-proto", scheme.as_str());
    insert(headers, "x-forwarded-host", host);
    insert(headers, "forwarded", &forwarded(&chain, scheme, host));
    let ip = chain.first().copied().unwrap_or(peer);
    Client { ip, scheme }
}

/// Whether a field speaks of the client's address or scheme, in any spelling that a backend may
/// read as such: CGI-like servers take `X_Forwarded_For` for `X-Forwarded-For`.
pub(super) fn is_claim(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    let known = ["forwarded", "x-real-ip", "x-client-ip", "true-client-ip", "cf-connecting-ip"];
    known.contains(&name.as_str()) || name.starts_with("x-forwarded-")
}

/// What a trusted proxy says.
struct Claims {
    /// Client first, as far as it can be read; a bad entry ends the chain to the left.
    chain: Vec<IpAddr>,
    scheme: Option<Scheme>,
    host: Option<String>,
}

impl Claims {
    fn read(headers: &HeaderMap) -> Self {
        let mut chain = readable(members(headers, "x-forwarded-for"), address);
        if chain.is_empty() && !headers.contains_key("x-forwarded-for") {
            chain =
                readable(members(headers, "forwarded"), |entry| address(parameter(entry, "for")?));
        }
        let last = |name| members(headers, name).into_iter().next_back();
        let scheme =
            match last("x-forwarded-proto").or_else(|| parameter(last("forwarded")?, "proto")) {
                Some(text) if text.eq_ignore_ascii_case("https") => Some(Scheme::Https),
                Some(text) if text.eq_ignore_ascii_case("http") => Some(Scheme::Http),
                Some(_) | None => None,
            };
        let host = last("x-forwarded-host")
            .or_else(|| parameter(last("forwarded")?, "host"))
            .filter(|host| super::host::is_valid(host))
            .map(str::to_owned);
        Self { chain, scheme, host }
    }
}

/// The readable entries at the right end, in their order.
fn readable<'a>(entries: Vec<&'a str>, read: impl Fn(&'a str) -> Option<IpAddr>) -> Vec<IpAddr> {
    let mut chain: Vec<_> = entries.into_iter().rev().map_while(read).take(CHAIN_MAX).collect();
    chain.reverse();
    chain
}

/// The chain with the peer at its end, begun at the rightmost address that nobody vouches for.
fn vouched_chain(mut chain: Vec<IpAddr>, peer: IpAddr, trusted: &TrustedProxies) -> Vec<IpAddr> {
    chain.push(peer);
    let client = chain.iter().rposition(|ip| !trusted.contains(*ip)).unwrap_or(0);
    chain.split_off(client)
}

/// The comma-separated members of all lines of a field.
fn members<'a>(headers: &'a HeaderMap, name: &str) -> Vec<&'a str> {
    let lines = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(str::trim).collect()
}

/// A parameter of one element of `Forwarded`, without its quotes.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    element.split(';').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().trim_matches('"'))
    })
}

/// An address with or without a port, an IPv6 one with or without brackets.
fn address(text: &str) -> Option<IpAddr> {
    let ip = text
        .parse::<IpAddr>()
        .or_else(|_| text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>())
        .or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    ip.ok().map(|ip| ip.to_canonical())
}

fn list(chain: &[IpAddr]) -> String {
    chain.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(", ")
}

/// One element an address; host and scheme stand in the client's ([RFC 7239 §4][1]).
///
/// [1]: https://www.rfc-editor.org/rfc/rfc7239#section-4
fn forwarded(chain: &[IpAddr], scheme: Scheme, host: &str) -> String {
    let mut elements = chain.iter().map(|ip| match ip {
        IpAddr::V4(ip) => format!("for={ip}"),
        IpAddr::V6(ip) => format!("for=\"[{ip}]\""),
    });
    let first = elements.next().unwrap_or_else(|| "for=unknown".to_owned());
    let first = format!("{first};host={};proto={}", quoted(host), scheme.as_str());
    std::iter::once(first).chain(elements).collect::<Vec<_>>().join(", ")
}

/// A token as it is, anything else as a quoted string (RFC 9110 section 5.6).
fn quoted(text: &str) -> String {
    let is_token = |b: u8| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b);
    if !text.is_empty() && text.bytes().all(is_token) {
        return text.to_owned();
    }
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

fn insert(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

#[cfg(test)]
mod tests;
