//! Who may have one more session.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use parking_lot::Mutex;

/// Counts sessions against `sessions_max` and `sessions_per_ip_max`.
#[derive(Debug)]
pub struct Admission {
    sessions_max: AtomicU32,
    /// What the node's own file says; the gateway may set less.
    sessions_max_own: u32,
    per_ip_max: u32,
    sessions: AtomicU32,
    by_ip: Mutex<HashMap<IpAddr, u32>>,
}

/// Which limit is reached.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refused {
    /// `sessions_max`.
    Full,
    /// `sessions_per_ip_max`.
    PerIp,
}

impl Admission {
    /// Nobody is in yet; `per_ip_max` of 0 is no limit.
    #[must_use]
    pub fn new(sessions_max: u32, per_ip_max: u32) -> Self {
        Self {
            sessions_max: AtomicU32::new(sessions_max),
            sessions_max_own: sessions_max,
            per_ip_max,
            sessions: AtomicU32::new(0),
            by_ip: Mutex::default(),
        }
    }

    /// Lets one more session of `ip` in, for as long as what is returned lives.
    ///
    /// # Errors
    ///
    /// The limit that is reached.
    pub fn admit(self: &Arc<Self>, ip: IpAddr) -> Result<Admitted, Refused> {
        let max = self.sessions_max.load(Ordering::Relaxed);
        let more = |sessions: u32| (sessions < max).then_some(sessions + 1);
        let taken = self.sessions.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
        taken.map_err(|_| Refused::Full)?;
        let mut admitted = Admitted { admission: Arc::clone(self), counted: None };
        if self.per_ip_max > 0 {
            let place = place(ip);
            let mut by_ip = self.by_ip.lock();
            let count = by_ip.entry(place).or_default();
            if *count >= self.per_ip_max {
                drop(by_ip);
                return Err(Refused::PerIp);
            }
            *count += 1;
            admitted.counted = Some(place);
        }
        Ok(admitted)
    }

    /// Sessions right now.
    #[must_use]
    pub fn sessions(&self) -> u32 {
        self.sessions.load(Ordering::Relaxed)
    }

    /// The most there may be.
    #[must_use]
    pub fn sessions_max(&self) -> u32 {
        self.sessions_max.load(Ordering::Relaxed)
    }

    /// The gateway's limit; 0, or more than the node's own file allows: as the file says.
    pub fn set_sessions_max(&self, max: u32) {
        let max = if max == 0 { self.sessions_max_own } else { max.min(self.sessions_max_own) };
        self.sessions_max.store(max, Ordering::Relaxed);
    }
}

/// Leave to have one session.
#[derive(Debug)]
pub struct Admitted {
    admission: Arc<Admission>,
    counted: Option<IpAddr>,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.admission.sessions.fetch_sub(1, Ordering::Relaxed);
        let Some(place) = self.counted else { return };
        let mut by_ip = self.admission.by_ip.lock();
        if let Some(count) = by_ip.get_mut(&place) {
            *count -= 1;
            if *count == 0 {
                by_ip.remove(&place);
            }
        }
    }
}

/// One subscriber: an IPv4 address, or an IPv6 /64.
fn place(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(ip) => IpAddr::V4(ip),
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_hold_and_give_way_again() {
        let admission = Arc::new(Admission::new(3, 2));
        let first = admission.admit(ip("2001:db8::1")).unwrap();
        let second = admission.admit(ip("2001:db8::2")).unwrap();
        assert_eq!(admission.admit(ip("2001:db8::3")).unwrap_err(), Refused::PerIp);
        let third = admission.admit(ip("2001:db8:0:1::1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).unwrap_err(), Refused::Full);
        assert_eq!(admission.sessions(), 3);

        drop(second);
        let _again = admission.admit(ip("2001:db8::4")).unwrap();
        drop((first, third));
        assert_eq!(admission.sessions(), 1);
        assert_eq!(admission.by_ip.lock().len(), 1);
    }

    #[test]
    fn the_gateway_can_only_set_less() {
        let admission = Arc::new(Admission::new(10, 0));
        admission.set_sessions_max(1);
        let _one = admission.admit(ip("192.0.2.1")).unwrap();
        assert_eq!(admission.admit(ip("192.0.2.1")).unwrap_err(), Refused::Full);
        admission.set_sessions_max(100);
        assert_eq!(admission.sessions_max(), 10);
        admission.set_sessions_max(0);
        assert_eq!(admission.sessions_max(), 10);
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }
}
