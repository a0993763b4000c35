//! The gateway's own certificate authority: made at first start, it says who is who.
//!
//! It signs two kinds of certificate: the gateway's own, for the name [`GATEWAY_NAME`], and the
//! members', for [`member_name`]. From a member's request only the public key is
//! taken; everything else is the gateway's word.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::member::names::{GATEWAY_NAME, member_name};
use antipode_runtime::member::token::Pin;
use antipode_runtime::{clock, crypto, state_file};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, SerialNumber,
};
use rustls::sign::CertifiedKey;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use time::OffsetDateTime;

/// How long a certificate is good. A member renews in the last third.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_hours(90 * 24);

/// Largest certificate request taken, in bytes. A P-256 request has about 300.
pub const REQUEST_BYTES_MAX: usize = 4096;

/// The authority's own certificate outlives every gateway host.
const AUTHORITY_LIFETIME: Duration = Duration::from_hours(20 * 365 * 24);

/// Certificates start this long ago, for members whose clock is behind.
const BACKDATE: Duration = Duration::from_hours(24);

const KEY_FILE: &str = "authority.key";
const CERTIFICATE_FILE: &str = "authority.crt";

/// The authority: its certificate and the key that signs.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pin: Pin,
}

/// A certificate made for a member.
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub certificate: CertificateDer<'static>,
    /// Its serial number, in hexadecimal digits.
    pub serial: String,
    /// When it ends.
    pub ends_unix_seconds: u64,
}

/// Why the authority can't be had or a certificate not be made.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A file can't be read or written.
    #[error("authority file {path} can't be used: check state_dir and its permissions")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// One of the two files is there without the other.
    #[error(
        "{path} is missing beside its other half: restore both from a backup, \
          or remove both and enrol every member again"
    )]
    Half {
        /// The missing file.
        path: PathBuf,
    },
    /// Key or certificate is broken.
    #[error(
        "{path} is broken: restore authority.key and authority.crt from a backup, \
          or remove both and enrol every member again"
    )]
    Broken {
        /// The file.
        path: PathBuf,
    },
    /// The cryptographic library refused.
    #[error("certificate can't be made")]
    Sign(#[source] rcgen::Error),
    /// TLS refused the gateway's own certificate.
    #[error("the gateway's own certificate can't be used")]
    Own(#[source] rustls::Error),
}

/// Why a certificate request is refused.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// Longer than [`REQUEST_BYTES_MAX`].
    #[error("certificate request of {len} bytes exceeds the limit of {REQUEST_BYTES_MAX}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// It doesn't parse, or its signature isn't by its own key.
    #[error("certificate request is malformed or not signed by its own key")]
    Malformed(#[source] rcgen::Error),
    /// Signing went wrong at our end.
    #[error("certificate can't be made")]
    Sign(#[source] rcgen::Error),
}

impl Authority {
    /// Reads the authority from `state_dir`, or makes one at first start.
    ///
    /// # Errors
    ///
    /// If a file can't be read, written or understood.
    pub fn open(state_dir: &Path) -> Result<Self, AuthorityError> {
        let key_path = state_dir.join(KEY_FILE);
        let certificate_path = state_dir.join(CERTIFICATE_FILE);
        match (read(&key_path)?, read(&certificate_path)?) {
            (Some(key), Some(certificate)) => {
                Self::parse(&key, &certificate, &key_path, &certificate_path)
            }
            (None, None) => Self::make(&key_path, &certificate_path),
            (None, Some(_)) => Err(AuthorityError::Half { path: key_path }),
            (Some(_), None) => Err(AuthorityError::Half { path: certificate_path }),
        }
    }

    /// The authority's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// What a join token carries, so that a newcomer knows this authority.
    #[must_use]
    pub fn pin(&self) -> Pin {
        self.pin
    }

    /// The gateway's own key and chain, fresh.
    ///
    /// # Errors
    ///
    /// If the cryptographic library refuses.
    pub fn gateway_certificate(&self) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Sign)?;
        let (params, ..) = leaf(GATEWAY_NAME, ExtendedKeyUsagePurpose::ServerAuth)
            .map_err(AuthorityError::Sign)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Sign)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        CertifiedKey::from_der(chain, key, &crypto::provider())
            .map(Arc::new)
            .map_err(AuthorityError::Own)
    }

    /// Signs a member's certificate. Only the public key of `request` is used.
    ///
    /// # Errors
    ///
    /// If the request is too long, malformed, or not signed by its own key.
    pub fn sign_member(&self, member_id: &str, request: &[u8]) -> Result<Issued, RequestError> {
        if request.len() > REQUEST_BYTES_MAX {
            return Err(RequestError::TooLong { len: request.len() });
        }
        let request = CertificateSigningRequestDer::from(request.to_vec());
        let request =
            CertificateSigningRequestParams::from_der(&request).map_err(RequestError::Malformed)?;
        let name = member_name(member_id);
        let (mut params, serial, ends) =
            leaf(&name, ExtendedKeyUsagePurpose::ClientAuth).map_err(RequestError::Sign)?;
        // A member plays both sides: it calls the gateway, and trunks end at either end.
        params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
        let certificate =
            params.signed_by(&request.public_key, &self.issuer).map_err(RequestError::Sign)?;
        let ends_unix_seconds = u64::try_from(ends.unix_timestamp()).unwrap_or_default();
        Ok(Issued { certificate: certificate.der().clone(), serial, ends_unix_seconds })
    }

    fn make(key_path: &Path, certificate_path: &Path) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate().map_err(AuthorityError::Sign)?;
        let mut params = CertificateParams::default();
        params.distinguished_name = common_name("Antipode gateway authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        params.not_before = OffsetDateTime::UNIX_EPOCH + clock::unix_now() - BACKDATE;
        params.not_after = params.not_before + AUTHORITY_LIFETIME;
        params.serial_number = Some(SerialNumber::from_slice(&serial()));
        let certificate = params.self_signed(&key).map_err(AuthorityError::Sign)?;

        // The certificate last: with a key alone the next start says what is wrong.
        write(key_path, key.serialize_pem().as_bytes())?;
        write(certificate_path, certificate.pem().as_bytes())?;
        let pin = Pin::of(certificate.der()).expect("our own certificate parses");
        let certificate = certificate.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate, pin })
    }

    fn parse(
        key: &str,
        certificate: &str,
        key_path: &Path,
        certificate_path: &Path,
    ) -> Result<Self, AuthorityError> {
        use rustls_pki_types::pem::PemObject;

        let broken = |path: &Path| AuthorityError::Broken { path: path.to_owned() };
        let key = KeyPair::from_pem(key).map_err(|_| broken(key_path))?;
        let certificate = CertificateDer::from_pem_slice(certificate.as_bytes())
            .map_err(|_| broken(certificate_path))?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate)
            .map_err(|_| broken(certificate_path))?;
        if parsed.public_key().subject_public_key.data != key.public_key_raw() {
            return Err(broken(certificate_path));
        }
        let pin = Pin::of(&certificate).map_err(|_| broken(certificate_path))?;
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|_| broken(certificate_path))?;
        Ok(Self { issuer, certificate, pin })
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("pin", &self.pin).finish_non_exhaustive()
    }
}

