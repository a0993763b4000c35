//! Probes and echoes on the wire.
//!
//! All integers are little endian: kind 1, version 1, flags 2, sender's key id 8, seq 8, time 8,
//! sent 8, arrived 8, arrived of 8, burst 4, held 4, MAC 16 over all of these; then zeros, which
//! make a probe as long as a full packet.

use crate::path_key::{KeyId, MAC_BYTES, PathKey};

/// First byte of a probe. WireGuard's own messages begin with 1 to 4.
pub(crate) const KIND_PROBE: u8 = 0xa1;
/// First byte of an echo.
pub(crate) const KIND_ECHO: u8 = 0xa2;

/// The version of this layout; anything else is dropped.
const VERSION: u8 = 1;
/// What the MAC is over.
pub(crate) const BODY_BYTES: usize = 60;
/// A probe or an echo without padding.
pub(crate) const PROBE_BYTES: usize = BODY_BYTES + MAC_BYTES;
/// A full probe: as long as the WireGuard message of an inner packet of 1280 bytes, the least that
/// IPv6 promises ([RFC 8200 §5](https://www.rfc-editor.org/rfc/rfc8200#section-5)), without which
/// there is no QUIC.
pub(crate) const FULL_BYTES: usize = 1280 + 32;

/// Padded to [`FULL_BYTES`].
const FLAG_FULL: u16 = 1;
/// The prober's datagrams go this way.
const FLAG_IN_USE: u16 = 2;

/// Which of the two it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// A question.
    Probe,
    /// Its answer, sent back the way the question came.
    Echo,
}

/// A probe or an echo.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Probe {
    /// Which of the two.
    pub(crate) kind: Kind,
    /// As long as a full packet; an echo repeats it, but is short.
    pub(crate) full: bool,
    /// The prober sends its datagrams this way; an echo repeats it.
    pub(crate) in_use: bool,
    /// Grows with each probe to a peer, over restarts too; an echo repeats it.
    pub(crate) seq: u64,
    /// The prober's clock when it went; an echo repeats it.
    pub(crate) time_us: u64,
    /// WireGuard data messages that the sender has sent to the receiver, copies included.
    pub(crate) sent: u64,
    /// How many of the receiver's had arrived, copies included, when it said `sent` last.
    pub(crate) arrived: u64,
    /// The receiver's `sent` then.
    pub(crate) arrived_of: u64,
    /// How long a burst of loss from the receiver lasts; nine in ten are shorter.
    pub(crate) burst_us: u32,
    /// An echo: how long the probe lay at the receiver.
    pub(crate) held_us: u32,
}

impl Probe {
    /// Writes it as `sender`'s; the result is as long as it is on the wire.
    pub(crate) fn encode(&self, sender: KeyId, key: &PathKey) -> Vec<u8> {
        let is_padded = self.full && self.kind == Kind::Probe;
        let mut bytes = Vec::with_capacity(if is_padded { FULL_BYTES } else { PROBE_BYTES });
        let full = if self.full { FLAG_FULL } else { 0 };
        let flags = full | if self.in_use { FLAG_IN_USE } else { 0 };
        bytes.push(match self.kind {
            Kind::Probe => KIND_PROBE,
            Kind::Echo => KIND_ECHO,
        });
        bytes.push(VERSION);
        bytes.extend(flags.to_le_bytes());
        bytes.extend(sender.0);
        for number in [self.seq, self.time_us, self.sent, self.arrived, self.arrived_of] {
            bytes.extend(number.to_le_bytes());
        }
        bytes.extend(self.burst_us.to_le_bytes());
        bytes.extend(self.held_us.to_le_bytes());
        let mac = key.mac(&[&bytes]);
        bytes.extend(mac);
        if is_padded {
            bytes.resize(FULL_BYTES, 0);
        }
        bytes
    }

