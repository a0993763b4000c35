//! How large and how patient a session may be.

use std::time::Duration;

use crate::body::INITIAL_CREDIT_BYTES;

/// What the window shrinks to under pressure, in bytes: two full chunks, so that a session still
/// moves while the process gets its memory back.
pub const PRESSURE_WINDOW_BYTES: u64 = 32 * 1024;

/// Limits of one session at one end.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Most credit in bytes that is open to the peer at a time; it starts at
    /// [`INITIAL_CREDIT_BYTES`] and doubles while the peer spends it within a second.
    ///
    /// What is lost comes again after more than a round trip, and all behind it waits: at 200 ms
    /// and 1 % loss a window of 4 MiB turned over in half a second. 8 MiB carry 33 MB/s over a
    /// round trip of 250 ms without loss.
    pub credit_bytes_max: u64,
    /// Most bytes kept for a replay, overhead included.
    pub unacked_bytes_max: u64,
    /// How long an acknowledgement waits for a segment to ride on.
    pub ack_delay: Duration,
    /// How long a session is kept that no lane, or no attachment, carries.
    pub resume_window: Duration,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            credit_bytes_max: 8 * 1024 * 1024,
            unacked_bytes_max: 8 * 1024 * 1024 + INITIAL_CREDIT_BYTES,
            ack_delay: Duration::from_millis(40),
            resume_window: Duration::from_secs(120),
        }
    }
}
