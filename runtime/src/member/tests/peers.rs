//! Mutual TLS between two members, as trunks use it.

use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use super::gateway::{DAY, MEMBER_ID};
use super::*;
use crate::member::Identity;
use crate::member::names::{TRUNK_ALPN, member_name};
use crate::member::tls::{
    client_config, member_id_of, server_config, server_name, stream_client_config,
    stream_server_config,
};

type Ends = (
    std::io::Result<client::TlsStream<DuplexStream>>,
    std::io::Result<server::TlsStream<DuplexStream>>,
);

#[tokio::test]
async fn both_ends_know_each_other() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let member = join(&config, &Shutdown::default()).await.unwrap();
    let identity = member.identity();

    let (client, server) = shake(identity, identity, server_name(MEMBER_ID).unwrap()).await;
    let (client, server) = (client.unwrap(), server.unwrap());
    assert_eq!(server.get_ref().1.alpn_protocol(), Some(TRUNK_ALPN));
    let shown = server.get_ref().1.peer_certificates().unwrap();
    assert_eq!(member_id_of(&shown[0]).as_deref(), Some(MEMBER_ID));
    let shown = client.get_ref().1.peer_certificates().unwrap();
    assert_eq!(member_id_of(&shown[0]).as_deref(), Some(MEMBER_ID));
}

#[tokio::test]
async fn a_member_is_only_itself() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let member = join(&config, &Shutdown::default()).await.unwrap();
    let identity = member.identity();
    let (client, _) = shake(identity, identity, server_name("n-2").unwrap()).await;
    assert!(client.is_err(), "the server is n-1 and not n-2");
}

/// Asked for the host's name, it is the member's that counts.
#[tokio::test]
async fn a_stream_knows_its_member_at_any_host() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let member = join(&config, &Shutdown::default()).await.unwrap();
    let identity = member.identity();
    let accepts = || stream_server_config(identity);

    let dials = stream_client_config(identity, MEMBER_ID).unwrap();
    for host in ["core.example.com", "192.0.2.1"] {
        let name = ServerName::try_from(host).unwrap();
        let (client, server) = shake_with(dials.clone(), accepts(), name).await;
        let (client, server) = (client.unwrap(), server.unwrap());
        assert_eq!(client.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
        let shown = server.get_ref().1.peer_certificates().unwrap();
        assert_eq!(member_id_of(&shown[0]).as_deref(), Some(MEMBER_ID));
        let asked = server.get_ref().1.server_name();
        assert_eq!(asked, host.contains("example").then_some(host), "in the clear");
    }

    let other = stream_client_config(identity, "n-2").unwrap();
    let name = ServerName::try_from("core.example.com").unwrap();
    let (client, _) = shake_with(other, accepts(), name).await;
    assert!(client.is_err(), "the server is n-1 and not n-2");
    assert!(stream_client_config(identity, "N 1").is_none());
}

#[tokio::test]
async fn another_gateways_member_is_a_stranger() {
    let mut identities = Vec::new();
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    for dir in &dirs {
        let gateway = Gateway::start().await;
        let config = config_with_token(dir.path(), &gateway);
        identities.push(join(&config, &Shutdown::default()).await.unwrap().identity().clone());
    }
    let (client, server) =
        shake(&identities[0], &identities[1], server_name(MEMBER_ID).unwrap()).await;
    assert!(client.is_err() || server.is_err());
}

#[tokio::test]
async fn configurations_follow_a_renewal() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let member = join(&config, &Shutdown::default()).await.unwrap();
    let identity = member.identity();
    let (dials, accepts) = (client_config(identity), server_config(identity));

    let request = identity.certificate_request().unwrap();
    *gateway.desk.member_validity.lock() = (-DAY, 30 * DAY);
    let fresh = gateway.desk.certify(MEMBER_ID, &request);
    identity.replace_certificate(fresh.to_vec()).unwrap();
    let name = server_name(MEMBER_ID).unwrap();
    let (client, server) = shake_with(dials, accepts, name).await;
    assert_eq!(server.unwrap().get_ref().1.peer_certificates().unwrap()[0], fresh);
    assert_eq!(client.unwrap().get_ref().1.peer_certificates().unwrap()[0], fresh);
}

#[tokio::test]
async fn a_certificate_for_another_key_or_name_is_not_taken() {
    let (dir, gateway) = (tempfile::tempdir().unwrap(), Gateway::start().await);
    let config = config_with_token(dir.path(), &gateway);
    let member = join(&config, &Shutdown::default()).await.unwrap();
    let identity = member.identity();
    let request = identity.certificate_request().unwrap();
    let other_name = gateway.desk.certify("n-2", &request);
    assert!(identity.replace_certificate(other_name.to_vec()).is_err());

    let key = rcgen::KeyPair::generate().unwrap();
    let request = rcgen::CertificateParams::default().serialize_request(&key).unwrap();
    let other_key = gateway.desk.certify(MEMBER_ID, request.der());
    assert!(identity.replace_certificate(other_key.to_vec()).is_err());
    assert!(identity.replace_certificate(b"junk".to_vec()).is_err());
}

#[test]
fn only_a_members_certificate_names_a_member() {
    let of = |names: &[&str]| {
        let key = rcgen::KeyPair::generate().unwrap();
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = rcgen::CertificateParams::new(names).unwrap();
        member_id_of(params.self_signed(&key).unwrap().der())
    };
    assert_eq!(of(&[&member_name("n-1")]).as_deref(), Some("n-1"));
    assert_eq!(of(&["gateway.antipode"]), None);
    assert_eq!(of(&[&member_name("n-1"), &member_name("n-2")]), None);
    assert_eq!(of(&[]), None);
    assert_eq!(member_id_of(b"junk"), None);
    assert!(server_name("N 1").is_none());
}

async fn shake(dials: &Identity, accepts: &Identity, name: ServerName<'static>) -> Ends {
    shake_with(client_config(dials), server_config(accepts), name).await
}

/// A handshake and a byte each way: in TLS 1.3 a client hears of a refusal only after its own end.
async fn shake_with(
    dials: std::sync::Arc<rustls::ClientConfig>,
    accepts: std::sync::Arc<rustls::ServerConfig>,
    name: ServerName<'static>,
) -> Ends {
    let (near, far) = duplex(64 * 1024);
    let client = async {
        let mut stream = TlsConnector::from(dials).connect(name, near).await?;
        stream.write_u8(1).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    let server = async {
        let mut stream = TlsAcceptor::from(accepts).accept(far).await?;
        stream.write_u8(2).await?;
        stream.read_u8().await?;
        Ok(stream)
    };
    tokio::time::timeout(HANGS, async { tokio::join!(client, server) }).await.expect("hangs")
}
