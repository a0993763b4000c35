//! Mutual TLS between members, made from an identity.
//!
//! The configurations follow renewals: they ask the identity for its certificate at each handshake.
//! They resume nothing, so every handshake shows both certificates; in TLS 1.3 that costs no round
//! trip.

use std::sync::Arc;

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use x509_parser::extensions::GeneralName;

use super::identity::Identity;
use super::names::{TRUNK_ALPN, member_id_in, member_name};
use crate::crypto;

mod stream;

pub use stream::{stream_client_config, stream_server_config};

/// For the end of a trunk that dials. The peer must show the certificate of [`server_name`].
pub fn client_config(identity: &Identity) -> Arc<ClientConfig> {
    client_config_for(identity, TRUNK_ALPN)
}

/// For the end of a trunk that accepts. The peer must be a member of the same gateway; which one,
/// and whether the roster has it, is for the caller to check with [`member_id_of`].
pub fn server_config(identity: &Identity) -> Arc<ServerConfig> {
    server_config_for(identity, TRUNK_ALPN)
}

/// The name that the member `member_id` proves in a handshake; `None` if that is no member's id.
pub fn server_name(member_id: &str) -> Option<ServerName<'static>> {
    let name = member_name(member_id);
    member_id_in(&name)?;
    ServerName::try_from(name).ok()
}

/// Whose certificate this is. It says nothing about who signed it: TLS has checked that before.
pub fn member_id_of(certificate: &[u8]) -> Option<String> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let names = parsed.subject_alternative_name().ok()??;
    let mut ids =
        names.value.general_names.iter().map(|name| {
            if let GeneralName::DNSName(name) = name { member_id_in(name) } else { None }
        });
    let id = ids.next()??.to_owned();
    // A certificate with further names isn't one of our gateway's.
    ids.next().is_none().then_some(id)
}

pub(super) fn client_config_for(identity: &Identity, alpn: &[u8]) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs has TLS 1.3")
        .with_root_certificates(roots(identity))
        .with_client_cert_resolver(Arc::new(Current(identity.clone())));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

fn server_config_for(identity: &Identity, alpn: &[u8]) -> Arc<ServerConfig> {
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots(identity)), crypto::provider())
            .build()
            .expect("an authority is in the roots");
    let mut config = ServerConfig::builder_with_provider(crypto::provider())
        .with_protocol_versions(&[&TLS13])
        .expect("aws-lc-rs has TLS 1.3")
        .with_client_cert_verifier(verifier)
        .with_cert_resolver(Arc::new(Current(identity.clone())));
    config.alpn_protocols = vec![alpn.to_vec()];
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn roots(identity: &Identity) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    let authority: CertificateDer<'static> = identity.authority().clone();
    roots.add(authority).expect("checked when the identity was loaded");
    roots
}

/// The identity's certificate as it is at the time of a handshake.
#[derive(Debug)]
struct Current(Identity);

impl ResolvesClientCert for Current {
    fn resolve(&self, _hints: &[&[u8]], _schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified_key())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

impl ResolvesServerCert for Current {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.certified_key())
    }
}
