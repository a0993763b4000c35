//! A gateway in this process, and clients that speak to it directly.
#![allow(dead_code, reason = "each test binary uses a part")]

pub(crate) mod stream;

use std::future::Future;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use antipode_gateway::app::App;
use antipode_gateway::config::Config;
use antipode_gateway::member::Role;
use antipode_proto::registry::v1 as wire;
use antipode_proto::registry::v1::registry_client::RegistryClient;
use antipode_runtime::member::JoinToken;
use antipode_runtime::shutdown::Shutdown;
use antipode_runtime::{clock, crypto};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use secrecy::ExposeSecret;
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::transport::{Channel, Endpoint};

pub(crate) struct Gateway {
    pub(crate) app: App,
    pub(crate) shutdown: Shutdown,
    pub(crate) dir: TempDir,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// `more` are further lines of the configuration.
    pub(crate) async fn start_with(more: &str) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), "127.0.0.1:0", more).await
    }

    pub(crate) async fn start_in(dir: TempDir, listen: &str, more: &str) -> Self {
        crypto::install();
        let shutdown = Shutdown::default();
        let app = App::start(config(dir.path(), listen, more), shutdown.clone()).await.unwrap();
        Self { app, shutdown, dir }
    }

    /// Stops, and starts again at the same address with the same state.
    pub(crate) async fn restart(self) -> Self {
        let listen = self.app.addresses().registry.to_string();
        let dir = self.stop().await;
        Self::start_in(dir, &listen, "").await
    }

    pub(crate) async fn stop(self) -> TempDir {
        self.shutdown.finish(Duration::from_secs(5)).await;
        drop(self.app);
        self.dir
    }

    pub(crate) async fn token(&self, role: Role, uses: u32) -> String {
        let token = self.app.create_token(role, uses, Duration::from_secs(60)).await.unwrap();
        token.expose_secret().to_owned()
    }

    pub(crate) fn health(&self, name: &str) -> String {
        let members = self.app.members();
        members.iter().find(|m| m.name == name).map(|m| m.health.clone()).unwrap_or_default()
    }

    pub(crate) fn authority(&self) -> CertificateDer<'static> {
        let pem = std::fs::read(self.dir.path().join("authority.crt")).unwrap();
        CertificateDer::from_pem_slice(&pem).unwrap()
    }

    /// A client that trusts this gateway and shows `identity`.
    pub(crate) async fn client(
        &self,
        identity: Option<&Raw>,
    ) -> io::Result<RegistryClient<Channel>> {
        Ok(RegistryClient::new(self.channel(identity).await?))
    }

    pub(crate) async fn channel(&self, identity: Option<&Raw>) -> io::Result<Channel> {
        self.channel_and_socket(identity).await.map(|(channel, _)| channel)
    }

    /// With a handle on the socket, for ending it as a kernel does whose process has died.
    pub(crate) async fn channel_and_socket(
        &self,
        identity: Option<&Raw>,
    ) -> io::Result<(Channel, std::net::TcpStream)> {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority()).unwrap();
        let config = ClientConfig::builder_with_provider(crypto::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let mut config = match identity {
            Some(raw) => {
                config.with_client_auth_cert(vec![raw.certificate.clone()], raw.key()).unwrap()
            }
            None => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let name = ServerName::try_from("gateway.antipode").unwrap();
        let stream = TcpStream::connect(self.app.addresses().registry).await?.into_std()?;
        let socket = stream.try_clone()?;
        let stream = TcpStream::from_std(stream)?;
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        Ok((over(stream).await, socket))
    }

    /// Enrols by hand, with a key of ours.
    pub(crate) async fn enrol(
        &self,
        name: &str,
        role: Role,
        wireguard: u8,
    ) -> Result<Raw, tonic::Status> {
        let token = self.token(role, 1).await;
        self.enrol_with(&token, name, role, wireguard).await
    }

    pub(crate) async fn enrol_with(
        &self,
        token: &str,
        name: &str,
        role: Role,
        wireguard: u8,
    ) -> Result<Raw, tonic::Status> {
        let token: JoinToken = token.parse().unwrap();
        let key = rcgen::KeyPair::generate().unwrap();
        let request = wire::EnrolRequest {
            secret: token.secret().expose_secret().to_owned(),
            role: role.to_wire().into(),
            name: name.to_owned(),
            certificate_request: request_of(&key),
            wireguard_public_key: vec![wireguard; 32].into(),
        };
        let response = self.client(None).await.unwrap().enrol(request).await?.into_inner();
        assert_eq!(response.authority.as_ref(), self.authority().as_ref());
        let certificate = CertificateDer::from(response.certificate.to_vec());
        Ok(Raw { member_id: response.member_id, certificate, key: key.serialize_der() })
    }

    pub(crate) async fn get(&self, target: &str) -> (u16, String, serde_json::Value) {
        self.get_with(target, "").await
    }

    /// One HTTP request to the HTTP face: status, head, body.
    pub(crate) async fn get_with(
        &self,
        target: &str,
        headers: &str,
    ) -> (u16, String, serde_json::Value) {
        let address = self.app.addresses().http.unwrap();
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: gw\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head.to_lowercase(), serde_json::from_str(body).unwrap_or_default())
    }
}

