//! Who a request is from, when proxies stand between: pure functions of peer and headers.
//!
//! A header is believed only as far as trusted proxies wrote it. `X-Forwarded-For` and `Forwarded`
//! grow to the right, so the client is the last entry that no trusted proxy wrote for another.

use std::net::{IpAddr, SocketAddr};

use ::http::HeaderMap;

use crate::config::Trust;
use crate::locate::Country;

/// Most entries of a forwarding header looked at.
const HOPS_MAX: usize = 32;

impl Trust {
    /// Whether `address` is a trusted proxy's.
    #[must_use]
    pub fn includes(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.proxies.iter().any(|network| network.contains(address))
    }

    /// The client's own address.
    #[must_use]
    pub fn client_address(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut client = peer.to_canonical();
        if !self.includes(client) {
            return client;
        }
        for hop in hops(headers).into_iter().rev().take(HOPS_MAX) {
            // What can't be read can't be believed, nor what stands before it.
            let Some(address) = hop else { return client };
            client = address.to_canonical();
            if !self.includes(client) {
                return client;
            }
        }
        client
    }

    /// The client's country, if a trusted proxy says so.
    #[must_use]
    pub fn client_country(&self, peer: IpAddr, headers: &HeaderMap) -> Option<Country> {
        let header = self.country_header.as_ref().filter(|_| self.includes(peer))?;
        Country::parse(headers.get(header)?.to_str().ok()?)
    }
}

/// The addresses in `Forwarded`, else in `X-Forwarded-For`, left to right over all its lines.
fn hops(headers: &HeaderMap) -> Vec<Option<IpAddr>> {
    let name = if headers.contains_key("forwarded") { "forwarded" } else { "x-forwarded-for" };
    let lines = headers.get_all(name).into_iter().map(|line| line.to_str().unwrap_or("?"));
    let entries = lines.flat_map(|line| line.split(','));
    entries
        .map(|entry| match name {
            "forwarded" => forwarded_for(entry).and_then(parse_address),
            _ => parse_address(entry.trim()),
        })
        .collect()
}

/// The `for` parameter of one element
/// ([RFC 7239 §4](https://www.rfc-editor.org/rfc/rfc7239#section-4)).
fn forwarded_for(element: &str) -> Option<&str> {
    element.split(';').find_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| value.trim().trim_matches('"'))
    })
}

/// An address, with or without port and brackets.
fn parse_address(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Some(address.ip());
    }
    let bare = text.strip_prefix('[')?.strip_suffix(']')?;
    bare.parse().ok()
}

#[cfg(test)]
mod tests {
    use ::http::{HeaderName, HeaderValue};

    use super::*;

    #[test]
    fn the_client_is_the_last_that_no_trusted_proxy_wrote_for_another() {
        let xff = "x-forwarded-for";
        check("no proxy", "203.0.113.9", &[], "203.0.113.9");
        check("a stranger's header", "203.0.113.9", &[(xff, "1.1.1.1")], "203.0.113.9");
        check("one proxy", "10.0.0.1", &[(xff, "198.51.100.7")], "198.51.100.7");
        check("the client lies", "10.0.0.1", &[(xff, "1.1.1.1, 198.51.100.7")], "198.51.100.7");
        check("two proxies", "10.0.0.1", &[(xff, "198.51.100.7, 10.0.0.2")], "198.51.100.7");
        check("two lines", "10.0.0.1", &[(xff, "198.51.100.7"), (xff, "10.0.0.2")], "198.51.100.7");
        check(
            "nonsense stops it",
            "10.0.0.1",
            &[(xff, "198.51.100.7, what, 10.0.0.2")],
            "10.0.0.2",
        );
        check("all trusted", "10.0.0.1", &[(xff, "10.0.0.3, 10.0.0.2")], "10.0.0.3");
        check("empty", "10.0.0.1", &[(xff, "")], "10.0.0.1");
        check("a port", "10.0.0.1", &[(xff, "198.51.100.7:4711")], "198.51.100.7");
        check("mapped", "::ffff:10.0.0.1", &[(xff, "2001:db8::7")], "2001:db8::7");
        check(
            "RFC 7239 wins",
            "10.0.0.1",
            &[
                ("forwarded", "for=\"[2001:db8::7]:47\";proto=https, For=10.0.0.2"),
                (xff, "1.1.1.1"),
            ],
            "2001:db8::7",
        );
        check("hidden", "10.0.0.1", &[("forwarded", "for=_secret")], "10.0.0.1");
    }

    #[test]
    fn a_country_is_believed_from_a_trusted_proxy_only() {
        let headers = headers(&[("cf-ipcountry", "sg")]);
        let trusted = trust().client_country("10.0.0.1".parse().unwrap(), &headers);
        assert_eq!(trusted, Country::parse("SG"));
        assert_eq!(trust().client_country("203.0.113.9".parse().unwrap(), &headers), None);
    }

    #[track_caller]
    fn check(what: &str, peer: &str, lines: &[(&'static str, &str)], expected: &str) {
        let client = trust().client_address(peer.parse().unwrap(), &headers(lines));
        assert_eq!(client, expected.parse::<IpAddr>().unwrap(), "{what}");
    }

    fn trust() -> Trust {
        Trust {
            proxies: vec!["10.0.0.0/8".parse().unwrap()],
            country_header: Some(HeaderName::from_static("cf-ipcountry")),
        }
    }

    fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let line = |&(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())
        };
        lines.iter().map(line).collect()
    }
}
