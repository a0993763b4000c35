//! Many WireGuard peers behind one socket: dispatch, admission, allowed IPs, timers.
//!
//! No socket and no task: datagrams and `now` come in, inner packets and [`Reply`]s come out.
//! boringtun still reads the clock itself for timestamps, rekeys and expiry; see the crate's front
//! page.
//!
//! All methods take `&self`: each peer has its own lock, and the set of peers is swapped whole.

mod probing;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use boringtun::noise::handshake::parse_handshake_anon;
use boringtun::noise::{Packet, Tunn};
use parking_lot::{Mutex, RwLock};
use tracing::warn;

use crate::admission::{Admission, Verdict};
use crate::cidr::Routes;
use crate::key::{PrivateKey, PublicKey};
use crate::link::{MESSAGE_BYTES_MAX, Outcome, Peer};
use crate::metrics::{Direction, DropReason, HandshakeOutcome, Metrics};
use crate::packet::INNER_MTU_MAX_BYTES;
use crate::path_key::KeyId;
pub use crate::peer::{PeerConfig, PeerState, Reply, Sealed};
pub use crate::way::Way;

/// How often [`Device::tick`] is due. boringtun names no next deadline and lets its time pass only
/// inside its timers; its own device uses the same period.
pub const TICK: Duration = Duration::from_millis(250);

/// Receiver indices are 32 bits: 24 of ours name the peer, boringtun's 8 count its handshakes.
const INDEX_BITS: u32 = 24;

/// A WireGuard interface without the interface.
pub struct Device {
    key: PrivateKey,
    public_key: PublicKey,
    silence_max: Duration,
    metrics: Metrics,
    admission: Mutex<Admission>,
    table: RwLock<Arc<Table>>,
}

/// The peers at one time, by everything they are looked up by.
struct Table {
    by_key: BTreeMap<PublicKey, Arc<Peer>>,
    by_index: BTreeMap<u32, Arc<Peer>>,
    by_key_id: BTreeMap<KeyId, Arc<Peer>>,
    routes: Routes<Arc<Peer>>,
}

/// Room for the largest UDP datagram, decrypted; one a reading task.
#[derive(Debug)]
pub struct Scratch(Box<[u8]>);

impl Default for Scratch {
    fn default() -> Self {
        Self(vec![0; usize::from(u16::MAX).max(MESSAGE_BYTES_MAX)].into())
    }
}

impl Device {
    /// A device without peers. `silence_max` is the watchdog's patience, see [`Device::tick`].
    #[must_use]
    pub fn new(key: PrivateKey, silence_max: Duration, metrics: Metrics, now: Instant) -> Self {
        let public_key = key.public_key();
        Self {
            admission: Mutex::new(Admission::new(&public_key, now)),
            table: RwLock::new(Arc::new(Table::new(Vec::new()))),
            key,
            public_key,
            silence_max,
            metrics,
        }
    }

    /// Our own key.
    #[must_use]
    pub fn public_key(&self) -> PublicKey {
        self.public_key
    }

    /// Sets the whole list of peers. Those that stay keep their keys and endpoints; those that are
    /// missing are gone when this returns. Of two with one key, or one range, the first has it.
    pub fn set_peers(&self, peers: Vec<PeerConfig>, now: Instant) {
        let mut table = self.table.write();
        let mut used: BTreeSet<u32> = table.by_index.keys().copied().collect();
        let mut seen = BTreeSet::new();
        let mut entries = Vec::with_capacity(peers.len());
        for config in peers {
            let key = config.public_key;
            if key == self.public_key || !seen.insert(key) {
                warn!(peer = key.short(), "peer ignored: listed twice, or our own key");
                continue;
            }
            let allowed = config.allowed();
            let peer = if let Some(peer) = table.by_key.get(&key) {
                peer.link.lock().reconfigure(config);
                Arc::clone(peer)
            } else {
                let Some(index) = free_index(&mut used) else { break };
                Arc::new(Peer::new(&self.key, config, index, now))
            };
            entries.push((peer, allowed));
        }
        let next = Table::new(entries);
        for gone in table.by_key.keys().filter(|key| !next.by_key.contains_key(key)) {
            self.metrics.forget_peer(gone);
        }
        *table = Arc::new(next);
    }

    /// Every peer's state, in order of their keys.
    #[must_use]
    pub fn peers(&self, now: Instant) -> Vec<PeerState> {
        self.table().by_key.values().map(|peer| peer.state(now)).collect()
    }

