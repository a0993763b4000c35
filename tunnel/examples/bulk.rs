//! How fast one QUIC stream goes through two tunnels on loopback, beside the same without tunnels.
//!
//! `cargo run --release -p antipode-tunnel --example bulk [MEGABYTES]` prints one JSON line a case.
//! Both ends run in this process, on one thread or on two; compare rows of one run only.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use antipode_tunnel::congestion::{Flows, Warmth};
use antipode_tunnel::{
    Class, Metrics, PeerConfig, PrivateKey, TRUNK_PORT, Tasks, TrunkTuning, Tunnel, TunnelConfig,
    transport_config,
};
use quinn::crypto::rustls::{QuicClientConfig, QuicServerConfig};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime, TokioRuntime};
use rustls::pki_types::PrivatePkcs8KeyDer;

type Failure = Box<dyn Error + Send + Sync>;

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Carrier {
    Loopback,
    Tunnel,
}

fn main() -> Result<(), Failure> {
    let megabytes = std::env::args().nth(1).map_or(Ok(1000), |text| text.parse())?;
    for threads in [1, 2] {
        for carrier in [Carrier::Loopback, Carrier::Tunnel] {
            let runtime = runtime(threads)?;
            let cpu = cpu_seconds()?;
            let (took, lost) = runtime.block_on(transfer(carrier, megabytes))?;
            let seconds = took.as_secs_f64();
            let cpu = cpu_seconds()? - cpu;
            let size = f64::from(megabytes);
            println!(
                "{{\"carrier\":\"{carrier:?}\",\"threads\":{threads},\"megabytes\":{megabytes},\
                 \"megabytes_per_second\":{:.0},\"cpu_ns_per_byte\":{:.2},\
                 \"lost_packets\":{lost}}}",
                size / seconds,
                cpu * 1e3 / size,
            );
        }
    }
    Ok(())
}

fn runtime(threads: usize) -> std::io::Result<tokio::runtime::Runtime> {
    if threads == 1 {
        return tokio::runtime::Builder::new_current_thread().enable_all().build();
    }
    tokio::runtime::Builder::new_multi_thread().worker_threads(threads).enable_all().build()
}

async fn transfer(carrier: Carrier, megabytes: u32) -> Result<(Duration, u64), Failure> {
    let tasks = Tasks::default();
    let (here, there, target) = sockets(carrier, &tasks)?;
    let (server, client) = configs()?;
    let config = EndpointConfig::default;
    let runtime = || Arc::new(TokioRuntime);
    let accepting = Endpoint::new_with_abstract_socket(config(), Some(server), there, runtime())?;
    let mut dialing = Endpoint::new_with_abstract_socket(config(), None, here, runtime())?;
    dialing.set_default_client_config(client);

    let receiver = tasks.tracker.spawn(async move {
        let incoming = accepting.accept().await.ok_or("no one came")?;
        let connection = incoming.await?;
        let (mut answer, mut stream) = connection.accept_bi().await?;
        while stream.read_chunk(usize::MAX, true).await?.is_some() {}
        answer.finish()?;
        connection.closed().await;
        Ok::<_, Failure>(())
    });
    let connection = dialing.connect(target, "bulk")?.await?;
    let (mut stream, mut answer) = connection.open_bi().await?;
    let megabyte = bytes::Bytes::from(vec![0x5a; 1_000_000]);
    let started = tokio::time::Instant::now();
    for _ in 0..megabytes {
        stream.write_chunk(megabyte.clone()).await?;
    }
    stream.finish()?;
    answer.read_to_end(1).await?;
    let took = started.elapsed();
    let lost = connection.stats().path.lost_packets;
    connection.close(0u8.into(), b"");
    receiver.await??;
    tasks.stop.cancel();
    Ok((took, lost))
}

type Sockets = (Arc<dyn AsyncUdpSocket>, Arc<dyn AsyncUdpSocket>, SocketAddr);

fn sockets(carrier: Carrier, tasks: &Tasks) -> Result<Sockets, Failure> {
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    if carrier == Carrier::Loopback {
        let bind = || {
            let socket = socket2::Socket::from(std::net::UdpSocket::bind(any)?);
            // As the tunnel's own socket: smaller ones overflow and measure retransmission.
            socket.set_recv_buffer_size(4 << 20)?;
            socket.set_send_buffer_size(4 << 20)?;
            TokioRuntime.wrap_udp_socket(socket.into())
        };
        let (here, there) = (bind()?, bind()?);
        let target = there.local_addr()?;
        return Ok((here, there, target));
    }
    let bind =
        || Tunnel::bind(TunnelConfig::new(PrivateKey::generate(), any), tasks, Metrics::default());
    let (node, core) = (bind()?, bind()?);
    let endpoint = Some(core.local_addr());
    node.set_peers(vec![PeerConfig { endpoint, ..PeerConfig::new(core.public_key()) }]);
    core.set_peers(vec![PeerConfig::new(node.public_key())]);
    let target = SocketAddr::new(core.address().into(), TRUNK_PORT);
    Ok((node.udp_socket(0, Class::Chat)?, core.udp_socket(TRUNK_PORT, Class::Chat)?, target))
}

fn configs() -> Result<(quinn::ServerConfig, quinn::ClientConfig), Failure> {
    // Fails if a case before has done it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let certified = rcgen::generate_simple_self_signed(vec!["bulk".into()])?;
    let certificate = certified.cert.der().clone();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.clone())?;
    let key = PrivatePkcs8KeyDer::from(certified.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], key.into())?;
    let client =
        rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let (flows, warmth) = (Flows::default(), Warmth::default());
    let transport =
        Arc::new(transport_config(TrunkTuning::default(), Class::Bulk, &flows, &warmth));
    let mut server =
        quinn::ServerConfig::with_crypto(Arc::new(QuicServerConfig::try_from(server)?));
    server.transport_config(Arc::clone(&transport));
    let mut client = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(client)?));
    client.transport_config(transport);
    Ok((server, client))
}

/// User and system time of this process, proc(5): fields 14 and 15, in hundredths of a second.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = after_name.split_whitespace().skip(11);
    let mut next = || ticks.next().unwrap_or("0").parse::<f64>();
    Ok((next()? + next()?) / 100.0)
}
