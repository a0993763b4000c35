//! Becoming a member: from the state directory, or by trading the join token for an identity.

use std::path::Path;
use std::time::Duration;

use antipode_proto::registry::v1::EnrolRequest;
use antipode_proto::registry::v1::registry_client::RegistryClient;
use rustls::pki_types::CertificateDer;
use secrecy::ExposeSecret;
use tokio::time::timeout;
use tonic::Status;
use tracing::{info, warn};

use super::dial::{ALPN, DialError, dial};
use super::error::{JoinError, rfc3339};
use super::identity::{Facts, Identity, Keys, role_word};
use super::names::is_member_id;
use super::pinned;
use super::refusal::Refusal;
use super::token::{JoinToken, Pin, is_host_port};
use super::{MemberConfig, Timings};
use crate::backoff::Backoff;
use crate::clock;
use crate::secret::read_secret_file;
use crate::telemetry::chain;

/// The identity of the member that `config` describes.
pub(super) async fn load_or_enrol(config: &MemberConfig) -> Result<Identity, JoinError> {
    if let Some(text) = config.gateway.as_ref().filter(|text| !is_host_port(text)) {
        return Err(JoinError::Address { text: text.clone() });
    }
    if let Some(identity) = Identity::load(&config.state_dir)? {
        let identity = check_loaded(identity, config)?;
        info!(member_id = identity.member_id(), gateway = identity.gateway(), "identity loaded");
        return Ok(identity);
    }
    let role = role_word(config.role);
    let path = config.join_token_file.as_ref().ok_or(JoinError::NoToken { role })?;
    let token = read_token(path)?;
    let keys = Keys::load_or_make(&config.state_dir)?;
    let identity = enrol(config, &token, keys).await?;
    info!(member_id = identity.member_id(), gateway = identity.gateway(), "joined");
    Ok(identity)
}

/// Whether a stored identity is the configured member's, and holds now.
fn check_loaded(identity: Identity, config: &MemberConfig) -> Result<Identity, JoinError> {
    let facts = identity.facts();
    if facts.name != config.name.as_str() || facts.role != role_word(config.role) {
        return Err(JoinError::OtherMember {
            path: config.state_dir.clone(),
            role: facts.role.clone(),
            name: facts.name.clone(),
        });
    }
    let (validity, now) = (identity.validity(), clock::unix_now().as_secs());
    if now < validity.begins_unix_seconds {
        return Err(JoinError::ClockBehind { begins: rfc3339(validity.begins_unix_seconds) });
    }
    if now > validity.ends_unix_seconds {
        return Err(JoinError::CertificateEnded { ended: rfc3339(validity.ends_unix_seconds) });
    }
    let gateway = current_gateway(&identity, config)?;
    match gateway {
        Some(gateway) if gateway != identity.gateway() => identity.moved_to(gateway),
        Some(_) | None => Ok(identity),
    }
}

/// Where the configuration says the gateway is; a token left in place must be the same gateway's.
fn current_gateway(
    identity: &Identity,
    config: &MemberConfig,
) -> Result<Option<String>, JoinError> {
    // The token was of use once; that it is gone or spoilt since is no reason to stop.
    let token = config.join_token_file.as_ref().and_then(|path| read_token(path).ok());
    if let Some(token) = &token
        && token.pin() != identity.authority_pin()
    {
        return Err(JoinError::OtherGateway {
            path: config.state_dir.clone(),
            known: identity.authority_pin(),
            wanted: token.pin(),
        });
    }
    let in_token = || token.map(|token| token.gateway().to_owned());
    Ok(config.gateway.clone().or_else(in_token))
}

fn read_token(path: &Path) -> Result<JoinToken, JoinError> {
    let text = read_secret_file(path)?;
    let token = text.expose_secret().parse();
    token.map_err(|source| JoinError::Token { path: path.to_owned(), source })
}

async fn enrol(
    config: &MemberConfig,
    token: &JoinToken,
    keys: Keys,
) -> Result<Identity, JoinError> {
    let gateway = config.gateway.clone().unwrap_or_else(|| token.gateway().to_owned());
    let request = EnrolRequest {
        secret: token.secret().expose_secret().to_owned(),
        role: config.role.into(),
        name: config.name.to_string(),
        certificate_request: keys.certificate_request(config.name.as_str())?.into(),
        wireguard_public_key: keys.wireguard.public_key().as_bytes().to_vec().into(),
    };
    let mut backoff = Backoff::new(config.timings.retry);
    let give_up = clock::now() + config.join_patience;
    let answer = loop {
        let error = match ask(&gateway, token.pin(), &request, config.timings).await {
            Ok(answer) => break answer,
            Err(error) => error,
        };
        let delay = backoff.next_delay(&mut rand::rng());
        if !is_retryable(&error) || clock::now() + delay > give_up {
            return Err(error);
        }
        warn!(error = chain(&error), retry_in_ms = delay.as_millis(), "can't join yet");
        tokio::time::sleep(delay).await;
    };
    if !is_member_id(&answer.member_id) {
        return Err(JoinError::Answer { what: "member id" });
    }
    let authority = CertificateDer::from(answer.authority.to_vec());
    if Pin::of(&authority).ok() != Some(token.pin()) {
        return Err(JoinError::Answer { what: "authority" });
    }
    let facts = Facts {
        member_id: answer.member_id,
        name: config.name.to_string(),
        role: role_word(config.role).to_owned(),
        gateway,
    };
    let certificate = CertificateDer::from(answer.certificate.to_vec());
    Identity::create(facts, keys, &certificate, authority)
}

async fn ask(
    gateway: &str,
    pin: Pin,
    request: &EnrolRequest,
    timings: Timings,
) -> Result<antipode_proto::registry::v1::EnrolResponse, JoinError> {
    let channel = dial(gateway, pinned::client_config(pin, ALPN), timings.dial).await?;
    let mut client = RegistryClient::new(channel);
    let answer = client.enrol(request.clone());
    match within(timings.answer, answer).await {
        Ok(response) => Ok(response.into_inner()),
        Err(status) => Err(refused(gateway, status)),
    }
}

/// The call's outcome, or a status that says it took too long.
pub(super) async fn within<T>(
    patience: Duration,
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let late = || Status::deadline_exceeded("no answer in time");
    timeout(patience, call).await.unwrap_or_else(|_| Err(late()))
}

fn refused(gateway: &str, status: Status) -> JoinError {
    Refusal::of(&status).map_or_else(
        || JoinError::Call { gateway: gateway.to_owned(), source: Box::new(status) },
        JoinError::Refused,
    )
}

/// Whether joining may work later with nobody doing anything about it here.
fn is_retryable(error: &JoinError) -> bool {
    match error {
        JoinError::Dial(error) => DialError::is_retryable(error),
        JoinError::Refused(refusal) => refusal.is_retryable(),
        JoinError::Call { .. } => true,
        JoinError::NoToken { .. }
        | JoinError::TokenFile(_)
        | JoinError::Token { .. }
        | JoinError::Address { .. }
        | JoinError::Answer { .. }
        | JoinError::State { .. }
        | JoinError::WireGuardKey(_)
        | JoinError::Damaged { .. }
        | JoinError::OtherMember { .. }
        | JoinError::OtherGateway { .. }
        | JoinError::ClockBehind { .. }
        | JoinError::CertificateEnded { .. }
        | JoinError::Key(_) => false,
    }
}
