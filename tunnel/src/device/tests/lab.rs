//! Two ends and the wire between them, in memory.

use super::*;

/// One end: a device, its outer address, and what it has to send.
pub(super) struct End {
    pub(super) device: Device,
    pub(super) key: PublicKey,
    pub(super) secret: PrivateKey,
    pub(super) address: SocketAddr,
    pub(super) metrics: Metrics,
    pub(super) now: Instant,
    pub(super) replies: Vec<Reply>,
    pub(super) arrived: Vec<Vec<u8>>,
    scratch: Scratch,
}

pub(super) const SILENCE_MAX: Duration = Duration::from_secs(15);

impl End {
    pub(super) fn new(host: u8) -> Self {
        let secret = PrivateKey::generate();
        let now = crate::tunnel::now();
        let metrics = Metrics::default();
        Self {
            device: Device::new(secret.clone(), SILENCE_MAX, metrics.clone(), now),
            key: secret.public_key(),
            secret,
            address: SocketAddr::from(([192, 0, 2, host], 51820)),
            metrics,
            now,
            replies: Vec::new(),
            arrived: Vec::new(),
            scratch: Scratch::default(),
        }
    }

    pub(super) fn peer(&self, other: &Self, endpoint: Option<SocketAddr>) -> PeerConfig {
        assert_ne!(self.key, other.key);
        PeerConfig { endpoint, ..PeerConfig::new(other.key) }
    }

    /// Seals a UDP payload for `other`; the message joins `replies`, whatever it is.
    pub(super) fn seal_to(&mut self, other: &Self, payload: &[u8]) -> Sealed {
        let packet = udp(self.key.address(), other.key.address(), payload);
        self.seal(&packet)
    }

    pub(super) fn seal(&mut self, packet: &[u8]) -> Sealed {
        let mut out = vec![0; 2000];
        let (to, sealed) = self.device.seal(packet, &mut out, self.now).unwrap();
        if let Sealed::Data(len) | Sealed::Handshake(len) = sealed {
            self.replies.push(Reply { to, bytes: out[..len].to_vec() });
        }
        sealed
    }

    pub(super) fn try_seal(&self, other: &Self, payload: &[u8]) -> Result<(), DropReason> {
        let packet = udp(self.key.address(), other.key.address(), payload);
        self.device.seal(&packet, &mut vec![0; 2000], self.now).map(|_| ())
    }

    /// Takes a datagram that seems to come from `from`.
    pub(super) fn take(&mut self, from: SocketAddr, datagram: &[u8]) {
        let Self { device, scratch, replies, now, .. } = self;
        if let Some(packet) = device.open(from.into(), datagram, *now, scratch, replies) {
            self.arrived.push(packet.to_vec());
        }
    }

    /// Delivers all that waits to be sent to `other`.
    pub(super) fn step(&mut self, other: &mut Self) {
        for reply in std::mem::take(&mut self.replies) {
            other.take(self.address, &reply.bytes);
        }
    }

    /// The one message that waits to be sent.
    #[track_caller]
    pub(super) fn only_message(&mut self) -> Vec<u8> {
        assert_eq!(self.replies.len(), 1);
        self.replies.remove(0).bytes
    }

    /// The UDP payloads that have arrived.
    pub(super) fn payloads(&mut self) -> Vec<Vec<u8>> {
        let packets = std::mem::take(&mut self.arrived);
        packets.iter().map(|packet| read_udp(packet).unwrap().payload.to_vec()).collect()
    }

    pub(super) fn tick_at(&mut self, after: Duration) {
        self.device.tick(self.now + after, &mut self.replies);
    }

    pub(super) fn endpoint_of(&self, other: &Self) -> Option<SocketAddr> {
        let states = self.device.peers(self.now);
        states.iter().find(|state| state.public_key == other.key).unwrap().endpoint
    }
}

/// A node that knows the core's endpoint, and a core that waits for it.
pub(super) fn lab() -> (End, End) {
    let (node, core) = (End::new(2), End::new(1));
    node.device.set_peers(vec![node.peer(&core, Some(core.address))], node.now);
    core.device.set_peers(vec![core.peer(&node, None)], core.now);
    (node, core)
}

/// A third end, known to the core of `lab` beside its node.
pub(super) fn second_node(node: &End, core: &End) -> End {
    let other = End::new(3);
    other.device.set_peers(vec![other.peer(core, Some(core.address))], other.now);
    core.device.set_peers(vec![core.peer(node, None), core.peer(&other, None)], core.now);
    other
}

/// Shakes hands and carries one packet, so that both ends have keys.
pub(super) fn join(node: &mut End, core: &mut End) {
    node.seal_to(core, b"join");
    node.step(core);
    core.step(node);
    node.step(core);
    assert_eq!(core.payloads(), [b"join".to_vec()]);
}

pub(super) fn udp(source: Ipv6Addr, destination: Ipv6Addr, payload: &[u8]) -> Vec<u8> {
    let at = |ip| SocketAddrV6::new(ip, 4433, 0, 0);
    let mut packet = vec![0; 2000];
    let len = write_udp(&mut packet, at(source), at(destination), payload).unwrap();
    packet.truncate(len);
    packet
}

/// A bare boringtun peer that claims to be `end`: it obeys none of our rules.
pub(super) fn rogue(end: &End, core: &End) -> Tunn {
    Tunn::new(end.secret.secret().clone(), core.key.dalek(), None, None, 7, None)
}

/// What boringtun wants sent.
#[track_caller]
pub(super) fn sent(result: TunnResult<'_>) -> Vec<u8> {
    let TunnResult::WriteToNetwork(bytes) = result else { panic!("nothing to send: {result:?}") };
    bytes.to_vec()
}

/// A rogue's handshake with `core`, done.
pub(super) fn rogue_joined(end: &End, core: &mut End) -> Tunn {
    let mut rogue = rogue(end, core);
    let mut buffer = [0; 2000];
    let initiation = sent(rogue.format_handshake_initiation(&mut buffer, false));
    core.take(end.address, &initiation);
    let response = core.only_message();
    let keepalive = sent(rogue.decapsulate(None, &response, &mut buffer));
    core.take(end.address, &keepalive);
    rogue
}
