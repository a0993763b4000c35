//! TLS towards a backend: whom to trust and which name to ask for.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use antipode_runtime::crypto;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};

/// TLS to a backend can't be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is missing, or not PEM.
    #[error("can't read the certificates in {}: `ca_file` wants PEM", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// A certificate that can't be a trust anchor.
    #[error("{} holds no usable CA certificate", path.display())]
    Unusable {
        /// Which file.
        path: PathBuf,
    },
    /// Neither a DNS name nor an address.
    #[error("{name:?} is no name that a certificate can bear: set `server_name`")]
    Name {
        /// As configured.
        name: String,
    },
}

/// Trusts the CAs in `ca_file`, or else those that browsers trust.
pub(crate) fn client_config(ca_file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let mut roots = RootCertStore::empty();
    match ca_file {
        None => roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned()),
        Some(path) => {
            let read = |source| TlsError::Read { path: path.to_owned(), source };
            for certificate in CertificateDer::pem_file_iter(path).map_err(read)? {
                let unusable = |_| TlsError::Unusable { path: path.to_owned() };
                roots.add(certificate.map_err(read)?).map_err(unusable)?;
            }
            if roots.is_empty() {
                return Err(TlsError::Unusable { path: path.to_owned() });
            }
        }
    }
    let mut config = ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()
        .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

pub(crate) fn server_name(name: &str) -> Result<ServerName<'static>, TlsError> {
    ServerName::try_from(name.to_owned()).map_err(|_| TlsError::Name { name: name.to_owned() })
}
