//! Who a member is: its keys, made here and never sent, and what the gateway certified.
//!
//! | file | holds |
//! |---|---|
//! | `wireguard.key` | the tunnel's private key |
//! | `tls.key` | the private key of the certificate, PKCS #8 |
//! | `member.crt` | the certificate; replaced at each renewal |
//! | `authority.crt` | the gateway's authority |
//! | `member.json` | id, name, role and gateway; written last, so its presence means joined |

use std::path::{Path, PathBuf};
use std::sync::Arc;

use antipode_proto::registry::v1::Role;
use antipode_tunnel::PrivateKey;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::RwLock;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde::{Deserialize, Serialize};

use super::error::JoinError;
use super::tls::member_id_of;
use super::token::Pin;
use crate::crypto;
use crate::state_file::{make_private_dir, read_optional, write_atomic};

const FACTS_FILE: &str = "member.json";
const CERTIFICATE_FILE: &str = "member.crt";
const AUTHORITY_FILE: &str = "authority.crt";
const TLS_KEY_FILE: &str = "tls.key";
const WIREGUARD_KEY_FILE: &str = "wireguard.key";

/// A member's identity. Clones share it, and see renewals.
#[derive(Clone, Debug)]
pub struct Identity {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    facts: Facts,
    keys: Keys,
    authority: CertificateDer<'static>,
    pin: Pin,
    certified: RwLock<Certified>,
}

/// A certificate with its key, and when it holds.
#[derive(Clone, Debug)]
struct Certified {
    key: Arc<CertifiedKey>,
    validity: Validity,
}

/// When a certificate holds, in seconds since 1970.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Validity {
    /// From then on.
    pub begins_unix_seconds: u64,
    /// Until then.
    pub ends_unix_seconds: u64,
}

/// `member.json`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Facts {
    pub(super) member_id: String,
    pub(super) name: String,
    pub(super) role: String,
    pub(super) gateway: String,
}

/// What the gateway certifies.
pub(super) struct Keys {
    pub(super) wireguard: PrivateKey,
    tls: KeyPair,
    state_dir: PathBuf,
}

impl Identity {
    /// The name under which the gateway knows this member for good.
    pub fn member_id(&self) -> &str {
        &self.inner.facts.member_id
    }

    /// The name that people gave it.
    pub fn name(&self) -> &str {
        &self.inner.facts.name
    }

    /// The gateway's `host:port`.
    pub fn gateway(&self) -> &str {
        &self.inner.facts.gateway
    }

    /// The tunnel's key.
    pub fn wireguard_key(&self) -> &PrivateKey {
        &self.inner.keys.wireguard
    }

    /// The certificate of the gateway's authority.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.inner.authority
    }

    /// The pin of the gateway's authority.
    pub fn authority_pin(&self) -> Pin {
        self.inner.pin
    }

    /// The certificate with its key, as it is now: a renewal replaces it.
    pub fn certified_key(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.inner.certified.read().key)
    }

    /// When the current certificate holds.
    pub fn validity(&self) -> Validity {
        self.inner.certified.read().validity
    }

    /// Where its files are.
    pub fn state_dir(&self) -> &Path {
        &self.inner.keys.state_dir
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.inner.facts
    }

    /// The request for a certificate on the same key.
    pub(super) fn certificate_request(&self) -> Result<Vec<u8>, JoinError> {
        self.inner.keys.certificate_request(self.name())
    }

    /// Takes and stores a new certificate, if it is for this member and its key.
    pub(super) fn replace_certificate(&self, der: Vec<u8>) -> Result<(), JoinError> {
        let certificate = CertificateDer::from(der);
        let certified = certify(&self.inner.keys, &certificate, self.member_id())
            .map_err(|what| JoinError::Answer { what })?;
        write(&self.inner.keys.state_dir, CERTIFICATE_FILE, &pem_of(&certificate))?;
        *self.inner.certified.write() = certified;
        Ok(())
    }

    /// Loads the identity in `state_dir`; `None` if no member has joined from there.
    pub(super) fn load(state_dir: &Path) -> Result<Option<Self>, JoinError> {
        let damaged = |file: &str| JoinError::Damaged { path: state_dir.join(file) };
        let Some(facts) = read(state_dir, FACTS_FILE)? else { return Ok(None) };
        let facts: Facts = serde_json::from_slice(&facts).map_err(|_| damaged(FACTS_FILE))?;
        let keys = Keys::load_or_make(state_dir)?;
        let certificate = read_certificate(state_dir, CERTIFICATE_FILE)?;
        let authority = read_certificate(state_dir, AUTHORITY_FILE)?;
        let identity = Self::assemble(facts, keys, &certificate, authority);
        identity.map(Some).map_err(|_| damaged(CERTIFICATE_FILE))
    }

    /// Stores a fresh identity, its facts last.
    pub(super) fn create(
        facts: Facts,
        keys: Keys,
        certificate: &CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, JoinError> {
        let dir = keys.state_dir.clone();
        let identity = Self::assemble(facts, keys, certificate, authority)
            .map_err(|what| JoinError::Answer { what })?;
        write(&dir, AUTHORITY_FILE, &pem_of(identity.authority()))?;
        write(&dir, CERTIFICATE_FILE, &pem_of(certificate))?;
        identity.store_facts()?;
        Ok(identity)
    }

    /// The same identity, whose gateway is at `gateway` from now on.
    pub(super) fn moved_to(self, gateway: String) -> Result<Self, JoinError> {
        let mut inner = Arc::into_inner(self.inner).expect("moved before it was shared");
        inner.facts.gateway = gateway;
        let moved = Self { inner: Arc::new(inner) };
        moved.store_facts()?;
        Ok(moved)
    }

    fn store_facts(&self) -> Result<(), JoinError> {
        let facts = serde_json::to_vec_pretty(self.facts()).expect("four strings make JSON");
        write(self.state_dir(), FACTS_FILE, &facts)
    }

    fn assemble(
        facts: Facts,
        keys: Keys,
        certificate: &CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, &'static str> {
        let pin = Pin::of(&authority).map_err(|_| "authority")?;
        RootCertStore::empty().add(authority.clone()).map_err(|_| "authority")?;
        let certified = certify(&keys, certificate, &facts.member_id)?;
        let certified = RwLock::new(certified);
        Ok(Self { inner: Arc::new(Inner { facts, keys, authority, pin, certified }) })
    }
}

