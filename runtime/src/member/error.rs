//! What can go wrong between a member and its gateway, each with the way out.

use std::path::PathBuf;

use antipode_tunnel::KeyError;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::dial::DialError;
use super::refusal::Refusal;
use super::token::{Pin, TokenError};
use crate::clock;
use crate::secret::SecretError;

/// A program couldn't become a member.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// There is neither an identity nor a token to get one.
    #[error(
        "this {role} hasn't joined a gateway yet: run \
         `antipode-gateway token create --role {role}` on the gateway, put the token into a file \
         and name that in `member.join_token_file`"
    )]
    NoToken {
        /// `node` or `core`.
        role: &'static str,
    },
    /// The token's file can't be read.
    #[error(transparent)]
    TokenFile(#[from] SecretError),
    /// The file holds no token.
    #[error("bad join token in {}", path.display())]
    Token {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: TokenError,
    },
    /// The gateway's address in the configuration isn't `host:port`.
    #[error("the gateway's address {text:?} isn't of the form host:port")]
    Address {
        /// What stands there.
        text: String,
    },
    /// The gateway said no.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The gateway can't be reached, or isn't ours.
    #[error(transparent)]
    Dial(#[from] DialError),
    /// The call itself failed.
    #[error("the gateway at {gateway} didn't answer as a gateway does: see its log")]
    Call {
        /// Its address.
        gateway: String,
        /// What the call ended with.
        #[source]
        source: Box<tonic::Status>,
    },
    /// The gateway gave an identity that doesn't hold.
    #[error("the gateway's answer is no good ({what}): use the same version as the gateway's")]
    Answer {
        /// What doesn't hold.
        what: &'static str,
    },
    /// The state directory can't be used.
    #[error(
        "can't keep state in {}: make the directory writable to this user, or name another in \
         `member.state_dir`", path.display()
    )]
    State {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The tunnel's key can't be used.
    #[error("the tunnel's key can't be used")]
    WireGuardKey(#[source] KeyError),
    /// A file of the state directory is not what was written.
    #[error(
        "{} is damaged: restore the state directory, or move it away and join again with a new \
         token", path.display()
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
    },
    /// The state directory is another member's.
    #[error(
        "{} belongs to the {role} \"{name}\": set the name back, or give this member a state \
         directory of its own and a new token", path.display()
    )]
    OtherMember {
        /// The state directory.
        path: PathBuf,
        /// The other's role.
        role: String,
        /// The other's name.
        name: String,
    },
    /// The state directory is of another gateway than the token.
    #[error(
        "{} is from the gateway {known}, but the join token is for {wanted}: to change gateways, \
         move the state directory away; to stay, remove `member.join_token_file`", path.display()
    )]
    OtherGateway {
        /// The state directory.
        path: PathBuf,
        /// The pin of the authority there.
        known: Pin,
        /// The pin in the token.
        wanted: Pin,
    },
    /// The clock stands before the certificate begins.
    #[error(
        "this machine's clock says {}, but its certificate begins at {begins}: set the clock \
         (see `timedatectl`, and that NTP runs), then start again",
        local_time()
    )]
    ClockBehind {
        /// When the certificate begins.
        begins: String,
    },
    /// The certificate has ended.
    #[error(
        "this machine's clock says {}, and its certificate ended at {ended}: if the clock is \
         wrong, set it (see `timedatectl`, and that NTP runs); if not, move the state directory \
         away and join again with a new token",
        local_time()
    )]
    CertificateEnded {
        /// When the certificate ended.
        ended: String,
    },
    /// No key could be made.
    #[error("can't make a key")]
    Key(#[source] rcgen::Error),
}

/// Why a member can't stay one.
#[derive(Clone, Debug, thiserror::Error)]
pub enum MembershipError {
    /// The gateway took it off the register.
    #[error(
        "the gateway has removed this member (reason: {reason:?}): to join again, move {} away and \
         set a new token (`antipode-gateway token create` on the gateway)", state_dir.display()
    )]
    Removed {
        /// What the gateway said.
        reason: String,
        /// What to move away.
        state_dir: PathBuf,
    },
}

/// This machine's wall clock, as people read it.
pub(super) fn local_time() -> String {
    rfc3339(clock::unix_now().as_secs())
}

/// Seconds since 1970 as `2026-01-31T12:00:00Z`.
pub(super) fn rfc3339(unix_seconds: u64) -> String {
    i64::try_from(unix_seconds)
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .and_then(|time| time.format(&Rfc3339).ok())
        .unwrap_or_else(|| format!("{unix_seconds} s after 1970"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_readable() {
        assert_eq!(rfc3339(1_800_000_000), "2027-01-15T08:00:00Z");
        assert_eq!(rfc3339(u64::MAX), "18446744073709551615 s after 1970");
    }
}
