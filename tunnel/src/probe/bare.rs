//! Probes without sockets, for who moves datagrams by hand: a fuzz target or a benchmark. The
//! device is the one that a tunnel has.

use std::time::Instant;

use super::codec::{BODY_BYTES, Kind, PROBE_BYTES, Probe, is_probe};
use super::prober::Asking;
use crate::device::{Device, Reply};
use crate::key::PublicKey;
use crate::path_key::KeyId;
pub use crate::path_key::Seal;
use crate::way::Way;

/// Takes a datagram that is a probe or an echo, or says so; whether it did. A probe's echo is added
/// to `replies`.
pub fn handle(
    device: &Device,
    from: Way,
    datagram: &[u8],
    now: Instant,
    replies: &mut Vec<Reply>,
) -> bool {
    let says_so = is_probe(datagram);
    if says_so {
        let _ = device.handle_probe(from, datagram, now, replies);
    }
    says_so
}

/// A probe of a way to a peer; `None` if there is no such peer.
#[must_use]
pub fn ask(
    device: &Device,
    peer: &PublicKey,
    way: Way,
    (full, in_use): (bool, bool),
    now: Instant,
) -> Option<Reply> {
    device.probe(peer, way, Asking { full, in_use }, now)
}

/// Probes of all peers' ways in use that are due, as each tick sends them.
pub fn ask_due(device: &Device, now: Instant, probes: &mut Vec<Reply>) {
    device.probes_due(now, probes);
}

impl Seal {
    /// Signs a datagram that says anything as ours.
    pub fn put_right(&self, datagram: &mut [u8]) {
        if datagram.len() >= PROBE_BYTES {
            datagram[4..4 + KeyId::BYTES].copy_from_slice(&self.sender.0);
            let (body, rest) = datagram.split_at_mut(BODY_BYTES);
            rest[..PROBE_BYTES - BODY_BYTES].copy_from_slice(&self.key.mac(&[body]));
        }
    }

    /// The echo of a probe that came, as soon as it came; `numbers` are what the echo tells of the
    /// link: sent, arrived, arrived of. `None` if it is no probe of the peer's.
    #[must_use]
    pub fn echo(&self, probe: &[u8], numbers: [u64; 3], micros: [u32; 2]) -> Option<Vec<u8>> {
        let probe = Probe::decode(probe, &self.key).filter(|probe| probe.kind == Kind::Probe)?;
        let ([sent, arrived, arrived_of], [burst_us, held_us]) = (numbers, micros);
        let kind = Kind::Echo;
        let echo = Probe { kind, sent, arrived, arrived_of, burst_us, held_us, ..probe };
        Some(echo.encode(self.sender, &self.key))
    }
}
