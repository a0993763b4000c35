//! TLS for clients: certificates by name, taken up anew when their files change.

mod certificate;
mod development;
mod reload;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tracing::{info, warn};

use crate::config::CertificateFiles;
use certificate::Certificate;

pub use reload::watch;

/// The node's certificates can't be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A PEM file is missing, unreadable or not PEM.
    #[error("can't read {} as PEM: name existing files in [[certificate]]", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: rustls::pki_types::pem::Error,
    },
    /// A chain file without a certificate.
    #[error("{} holds no certificate", path.display())]
    Empty {
        /// Which file.
        path: PathBuf,
    },
    /// The key does not fit the certificate, or is of a kind that TLS can't use.
    #[error("the key in {} does not fit the certificate in {}", key.display(), chain.display())]
    Pair {
        /// The chain file.
        chain: PathBuf,
        /// The key file.
        key: PathBuf,
        /// What rustls said.
        #[source]
        source: rustls::Error,
    },
    /// The certificate can't be parsed.
    #[error("the first certificate in {} can't be parsed", path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
    },
    /// No development certificate could be made.
    #[error("a development certificate can't be made")]
    Development(#[source] rcgen::Error),
    /// The TLS library refuses its settings.
    #[error("TLS can't be set up")]
    Setup(#[source] rustls::Error),
}

/// The certificates in use, shared by all listeners.
#[derive(Debug)]
pub struct Certificates {
    sources: Vec<CertificateFiles>,
    table: ArcSwap<Table>,
}

impl Certificates {
    /// Loads every pair of files; without any, makes a certificate for development.
    ///
    /// # Errors
    ///
    /// When one of them can't be used: a node starts with all its names or not at all.
    pub fn load(sources: &[CertificateFiles]) -> Result<Self, TlsError> {
        let mut certificates = Vec::with_capacity(sources.len());
        for files in sources {
            let certificate = Certificate::load(files)?;
            let (names, chain) = (&certificate.names, files.chain_file.display());
            info!(chain_file = %chain, ?names, "certificate loaded");
            certificates.push(certificate);
        }
        if certificates.is_empty() {
            warn!(
                "no [[certificate]] is configured: clients get a self-signed one for development, \
                 which browsers refuse"
            );
            certificates.push(development::certificate().map_err(TlsError::Development)?);
        }
        let table = ArcSwap::from_pointee(Table::new(certificates));
        Ok(Self { sources: sources.to_vec(), table })
    }

    /// The server's side of TLS 1.3 and 1.2 with these certificates.
    ///
    /// # Errors
    ///
    /// When the TLS library has no randomness for its tickets.
    pub fn server_config(self: &Arc<Self>) -> Result<ServerConfig, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Setup)?
            .with_no_client_auth()
            .with_cert_resolver(Arc::clone(self) as Arc<dyn ResolvesServerCert>);
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        // Stateless resumption: saves a returning client's signature, and us a table.
        config.ticketer = aws_lc_rs::Ticketer::new().map_err(TlsError::Setup)?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.table.load().find(hello.server_name()))
    }
}

/// Certificates by the names they are for.
#[derive(Debug)]
struct Table {
    certificates: Vec<Certificate>,
    /// Lower-case name, or `*.` and the rest, to its place; the first certificate of a name wins.
    by_name: BTreeMap<String, usize>,
}

impl Table {
    fn new(certificates: Vec<Certificate>) -> Self {
        let mut by_name = BTreeMap::new();
        for (place, certificate) in certificates.iter().enumerate() {
            for name in &certificate.names {
                by_name.entry(name.clone()).or_insert(place);
            }
        }
        Self { certificates, by_name }
    }

    /// By the exact name, then by a wildcard for its first label, else the first certificate.
    fn find(&self, name: Option<&str>) -> Arc<CertifiedKey> {
        let name = name.unwrap_or_default().to_ascii_lowercase();
        let wildcard = || {
            let (_, rest) = name.split_once('.')?;
            self.by_name.get(&format!("*.{rest}"))
        };
        let place = self.by_name.get(&name).or_else(wildcard).copied().unwrap_or(0);
        Arc::clone(&self.certificates[place].key)
    }
}
