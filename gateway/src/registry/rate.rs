//! Two small brakes, pure: tries a source has in a minute, and heartbeats a stream may send.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Most sources remembered; a stranger can't make us hold more.
const SOURCES_MAX: usize = 4096;

/// Tokens that come back with time, at most `burst` of them.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    /// When it would be full again; the further ahead, the emptier it is.
    full_at: Instant,
}

impl Bucket {
    /// A full one.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Takes one token, if there is one. A token comes back every `refill`.
    #[must_use]
    pub fn take(&mut self, burst: u32, refill: Duration, now: Instant) -> bool {
        let full_at = self.full_at.max(now) + refill;
        if full_at > now + refill * burst {
            return false;
        }
        self.full_at = full_at;
        true
    }

    fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }
}

/// A [`Bucket`] for each source: an IPv4 address, or an IPv6 /64, of which one host has many.
#[derive(Debug)]
pub struct Sources {
    per_minute: u32,
    buckets: BTreeMap<IpAddr, Bucket>,
}

impl Sources {
    /// Each source may try `per_minute` times a minute.
    #[must_use]
    pub fn new(per_minute: u32) -> Self {
        Self { per_minute, buckets: BTreeMap::new() }
    }

    /// Whether `source` may try now. Where too many sources try at once, new ones have to wait.
    #[must_use]
    pub fn allow(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = group(source);
        if !self.buckets.contains_key(&source) && self.buckets.len() >= SOURCES_MAX {
            self.buckets.retain(|_, bucket| !bucket.is_full(now));
            if self.buckets.len() >= SOURCES_MAX {
                return false;
            }
        }
        let refill = Duration::from_secs(60) / self.per_minute;
        let bucket = self.buckets.entry(source).or_insert_with(|| Bucket::new(now));
        bucket.take(self.per_minute, refill, now)
    }
}

fn group(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & !0 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use antipode_runtime::clock;

    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let now = clock::now();
        let mut bucket = Bucket::new(now);
        let mut taken = |at: Duration| {
            (0..100).filter(|_| bucket.take(5, Duration::from_secs(1), now + at)).count()
        };
        assert_eq!(taken(Duration::ZERO), 5);
        assert_eq!(taken(Duration::from_secs(2)), 2);
        assert_eq!(taken(Duration::from_secs(3600)), 5, "no more than its burst after an hour");
    }

    #[test]
    fn sources_do_not_share_and_a_v6_network_is_one() {
        let now = clock::now();
        let mut sources = Sources::new(2);
        let mut try_from = |address: &str| sources.allow(address.parse().unwrap(), now);
        assert!(try_from("192.0.2.1") && try_from("192.0.2.1") && !try_from("192.0.2.1"));
        assert!(!try_from("::ffff:192.0.2.1"), "the same source, written otherwise");
        assert!(try_from("192.0.2.2"));
        assert!(try_from("2001:db8::1") && try_from("2001:db8::2") && !try_from("2001:db8::3"));
        assert!(try_from("2001:db8:0:1::1"));
    }

    #[test]
    fn memory_is_bounded_and_comes_back() {
        let now = clock::now();
        let mut sources = Sources::new(1);
        for n in 0..10_000_u32 {
            let _ = sources.allow(std::net::Ipv4Addr::from_bits(n).into(), now);
        }
        assert_eq!(sources.buckets.len(), SOURCES_MAX);
        assert!(!sources.allow("203.0.113.1".parse().unwrap(), now), "a newcomer waits");
        let later = now + Duration::from_secs(61);
        assert!(sources.allow("203.0.113.1".parse().unwrap(), later));
        assert_eq!(sources.buckets.len(), 1);
    }
}