    /// Reads one whose sender's key is `key`; `None` if it is damaged, forged or cut short. Flags
    /// that a later release may set are passed over.
    pub(crate) fn decode(datagram: &[u8], key: &PathKey) -> Option<Self> {
        let kind = kind_of(datagram)?;
        let (body, rest) = datagram.split_at_checked(BODY_BYTES)?;
        if !key.verify(&[body], rest.get(..MAC_BYTES)?) {
            return None;
        }
        let flags = u16::from_le_bytes([body[2], body[3]]);
        let full = flags & FLAG_FULL != 0;
        if full && kind == Kind::Probe && datagram.len() < FULL_BYTES {
            return None;
        }
        let long = |at| u64::from_le_bytes(std::array::from_fn(|i| body[at + i]));
        let short = |at| u32::from_le_bytes(std::array::from_fn(|i| body[at + i]));
        Some(Self {
            kind,
            full,
            in_use: flags & FLAG_IN_USE != 0,
            seq: long(12),
            time_us: long(20),
            sent: long(28),
            arrived: long(36),
            arrived_of: long(44),
            burst_us: short(52),
            held_us: short(56),
        })
    }
}

/// Whether a datagram is for [`Probe::decode`].
pub(crate) fn is_probe(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(&(KIND_PROBE | KIND_ECHO)))
}

/// Who says it is the sender of a probe or an echo; nothing is proven yet.
pub(crate) fn sender(datagram: &[u8]) -> Option<KeyId> {
    kind_of(datagram)?;
    let id = datagram.get(4..4 + KeyId::BYTES)?;
    id.try_into().ok().map(KeyId)
}

fn kind_of(datagram: &[u8]) -> Option<Kind> {
    match datagram.get(..2)? {
        [KIND_PROBE, VERSION] => Some(Kind::Probe),
        [KIND_ECHO, VERSION] => Some(Kind::Echo),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::PrivateKey;

    const PROBE: Probe = Probe {
        kind: Kind::Probe,
        full: false,
        in_use: true,
        seq: 0x0102_0304_0506_0708,
        time_us: 0x1112_1314_1516_1718,
        sent: 3,
        arrived: 4,
        arrived_of: 5,
        burst_us: 6,
        held_us: 7,
    };

    fn keys() -> (KeyId, PathKey, PathKey) {
        // RFC 7748 §6.1: Alice and Bob.
        let alice: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        let bob: PrivateKey = "XasIfmJKikt54X+Lg4AO5m87sSkmGLb9HC+LJ/+I4Os=".parse().unwrap();
        let [a, b] = [alice.public_key(), bob.public_key()];
        let of = |ours, theirs| PathKey::new(ours, theirs).unwrap();
        (KeyId::of(&a), of(&alice, &b), of(&bob, &a))
    }

    #[test]
    fn what_is_written_is_read() {
        let (sender_id, ours, theirs) = keys();
        for kind in [Kind::Probe, Kind::Echo] {
            for full in [false, true] {
                let probe = Probe { kind, full, in_use: !full, ..PROBE };
                let bytes = probe.encode(sender_id, &ours);
                assert_eq!(sender(&bytes), Some(sender_id));
                assert_eq!(Probe::decode(&bytes, &theirs), Some(probe));
                let is_padded = full && kind == Kind::Probe;
                assert_eq!(bytes.len(), if is_padded { FULL_BYTES } else { PROBE_BYTES });
            }
        }
    }

    /// Releases speak with one another: this layout decodes for ever.
    #[test]
    fn the_layout_never_changes() {
        let (sender_id, ours, _) = keys();
        let text: String =
            PROBE.encode(sender_id, &ours).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            text,
            concat!(
                "a1010200156c329c9ca9dea708070605040302011817161514131211",
                "0300000000000000040000000000000005000000000000000600000007000000",
                "a339aed73ad1776f310b843a2539bcab",
            )
        );
    }

    #[test]
    fn a_full_probe_that_was_cut_short_is_none() {
        let (sender_id, ours, theirs) = keys();
        let mut bytes = Probe { full: true, ..PROBE }.encode(sender_id, &ours);
        bytes.pop();
        assert_eq!(Probe::decode(&bytes, &theirs), None);
    }

    #[test]
    fn every_byte_is_under_the_mac() {
        let (sender_id, ours, theirs) = keys();
        let bytes = PROBE.encode(sender_id, &ours);
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                assert_eq!(Probe::decode(&damaged, &theirs), None, "byte {at}, bit {bit}");
            }
            assert_eq!(Probe::decode(&bytes[..at], &theirs), None, "{at} bytes");
        }
    }

    proptest! {
        #[test]
        fn garbage_is_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let (_, ours, _) = keys();
            prop_assert_eq!(Probe::decode(&bytes, &ours), None);
            let _ = sender(&bytes);
        }
    }
}
