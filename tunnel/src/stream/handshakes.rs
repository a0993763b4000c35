//! Turns for handshakes under way: so many in all, and of those so many for one source.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;

use crate::admission::share_of;

/// Handshakes under way; more are dropped. Whoever is no member gets no further than this.
pub(super) const STREAM_HANDSHAKES_MAX: usize = 256;

/// Of those, from one source: it must not have them all.
pub(super) const STREAM_HANDSHAKES_PER_SOURCE_MAX: usize = 16;

/// Who has a handshake under way, by source.
#[derive(Debug, Default)]
pub(super) struct Handshakes {
    taken: Mutex<BTreeMap<IpAddr, usize>>,
}

/// Why there is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum NoTurn {
    /// All are taken.
    Full,
    /// The source has its share.
    SourceFull,
}

/// One handshake's; it is free again when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    handshakes: Arc<Handshakes>,
    source: IpAddr,
}

impl Handshakes {
    pub(super) fn take(self: &Arc<Self>, from: IpAddr) -> Result<Turn, NoTurn> {
        let source = share_of(from);
        let mut taken = self.taken.lock();
        let own = taken.get(&source).copied().unwrap_or_default();
        if own >= STREAM_HANDSHAKES_PER_SOURCE_MAX {
            return Err(NoTurn::SourceFull);
        }
        if taken.values().sum::<usize>() >= STREAM_HANDSHAKES_MAX {
            return Err(NoTurn::Full);
        }
        taken.insert(source, own + 1);
        Ok(Turn { handshakes: Arc::clone(self), source })
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut taken = self.handshakes.taken.lock();
        if let Some(own) = taken.get_mut(&self.source) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_gets_it_back() {
        let handshakes = Arc::<Handshakes>::default();
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let mut own: Vec<_> = (0..STREAM_HANDSHAKES_PER_SOURCE_MAX)
            .map(|host| handshakes.take(ip(&format!("2001:db8::{host:x}"))).unwrap())
            .collect();
        assert_eq!(handshakes.take(ip("2001:db8::ffff")).err(), Some(NoTurn::SourceFull));
        assert!(handshakes.take(ip("2001:db8:0:1::1")).is_ok(), "another /64");
        assert!(handshakes.take(ip("192.0.2.1")).is_ok());
        own.pop();
        own.push(handshakes.take(ip("2001:db8::ffff")).expect("one is free again"));
        drop(own);
        assert!(handshakes.taken.lock().is_empty());
    }
}
