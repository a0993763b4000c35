//! The device's part in path probes: whose they are, and what is answered.

use std::sync::Arc;
use std::time::Instant;

use super::{Device, Reply, Way};
use crate::key::PublicKey;
use crate::link::Peer;
use crate::metrics::ProbeOutcome;
use crate::path_key::KeyId;
use crate::probe::Heard;
use crate::probe::codec::{Kind, Probe, sender};
use crate::probe::prober::{Asking, Counts};
use crate::quality::Quality;

impl Device {
    /// Takes a probe or an echo from the network. A probe's echo is added to `replies`. Tells what
    /// it says of the way it came.
    pub(crate) fn handle_probe(
        &self,
        from: Way,
        datagram: &[u8],
        now: Instant,
        replies: &mut Vec<Reply>,
    ) -> Option<(PublicKey, Heard)> {
        let table = self.table();
        let peer = sender(datagram).and_then(|id| table.by_key_id.get(&id));
        let probe = peer.and_then(|peer| Probe::decode(datagram, peer.path_key.as_ref()?));
        let (Some(peer), Some(probe)) = (peer, probe) else {
            self.metrics.links.probe(ProbeOutcome::Forged);
            return None;
        };
        let ours = peer.counts(now);
        let heard = match probe.kind {
            Kind::Probe => self.answer(peer, &probe, ours, from, now, replies),
            Kind::Echo => {
                let mut prober = peer.prober.lock();
                let heard = prober.handle_echo(&probe, ours, now);
                let reordering = prober.reordering();
                drop(prober);
                peer.link.lock().set_reordering(reordering);
                heard.map(|heard| (ProbeOutcome::Returned, Some(heard)))
            }
        };
        let (outcome, heard) = heard.unwrap_or_else(|refused| (refused, None));
        self.metrics.links.probe(outcome);
        Some((peer.public_key, heard?))
    }

    fn answer(
        &self,
        peer: &Peer,
        probe: &Probe,
        ours: Counts,
        from: Way,
        now: Instant,
        replies: &mut Vec<Reply>,
    ) -> Result<(ProbeOutcome, Option<Heard>), ProbeOutcome> {
        let (echo, is_used) = peer.prober.lock().answer(probe, ours, now)?;
        replies.extend(self.addressed(peer, from, &echo));
        let heard = match (is_used, probe.in_use) {
            (true, _) => Some(Heard::Used { way: from }),
            (false, false) => Some(Heard::Beside { way: from }),
            // One that was overtaken says nothing any more.
            (false, true) => None,
        };
        Ok((ProbeOutcome::Answered, heard))
    }

    /// A probe of one way to a peer, ready to go; `None` if there is no such peer.
    pub(crate) fn probe(
        &self,
        peer: &PublicKey,
        way: Way,
        asking: Asking,
        now: Instant,
    ) -> Option<Reply> {
        let peer = Arc::clone(self.table().by_key.get(peer)?);
        self.ask(&peer, way, asking, now)
    }

    /// Probes of the ways in use that nobody has asked for, due every [`super::TICK`]. Shows in
    /// the metrics how links are, too.
    pub(crate) fn probes_due(&self, now: Instant, replies: &mut Vec<Reply>) {
        for peer in self.table().by_key.values() {
            let way = peer.link.lock().way();
            let mut prober = peer.prober.lock();
            let shown = prober.is_to_be_shown(now).then(|| prober.quality(now));
            let is_due = prober.is_due(now);
            drop(prober);
            if let Some(quality) = shown {
                self.show(peer, |metrics| metrics.links.set(&peer.public_key, &quality, way));
            }
            if let Some(way) = way
                && is_due
            {
                let asking = Asking { full: false, in_use: true };
                replies.extend(self.ask(peer, way, asking, now));
            }
        }
    }

    /// The link with a peer, measured; nothing is if there is no such peer.
    #[must_use]
    pub fn quality(&self, peer: &PublicKey, now: Instant) -> Quality {
        let table = self.table();
        table.by_key.get(peer).map(|peer| peer.quality(now)).unwrap_or_default()
    }

    fn ask(&self, peer: &Peer, way: Way, asking: Asking, now: Instant) -> Option<Reply> {
        peer.path_key.as_ref()?;
        let ours = peer.counts(now);
        let probe = peer.prober.lock().ask(way, asking, ours, now);
        self.metrics.links.probe(ProbeOutcome::Asked);
        self.addressed(peer, way, &probe)
    }

    fn addressed(&self, peer: &Peer, to: Way, probe: &Probe) -> Option<Reply> {
        let bytes = probe.encode(KeyId::of(&self.public_key), peer.path_key.as_ref()?);
        Some(Reply { to, bytes })
    }
}

impl Peer {
    fn counts(&self, now: Instant) -> Counts {
        self.link.lock().counts(now)
    }

    /// The link with it, measured.
    pub(crate) fn quality(&self, now: Instant) -> Quality {
        self.prober.lock().quality(now)
    }
}
