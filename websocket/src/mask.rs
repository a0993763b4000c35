//! Masking (RFC 6455 section 5.3): XOR with a 4-byte key, from any offset of the payload.

/// Masks or unmasks `bytes`, which begin `offset` bytes into their frame's payload.
pub(crate) fn apply(bytes: &mut [u8], key: [u8; 4], offset: u64) {
    let turn = usize::try_from(offset % 4).expect("below 4");
    let mut turned = key;
    turned.rotate_left(turn);
    let [a, b, c, d] = turned;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);

    let (words, rest) = bytes.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, key) in rest.iter_mut().zip(turned.iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_offset_and_length_agrees_with_the_definition() {
        let key = [0x37, 0xfa, 0x21, 0x3d];
        for offset in 0..9_u8 {
            for len in 0..40_u8 {
                let plain: Vec<u8> = (0..len).map(|i| i.wrapping_mul(31)).collect();
                let mut masked = plain.clone();
                apply(&mut masked, key, u64::from(offset));
                let expected: Vec<u8> = plain
                    .iter()
                    .enumerate()
                    .map(|(i, byte)| byte ^ key[(i + usize::from(offset)) % 4])
                    .collect();
                assert_eq!(masked, expected, "offset {offset}, length {len}");
            }
        }
    }

    /// RFC 6455 section 5.7: a masked "Hello".
    #[test]
    fn the_rfc_example() {
        let mut bytes = [0x7f, 0x9f, 0x4d, 0x51, 0x58];
        apply(&mut bytes, [0x37, 0xfa, 0x21, 0x3d], 0);
        assert_eq!(&bytes, b"Hello");
    }
}
