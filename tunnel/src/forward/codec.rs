//! Forwarded datagrams on the wire.
//!
//! | bytes | field |
//! |---|---|
//! | 0 | kind: [`KIND_FORWARD`] towards the core, [`KIND_RETURNED`] back from the forwarder |
//! | 1 | version, 1 |
//! | 2..4 | zero |
//! | 4..12 | [`KeyId`] of the sender: of whoever sends this very datagram |
//! | 12..20 | counter, little endian: each sender's, one for each neighbour and kind |
//! | 20..28 | [`KeyId`] of the core |
//! | 28..44 | MAC with the key of sender and receiver, over the header before it and the payload |
//! | 44.. | payload: a WireGuard message, or a probe or echo of the far ends |
//!
//! The payload is not read by the forwarder but for its first byte: what is wrapped already is not
//! wrapped again, so a datagram passes one forwarder at most.

use std::ops::RangeInclusive;

use crate::path_key::{KeyId, MAC_BYTES, PathKey};
use crate::probe::codec::{KIND_ECHO, KIND_PROBE};

/// First byte of a datagram for a forwarder.
pub(crate) const KIND_FORWARD: u8 = 0xA3;
/// First byte of a datagram that a forwarder brings back.
pub(crate) const KIND_RETURNED: u8 = 0xA4;
const VERSION: u8 = 1;

/// WireGuard's messages, [§5.4](https://www.wireguard.com/papers/wireguard.pdf).
const WIREGUARD_KINDS: RangeInclusive<u8> = 1..=4;

pub(super) const MAC_AT: usize = 28;
/// What wrapping adds to a datagram.
pub(crate) const HEADER_BYTES: usize = MAC_AT + MAC_BYTES;

/// Which way a wrapped datagram goes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Kind {
    /// To the forwarder, for the core.
    Forward,
    /// From the forwarder, what the core sent.
    Returned,
}

impl Kind {
    const fn byte(self) -> u8 {
        match self {
            Self::Forward => KIND_FORWARD,
            Self::Returned => KIND_RETURNED,
        }
    }
}

/// What a header says; worth nothing before [`Wrapped::is_authentic`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Header {
    pub(crate) kind: Kind,
    pub(crate) sender: KeyId,
    pub(crate) counter: u64,
    pub(crate) core: KeyId,
}

/// A wrapped datagram as it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wrapped<'a> {
    pub(crate) header: Header,
    datagram: &'a [u8],
}

impl<'a> Wrapped<'a> {
    /// Reads the header of a datagram; `None` if it is none of ours.
    pub(crate) fn read(datagram: &'a [u8]) -> Option<Self> {
        let kind = match *datagram.first()? {
            KIND_FORWARD => Kind::Forward,
            KIND_RETURNED => Kind::Returned,
            _ => return None,
        };
        if datagram.len() <= HEADER_BYTES || datagram[1..4] != [VERSION, 0, 0] {
            return None;
        }
        let eight = |at: usize| -> [u8; 8] { std::array::from_fn(|i| datagram[at + i]) };
        let header = Header {
            kind,
            sender: KeyId(eight(4)),
            counter: u64::from_le_bytes(eight(12)),
            core: KeyId(eight(20)),
        };
        Some(Self { header, datagram })
    }

    /// Whether it was made with `key`, and nothing was changed since.
    pub(crate) fn is_authentic(&self, key: &PathKey) -> bool {
        let (head, mac) = self.datagram[..HEADER_BYTES].split_at(MAC_AT);
        key.verify(&[head, self.payload()], mac)
    }

    /// What was wrapped.
    pub(crate) fn payload(&self) -> &'a [u8] {
        &self.datagram[HEADER_BYTES..]
    }
}

/// Appends `payload`, wrapped, to `out`.
pub(crate) fn wrap(header: Header, key: &PathKey, payload: &[u8], out: &mut Vec<u8>) {
    let at = out.len();
    out.extend_from_slice(&[header.kind.byte(), VERSION, 0, 0]);
    out.extend_from_slice(&header.sender.0);
    out.extend_from_slice(&header.counter.to_le_bytes());
    out.extend_from_slice(&header.core.0);
    let mac = key.mac(&[&out[at..], payload]);
    out.extend_from_slice(&mac);
    out.extend_from_slice(payload);
}