    /// Takes one UDP datagram from the network, and returns the inner packet if it brought one that
    /// its sender may send. What has to be answered is added to `replies`.
    pub fn open<'a>(
        &self,
        from: Way,
        datagram: &[u8],
        now: Instant,
        scratch: &'a mut Scratch,
        replies: &mut Vec<Reply>,
    ) -> Option<&'a [u8]> {
        let table = self.table();
        let peer = self.peer_of(&table, from, datagram, now, replies)?;
        let mut out = Outcome { replies, metrics: &self.metrics };
        let packet = peer.link.lock().open(from, datagram, now, &mut scratch.0, &mut out)?;
        let source = Tunn::dst_address(packet).and_then(|_| source_of(packet));
        let owner = source.and_then(|source| table.routes.lookup(source));
        if !owner.is_some_and(|owner| Arc::ptr_eq(owner, peer)) {
            self.metrics.dropped(DropReason::SourceNotAllowed);
            return None;
        }
        self.metrics.carried(Direction::In, 1, packet.len().try_into().unwrap_or(0));
        Some(packet)
    }

    /// Encrypts one inner packet for the peer that owns its destination, into `out`.
    ///
    /// # Errors
    /// Why it was dropped; it is counted already.
    pub fn seal(
        &self,
        packet: &[u8],
        out: &mut [u8],
        now: Instant,
    ) -> Result<(Way, Sealed), DropReason> {
        let counted = |reason| {
            self.metrics.dropped(reason);
            reason
        };
        let destination = Tunn::dst_address(packet).ok_or_else(|| counted(DropReason::Runt))?;
        let peer = self.peer_for(destination).ok_or_else(|| counted(DropReason::NoPeer))?;
        if packet.len() > usize::from(INNER_MTU_MAX_BYTES) {
            return Err(counted(DropReason::TooBig));
        }
        let mut link = peer.link.lock();
        let way = link.way().ok_or_else(|| counted(DropReason::NoEndpoint))?;
        let sealed = link.seal(packet, out, now).ok_or_else(|| counted(DropReason::TooBig))?;
        self.count_sealed(sealed, packet.len());
        Ok((way, sealed))
    }

    /// Counts one packet that a peer's link has taken.
    pub(crate) fn count_sealed(&self, sealed: Sealed, packet_bytes: usize) {
        match sealed {
            Sealed::Data(_) => {
                self.metrics.carried(Direction::Out, 1, packet_bytes.try_into().unwrap_or(0));
            }
            Sealed::Handshake(_) => self.metrics.handshake(HandshakeOutcome::Initiated),
            Sealed::Waits => {}
        }
    }

    /// Runs every peer's timers. Call it every [`TICK`]: a key that is not ticked never expires.
    ///
    /// A peer with a keep-alive is handshaken with at once, again when its handshake gave up, and
    /// again when it has been silent for `silence_max`.
    pub fn tick(&self, now: Instant, replies: &mut Vec<Reply>) {
        let mut out = Outcome { replies, metrics: &self.metrics };
        for peer in self.table().by_key.values() {
            let mut link = peer.link.lock();
            link.tick(now, self.silence_max, &mut out);
            let age = link.tunn.time_since_last_handshake();
            drop(link);
            self.show(peer, |metrics| metrics.set_handshake_age(&peer.public_key, age));
        }
    }

    /// Shows something of a peer in the metrics, unless it was removed meanwhile: its series are
    /// forgotten, and would be there again for ever. Not while its link is locked.
    pub(crate) fn show(&self, peer: &Arc<Peer>, shown: impl FnOnce(&Metrics)) {
        let table = self.table.read();
        if table.by_key.get(&peer.public_key).is_some_and(|listed| Arc::ptr_eq(listed, peer)) {
            shown(&self.metrics);
        }
    }

    /// Begins a handshake with a peer, or repeats the initiation of one under way: nothing if its
    /// endpoint is not known, or if the last one went just now (200 ms ago, or 3/5 of a round
    /// trip), or was answered less than a second ago.
    pub fn handshake(&self, peer: &PublicKey, now: Instant, replies: &mut Vec<Reply>) {
        let mut out = Outcome { replies, metrics: &self.metrics };
        if let Some(peer) = self.table().by_key.get(peer) {
            peer.link.lock().handshake_now(now, &mut out);
        }
    }

    /// [`Device::handshake`] with the peer that owns an inner address.
    pub fn handshake_to(&self, inner: IpAddr, now: Instant, replies: &mut Vec<Reply>) {
        let mut out = Outcome { replies, metrics: &self.metrics };
        if let Some(peer) = self.peer_for(inner) {
            peer.link.lock().handshake_now(now, &mut out);
        }
    }

    /// A peer by its key.
    pub(crate) fn peer(&self, key: &PublicKey) -> Option<Arc<Peer>> {
        self.table().by_key.get(key).cloned()
    }

    /// Whom an answer to a handshake was for, by the index that it names.
    pub(crate) fn answered(&self, response: &[u8]) -> Option<Arc<Peer>> {
        let receiver = u32::from_le_bytes(response.get(8..12)?.try_into().ok()?);
        self.table().by_index.get(&(receiver >> 8)).cloned()
    }

    /// Every peer, in order of their keys.
    pub(crate) fn all_peers(&self) -> Vec<Arc<Peer>> {
        self.table().by_key.values().cloned().collect()
    }

    /// The peer that owns an inner destination.
    pub(crate) fn peer_for(&self, destination: IpAddr) -> Option<Arc<Peer>> {
        self.table().routes.lookup(destination).cloned()
    }

    fn table(&self) -> Arc<Table> {
        Arc::clone(&self.table.read())
    }

    /// Whom a datagram is from, as far as that can be told before decrypting it.
    fn peer_of<'t>(
        &self,
        table: &'t Table,
        from: Way,
        datagram: &[u8],
        now: Instant,
        replies: &mut Vec<Reply>,
    ) -> Option<&'t Arc<Peer>> {
        if datagram.is_empty() {
            self.metrics.dropped(DropReason::Empty);
            return None;
        }
        let Ok(message) = Tunn::parse_incoming_packet(datagram) else {
            self.metrics.dropped(DropReason::Malformed);
            return None;
        };
        let receiver = match &message {
            Packet::HandshakeInit(_) => None,
            Packet::HandshakeResponse(message) => Some(message.receiver_idx),
            Packet::PacketCookieReply(message) => Some(message.receiver_idx),
            Packet::PacketData(message) => Some(message.receiver_idx),
        };
        let by_index = receiver.map(|receiver| table.by_index.get(&(receiver >> 8)));
        if let Some(None) = by_index {
            self.metrics.dropped(DropReason::UnknownIndex);
            return None;
        }
        let handshake = matches!(message, Packet::HandshakeInit(_) | Packet::HandshakeResponse(_));
        if handshake && !self.admit(from, datagram, now, replies) {
            return None;
        }
        let Packet::HandshakeInit(initiation) = &message else { return by_index.flatten() };
        let secret = self.key.secret();
        let Ok(half) = parse_handshake_anon(secret, &self.public_key.dalek(), initiation) else {
            self.metrics.handshake(HandshakeOutcome::Invalid);
            return None;
        };
        let peer = table.by_key.get(&PublicKey::from(half.peer_static_public));
        if peer.is_none() {
            self.metrics.handshake(HandshakeOutcome::UnknownPeer);
        }
        peer
    }

    /// Whether a handshake message may cost us a key agreement.
    fn admit(&self, from: Way, message: &[u8], now: Instant, replies: &mut Vec<Reply>) -> bool {
        let outcome = match self.admission.lock().judge(source(from), message, now) {
            Verdict::Pass => return true,
            Verdict::Cookie(cookie) => {
                replies.push(Reply { to: from, bytes: cookie.to_vec() });
                HandshakeOutcome::CookieSent
            }
            Verdict::Limited => HandshakeOutcome::Limited,
            Verdict::Invalid => HandshakeOutcome::Invalid,
        };
        self.metrics.handshake(outcome);
        false
    }
}

