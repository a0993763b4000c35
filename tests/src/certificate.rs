//! A certificate authority of the test's own, and a client that trusts it and nothing else.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::CertificateDer;
use rustls::{ClientConfig, RootCertStore};

/// Files of an authority and of a server's certificate under it.
#[derive(Clone, Debug)]
pub struct Certificates {
    /// The authority, for clients that take a file.
    pub authority_file: PathBuf,
    /// The server's chain.
    pub chain_file: PathBuf,
    /// The server's key.
    pub key_file: PathBuf,
    authority: CertificateDer<'static>,
}

impl Certificates {
    /// Makes both in `folder`, the server's for `names` (DNS names and addresses).
    ///
    /// # Errors
    ///
    /// If a file can't be written.
    pub fn make(folder: &Path, names: &[&str]) -> anyhow::Result<Self> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "Antipode test authority");
        let authority = params.self_signed(&key)?;
        let issuer = Issuer::new(params, key);

        let key = KeyPair::generate()?;
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let leaf = CertificateParams::new(names)?.signed_by(&key, &issuer)?;

        let certificates = Self {
            authority_file: folder.join("authority.pem"),
            chain_file: folder.join("chain.pem"),
            key_file: folder.join("key.pem"),
            authority: authority.der().clone(),
        };
        std::fs::write(&certificates.authority_file, authority.pem())?;
        std::fs::write(&certificates.chain_file, leaf.pem())?;
        std::fs::write(&certificates.key_file, key.serialize_pem())?;
        private(&certificates.key_file)?;
        Ok(certificates)
    }

    /// A client that trusts the authority.
    ///
    /// # Panics
    ///
    /// Never: the authority was just made.
    #[must_use]
    pub fn client(&self) -> Arc<ClientConfig> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone()).expect("the authority is a certificate");
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("aws-lc-rs speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        Arc::new(config)
    }
}

/// Lets nobody but the owner read `file`, as the programs ask of secrets.
///
/// # Errors
///
/// If the file's mode can't be set.
#[cfg(unix)]
pub fn private(file: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600))
}