/// An identity made by hand.
pub(crate) struct Raw {
    pub(crate) member_id: String,
    pub(crate) certificate: CertificateDer<'static>,
    pub(crate) key: Vec<u8>,
}

impl Raw {
    pub(crate) fn key(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.key.clone()).into()
    }
}

pub(crate) fn request_of(key: &rcgen::KeyPair) -> prost::bytes::Bytes {
    let request = rcgen::CertificateParams::default().serialize_request(key).unwrap();
    request.der().to_vec().into()
}

pub(crate) fn config(dir: &Path, listen: &str, more: &str) -> Config {
    let text = format!(
        "listen = \"{listen}\"\nstate_dir = \"{}\"\n{more}\n\
         [http]\nlisten = \"127.0.0.1:0\"\n[grpc]\nlisten = \"127.0.0.1:0\"\n",
        dir.display()
    );
    toml::from_str(&text).unwrap()
}

pub(crate) fn introduction(latitude: f64, longitude: f64, url: &str) -> wire::Introduction {
    wire::Introduction {
        run: vec![7; 16].into(),
        software: "test 1".into(),
        region: "lab".into(),
        location: Some(wire::Location { latitude, longitude }),
        public_urls: vec![url.into()],
        sessions_max: 100,
        endpoints: vec!["192.0.2.1:51820".into()],
        trunk_port: 4433,
        carrier: wire::Carrier::Quic.into(),
        ..wire::Introduction::default()
    }
}

pub(crate) fn heartbeat() -> wire::Heartbeat {
    let tunnels = vec![wire::TunnelReport { trunk_up: true, rtt_us: 90_000, ..Default::default() }];
    wire::Heartbeat { accepting: true, tunnels, ..Default::default() }
}

/// Waits until `truth`, for at most `limit`; tells how long it took.
pub(crate) async fn eventually(
    what: &'static str,
    limit: Duration,
    mut truth: impl FnMut() -> bool,
) -> Duration {
    let started = clock::now();
    while !truth() {
        assert!(started.elapsed() < limit, "not in {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    started.elapsed()
}

/// A gRPC channel over one stream.
pub(crate) async fn over<S>(stream: S) -> Channel
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let endpoint = Endpoint::from_static("http://gateway").timeout(Duration::from_secs(60));
    endpoint.connect_with_connector(Once(Some(stream))).await.unwrap()
}

struct Once<S>(Option<S>);

impl<S> tower_service::Service<http::Uri> for Once<S>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    type Response = TokioIo<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: http::Uri) -> Self::Future {
        let stream = self.0.take();
        Box::pin(async move {
            stream.map(TokioIo::new).ok_or_else(|| io::ErrorKind::NotConnected.into())
        })
    }
}