impl std::fmt::Debug for Device {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let peers = self.table().by_key.len();
        f.debug_struct("Device").field("key", &self.public_key).field("peers", &peers).finish()
    }
}

impl Table {
    fn new(peers: Vec<(Arc<Peer>, Vec<crate::Cidr>)>) -> Self {
        let mut table = Self {
            by_key: BTreeMap::new(),
            by_index: BTreeMap::new(),
            by_key_id: BTreeMap::new(),
            routes: Routes::new(),
        };
        for (peer, allowed) in peers {
            for range in allowed {
                if !table.routes.insert(range, Arc::clone(&peer)) {
                    warn!(peer = peer.public_key.short(), %range, "range is another peer's");
                }
            }
            table.by_index.insert(peer.index, Arc::clone(&peer));
            table.by_key_id.insert(KeyId::of(&peer.public_key), Arc::clone(&peer));
            table.by_key.insert(peer.public_key, peer);
        }
        table
    }
}

/// A receiver index nobody has; random, so that a stranger can't guess which ones are in use.
fn free_index(used: &mut BTreeSet<u32>) -> Option<u32> {
    if used.len() >= 1 << (INDEX_BITS - 1) {
        return None;
    }
    loop {
        let index = rand::random::<u32>() >> (u32::BITS - INDEX_BITS);
        if used.insert(index) {
            return Some(index);
        }
    }
}

/// Whom a handshake is counted under. Streams have proven who they are; they share one place.
fn source(from: Way) -> IpAddr {
    from.remote().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |remote| remote.ip())
}

/// The source address of an IP packet whose header is whole.
fn source_of(packet: &[u8]) -> Option<IpAddr> {
    match packet.first()? >> 4 {
        4 => {
            let octets: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        6 => {
            let octets: [u8; 16] = packet.get(8..24)?.try_into().ok()?;
            Some(IpAddr::from(octets))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests;
