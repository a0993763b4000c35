//! One certificate with its key, and the names it is for.

use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::TlsError;
use crate::config::CertificateFiles;

/// A certificate ready for use.
#[derive(Clone, Debug)]
pub(super) struct Certificate {
    /// Lower case; a wildcard begins with `*.`.
    pub(super) names: Vec<String>,
    pub(super) key: Arc<CertifiedKey>,
}

impl Certificate {
    /// Reads a pair of PEM files and sees that they fit.
    pub(super) fn load(files: &CertificateFiles) -> Result<Self, TlsError> {
        let CertificateFiles { chain_file, key_file } = files;
        let unreadable = |path: &std::path::Path| {
            let path = path.to_owned();
            |source| TlsError::Read { path, source }
        };
        let chain: Vec<_> = CertificateDer::pem_file_iter(chain_file)
            .and_then(Iterator::collect)
            .map_err(unreadable(chain_file))?;
        let key = PrivateKeyDer::from_pem_file(key_file).map_err(unreadable(key_file))?;
        let first = chain.first().ok_or_else(|| TlsError::Empty { path: chain_file.clone() })?;
        let names = names(first).ok_or_else(|| TlsError::Parse { path: chain_file.clone() })?;
        let key = Self::pair(chain, key).map_err(|source| TlsError::Pair {
            chain: chain_file.clone(),
            key: key_file.clone(),
            source,
        })?;
        Ok(Self { names, key })
    }

    /// Joins a chain and a key, which must belong together.
    pub(super) fn pair(
        chain: Vec<CertificateDer<'static>>,
        key: PrivateKeyDer<'static>,
    ) -> Result<Arc<CertifiedKey>, rustls::Error> {
        CertifiedKey::from_der(chain, key, &aws_lc_rs::default_provider()).map(Arc::new)
    }
}

/// The DNS names of a certificate; `None` if it can't be parsed.
fn names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let alternative = certificate.subject_alternative_name().ok()??;
    let names = alternative.value.general_names.iter().filter_map(|name| {
        let GeneralName::DNSName(name) = name else { return None };
        Some(name.to_ascii_lowercase())
    });
    Some(names.collect())
}