/// Whether a datagram is wrapped, or says that it is.
pub(crate) fn is_wrapped(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(&KIND_FORWARD | &KIND_RETURNED))
}

/// Whether a datagram may be wrapped: a message of WireGuard's, or of a probe.
pub(crate) fn may_be_wrapped(payload: &[u8]) -> bool {
    let of_wireguard = |kind: &u8| WIREGUARD_KINDS.contains(kind);
    payload.first().is_some_and(|kind| of_wireguard(kind) || [KIND_PROBE, KIND_ECHO].contains(kind))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::key::PrivateKey;

    const HEADER: Header = Header {
        kind: Kind::Forward,
        sender: KeyId([1, 2, 3, 4, 5, 6, 7, 8]),
        counter: 0x1122_3344_5566_7788,
        core: KeyId([9; 8]),
    };

    fn key() -> PathKey {
        // RFC 7748 §6.1: Alice's private key and Bob's public key.
        let ours: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        PathKey::new(&ours, &"3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=".parse().unwrap())
            .unwrap()
    }

    fn wrapped(header: Header, payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        wrap(header, &key(), payload, &mut out);
        out
    }

    /// A change parts old and new releases.
    #[test]
    fn bytes_on_the_wire_never_change() {
        let bytes = wrapped(HEADER, &[4, 0, 0, 0]);
        let text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text[..40], *"a301000001020304050607088877665544332211");
        assert_eq!(text[40..56], "09".repeat(8));
        assert_eq!(&text[56..], "04e65d98462ee53743fc8f6bcbb2ba7804000000");
    }

    #[test]
    fn what_was_wrapped_comes_out_and_nothing_else_does() {
        for kind in [Kind::Forward, Kind::Returned] {
            let header = Header { kind, ..HEADER };
            let bytes = wrapped(header, b"\x04 a message");
            let read = Wrapped::read(&bytes).unwrap();
            assert_eq!((read.header, read.payload()), (header, &b"\x04 a message"[..]));
            assert!(read.is_authentic(&key()));
            let other = PathKey::new(&PrivateKey::generate(), &PrivateKey::generate().public_key());
            assert!(!read.is_authentic(&other.unwrap()));
        }
        assert!(Wrapped::read(&[]).is_none());
        assert!(Wrapped::read(&wrapped(HEADER, &[])).is_none(), "a header alone");
        let bytes = wrapped(HEADER, &[4]);
        for (at, what) in [(0, "kind"), (1, "version"), (2, "reserved"), (3, "reserved")] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            assert!(Wrapped::read(&bytes).is_none(), "{what}");
        }
    }

    #[test]
    fn only_wireguard_and_probes_are_wrapped() {
        for (first, expected) in
            [(0, false), (1, true), (4, true), (5, false), (0xA1, true), (0xA2, true)]
        {
            assert_eq!(may_be_wrapped(&[first, 0]), expected, "{first}");
        }
        assert!(!may_be_wrapped(&[KIND_FORWARD]) && !may_be_wrapped(&[KIND_RETURNED]));
        assert!(!may_be_wrapped(&[]));
    }

    proptest! {
        #[test]
        fn a_changed_byte_is_never_taken(
            payload in prop::collection::vec(any::<u8>(), 1..64),
            at in any::<prop::sample::Index>(),
            bit in 0..8u8,
        ) {
            let mut bytes = wrapped(HEADER, &payload);
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            let taken = Wrapped::read(&bytes).is_some_and(|read| read.is_authentic(&key()));
            prop_assert!(!taken);
        }

        #[test]
        fn any_bytes_are_read_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            if let Some(read) = Wrapped::read(&bytes) {
                let _ = read.is_authentic(&key());
                prop_assert_eq!(read.payload().len() + HEADER_BYTES, bytes.len());
            }
        }
    }
}