fn leaf(
    name: &str,
    usage: ExtendedKeyUsagePurpose,
) -> Result<(CertificateParams, String, OffsetDateTime), rcgen::Error> {
    let mut params = CertificateParams::new([name.to_owned()])?;
    let number = serial();
    let now = OffsetDateTime::UNIX_EPOCH + clock::unix_now();
    let ends = now + CERTIFICATE_LIFETIME;
    params.distinguished_name = common_name(name);
    params.serial_number = Some(SerialNumber::from_slice(&number));
    params.not_before = now - BACKDATE;
    params.not_after = ends;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![usage];
    params.use_authority_key_identifier_extension = true;
    Ok((params, crate::hex(&number), ends))
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

/// 16 random bytes, positive as a DER integer
/// ([RFC 5280 §4.1.2.2](https://www.rfc-editor.org/rfc/rfc5280#section-4.1.2.2)).
fn serial() -> [u8; 16] {
    let mut bytes: [u8; 16] = rand::random();
    bytes[0] = bytes[0] & 0x7f | 0x40;
    bytes
}

fn read(path: &Path) -> Result<Option<String>, AuthorityError> {
    let bytes = state_file::read_optional(path)
        .map_err(|source| AuthorityError::File { path: path.to_owned(), source })?;
    let broken = || AuthorityError::Broken { path: path.to_owned() };
    bytes.map(|bytes| String::from_utf8(bytes).map_err(|_| broken())).transpose()
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), AuthorityError> {
    state_file::write_atomic(path, bytes)
        .map_err(|source| AuthorityError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests;
