//! Why the gateway says no, in a form that both sides read the same.
//!
//! It travels as a label in the status's metadata; the status's text is for other people's clients.

use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

/// The metadata key that carries [`Refusal::label`].
pub const REFUSAL_KEY: &str = "antipode-refusal";

/// Why the gateway refuses a member.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// No token has this secret.
    #[error(
        "the gateway doesn't know this join token: make a new one there with \
         `antipode-gateway token create`"
    )]
    UnknownToken,
    /// The token's time is over.
    #[error(
        "the join token has expired: make a new one on the gateway with \
         `antipode-gateway token create`"
    )]
    TokenExpired,
    /// As many members as it was made for have joined with it.
    #[error(
        "the join token is used up: make a new one on the gateway with \
         `antipode-gateway token create`"
    )]
    TokenUsed,
    /// The token is for the other role.
    #[error(
        "the join token is for the other role: make one on the gateway with \
         `antipode-gateway token create --role node` or `--role core`"
    )]
    TokenRole,
    /// A living member has this name.
    #[error(
        "another member has this name: choose another name, or take the old one off with \
         `antipode-gateway remove NAME` on the gateway"
    )]
    NameTaken,
    /// A field of the request isn't as it should be.
    #[error("the gateway found the request malformed: use the same version as the gateway's")]
    Malformed,
    /// The call came without a member's certificate.
    #[error(
        "the gateway asks for this member's certificate: the state directory may be another \
         gateway's; move it away and join again with a new token"
    )]
    NotAMember,
    /// The member was taken off the register.
    #[error(
        "the gateway has removed this member: to join again, move its state directory away and \
         set a new token (`antipode-gateway token create` on the gateway)"
    )]
    Removed,
    /// Another process attends with the same identity; the newest counts.
    #[error(
        "another process attends with this identity: stop one of them, or give each its own state \
         directory and token"
    )]
    Superseded,
}

impl Refusal {
    /// Every refusal.
    pub const ALL: [Self; 9] = [
        Self::UnknownToken,
        Self::TokenExpired,
        Self::TokenUsed,
        Self::TokenRole,
        Self::NameTaken,
        Self::Malformed,
        Self::NotAMember,
        Self::Removed,
        Self::Superseded,
    ];

    /// Its name on the wire and in metrics; one of a fixed set.
    pub const fn label(self) -> &'static str {
        match self {
            Self::UnknownToken => "unknown_token",
            Self::TokenExpired => "token_expired",
            Self::TokenUsed => "token_used",
            Self::TokenRole => "token_role",
            Self::NameTaken => "name_taken",
            Self::Malformed => "malformed",
            Self::NotAMember => "not_a_member",
            Self::Removed => "removed",
            Self::Superseded => "superseded",
        }
    }

    /// The gRPC code for clients that know no labels.
    pub const fn code(self) -> Code {
        match self {
            Self::UnknownToken | Self::NotAMember => Code::Unauthenticated,
            Self::TokenExpired | Self::TokenUsed | Self::TokenRole => Code::FailedPrecondition,
            Self::NameTaken => Code::AlreadyExists,
            Self::Malformed => Code::InvalidArgument,
            Self::Removed => Code::PermissionDenied,
            Self::Superseded => Code::Aborted,
        }
    }

    /// Whether the same call may be taken later, with nobody doing anything about it.
    pub const fn is_retryable(self) -> bool {
        match self {
            Self::Superseded => true,
            Self::UnknownToken
            | Self::TokenExpired
            | Self::TokenUsed
            | Self::TokenRole
            | Self::NameTaken
            | Self::Malformed
            | Self::NotAMember
            | Self::Removed => false,
        }
    }

    /// The refusal that a status carries.
    pub fn of(status: &Status) -> Option<Self> {
        let label = status.metadata().get(REFUSAL_KEY)?.to_str().ok()?;
        Self::ALL.into_iter().find(|refusal| refusal.label() == label)
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let mut metadata = MetadataMap::new();
        metadata.insert(REFUSAL_KEY, MetadataValue::from_static(refusal.label()));
        Self::with_metadata(refusal.code(), refusal.to_string(), metadata)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_comes_back_from_its_status() {
        for refusal in Refusal::ALL {
            assert_eq!(Refusal::of(&Status::from(refusal)), Some(refusal));
        }
    }

    #[test]
    fn other_statuses_are_no_refusals() {
        assert_eq!(Refusal::of(&Status::permission_denied("no")), None);
        let mut odd = Status::permission_denied("no");
        odd.metadata_mut().insert(REFUSAL_KEY, MetadataValue::from_static("odd"));
        assert_eq!(Refusal::of(&odd), None);
    }
}
