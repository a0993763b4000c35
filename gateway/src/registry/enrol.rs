//! Joining: a token for an identity.

use std::net::IpAddr;
use std::sync::Arc;

use antipode_proto::registry::v1 as wire;
use antipode_runtime::clock;
use antipode_runtime::member::refusal::Refusal;
use tonic::Status;
use tracing::{error, info};

use super::{Inner, now_unix_seconds};
use crate::authority::RequestError;
use crate::member::{ProfileError, Role, check_name};
use crate::store::{EnrolError, MemberRecord, StoreError, token_hash};

/// Longest secret looked at, in bytes; ours have 43.
const SECRET_BYTES_MAX: usize = 255;

/// Why somebody may not join.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("too many attempts from this address: wait a minute")]
    TooOften,
    #[error("role is neither node nor core")]
    Role,
    #[error(transparent)]
    Name(#[from] ProfileError),
    #[error("WireGuard public key is not 32 bytes, or is no key")]
    Key,
    #[error(transparent)]
    Request(#[from] RequestError),
    #[error(transparent)]
    Enrol(#[from] EnrolError),
    #[error("the gateway failed: see its log")]
    Panicked,
}

impl Refused {
    /// `outcome` of `antipode_gateway_enrolments_total`.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::TooOften => "too_often",
            Self::Role | Self::Name(_) | Self::Key | Self::Request(_) => "malformed",
            Self::Enrol(refused) => refused.label(),
            Self::Panicked => "store",
        }
    }
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let text = refused.to_string();
        let agreed = match &refused {
            Refused::TooOften => return Self::resource_exhausted(text),
            Refused::Panicked => return Self::internal(text),
            Refused::Role | Refused::Name(_) | Refused::Key | Refused::Request(_) => {
                Some(Refusal::Malformed)
            }
            Refused::Enrol(EnrolError::Key { .. }) => return Self::already_exists(text),
            Refused::Enrol(EnrolError::Full { .. }) => return Self::resource_exhausted(text),
            Refused::Enrol(refused) => refused.refusal(),
        };
        let Some(agreed) = agreed else {
            return Self::unavailable("the gateway's store failed: see its log");
        };
        // The agreed label for members, our own words for whoever reads the status.
        let metadata = Self::from(agreed).metadata().clone();
        Self::with_metadata(agreed.code(), text, metadata)
    }
}

pub(super) async fn enrol(
    inner: &Arc<Inner>,
    source: Option<IpAddr>,
    request: wire::EnrolRequest,
) -> Result<wire::EnrolResponse, Refused> {
    if source.is_some_and(|source| !inner.sources.lock().allow(source, clock::now())) {
        return Err(Refused::TooOften);
    }
    let wire::EnrolRequest { secret, name, certificate_request, wireguard_public_key, .. } =
        &request;
    let role = Role::from_wire(request.role).ok_or(Refused::Role)?;
    check_name(name)?;
    let key = wireguard_key(wireguard_public_key)?;
    if secret.len() > SECRET_BYTES_MAX {
        return Err(EnrolError::TokenUnknown.into());
    }
    let member_id = crate::hex(&rand::random::<[u8; 10]>());
    let issued = inner.authority.sign_member(&member_id, certificate_request)?;
    let now = now_unix_seconds();
    let record = MemberRecord {
        member_id: member_id.clone(),
        name: name.clone(),
        role,
        wireguard_public_key: key,
        certificate_serial: issued.serial,
        certificate_ends_unix_seconds: issued.ends_unix_seconds,
        enrolled_unix_seconds: now,
        removed_unix_seconds: None,
        profile: None,
    };
    let (store, members_max) = (Arc::clone(&inner.store), inner.members_max);
    let (hash, enrolled) = (token_hash(secret), record.clone());
    let kept = tokio::task::spawn_blocking(move || {
        store.enrol(hash, &enrolled, members_max, now).inspect_err(report)
    });
    kept.await.map_err(|_| Refused::Panicked)??;
    info!(member = record.name, role = role.label(), member_id, "enrolled");
    inner.desk.enrolled(record);
    Ok(wire::EnrolResponse {
        member_id,
        certificate: issued.certificate.to_vec().into(),
        authority: inner.authority.certificate().to_vec().into(),
    })
}

/// A store that fails is the operator's concern, not the newcomer's.
fn report(refused: &EnrolError) {
    if let EnrolError::Store(error) = refused {
        let error: &StoreError = error;
        error!(error = error as &dyn std::error::Error, "store failed");
    }
}

/// A key of zeros is the one low-order point that a broken program sends.
fn wireguard_key(bytes: &[u8]) -> Result<[u8; 32], Refused> {
    let key: [u8; 32] = bytes.try_into().map_err(|_| Refused::Key)?;
    if key == [0; 32] { Err(Refused::Key) } else { Ok(key) }
}
