//! A made-up certificate authority for the demo's own names, gone with the demo.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use antipode_runtime::crypto;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

/// One certificate for every TLS listener of the demo, so that a browser asks only once.
#[derive(Debug)]
pub struct Certificate {
    authority: CertificateDer<'static>,
    chain: CertificateDer<'static>,
    key: KeyPair,
    pem: String,
}

/// PEM files, for programs that read their certificate from a file.
#[derive(Clone, Debug)]
pub struct Files {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Certificate {
    /// Makes a certificate for `localhost`, the loopback addresses and `listen`.
    ///
    /// # Errors
    /// rcgen's, which would be a bug.
    pub fn make(listen: IpAddr) -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::default();
        authority.distinguished_name.push(DnType::CommonName, "Antipode demo, not to be trusted");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let authority_key = KeyPair::generate()?;
        let root = authority.self_signed(&authority_key)?;

        let names = ["localhost".into(), "127.0.0.1".into(), "::1".into(), listen.to_string()];
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name.push(DnType::CommonName, "Antipode demo");
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate()?;
        let signed = leaf.signed_by(&key, &Issuer::new(authority, authority_key))?;
        Ok(Self {
            authority: root.der().clone(),
            chain: signed.der().clone(),
            key,
            pem: signed.pem(),
        })
    }

    /// Writes the PEM files into `directory`, which nobody else can read.
    ///
    /// # Errors
    /// The system's.
    pub fn write(&self, directory: &Path) -> std::io::Result<Files> {
        let files = Files {
            certificate: directory.join("certificate.pem"),
            key: directory.join("certificate.key"),
        };
        std::fs::write(&files.certificate, &self.pem)?;
        antipode_runtime::state_file::write_atomic(
            &files.key,
            self.key.serialize_pem().as_bytes(),
        )?;
        Ok(files)
    }

    /// For a listener that speaks HTTP/1.1.
    ///
    /// # Errors
    /// rustls's, which would be a bug.
    pub fn server(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(crypto::provider())
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![self.chain.clone()], key)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }

    /// For a client that trusts this authority and no other, and resumes nothing: each of its
    /// handshakes is a whole one.
    ///
    /// # Errors
    /// rustls's, which would be a bug.
    pub fn client(&self) -> Result<Arc<ClientConfig>, rustls::Error> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.clone())?;
        let mut config = ClientConfig::builder_with_provider(crypto::provider())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.resumption = rustls::client::Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

/// For a client that trusts what browsers trust, for the user's own `https://` server.
///
/// # Errors
/// rustls's, which would be a bug.
pub fn public_client() -> Result<Arc<ClientConfig>, rustls::Error> {
    let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
    let mut config = ClientConfig::builder_with_provider(crypto::provider())
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
