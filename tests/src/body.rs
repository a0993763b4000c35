//! Bodies too large to hold: made block by block, and known by their SHA-256.

use bytes::Bytes;
use sha2::{Digest, Sha256};

/// Bytes in one block.
pub const BLOCK_BYTES: usize = 64 << 10;

/// Blocks of a body of `total` bytes; no two blocks are alike.
pub fn blocks(total: u64) -> impl Iterator<Item = Bytes> + Send {
    let block_bytes = BLOCK_BYTES as u64;
    (0..total.div_ceil(block_bytes)).map(move |index| {
        let len = usize::try_from((total - index * block_bytes).min(block_bytes))
            .expect("a block is small");
        // An odd multiplier walks through all 64-bit states; its top byte looks random.
        let mut state = index.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let next = move |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(index | 1);
            state.to_be_bytes()[0]
        };
        (0..len).map(next).collect()
    })
}

/// SHA-256 of the body of `total` bytes, in hex.
#[must_use]
pub fn digest(total: u64) -> String {
    let mut hash = Sha256::new();
    blocks(total).for_each(|block| hash.update(&block));
    hex(&hash.finalize())
}

/// Lower-case hex.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String can't fail.
        write!(text, "{byte:02x}").expect("a String takes any text");
        text
    })
}
