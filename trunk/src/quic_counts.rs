//! QUIC's own counters of the way to a peer, told to whoever sends again what that way loses.

use std::mem::replace;
use std::net::Ipv6Addr;
use std::sync::{Arc, OnceLock};

use antipode_tunnel::shield::QuicCounts;

type Told = Box<dyn Fn(Ipv6Addr, QuicCounts) + Send + Sync>;

/// Whom to tell, with the peer's address in the tunnel, what QUIC has done since the last time.
#[derive(Clone, Default)]
pub(crate) struct OnQuic(Arc<OnceLock<Told>>);

impl OnQuic {
    /// The first one that is named stays.
    pub(crate) fn set(&self, told: impl Fn(Ipv6Addr, QuicCounts) + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(told));
    }

    pub(crate) fn get(&self) -> Option<&Told> {
        self.0.get()
    }
}

impl std::fmt::Debug for OnQuic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("OnQuic").field(&self.0.get().is_some()).finish()
    }
}

/// What was counted before.
#[derive(Debug, Default)]
pub(crate) struct Counted {
    sent: u64,
    lost: u64,
}

impl Counted {
    /// What a connection has done since the last call.
    pub(crate) fn since(&mut self, connection: &quinn::Connection) -> QuicCounts {
        let path = connection.stats().path;
        self.step(path.sent_packets, path.lost_packets, path.rtt)
    }

    /// Another connection counts from zero again: the little it has counted is left out.
    fn step(&mut self, sent: u64, lost: u64, rtt: std::time::Duration) -> QuicCounts {
        let before = (replace(&mut self.sent, sent), replace(&mut self.lost, lost));
        QuicCounts { sent: sent.saturating_sub(before.0), lost: lost.saturating_sub(before.1), rtt }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn steps_are_told_and_a_new_connection_begins_anew() {
        let (mut counted, rtt) = (Counted::default(), Duration::from_millis(200));
        let told = |sent, lost| QuicCounts { sent, lost, rtt };
        assert_eq!(counted.step(100, 1, rtt), told(100, 1));
        assert_eq!(counted.step(150, 3, rtt), told(50, 2));
        assert_eq!(counted.step(10, 0, rtt), told(0, 0));
        assert_eq!(counted.step(30, 1, rtt), told(20, 1));
    }
}
