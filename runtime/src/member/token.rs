//! The join token: where the gateway is, how to know it, and the secret it will ask for.
//!
//! Its text is `antipode-join-v1.` and base64url of: pin (32 bytes), length of the secret (1 byte),
//! secret, gateway's address, checksum (4 bytes). The checksum tells a token that was copied badly
//! from one that the gateway doesn't know.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::CertificateDer;
use secrecy::{ExposeSecret, SecretString};
use sha2::{Digest, Sha256};

const PREFIX: &str = "antipode-join-v1.";
const PIN_LEN: usize = 32;
const CHECKSUM_LEN: usize = 4;
/// The longest host name with its port
/// ([RFC 1035 §2.3.4](https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4)).
const GATEWAY_LEN_MAX: usize = 255 + 6;

/// SHA-256 of an authority's `SubjectPublicKeyInfo`, so it stays when its certificate is renewed.
#[derive(Clone, Copy, Eq, PartialEq)]
pub struct Pin([u8; PIN_LEN]);

/// What a joining member needs to know.
#[derive(Clone)]
pub struct JoinToken {
    gateway: String,
    pin: Pin,
    secret: SecretString,
}

/// A text is no join token, or a token can't be made.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TokenError {
    /// Something else altogether.
    #[error(
        "this is no join token: it should begin with \"{PREFIX}\"; make one with \
         `antipode-gateway token create`"
    )]
    NotAToken,
    /// A token of a later release.
    #[error(
        "the join token has a form this version doesn't know: use the same version as the gateway's"
    )]
    UnknownVersion,
    /// Cut short or changed on its way.
    #[error(
        "the join token is damaged: copy the whole line that \
         `antipode-gateway token create` printed"
    )]
    Damaged,
    /// The secret is empty or longer than 255 bytes.
    #[error("a join token's secret has 1 to 255 bytes")]
    BadSecret,
    /// The gateway's address isn't `host:port`.
    #[error("the gateway's address isn't of the form host:port")]
    BadGateway,
}

/// A certificate can't be read.
#[derive(Debug, thiserror::Error)]
#[error("not an X.509 certificate")]
pub struct PinError;

impl Pin {
    /// The pin of `certificate`.
    ///
    /// # Errors
    ///
    /// When it is no certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PinError> {
        let (rest, parsed) =
            x509_parser::parse_x509_certificate(certificate).map_err(|_| PinError)?;
        if !rest.is_empty() {
            return Err(PinError);
        }
        Ok(Self::of_public_key_info(parsed.public_key().raw))
    }

    /// The pin of an authority whose `SubjectPublicKeyInfo` has this DER.
    pub fn of_public_key_info(der: &[u8]) -> Self {
        Self(Sha256::digest(der).into())
    }
}

impl From<[u8; PIN_LEN]> for Pin {
    fn from(sha256: [u8; PIN_LEN]) -> Self {
        Self(sha256)
    }
}

impl fmt::Display for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256/")?;
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pin({self})")
    }
}

impl JoinToken {
    /// Makes a token for the gateway at `gateway` (`host:port`).
    ///
    /// # Errors
    ///
    /// When the address or the secret doesn't fit a token.
    pub fn new(gateway: String, pin: Pin, secret: SecretString) -> Result<Self, TokenError> {
        if !is_host_port(&gateway) {
            return Err(TokenError::BadGateway);
        }
        if !(1..=255).contains(&secret.expose_secret().len()) {
            return Err(TokenError::BadSecret);
        }
        Ok(Self { gateway, pin, secret })
    }

    /// The gateway's `host:port`.
    pub fn gateway(&self) -> &str {
        &self.gateway
    }

    /// What the gateway's authority must be.
    pub const fn pin(&self) -> Pin {
        self.pin
    }

    /// What `Enrol` asks for.
    pub const fn secret(&self) -> &SecretString {
        &self.secret
    }

    /// The token's text: a secret, to be printed once for the operator who asked for it.
    pub fn expose(&self) -> SecretString {
        let secret = self.secret.expose_secret().as_bytes();
        let mut payload = self.pin.0.to_vec();
        payload.push(u8::try_from(secret.len()).expect("checked when the token was made"));
        payload.extend_from_slice(secret);
        payload.extend_from_slice(self.gateway.as_bytes());
        payload.extend_from_slice(&checksum(&payload));
        SecretString::from(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(payload)))
    }
}

impl FromStr for JoinToken {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        let text = text.trim();
        let Some(encoded) = text.strip_prefix(PREFIX) else {
            let later = text.starts_with("antipode-join-v");
            return Err(if later { TokenError::UnknownVersion } else { TokenError::NotAToken });
        };
        let payload = URL_SAFE_NO_PAD.decode(encoded).map_err(|_| TokenError::Damaged)?;
        let parsed = split(&payload).ok_or(TokenError::Damaged)?;
        let secret = SecretString::from(parsed.secret);
        Self::new(parsed.gateway.to_owned(), parsed.pin, secret)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("gateway", &self.gateway)
            .field("pin", &self.pin)
            .finish_non_exhaustive()
    }
}

