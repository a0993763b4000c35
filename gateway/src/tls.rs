//! TLS for the gateway's listeners: the registry's by our own authority, the faces' by PEM files.

use std::path::PathBuf;
use std::sync::Arc;

use antipode_runtime::crypto;
use arc_swap::ArcSwap;
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::Authority;
use crate::config::PemFiles;

/// Why a certificate of the operator's can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file can't be read or holds no PEM.
    #[error("{path} can't be read as PEM: check the path, its permissions and its content")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// The two files don't fit.
    #[error("{certificate} and {key} don't fit together, or are of a kind that TLS can't use")]
    Pair {
        /// The chain.
        certificate: PathBuf,
        /// The key.
        key: PathBuf,
        /// Why.
        #[source]
        source: rustls::Error,
    },
}

/// The gateway's own certificate, which is made anew while the process runs.
#[derive(Debug)]
pub struct OwnCertificate(ArcSwap<CertifiedKey>);

impl OwnCertificate {
    /// Starts with `current`.
    #[must_use]
    pub fn new(current: Arc<CertifiedKey>) -> Arc<Self> {
        Arc::new(Self(ArcSwap::new(current)))
    }

    /// What handshakes get from now on.
    pub fn replace(&self, current: Arc<CertifiedKey>) {
        self.0.store(current);
    }
}

impl ResolvesServerCert for OwnCertificate {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

/// For the registry: TLS 1.3; a client's certificate is optional, but if shown must be ours.
#[must_use]
pub fn registry(authority: &Authority, own: Arc<OwnCertificate>) -> Arc<ServerConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(authority.certificate().clone()).expect("our own authority is a root");
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), crypto::provider())
        .allow_unauthenticated()
        .build()
        .expect("an authority is in the roots");
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs has TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry a certificate that was looked at long ago.
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

/// For a face: whatever rustls holds safe, with the operator's certificate.
///
/// # Errors
///
/// Names the file that is wrong.
pub fn face(files: &PemFiles, alpn: &[u8]) -> Result<Arc<ServerConfig>, TlsError> {
    let PemFiles { certificate_file, key_file } = files;
    let unread = |path: &PathBuf| {
        let path = path.clone();
        |source| TlsError::Pem { path, source }
    };
    let chain = CertificateDer::pem_file_iter(certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(unread(certificate_file))?;
    let key = PrivateKeyDer::from_pem_file(key_file).map_err(unread(key_file))?;
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs has TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .map_err(|source| TlsError::Pair {
            certificate: certificate_file.clone(),
            key: key_file.clone(),
            source,
        })?;
    config.alpn_protocols = vec![alpn.to_vec()];
    Ok(Arc::new(config))
}
