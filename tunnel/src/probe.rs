//! Path probes: authenticated datagrams beside WireGuard's that measure one way to a peer.
//!
//! WireGuard's own messages can't: each one moves the endpoint of whoever gets it. A probe goes out
//! on a way, the peer echoes it the way it came, and the echo tells the round trip and how many of
//! our datagrams had arrived there. Peers that are another's WireGuard drop it, as they drop
//! whatever is no message of theirs.
//!
//! Whatever moves a figure comes from an echo of a probe that waits for one, so an old datagram
//! that somebody sends again can't. Probes are answered once each, and a peer's only so often.

pub mod bare;
pub(crate) mod codec;
mod driver;
pub(crate) mod prober;
mod seen;

use std::time::{Duration, SystemTime};

use crate::way::Way;

/// What an authentic probe or echo says of a way, for whoever chooses among ways.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Heard {
    /// A probe of ours was answered.
    Echo {
        /// Where it had gone.
        way: Way,
        /// How long it and its echo were on their way.
        rtt: Duration,
        /// It was as long as a full packet.
        full: bool,
        /// It had said that our datagrams go this way.
        in_use: bool,
    },
    /// The peer says that its datagrams come this way, and has not said so of another one since.
    Used {
        /// Where it came from.
        way: Way,
    },
    /// The peer probed a way that it does not use.
    Beside {
        /// Where it came from.
        way: Way,
    },
}

/// The first number of a process's probes: higher than those of processes before it, as long as
/// the clock does not go back, which WireGuard's handshake does not bear either.
#[allow(
    clippy::disallowed_methods,
    reason = "the crate with the clock depends on this one; once a peer"
)]
pub(crate) fn first_seq() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(0)
}
