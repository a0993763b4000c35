//! How fast one QUIC stream goes through two tunnels on loopback, beside the same without tunnels.
//!
//! `cargo run --release -p antipode-tunnel --example bulk [MEGABYTES]` prints one JSON line a case.
//! Both ends run in this process, on one thread or each on its own; compare rows of one run only.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

#[allow(clippy::unwrap_used, reason = "a certificate of one's own making is good")]
#[path = "../tests/certified/mod.rs"]
mod certified;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use antipode_tunnel::congestion::Flows;
use antipode_tunnel::{
    Class, Metrics, PeerConfig, PrivateKey, PublicKey, TRUNK_PORT, Tasks, Tunnel, TunnelConfig,
};
use certified::{Certified, transport_of};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, TokioRuntime};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

/// As the programs have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

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
            let cpu = cpu_seconds()?;
            let (took, lost) = transfer(carrier, threads, megabytes)?;
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

fn runtime() -> std::io::Result<Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Both ends on one runtime of one thread, or each on its own, as a node and a core have.
fn transfer(carrier: Carrier, threads: usize, megabytes: u32) -> Result<(Duration, u64), Failure> {
    let (node, core) = (PrivateKey::generate(), PrivateKey::generate());
    let (tell, told) = oneshot::channel();
    let (certified, transport) = (Certified::new(), transport_of(Class::Bulk, &Flows::default()));
    let server = certified.server_over(Arc::clone(&transport));
    let client = certified.client_over(transport);
    let there = End { carrier, own: core.clone(), peer: node.public_key() };
    let here = End { carrier, own: node, peer: core.public_key() };
    if threads == 1 {
        return runtime()?.block_on(async {
            let receiving = receive(there, tell, server);
            let (sent, received) = tokio::join!(send(here, told, client, megabytes), receiving);
            received?;
            sent
        });
    }
    let receiver = std::thread::spawn(move || runtime()?.block_on(receive(there, tell, server)));
    let sent = runtime()?.block_on(send(here, told, client, megabytes));
    receiver.join().map_err(|_| "the receiver panicked")??;
    sent
}

async fn receive(
    end: End,
    tell: oneshot::Sender<SocketAddr>,
    config: quinn::ServerConfig,
) -> Result<(), Failure> {
    let tasks = Tasks::default();
    let (socket, outside) = end.socket(None, &tasks)?;
    let accepting = endpoint(Some(config), socket)?;
    tell.send(outside).map_err(|_| "nobody sends")?;
    let incoming = accepting.accept().await.ok_or("no one came")?;
    let connection = incoming.await?;
    let (mut answer, mut stream) = connection.accept_bi().await?;
    while stream.read_chunk(usize::MAX, true).await?.is_some() {}
    answer.finish()?;
    connection.closed().await;
    tasks.stop.cancel();
    Ok(())
}

async fn send(
    end: End,
    told: oneshot::Receiver<SocketAddr>,
    config: quinn::ClientConfig,
    megabytes: u32,
) -> Result<(Duration, u64), Failure> {
    let tasks = Tasks::default();
    let outside = told.await?;
    let target = match end.carrier {
        Carrier::Loopback => outside,
        Carrier::Tunnel => SocketAddr::new(end.peer.address().into(), TRUNK_PORT),
    };
    let (socket, _) = end.socket(Some(outside), &tasks)?;
    let mut dialing = endpoint(None, socket)?;
    dialing.set_default_client_config(config);
    let connection = dialing.connect(target, "core")?.await?;
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
    dialing.wait_idle().await;
    tasks.stop.cancel();
    Ok((took, lost))
}

fn endpoint(
    server: Option<quinn::ServerConfig>,
    socket: Arc<dyn AsyncUdpSocket>,
) -> Result<Endpoint, Failure> {
    let config = EndpointConfig::default();
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, Arc::new(TokioRuntime))?)
}

/// What an end is made of.
struct End {
    carrier: Carrier,
    own: PrivateKey,
    peer: PublicKey,
}

type Opened = (Arc<dyn AsyncUdpSocket>, SocketAddr);

impl End {
    /// A socket for quinn and the address outside the tunnel; the end that dials knows the other's.
    fn socket(&self, there: Option<SocketAddr>, tasks: &Tasks) -> Result<Opened, Failure> {
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        if self.carrier == Carrier::Loopback {
            let socket = socket2::Socket::from(std::net::UdpSocket::bind(any)?);
            // As the tunnel's own socket: smaller ones overflow and measure retransmission.
            socket.set_recv_buffer_size(4 << 20)?;
            socket.set_send_buffer_size(4 << 20)?;
            let socket = std::net::UdpSocket::from(socket);
            let outside = socket.local_addr()?;
            return Ok((TokioRuntime.wrap_udp_socket(socket)?, outside));
        }
        let config = TunnelConfig::new(self.own.clone(), any);
        let tunnel = Tunnel::bind(config, tasks, Metrics::default())?;
        tunnel.set_peers(vec![PeerConfig { endpoint: there, ..PeerConfig::new(self.peer) }]);
        let port = if there.is_some() { 0 } else { TRUNK_PORT };
        Ok((tunnel.udp_socket(port, Class::Bulk)?, tunnel.local_addr()))
    }
}

/// User and system time of this process, proc(5): fields 14 and 15, in hundredths of a second.
fn cpu_seconds() -> Result<f64, Failure> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut ticks = after_name.split_whitespace().skip(11);
    let mut next = || ticks.next().unwrap_or("0").parse::<f64>();
    Ok((next()? + next()?) / 100.0)
}
