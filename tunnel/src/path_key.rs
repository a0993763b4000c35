//! The key that two peers share for what travels beside WireGuard: probes, and datagrams that a
//! neighbour sends on.
//!
//! It follows from their WireGuard keys, as the key of WireGuard's own handshake does, so nobody
//! has to hand it out, and a peer that is off the roster is out here too.

use blake2::digest::Mac;
use blake2::digest::consts::U16;
use blake2::{Blake2s256, Blake2sMac, Digest};

use crate::key::{PrivateKey, PublicKey};

/// Separates this use of the two keys from WireGuard's.
const LABEL: &[u8] = b"antipode path v1";

/// A MAC's length.
pub(crate) const MAC_BYTES: usize = 16;

/// Names a sender on the wire: the first bytes of BLAKE2s-256 over its public key.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub(crate) struct KeyId(pub(crate) [u8; Self::BYTES]);

impl KeyId {
    /// Its length on the wire.
    pub(crate) const BYTES: usize = 8;

    /// The id of a key's holder.
    pub(crate) fn of(public_key: &PublicKey) -> Self {
        let hash = Blake2s256::digest(public_key.as_bytes());
        Self(std::array::from_fn(|i| hash[i]))
    }
}

/// A key of two peers, ready to use. It costs a key agreement to make: once a peer.
#[derive(Clone)]
pub(crate) struct PathKey(Blake2sMac<U16>);

impl PathKey {
    /// The key of `ours` and `theirs`; `None` for a public key that would make it known to all
    /// ([RFC 7748 §6.1](https://www.rfc-editor.org/rfc/rfc7748#section-6.1)).
    pub(crate) fn new(ours: &PrivateKey, theirs: &PublicKey) -> Option<Self> {
        let shared = ours.secret().diffie_hellman(&theirs.dalek());
        if !shared.was_contributory() {
            return None;
        }
        let key = Blake2s256::new().chain_update(LABEL).chain_update(shared.as_bytes()).finalize();
        Blake2sMac::new_from_slice(&key).ok().map(Self)
    }

    /// The MAC over `parts`, one after another.
    pub(crate) fn mac(&self, parts: &[&[u8]]) -> [u8; MAC_BYTES] {
        self.over(parts).finalize().into_bytes().into()
    }

    /// Whether `mac` is the one over `parts`; takes as long whether or not.
    pub(crate) fn verify(&self, parts: &[&[u8]], mac: &[u8]) -> bool {
        self.over(parts).verify_slice(mac).is_ok()
    }

    fn over(&self, parts: &[&[u8]]) -> Blake2sMac<U16> {
        let mut state = self.0.clone();
        parts.iter().for_each(|part| Mac::update(&mut state, part));
        state
    }
}

impl std::fmt::Debug for PathKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PathKey")
    }
}

/// The key of two peers, in the hands of one of them, for who moves datagrams by hand: a fuzz
/// target or a benchmark.
#[derive(Clone, Debug)]
pub struct Seal {
    pub(crate) key: PathKey,
    pub(crate) sender: KeyId,
}

impl Seal {
    /// `None` for a public key that would make it known to all.
    #[must_use]
    pub fn new(ours: &PrivateKey, theirs: &PublicKey) -> Option<Self> {
        let (key, sender) = (PathKey::new(ours, theirs)?, KeyId::of(&ours.public_key()));
        Some(Self { key, sender })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_have_one_key_and_others_have_another() {
        let [a, b, c] = [(); 3].map(|()| PrivateKey::generate());
        let key = |ours: &PrivateKey, theirs: &PrivateKey| {
            PathKey::new(ours, &theirs.public_key()).unwrap()
        };
        let mac = key(&a, &b).mac(&[b"one ", b"two"]);
        assert!(key(&b, &a).verify(&[b"one two"], &mac));
        assert!(!key(&b, &a).verify(&[b"one twO"], &mac));
        assert!(!key(&b, &a).verify(&[b"one two"], &mac[..15]));
        assert!(!key(&c, &a).verify(&[b"one two"], &mac));
        assert!(!key(&c, &b).verify(&[b"one two"], &mac));
    }

    /// Keys and ids are on the wire: a change parts old and new releases.
    #[test]
    fn keys_and_ids_never_change() {
        // RFC 7748 §6.1: Alice's private key and Bob's public key.
        let ours: PrivateKey = "dwdtCnMYpX08FsFyUbJmRd9ML4frwJkqsXf7pR25LCo=".parse().unwrap();
        let theirs: PublicKey = "3p7bfXt9wbTTW2HC7OQ1Nz+DQ8hbeGdNrfx+FG+IK08=".parse().unwrap();
        let mac = PathKey::new(&ours, &theirs).unwrap().mac(&[b"antipode"]);
        assert_eq!(hex(&mac), "e947ce637a68d5d71ed59a5e5e486622");
        assert_eq!(hex(&KeyId::of(&theirs).0), "008ae41c502430ca");
    }

    #[test]
    fn a_key_that_everybody_knows_is_none() {
        assert!(PathKey::new(&PrivateKey::generate(), &PublicKey::from([0; 32])).is_none());
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
