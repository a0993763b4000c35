//! Why a newcomer may not join.

use antipode_runtime::member::refusal::Refusal;

use super::StoreError;
use crate::member::Role;

/// Why a newcomer may not join.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No token has this secret.
    #[error("join token is unknown: ask for a new one (antipode-gateway token create)")]
    TokenUnknown,
    /// Its time is over.
    #[error("join token has expired: ask for a new one (antipode-gateway token create)")]
    TokenExpired,
    /// As many as it was made for have joined with it.
    #[error("join token is used up: ask for a new one (antipode-gateway token create)")]
    TokenUsed,
    /// The token is for another role.
    #[error("join token is for a {}: ask for one with --role {}", token.label(), asked.label())]
    TokenRole {
        /// What the token is for.
        token: Role,
        /// What the newcomer is.
        asked: Role,
    },
    /// Another member has the name.
    #[error(
        "name {name:?} belongs to a member of this gateway: take another name, \
          or run `antipode-gateway remove {name}` first"
    )]
    Name {
        /// The name.
        name: String,
    },
    /// Another member has the key.
    #[error(
        "WireGuard key belongs to member {name:?}: members must not share keys; \
         make a new one (remove wireguard.key from the state directory)"
    )]
    Key {
        /// Whose key it is.
        name: String,
    },
    /// No room.
    #[error("this gateway has {members_max} members, its limit: remove one, or raise members_max")]
    Full {
        /// The limit.
        members_max: usize,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl EnrolError {
    /// `outcome` of `antipode_gateway_enrolments_total`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::TokenUnknown => "token_unknown",
            Self::TokenExpired => "token_expired",
            Self::TokenUsed => "token_used",
            Self::TokenRole { .. } => "token_role",
            Self::Name { .. } => "name_taken",
            Self::Key { .. } => "key_taken",
            Self::Full { .. } => "full",
            Self::Store(_) => "store",
        }
    }

    /// As the agreement with members has it, where that has a word for it.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::TokenUnknown => Some(Refusal::UnknownToken),
            Self::TokenExpired => Some(Refusal::TokenExpired),
            Self::TokenUsed => Some(Refusal::TokenUsed),
            Self::TokenRole { .. } => Some(Refusal::TokenRole),
            Self::Name { .. } => Some(Refusal::NameTaken),
            Self::Key { .. } | Self::Full { .. } | Self::Store(_) => None,
        }
    }
}
