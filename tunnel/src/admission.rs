//! Who may cost us a handshake.
//!
//! An initiation costs 45 us before we know who sent it, so strangers are limited first.
//! boringtun's limiter is one global counter: one source that asks often makes everybody prove
//! their address, and a source that has proven its address may ask without limit. Here each source
//! has a share: within it, and while all together stay under the global limit, a handshake passes
//! at once; beyond either, the source has to prove its address with a cookie; and proven sources
//! have a share too. A forger can use up the share of an address it does not own, and then costs
//! its owner one round trip.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use boringtun::noise::TunnResult;
use boringtun::noise::rate_limiter::RateLimiter;

use crate::key::PublicKey;

/// A cookie reply, [WireGuard §5.4.7](https://www.wireguard.com/papers/wireguard.pdf).
pub(crate) const COOKIE_REPLY_BYTES: usize = 64;

/// Handshake messages a second, from all sources together, before cookies are asked for.
///
/// At 45 us each, strangers hold at most 2.3 % of one core.
pub(crate) const HANDSHAKES_PER_SECOND: u32 = 500;

/// One source's share a second, and the burst it may save up: a site of 64 nodes behind one address
/// may start at once.
pub(crate) const SOURCE_HANDSHAKES_PER_SECOND: u32 = 16;
/// See [`SOURCE_HANDSHAKES_PER_SECOND`].
pub(crate) const SOURCE_HANDSHAKES_BURST: u32 = 64;

/// Sources remembered at once; when all are busy a new one has to prove its address.
pub(crate) const SOURCES_MAX: usize = 4096;

/// What to do with a handshake message.
#[derive(Debug, Eq, PartialEq)]
pub(crate) enum Verdict {
    /// Go on.
    Pass,
    /// Send this back, and nothing else.
    Cookie([u8; COOKIE_REPLY_BYTES]),
    /// Drop: a proven source beyond its share.
    Limited,
    /// Drop: not made for our key.
    Invalid,
}

/// The limiter of one device.
pub(crate) struct Admission {
    /// Checks the first MAC and never finds itself under load.
    calm: RateLimiter,
    /// Always under load: wants a valid cookie, else answers with one.
    strict: RateLimiter,
    second: Instant,
    passed_in_second: u32,
    strangers: Sources,
    proven: Sources,
}

impl Admission {
    pub(crate) fn new(public_key: &PublicKey, now: Instant) -> Self {
        let key = public_key.dalek();
        Self {
            calm: RateLimiter::new(&key, u64::MAX),
            strict: RateLimiter::new(&key, 0),
            second: now,
            passed_in_second: 0,
            strangers: Sources::new(now),
            proven: Sources::new(now),
        }
    }

    /// Judges a handshake initiation or response from `source`.
    pub(crate) fn judge(&mut self, source: IpAddr, message: &[u8], now: Instant) -> Verdict {
        let mut cookie = [0u8; COOKIE_REPLY_BYTES];
        if self.calm.verify_packet(None, message, &mut cookie).is_err() {
            return Verdict::Invalid;
        }
        if now.saturating_duration_since(self.second) >= Duration::from_secs(1) {
            self.second = now;
            self.passed_in_second = 0;
        }
        let calm = self.passed_in_second < HANDSHAKES_PER_SECOND;
        if calm && self.strangers.take(source, now) {
            self.passed_in_second += 1;
            return Verdict::Pass;
        }
        match self.strict.verify_packet(Some(source), message, &mut cookie) {
            Ok(_) if self.proven.take(source, now) => Verdict::Pass,
            Ok(_) => Verdict::Limited,
            Err(TunnResult::WriteToNetwork(_)) => Verdict::Cookie(cookie),
            Err(_) => Verdict::Invalid,
        }
    }
}

impl std::fmt::Debug for Admission {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admission").field("passed", &self.passed_in_second).finish_non_exhaustive()
    }
}

/// A token bucket for each source.
#[derive(Debug)]
struct Sources {
    buckets: BTreeMap<IpAddr, Bucket>,
    swept: Instant,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: u32,
    filled: Instant,
}

impl Sources {
    fn new(now: Instant) -> Self {
        Self { buckets: BTreeMap::new(), swept: now }
    }

    /// Takes one token of `source`; `false` if it has none, or the table is full of busy sources.
    fn take(&mut self, source: IpAddr, now: Instant) -> bool {
        let source = share_of(source);
        if self.buckets.len() >= SOURCES_MAX && !self.buckets.contains_key(&source) {
            self.sweep(now);
            if self.buckets.len() >= SOURCES_MAX {
                return false;
            }
        }
        let full = Bucket { tokens: SOURCE_HANDSHAKES_BURST, filled: now };
        let bucket = self.buckets.entry(source).or_insert(full);
        bucket.fill(now);
        let had = bucket.tokens;
        bucket.tokens = had.saturating_sub(1);
        had > 0
    }

    /// Forgets who has been quiet. At most once a second: it reads the whole table.
    fn sweep(&mut self, now: Instant) {
        if now.saturating_duration_since(self.swept) < Duration::from_secs(1) {
            return;
        }
        self.swept = now;
        self.buckets.retain(|_, bucket| {
            bucket.fill(now);
            bucket.tokens < SOURCE_HANDSHAKES_BURST
        });
    }
}

impl Bucket {
    fn fill(&mut self, now: Instant) {
        let passed = now.saturating_duration_since(self.filled);
        let earned = passed.as_millis() * u128::from(SOURCE_HANDSHAKES_PER_SECOND) / 1000;
        if earned > 0 {
            let earned = u32::try_from(earned).unwrap_or(u32::MAX);
            self.tokens = self.tokens.saturating_add(earned).min(SOURCE_HANDSHAKES_BURST);
            self.filled = now;
        }
    }
}

/// Who shares a bucket or a share: an IPv4 address, or an IPv6 /64, since one host may use all of
/// it.
pub(crate) fn share_of(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        v4 @ IpAddr::V4(_) => v4,
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) >> 64 << 64).into()),
    }
}

#[cfg(test)]
mod tests;
