//! The front over TLS: versions, ALPN, and handshakes that go nowhere.

use std::sync::Arc;
use std::time::Duration;

use antipode_trunk::Trunks;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, ProtocolVersion, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::Bench;
use super::bench::within;
use crate::front::HEALTH_PATH;

#[tokio::test]
async fn both_versions_speak_http_1_1() {
    let bench = over_tls("").await;
    for (version, expected) in [
        (&rustls::version::TLS12, ProtocolVersion::TLSv1_2),
        (&rustls::version::TLS13, ProtocolVersion::TLSv1_3),
    ] {
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[version])
            .unwrap()
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth();
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let tcp = TcpStream::connect(bench.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = TlsConnector::from(Arc::new(config)).connect(name, tcp).await.unwrap();
        assert_eq!(tls.get_ref().1.protocol_version(), Some(expected));
        assert_eq!(tls.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let request = format!("GET {HEALTH_PATH} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        tls.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        within(tls.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
}

#[tokio::test]
async fn a_handshake_that_goes_nowhere_ends() {
    let bench = over_tls("front = { handshake_timeout = \"100ms\", handshakes_max = 1 }").await;
    let mut stuck = TcpStream::connect(bench.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    let mut second = TcpStream::connect(bench.address).await.unwrap();
    let mut byte = [0];
    assert_eq!(within(second.read(&mut byte)).await.unwrap_or(0), 0, "one at a time");
    bench.counted("clients_refused_total{limit=\"handshakes_max\"} 1").await;
    assert_eq!(within(stuck.read(&mut byte)).await.unwrap_or(0), 0, "and not for ever");
    bench.counted("handshakes_total{outcome=\"timed_out\"} 1").await;
    let answer = bench.tell("GET / HTTP/1.1\r\n\r\n").await;
    assert!(!answer.is_empty(), "clear text gets a TLS alert, not silence");
}

pub(super) async fn over_tls(toml: &str) -> Bench {
    let (trunks, core) = Trunks::in_memory();
    Bench::on(trunks, core, toml, true).await
}

fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

/// Takes the development certificate for what it is.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, &algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, &algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
