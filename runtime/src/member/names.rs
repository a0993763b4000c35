//! The fixed names in certificates, and which names members and regions may have.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The name in the gateway's server certificate, whatever address it is reached at.
pub const GATEWAY_NAME: &str = "gateway.antipode";
/// What follows a member's id in the name of its certificate.
pub const MEMBER_SUFFIX: &str = ".member.antipode";
/// The ALPN protocol of a trunk.
pub const TRUNK_ALPN: &[u8] = b"antipode-trunk/1";
/// The longest member id: a label of a DNS name
/// ([RFC 1035 §2.3.4](https://www.rfc-editor.org/rfc/rfc1035#section-2.3.4)).
pub const MEMBER_ID_LEN_MAX: usize = 63;

/// The common name and DNS name of a member's certificate.
pub fn member_name(member_id: &str) -> String {
    format!("{member_id}{MEMBER_SUFFIX}")
}

/// The id in such a name; `None` for any other name.
pub fn member_id_in(name: &str) -> Option<&str> {
    name.strip_suffix(MEMBER_SUFFIX).filter(|id| is_member_id(id))
}

/// Whether a text may be a member's id: 1 to 63 of `[a-z0-9-]`.
pub fn is_member_id(text: &str) -> bool {
    (1..=MEMBER_ID_LEN_MAX).contains(&text.len()) && text.bytes().all(is_label_byte)
}

/// A member's name or a region's code: 1 to 32 of `[a-z0-9-]`, so it is safe as a metric label.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct Label(String);

/// A text is no [`Label`].
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{text:?} is not 1 to 32 of a-z, 0-9 and \"-\"")]
pub struct LabelError {
    /// The text, cut to what a message can bear.
    text: String,
}

impl Label {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        if (1..=32).contains(&text.len()) && text.bytes().all(is_label_byte) {
            return Ok(Self(text.to_owned()));
        }
        Err(LabelError { text: text.chars().take(40).collect() })
    }
}

impl TryFrom<String> for Label {
    type Error = LabelError;

    fn try_from(text: String) -> Result<Self, LabelError> {
        text.parse()
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

const fn is_label_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_round_trip() {
        assert_eq!(member_name("n-7"), "n-7.member.antipode");
        assert_eq!(member_id_in("n-7.member.antipode"), Some("n-7"));
    }

    #[test]
    fn other_names_hold_no_id() {
        for name in [
            "gateway.antipode",
            ".member.antipode",
            "a.b.member.antipode",
            "N.member.antipode",
            "*.member.antipode",
            "n-7.member.antipode.example",
        ] {
            assert_eq!(member_id_in(name), None, "{name}");
        }
        assert!(is_member_id(&"a".repeat(63)));
        assert!(!is_member_id(&"a".repeat(64)));
    }

    #[test]
    fn labels_are_short_and_plain() {
        for good in ["a", "ap-southeast-1", &"x".repeat(32)] {
            assert_eq!(good.parse::<Label>().unwrap().as_str(), good);
        }
        for bad in ["", "A", "a b", "a.b", "é", &"x".repeat(33)] {
            assert!(bad.parse::<Label>().is_err(), "{bad}");
        }
    }
}
