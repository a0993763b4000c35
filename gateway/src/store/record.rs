//! What the store holds, as written: JSON, so that a dump can be read by people.

use serde::{Deserialize, Serialize};

use crate::member::{Profile, Role};

/// A join token, under the hash of its secret.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct TokenRecord {
    /// What may join with it.
    pub role: Role,
    /// How many members may still join with it.
    pub uses_left: u32,
    /// When it ends.
    pub expires_unix_seconds: u64,
}

/// A member, from its enrolment until its last certificate has ended.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct MemberRecord {
    /// Its identity, unique for ever.
    pub member_id: String,
    /// Its name, unique among members that are not removed.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Its WireGuard public key, 32 bytes.
    pub wireguard_public_key: [u8; 32],
    /// The serial number of its latest certificate.
    pub certificate_serial: String,
    /// When its latest certificate ends.
    pub certificate_ends_unix_seconds: u64,
    /// When it joined.
    pub enrolled_unix_seconds: u64,
    /// When it was removed; its certificates are worth nothing since.
    pub removed_unix_seconds: Option<u64>,
    /// What it last said of itself; kept, so that a gateway that starts again knows its members'
    /// endpoints before they come back.
    pub profile: Option<Profile>,
}

impl MemberRecord {
    /// Whether it belongs to the system.
    #[must_use]
    pub fn is_member(&self) -> bool {
        self.removed_unix_seconds.is_none()
    }
}
