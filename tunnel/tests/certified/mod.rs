//! A certificate for `core`, and quinn's settings that trust it.

use std::path::Path;
use std::sync::Arc;

use antipode_tunnel::congestion::{Flows, Warmth};
use antipode_tunnel::{Class, TrunkTuning, transport_config};
use quinn::TransportConfig;
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::RootCertStore;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// A self-signed certificate and its key.
pub(crate) struct Certified {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certified {
    pub(crate) fn new() -> Self {
        Self::named(&["core"])
    }

    /// For other names, or addresses.
    pub(crate) fn named(names: &[&str]) -> Self {
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        let made = rcgen::generate_simple_self_signed(names).unwrap();
        Self { certificate: made.cert.der().clone(), key: made.signing_key.serialize_der() }
    }

    /// Writes both into `folder`, for another process.
    #[allow(dead_code, reason = "each test binary uses its share of this module")]
    pub(crate) fn save(&self, folder: &Path) {
        std::fs::write(folder.join("core.crt"), &self.certificate).unwrap();
        std::fs::write(folder.join("core.key"), &self.key).unwrap();
    }

    #[allow(dead_code, reason = "each test binary uses its share of this module")]
    pub(crate) fn load(folder: &Path) -> Self {
        let certificate = std::fs::read(folder.join("core.crt")).unwrap().into();
        Self { certificate, key: std::fs::read(folder.join("core.key")).unwrap() }
    }

    #[allow(dead_code, reason = "each test binary uses its share of this module")]
    pub(crate) fn server(&self) -> quinn::ServerConfig {
        self.server_over(transport())
    }

    #[allow(dead_code, reason = "each test binary uses its share of this module")]
    pub(crate) fn client(&self) -> quinn::ClientConfig {
        self.client_over(transport())
    }

    pub(crate) fn server_over(&self, transport: Arc<TransportConfig>) -> quinn::ServerConfig {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let (certificates, key) = self.parts();
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport);
        config
    }

    pub(crate) fn client_over(&self, transport: Arc<TransportConfig>) -> quinn::ClientConfig {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = rustls::ClientConfig::builder()
            .with_root_certificates(self.roots())
            .with_no_client_auth();
        let tls = QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(transport);
        config
    }

    /// Whoever trusts it trusts nobody else.
    pub(crate) fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        roots
    }

    pub(crate) fn parts(&self) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        (vec![self.certificate.clone()], key.into())
    }
}

#[allow(dead_code, reason = "each test binary uses its share of this module")]
fn transport() -> Arc<TransportConfig> {
    transport_of(Class::Chat, &Flows::default())
}

/// The product's settings.
pub(crate) fn transport_of(class: Class, flows: &Flows) -> Arc<TransportConfig> {
    Arc::new(transport_config(TrunkTuning::default(), class, flows, &Warmth::default()))
}
