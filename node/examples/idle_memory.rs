//! What an idle TLS WebSocket costs the node: RSS growth a session, with clients in another
//! process.
//!
//! `cargo run -p antipode-node --example idle_memory -- 9000`. The core's end of each session is in
//! the measured process too, so the figure is an upper bound.
#![allow(clippy::print_stdout, reason = "a bench prints its result")]

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use antipode_node::config::{Config, Listen};
use antipode_node::front::Front;
use antipode_node::front::listen::{Gates, Listener};
use antipode_node::metrics::Metrics;
use antipode_node::tls::Certificates;
use antipode_proto::trunk::v1::ResponseHead;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{Body, Trunks};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const UPGRADE: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const MESSAGE: usize = 100;

type Outcome = Result<(), Box<dyn Error>>;

#[tokio::main]
async fn main() -> Outcome {
    let args: Vec<_> = std::env::args().skip(1).collect();
    match args.as_slice() {
        [sessions] => serve(sessions.parse()?).await,
        [address, sessions] => connect(address.parse()?, sessions.parse()?).await,
        _ => Err("how many sessions?".into()),
    }
}

async fn serve(sessions: u32) -> Outcome {
    let (trunks, mut core) = Trunks::in_memory();
    let config: Config = toml::from_str(
        "listen = [{ address = \"127.0.0.1:0\" }]\n\
         member = { state_dir = \"/nowhere\", name = \"a\", region = \"b\" }",
    )?;
    let shutdown = Shutdown::default();
    let front = Arc::new(Front::new(&config, trunks, Metrics::default(), &shutdown));
    let certificates = Arc::new(Certificates::load(&[])?);
    let tls = Arc::new(certificates.server_config()?);
    let listener = Listener::bind(Listen { tls: true, ..config.listen[0] }, &tls).await?;
    let address = listener.address();
    listener.serve(&front, &Arc::new(Gates::new(&front)));
    let echoes = shutdown.clone();
    shutdown.spawn_service(async move {
        while let Some(incoming) = core.recv().await {
            echoes.spawn_service(async move {
                let head = ResponseHead { status: 101, ..ResponseHead::default() };
                incoming.port.send(Body::from(head)).ok();
                while let Ok(delivery) = incoming.port.deliver().await {
                    incoming.port.consumed(delivery.seq);
                    incoming.port.send(delivery.body).ok();
                }
            });
        }
    });
    let before = rss_bytes()?;
    let mut clients = Command::new(std::env::current_exe()?)
        .args([address.to_string(), sessions.to_string()])
        .stdout(Stdio::piped())
        .stdin(Stdio::piped())
        .spawn()?;
    let mut lines = BufReader::new(clients.stdout.take().ok_or("no pipe")?).lines();
    for stage in ["open", "echoed"] {
        lines = tokio::task::spawn_blocking(|| {
            lines.next();
            lines
        })
        .await?;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let grown = rss_bytes()?.saturating_sub(before);
        let now = front.admission().sessions();
        println!("{stage}: {now} sessions, {} bytes RSS a session", grown / u64::from(now.max(1)));
    }
    clients.kill()?;
    Ok(())
}

async fn connect(address: SocketAddr, sessions: u32) -> Outcome {
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config));
    let mut open = Vec::new();
    for _ in 0..sessions {
        let tcp = TcpStream::connect(address).await?;
        let mut stream = tls.connect(ServerName::try_from("localhost")?, tcp).await?;
        stream.write_all(UPGRADE).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        open.push(stream);
    }
    println!("open");
    tokio::time::sleep(Duration::from_secs(5)).await;
    let frame = [&[0x82, 0x80 | 100, 0, 0, 0, 0][..], &[7; MESSAGE]].concat();
    for stream in &mut open {
        stream.write_all(&frame).await?;
        let mut echo = [0; MESSAGE + 2];
        stream.read_exact(&mut echo).await?;
    }
    println!("echoed");
    std::future::pending().await
}

fn rss_bytes() -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).ok_or("no VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).ok_or("no figure")?.parse()?;
    Ok(kib * 1024)
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
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
