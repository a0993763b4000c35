//! A certificate for `core`, and quinn's settings that trust it.

use std::path::Path;
use std::sync::Arc;

use antipode_tunnel::congestion::{Flows, Warmth};
use antipode_tunnel::{Class, TrunkTuning, transport_config};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use rustls::pki_types::{CertificateDer, PrivatePkcs8KeyDer};

/// A self-signed certificate and its key.
pub(crate) struct Certified {
    certificate: CertificateDer<'static>,
    key: Vec<u8>,
}

impl Certified {
    pub(crate) fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["core".into()]).unwrap();
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

    pub(crate) fn server(&self) -> quinn::ServerConfig {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = PrivatePkcs8KeyDer::from(self.key.clone());
        let tls = rustls::ServerConfig::builder()
            .with_no_client_auth()
            .with_single_cert(vec![self.certificate.clone()], key.into())
            .unwrap();
        let tls = QuicServerConfig::try_from(tls).unwrap();
        let mut config = quinn::ServerConfig::with_crypto(Arc::new(tls));
        config.transport_config(transport());
        config
    }

    pub(crate) fn client(&self) -> quinn::ClientConfig {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let tls =
            rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let tls = QuicClientConfig::try_from(tls).unwrap();
        let mut config = quinn::ClientConfig::new(Arc::new(tls));
        config.transport_config(transport());
        config
    }
}

fn transport() -> Arc<quinn::TransportConfig> {
    let (flows, warmth) = (Flows::default(), Warmth::default());
    Arc::new(transport_config(TrunkTuning::default(), Class::Chat, &flows, &warmth))
}