impl Keys {
    /// The keys in `state_dir`, made if they aren't there.
    pub(super) fn load_or_make(state_dir: &Path) -> Result<Self, JoinError> {
        make_private_dir(state_dir).map_err(state_error(state_dir))?;
        let wireguard = PrivateKey::load_or_generate(&state_dir.join(WIREGUARD_KEY_FILE))
            .map_err(JoinError::WireGuardKey)?;
        let tls = match read(state_dir, TLS_KEY_FILE)? {
            Some(pem) => {
                let damaged = || JoinError::Damaged { path: state_dir.join(TLS_KEY_FILE) };
                let text = std::str::from_utf8(&pem).map_err(|_| damaged())?;
                KeyPair::from_pem(text).map_err(|_| damaged())?
            }
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(JoinError::Key)?;
                write(state_dir, TLS_KEY_FILE, key.serialize_pem().as_bytes())?;
                key
            }
        };
        Ok(Self { wireguard, tls, state_dir: state_dir.to_owned() })
    }

    /// A PKCS #10 request; the gateway takes the key from it and nothing else.
    pub(super) fn certificate_request(&self, name: &str) -> Result<Vec<u8>, JoinError> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        let request = params.serialize_request(&self.tls).map_err(JoinError::Key)?;
        Ok(request.der().to_vec())
    }
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Keys").field("state_dir", &self.state_dir).finish_non_exhaustive()
    }
}

/// The word for a role in files and messages.
pub(super) const fn role_word(role: Role) -> &'static str {
    match role {
        Role::Unspecified => "member",
        Role::Node => "node",
        Role::Core => "core",
    }
}

/// Checks that `certificate` is for `member_id` and for our key.
fn certify(
    keys: &Keys,
    certificate: &CertificateDer<'static>,
    member_id: &str,
) -> Result<Certified, &'static str> {
    if member_id_of(certificate).is_none_or(|id| id != member_id) {
        return Err("certificate's name");
    }
    let validity = validity_of(certificate).ok_or("certificate's validity")?;
    let key = PrivateKeyDer::try_from(keys.tls.serialize_der()).map_err(|_| "key")?;
    let key = CertifiedKey::from_der(vec![certificate.clone()], key, &crypto::provider())
        .map_err(|_| "certificate's key")?;
    Ok(Certified { key: Arc::new(key), validity })
}

fn validity_of(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let validity = parsed.validity();
    Some(Validity {
        begins_unix_seconds: u64::try_from(validity.not_before.timestamp()).ok()?,
        ends_unix_seconds: u64::try_from(validity.not_after.timestamp()).ok()?,
    })
}

fn read_certificate(dir: &Path, file: &str) -> Result<CertificateDer<'static>, JoinError> {
    let pem = read(dir, file)?.unwrap_or_default();
    CertificateDer::from_pem_slice(&pem).map_err(|_| JoinError::Damaged { path: dir.join(file) })
}

fn read(dir: &Path, file: &str) -> Result<Option<Vec<u8>>, JoinError> {
    let path = dir.join(file);
    read_optional(&path).map_err(state_error(&path))
}

fn write(dir: &Path, file: &str, bytes: &[u8]) -> Result<(), JoinError> {
    let path = dir.join(file);
    write_atomic(&path, bytes).map_err(state_error(&path))
}

fn state_error(path: &Path) -> impl FnOnce(std::io::Error) -> JoinError {
    let path = path.to_owned();
    move |source| JoinError::State { path, source }
}

/// [RFC 7468](https://www.rfc-editor.org/rfc/rfc7468): base64 in lines of 64 characters.
pub(super) fn pem_of(certificate: &CertificateDer<'_>) -> Vec<u8> {
    let mut pem = b"-----BEGIN CERTIFICATE-----\n".to_vec();
    for line in STANDARD.encode(certificate).as_bytes().chunks(64) {
        pem.extend_from_slice(line);
        pem.push(b'\n');
    }
    pem.extend_from_slice(b"-----END CERTIFICATE-----\n");
    pem
}
