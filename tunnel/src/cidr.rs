//! Allowed IPs: address ranges, and the table that finds who owns an inner address.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::{IpAddr, Ipv6Addr};
use std::str::FromStr;

/// A range of addresses, as WireGuard's `AllowedIPs` writes them: `fd41:6e74:6970::/48`,
/// `10.0.0.1`.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Cidr {
    network: IpAddr,
    prefix: u8,
}

/// The text is no address range.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0:?} is no address range such as fd41:6e74:6970::/48 or 10.0.0.0/8")]
pub struct CidrError(String);

impl Cidr {
    /// The one address `ip`.
    #[must_use]
    pub fn host(ip: IpAddr) -> Self {
        Self { network: ip, prefix: width(ip) }
    }

    /// The range of the first `prefix` bits of `ip`; `None` if there are not so many.
    #[must_use]
    pub fn new(ip: IpAddr, prefix: u8) -> Option<Self> {
        (prefix <= width(ip)).then(|| Self { network: mask(ip, prefix), prefix })
    }

    /// Whether it is a range of IPv6.
    #[must_use]
    pub fn is_ipv6(&self) -> bool {
        self.network.is_ipv6()
    }

    /// Whether `ip` lies in the range.
    #[must_use]
    pub fn contains(&self, ip: IpAddr) -> bool {
        width(ip) == width(self.network) && mask(ip, self.prefix) == self.network
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let refused = || CidrError(text.chars().take(64).collect());
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let ip: IpAddr = address.parse().map_err(|_| refused())?;
        let Some(prefix) = prefix else { return Ok(Self::host(ip)) };
        let prefix = prefix.parse().map_err(|_| refused())?;
        Self::new(ip, prefix).ok_or_else(refused)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix)
    }
}

impl From<Ipv6Addr> for Cidr {
    fn from(ip: Ipv6Addr) -> Self {
        Self::host(ip.into())
    }
}

/// Finds the value of the longest range that holds an address: WireGuard's cryptokey routing.
///
/// One hash table a prefix length, longest first. Nearly every peer has one /128, so a lookup is
/// nearly always one probe.
#[derive(Debug)]
pub(crate) struct Routes<T> {
    v4: BTreeMap<std::cmp::Reverse<u8>, HashMap<IpAddr, T>>,
    v6: BTreeMap<std::cmp::Reverse<u8>, HashMap<IpAddr, T>>,
}

impl<T: Clone> Routes<T> {
    pub(crate) fn new() -> Self {
        Self { v4: BTreeMap::new(), v6: BTreeMap::new() }
    }

    /// Gives `range` to `value`, unless somebody has exactly this range already: first come, first
    /// served. Tells whether it was given.
    pub(crate) fn insert(&mut self, range: Cidr, value: T) -> bool {
        let table = if range.network.is_ipv4() { &mut self.v4 } else { &mut self.v6 };
        let networks = table.entry(std::cmp::Reverse(range.prefix)).or_default();
        match networks.entry(range.network) {
            std::collections::hash_map::Entry::Occupied(_) => false,
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(value);
                true
            }
        }
    }

    pub(crate) fn lookup(&self, ip: IpAddr) -> Option<&T> {
        let table = if ip.is_ipv4() { &self.v4 } else { &self.v6 };
        table.iter().find_map(|(prefix, networks)| networks.get(&mask(ip, prefix.0)))
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

/// The first `prefix` bits of `ip`, the rest zero.
fn mask(ip: IpAddr, prefix: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => {
            let keep = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V4((u32::from(ip) & keep).into())
        }
        IpAddr::V6(ip) => {
            let keep = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            IpAddr::V6((u128::from(ip) & keep).into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text() {
        check("fd41:6e74:6970::/48", Some("fd41:6e74:6970::/48"));
        check("fd41:6e74:6970::1/48", Some("fd41:6e74:6970::/48"));
        check("10.1.2.3", Some("10.1.2.3/32"));
        check("::/0", Some("::/0"));
        check("0.0.0.0/0", Some("0.0.0.0/0"));
        for refused in ["10.0.0.0/33", "fd::/129", "fd::/", "fd::/-1", "10.0.0/8", "", "/", "a/b/c"]
        {
            check(refused, None);
        }
    }

    #[track_caller]
    fn check(given: &str, expected: Option<&str>) {
        let parsed = given.parse::<Cidr>().ok().map(|range| range.to_string());
        assert_eq!(parsed.as_deref(), expected, "{given:?}");
    }

    #[test]
    fn the_longest_range_wins_and_families_are_apart() {
        let mut routes = Routes::new();
        for (range, owner) in [("::/0", 1), ("fd00::/8", 2), ("fd00::7", 3), ("10.0.0.0/8", 4)] {
            assert!(routes.insert(range.parse().unwrap(), owner));
        }
        assert!(!routes.insert("fd00::7/128".parse().unwrap(), 9), "first come, first served");
        for (ip, owner) in [
            ("fd00::7", Some(&3)),
            ("fd00::8", Some(&2)),
            ("2001:db8::1", Some(&1)),
            ("10.9.9.9", Some(&4)),
            ("11.0.0.1", None),
        ] {
            assert_eq!(routes.lookup(ip.parse().unwrap()), owner, "{ip}");
        }
    }

    #[test]
    fn a_range_holds_its_own_family_only() {
        let all: Cidr = "::/0".parse().unwrap();
        assert!(all.contains("fd00::1".parse().unwrap()));
        assert!(!all.contains("8.8.8.8".parse().unwrap()));
    }
}