/// Whether a text is `host:port`, with an IPv6 address in brackets.
pub fn is_host_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else { return false };
    let host_ok = match host.strip_prefix('[') {
        Some(rest) => {
            rest.strip_suffix(']').is_some_and(|v6| v6.parse::<std::net::Ipv6Addr>().is_ok())
        }
        None => {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
        }
    };
    host_ok && text.len() <= GATEWAY_LEN_MAX && port.parse::<u16>().is_ok_and(|port| port != 0)
}

struct Parts<'a> {
    pin: Pin,
    secret: &'a str,
    gateway: &'a str,
}

fn split(payload: &[u8]) -> Option<Parts<'_>> {
    let (content, sum) = payload.split_last_chunk::<CHECKSUM_LEN>()?;
    if *sum != checksum(content) {
        return None;
    }
    let (pin, rest) = content.split_first_chunk::<PIN_LEN>()?;
    let (len, rest) = rest.split_first()?;
    let (secret, gateway) = rest.split_at_checked(usize::from(*len))?;
    Some(Parts {
        pin: Pin(*pin),
        secret: std::str::from_utf8(secret).ok()?,
        gateway: std::str::from_utf8(gateway).ok()?,
    })
}

fn checksum(content: &[u8]) -> [u8; CHECKSUM_LEN] {
    let digest: [u8; 32] = Sha256::digest(content).into();
    std::array::from_fn(|at| digest[at])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn token() -> JoinToken {
        let secret = SecretString::from("s3cret-of-the-token");
        JoinToken::new("gw.example:7443".into(), Pin([7; 32]), secret).unwrap()
    }

    /// Released tokens are in people's files: this text must parse for ever.
    #[test]
    fn golden_text() {
        let golden = "antipode-join-v1.BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcTczNjcmV0LW9mLXRo\
             ZS10b2tlbmd3LmV4YW1wbGU6NzQ0M37FqE4";
        assert_eq!(token().expose().expose_secret(), golden);
        let parsed: JoinToken = format!(" {golden}\n").parse().unwrap();
        assert_eq!(parsed.gateway(), "gw.example:7443");
        assert_eq!(parsed.pin(), Pin([7; 32]));
        assert_eq!(parsed.secret().expose_secret(), "s3cret-of-the-token");
    }

    #[test]
    fn debug_hides_the_secret() {
        let shown = format!("{:?}", token());
        assert!(!shown.contains("s3cret"), "{shown}");
        assert!(shown.contains("gw.example:7443"), "{shown}");
    }

    #[test]
    fn each_mistake_has_its_word() {
        let text = token().expose();
        let text = text.expose_secret();
        check("a password", "hunter2", TokenError::NotAToken);
        check("a later form", "antipode-join-v2.AAAA", TokenError::UnknownVersion);
        check("no base64", &format!("{PREFIX}not base64"), TokenError::Damaged);
        check("empty", PREFIX, TokenError::Damaged);
        check("cut short", &text[..text.len() - 1], TokenError::Damaged);
        let changed = text.replace("BwcH", "BwcI");
        check("changed", &changed, TokenError::Damaged);
    }

    #[test]
    fn addresses_have_host_and_port() {
        for good in ["a:1", "gw.example:7443", "10.0.0.1:80", "[::1]:7443"] {
            assert!(is_host_port(good), "{good}");
        }
        for bad in
            ["", "a", "a:", ":1", "a:0", "a:65536", "::1:7443", "[x]:1", "a b:1", "https://a:1"]
        {
            assert!(!is_host_port(bad), "{bad}");
        }
    }

    #[track_caller]
    fn check(what: &str, text: &str, expected: TokenError) {
        assert_eq!(text.parse::<JoinToken>().unwrap_err(), expected, "{what}");
    }

    proptest! {
        #[test]
        fn any_token_round_trips(secret in "[ -~]{1,255}", pin: [u8; 32], port in 1_u16..) {
            let gateway = format!("gw-1.example:{port}");
            let hidden = SecretString::from(secret.clone());
            let token = JoinToken::new(gateway.clone(), Pin(pin), hidden);
            let text = token.unwrap().expose();
            let parsed: JoinToken = text.expose_secret().parse().unwrap();
            prop_assert_eq!(parsed.gateway(), gateway);
            prop_assert_eq!(parsed.pin(), Pin(pin));
            prop_assert_eq!(parsed.secret().expose_secret(), secret);
        }

        #[test]
        fn no_text_panics(text in ".*", tail in "[A-Za-z0-9_-]{0,200}") {
            let _ = text.parse::<JoinToken>();
            let _ = format!("{PREFIX}{tail}").parse::<JoinToken>();
        }
    }
}
