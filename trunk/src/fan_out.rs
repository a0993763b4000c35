//! One payload to many sessions crosses the tunnel once.
//!
//! A backend that tells a thousand sockets the same thing writes it a thousand times. The core sees
//! it: what it put on one lane a moment ago it names by a number on all the others
//! ([`announce`]), and the node keeps what was numbered ([`keep`]). The lanes don't wait for one
//! another, so a number may arrive before its payload: then that one session waits, and nobody else
//! ([`wait`]).
//!
//! docs/decisions/013-fan-out.md argues the numbers.

pub(crate) mod announce;
pub(crate) mod arrive;
pub(crate) mod keep;
pub(crate) mod wait;

/// The smallest payload that is shared within a batch. Nothing waits for it, so it only has to be
/// larger than what says so.
pub(crate) const SHARED_BYTES_MIN: usize = 64;

/// The smallest payload that is named on other lanes. Below, a lost packet on the lane that brings
/// it would cost more sessions more time than its bytes are worth.
pub(crate) const ANNOUNCED_BYTES_MIN: usize = 256;

/// A 64-bit digest of a payload: equal ones have one, and unequal ones almost never. It decides
/// nothing: who finds an equal digest compares the bytes.
pub(crate) fn fingerprint(payload: &[u8]) -> u64 {
    const FACTOR: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |sum: u64, word: u64| (sum ^ word).wrapping_mul(FACTOR).rotate_left(29);
    // Four sums at a time: a multiplication waits for the one before it.
    let mut sums = [1_u64, 2, 3, 4];
    let mut blocks = payload.chunks_exact(32);
    for block in &mut blocks {
        for (sum, bytes) in sums.iter_mut().zip(block.chunks_exact(8)) {
            *sum = mix(*sum, word(bytes));
        }
    }
    let rest = blocks.remainder().chunks(8).map(word);
    let len = u64::try_from(payload.len()).unwrap_or(u64::MAX);
    rest.chain(sums).fold(len, mix)
}

fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word[..bytes.len()].copy_from_slice(bytes);
    u64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_byte_counts() {
        let payload = [7_u8; 100];
        let mut seen = BTreeSet::from([fingerprint(&payload)]);
        for at in 0..payload.len() {
            let mut other = payload;
            other[at] = 8;
            assert!(seen.insert(fingerprint(&other)), "byte {at} makes no difference");
            assert!(seen.insert(fingerprint(&payload[..at])), "length {at} makes no difference");
        }
    }
}
