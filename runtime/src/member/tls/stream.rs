//! TLS of streams: what goes on the way looks like any HTTPS, and both ends are members.
//!
//! A name that a proxy can look up and a certificate of the gateway's authority don't go together:
//! the client asks for the endpoint's own host, and checks the certificate for the member's name.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, Error, ServerConfig, SignatureScheme};

use super::{client_config_for, roots, server_config_for, server_name};
use crate::crypto;
use crate::member::Identity;

/// What a WebSocket is asked for with.
const HTTP_ALPN: &[u8] = b"http/1.1";

/// For opening streams to the member `member_id`, whatever host it is reached at; `None` if that is
/// no member's id.
pub fn stream_client_config(identity: &Identity, member_id: &str) -> Option<Arc<ClientConfig>> {
    let name = server_name(member_id)?;
    let roots = Arc::new(roots(identity));
    let verifier = WebPkiServerVerifier::builder_with_provider(roots, crypto::provider())
        .build()
        .expect("an authority is in the roots");
    let mut config = ClientConfig::clone(&client_config_for(identity, HTTP_ALPN));
    config.dangerous().set_certificate_verifier(Arc::new(Named { verifier, name }));
    Some(Arc::new(config))
}

/// For taking streams. Who opened one is for the caller to check, as with trunks.
pub fn stream_server_config(identity: &Identity) -> Arc<ServerConfig> {
    server_config_for(identity, HTTP_ALPN)
}

/// Verifies a certificate as webpki does, for one name in place of the one that was asked for.
#[derive(Debug)]
struct Named {
    verifier: Arc<WebPkiServerVerifier>,
    name: ServerName<'static>,
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _asked_for: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        self.verifier.verify_server_cert(end_entity, intermediates, &self.name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verifier.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
