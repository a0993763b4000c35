//! Paths: which of the ways to a peer its datagrams take.
//!
//! A peer may have several addresses, IPv4 and IPv6, a port for streams where UDP is blocked, and
//! neighbours that send on. The side that calls (a node, towards a core) chooses; the side that is
//! called answers the way it was spoken to. Choosing is a machine without a socket or a clock,
//! [`machine::Paths`]; what the called side makes of what it hears is [`followed::Followed`].

pub(crate) mod driver;
pub mod followed;
pub mod machine;
pub mod metrics;
mod track;

use std::net::SocketAddr;
use std::time::Duration;

use crate::way::{StreamId, ThroughId, Way};

/// Ways of one kind to one peer that are tried; more are left out, the last first. A name may
/// resolve to any number of addresses, and every one of them is probed for as long as the peer is
/// on the roster.
pub const CANDIDATES_MAX: usize = 8;

/// Where a stream to a peer goes.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct StreamTarget {
    /// `host:port` of the peer's listener for streams; resolved when it is opened.
    pub endpoint: String,
}

/// A way to a peer that may be tried.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Candidate {
    /// An address of its, for UDP.
    Udp(SocketAddr),
    /// A neighbour that sends on.
    Through(ThroughId),
    /// Its listener for streams. Opened only when nothing else answers.
    Stream(StreamTarget),
}

/// What the driver has to do.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Order {
    /// Send a path probe.
    Probe {
        /// Where it goes.
        way: Way,
        /// Padded to the length of a full packet.
        full: bool,
        /// This is the way in use: the peer is to answer on it.
        in_use: bool,
    },
    /// Begin WireGuard's handshake, or send the initiation that is under way here too: several of
    /// these at one time are one initiation on several ways.
    Initiate {
        /// Where it goes.
        way: Way,
    },
    /// Datagrams to the peer go this way from now on. What keeps a round trip, an MTU or a window
    /// in mind has to begin anew.
    Use(Way),
    /// Open a stream, and tell [`machine::Paths::handle_stream`] what came of it.
    OpenStream(StreamTarget),
    /// Close it.
    CloseStream(StreamId),
    /// Look the peer's names up again and set the candidates anew.
    Resolve,
    /// Send from a fresh real socket: what stands between (NAT, conntrack) may have lost the path
    /// of the old one.
    Rebind,
}

/// What became of a stream that was ordered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamEvent {
    /// It carries datagrams.
    Opened(StreamId),
    /// It could not be opened, or it ended.
    Gone,
}

/// One way, measured by its probes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WayState {
    /// Which.
    pub way: Way,
    /// Round trip of its probes, smoothed; `None` while none was answered.
    pub rtt: Option<Duration>,
    /// Share of the last probes that were not answered.
    pub loss: f32,
    /// Mean change between two round trips.
    pub jitter: Duration,
    /// Since a probe was last answered.
    pub silence: Option<Duration>,
    /// The peer's datagrams go this way.
    pub in_use: bool,
}
