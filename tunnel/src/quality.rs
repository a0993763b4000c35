//! Quality: what probes and counters say of the link with a peer.
//!
//! Estimators without a socket or a clock: what is measured comes in with its time, and
//! [`Quality`] comes out. Every figure is about the WireGuard datagrams themselves: what QUIC makes
//! of them, and what copies of them save, lies above.

pub(crate) mod bursts;
mod loss;
pub(crate) mod meter;
mod round_trips;

use std::time::Duration;

/// The link with a peer, over the last seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Quality {
    /// Round trip of the way in use, smoothed.
    pub rtt: Duration,
    /// Least round trip of the way in use in the last minute: its length, without queues.
    pub rtt_min: Duration,
    /// Mean change between two round trips.
    pub jitter: Duration,
    /// What queues add to the round trip now: the least of the last second over `rtt_min`.
    pub queueing: Duration,
    /// Share of our datagrams to the peer that did not arrive, copies included.
    pub loss_out: f32,
    /// Share of the peer's datagrams to us that did not arrive, copies included.
    pub loss_in: f32,
    /// How long a burst of loss towards the peer lasts; nine in ten are shorter. Zero where losses
    /// come one by one.
    pub burst_out: Duration,
    /// How long a burst of loss from the peer lasts; nine in ten are shorter.
    pub burst_in: Duration,
    /// Datagrams that we send to the peer, copies included.
    pub packets_out_per_s: f32,
    /// The peer answers probes, so the figures are from the last seconds. Otherwise all of them
    /// are zero: it is another's WireGuard, or nothing comes back.
    pub is_measured: bool,
}
