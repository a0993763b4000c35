//! UTF-8 (RFC 3629) checked as it streams: fails at the first byte that no text can have there.

/// The bytes of a character whose rest has not arrived.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Utf8 {
    pending: [u8; 4],
    pending_len: u8,
}

/// The text can't be UTF-8, whatever follows.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct NotUtf8;

impl Utf8 {
    /// Takes the next bytes of the text.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> Result<(), NotUtf8> {
        let mut rest = bytes;
        while self.pending_len > 0 {
            let Some((&byte, after)) = rest.split_first() else { return Ok(()) };
            rest = after;
            self.push_pending(byte)?;
        }
        match std::str::from_utf8(rest) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(NotUtf8),
            Err(error) => {
                for &byte in &rest[error.valid_up_to()..] {
                    self.push_pending(byte)?;
                }
                Ok(())
            }
        }
    }

    /// The bytes of the character that is open: pushed anew, they make the same state.
    pub(crate) fn pending(&self) -> &[u8] {
        &self.pending[..usize::from(self.pending_len)]
    }

    /// Whether the text may end here: no character is open.
    pub(crate) fn is_complete(self) -> bool {
        self.pending_len == 0
    }

    fn push_pending(&mut self, byte: u8) -> Result<(), NotUtf8> {
        self.pending[usize::from(self.pending_len)] = byte;
        self.pending_len += 1;
        match std::str::from_utf8(&self.pending[..usize::from(self.pending_len)]) {
            Ok(_) => self.pending_len = 0,
            Err(error) if error.error_len().is_some() => return Err(NotUtf8),
            Err(_) => {}
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Where Autobahn's group 6 looks: the byte at which each text stops being UTF-8.
    #[test]
    fn fails_at_the_first_impossible_byte() {
        check("ascii", b"plain", None);
        check("two, three and four bytes", "aµ€😀".as_bytes(), None);
        check("lone continuation", &[b'a', 0x80], Some(1));
        check("overlong slash", &[0xc0, 0xaf], Some(0));
        check("overlong three", &[0xe0, 0x80, 0x80], Some(1));
        check("overlong four", &[0xf0, 0x80, 0x80, 0x80], Some(1));
        check("surrogate", &[0xed, 0xa0, 0x80], Some(1));
        check("above U+10FFFF", &[0xf4, 0x90, 0x80, 0x80], Some(1));
        check("never a lead byte", &[0xf5], Some(0));
        check("broken third byte", &[0xe2, 0x82, b'x'], Some(2));
        check("last code point", &[0xf4, 0x8f, 0xbf, 0xbf], None);
    }

    #[test]
    fn an_open_character_is_not_complete() {
        let mut utf8 = Utf8::default();
        utf8.push(&[0xe2, 0x82]).unwrap();
        assert!(!utf8.is_complete());
        utf8.push(&[0xac]).unwrap();
        assert!(utf8.is_complete());
    }

    /// Byte by byte the failure is at the named byte; all at once it fails all the same.
    #[track_caller]
    fn check(what: &str, text: &[u8], fails_at: Option<usize>) {
        let mut utf8 = Utf8::default();
        let failed = text.iter().position(|byte| utf8.push(&[*byte]).is_err());
        assert_eq!(failed, fails_at, "{what}");
        for cut in 0..=text.len() {
            let mut utf8 = Utf8::default();
            let (left, right) = text.split_at(cut);
            let outcome = utf8.push(left).and_then(|()| utf8.push(right));
            assert_eq!(outcome.is_err(), fails_at.is_some(), "{what}, cut at {cut}");
        }
    }
}
