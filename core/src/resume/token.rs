//! Resume tokens: a session's number and a signature that only this core can make.
//!
//! | bytes | are |
//! |---|---|
//! | 1 | version, 1 |
//! | 16 | the session's number, drawn at random |
//! | 32 | HMAC-SHA256 (RFC 2104) over the 17 before, with the core's own key |

use std::fmt;

use aws_lc_rs::hmac;

/// Bytes of a key: as many as HMAC-SHA256 makes good use of (RFC 2104 section 3).
pub const KEY_BYTES: usize = 32;

/// Bytes of a token.
pub const TOKEN_BYTES: usize = SIGNED_BYTES + 32;

const VERSION: u8 = 1;
const ID_BYTES: usize = 16;
const SIGNED_BYTES: usize = 1 + ID_BYTES;

/// A resumable session's number, unlike that of any other session of any core.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SessionId([u8; ID_BYTES]);

impl SessionId {
    /// From random bytes.
    #[must_use]
    pub const fn new(random: [u8; ID_BYTES]) -> Self {
        Self(random)
    }

    /// The bytes that it was made from.
    #[must_use]
    pub const fn bytes(&self) -> [u8; ID_BYTES] {
        self.0
    }
}

/// What a client shows to go on with its session. It is bound to that session, and good for as long
/// as the core holds it.
#[derive(Clone, Eq, PartialEq)]
pub struct Token([u8; TOKEN_BYTES]);

impl Token {
    /// As it goes to the client.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A token is a secret: whoever has it has the session.
impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// The key that tokens are signed with.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(..)")
    }
}

impl TokenKey {
    /// From secret random bytes.
    #[must_use]
    pub fn new(secret: &[u8; KEY_BYTES]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, secret))
    }

    /// The token of a session.
    #[must_use]
    pub fn sign(&self, session: SessionId) -> Token {
        let mut token = [0; TOKEN_BYTES];
        token[0] = VERSION;
        token[1..SIGNED_BYTES].copy_from_slice(&session.0);
        let tag = hmac::sign(&self.0, &token[..SIGNED_BYTES]);
        token[SIGNED_BYTES..].copy_from_slice(tag.as_ref());
        Token(token)
    }

    /// The session that a token is for; `None` if this key has not signed it. Takes the same time
    /// wherever the signature differs.
    #[must_use]
    pub fn verify(&self, token: &[u8]) -> Option<SessionId> {
        let token: &[u8; TOKEN_BYTES] = token.try_into().ok()?;
        let (signed, tag) = token.split_at(SIGNED_BYTES);
        hmac::verify(&self.0, signed, tag).ok()?;
        let (version, id) = signed.split_first()?;
        (*version == VERSION).then_some(SessionId(id.try_into().ok()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: SessionId = SessionId::new([7; ID_BYTES]);

    #[test]
    fn a_token_says_its_session_to_its_own_key_only() {
        let (ours, theirs) = (TokenKey::new(&[1; KEY_BYTES]), TokenKey::new(&[2; KEY_BYTES]));
        let token = ours.sign(ID);
        assert_eq!(ours.verify(token.as_bytes()), Some(ID));
        assert_eq!(theirs.verify(token.as_bytes()), None);
        let other = ours.sign(SessionId::new([8; ID_BYTES]));
        assert_ne!(other, token);
    }

    #[test]
    fn no_bit_of_it_can_be_changed() {
        let key = TokenKey::new(&[1; KEY_BYTES]);
        let token = key.sign(ID);
        for bit in 0..TOKEN_BYTES * 8 {
            let mut forged = token.as_bytes().to_vec();
            forged[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.verify(&forged), None, "bit {bit}");
        }
        for len in 0..TOKEN_BYTES {
            assert_eq!(key.verify(&token.as_bytes()[..len]), None, "{len} bytes");
        }
        let longer = [token.as_bytes(), &[0]].concat();
        assert_eq!(key.verify(&longer), None);
    }

    /// Signed by us, but for a version that this code does not know.
    #[test]
    fn another_version_is_not_taken_for_this_one() {
        let secret = [1; KEY_BYTES];
        let mut token = [9; TOKEN_BYTES];
        token[0] = 2;
        let raw = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let tag = hmac::sign(&raw, &token[..SIGNED_BYTES]);
        token[SIGNED_BYTES..].copy_from_slice(tag.as_ref());
        assert_eq!(TokenKey::new(&secret).verify(&token), None);
    }

    /// Computed apart from this code: Python's `hmac` module says the same.
    #[test]
    fn the_format_is_a_contract() {
        let token = TokenKey::new(&[1; KEY_BYTES]).sign(ID);
        let shown: String = token.as_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            shown,
            concat!(
                "0107070707070707070707070707070707",
                "7ddbf8f601731401c262f1a01e8ad785cb992221ab8255c2757a7dc792b57d5c"
            )
        );
        assert!(!format!("{token:?}").contains("07"), "a token is not shown");
    }
}
