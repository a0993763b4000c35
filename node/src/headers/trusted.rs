//! Which peers are proxies whose word about the client counts.

use std::net::IpAddr;

use antipode_tunnel::cidr::Cidr;

/// The proxies in front of this node, as the operator listed them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct TrustedProxies(Vec<Cidr>);

impl TrustedProxies {
    /// Nobody but the ranges given.
    #[must_use]
    pub fn new(ranges: Vec<Cidr>) -> Self {
        Self(ranges)
    }

    /// Whether `ip` is one of the operator's own proxies; an IPv4-mapped address counts as the IPv4
    /// one.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.0.iter().any(|range| range.contains(ip))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn membership() {
        check("10.0.0.0/8", "10.255.0.1", true);
        check("10.0.0.0/8", "11.0.0.1", false);
        check("10.0.0.0/8", "::ffff:10.0.0.1", true);
        check("192.0.2.7", "192.0.2.7", true);
        check("192.0.2.7", "192.0.2.8", false);
        check("0.0.0.0/0", "2001:db8::1", false);
        check("2001:db8::/32", "2001:db8:ffff::1", true);
        assert!(!TrustedProxies::default().contains("127.0.0.1".parse().unwrap()));
    }

    #[track_caller]
    fn check(range: &str, ip: &str, expected: bool) {
        let proxies = TrustedProxies::new(vec![range.parse().unwrap()]);
        assert_eq!(proxies.contains(ip.parse().unwrap()), expected, "{range} {ip}");
    }
}
