//! The driver's part in path probes: they go past the queues, or not at all, since one that waited
//! would measure the wait.

use std::time::Instant;

use super::codec::is_probe;
use super::prober::Asking;
use crate::key::PublicKey;
use crate::metrics::DropReason;
use crate::peer::Reply;
use crate::shared::Shared;
use crate::way::Way;

impl Shared {
    /// Takes a datagram if it is a probe or an echo; whether it was.
    pub(crate) fn receive_probe(&self, way: Way, datagram: &[u8], now: Instant) -> bool {
        if !is_probe(datagram) {
            return false;
        }
        let mut echoes = Vec::new();
        let heard = self.device.handle_probe(way, datagram, now, &mut echoes);
        echoes.iter().for_each(|echo| self.send_at_once(echo));
        if let Some((peer, heard)) = heard {
            self.take_heard(peer, heard, now);
        }
        true
    }

    /// Sends a probe of one way to a peer. The answer comes to [`Shared::take_heard`].
    pub(crate) fn send_probe(&self, peer: &PublicKey, way: Way, asking: Asking, now: Instant) {
        if let Some(probe) = self.device.probe(peer, way, asking, now) {
            self.send_at_once(&probe);
        }
    }

    /// Probes the ways in use that nobody has asked for of late.
    pub(crate) fn send_probes_due(&self, now: Instant) {
        let mut probes = Vec::new();
        self.device.probes_due(now, &mut probes);
        probes.iter().for_each(|probe| self.send_at_once(probe));
    }

    fn send_at_once(&self, datagram: &Reply) {
        let Reply { to, bytes } = datagram;
        if self.exits.transmit(*to, bytes, bytes.len()).is_err() {
            self.metrics.dropped(DropReason::NotSent);
        }
    }
}
