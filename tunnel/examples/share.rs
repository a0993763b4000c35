//! A tunnel's bulk beside TCP's cubic flows, through an emulated link between two namespaces.
//!
//! `cargo build -p antipode-tests --bin wan`, then as root
//! `cargo run --release -p antipode-tunnel --example share target/debug/wan SESSIONS CUBIC SECONDS
//! '{"delay_ms": 50, "rate_mbit": 20, "queue_ms": 100}'` prints what arrived each second, and a
//! JSON line of the second half. With no cubic flows it is bulk alone.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

#[allow(clippy::unwrap_used, reason = "a certificate of one's own making is good")]
#[path = "../tests/certified/mod.rs"]
mod certified;

use std::error::Error;
use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use antipode_tunnel::congestion::Flows;
use antipode_tunnel::{
    Class, Metrics, PeerConfig, PrivateKey, PublicKey, TRUNK_PORT, Tasks, Tunnel, TunnelConfig,
};
use certified::{Certified, transport_of};
use quinn::{Endpoint, EndpointConfig, TokioRuntime};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

type Failure = Box<dyn Error + Send + Sync>;

const SINK: &str = "10.9.0.2:7001";
const CORE: &str = "10.9.0.2:7000";
const NODE: &str = "10.9.0.1:7000";

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [wan, sessions, cubic, seconds, link] = &arguments[..] else {
        return Err("share WAN SESSIONS CUBIC SECONDS LINK".into());
    };
    let (sessions, cubic): (usize, usize) = (sessions.parse()?, cubic.parse()?);
    let seconds: usize = seconds.parse()?;
    let pid = std::process::id();
    let names = [format!("aps{pid}l"), format!("aps{pid}r")];
    for name in &names {
        ip(&["netns", "add", name])?;
    }
    let outcome = measure(wan, &names, (sessions, cubic, seconds), link);
    for name in &names {
        ip(&["netns", "del", name])?;
    }
    outcome
}

fn measure(
    wan: &str,
    names: &[String; 2],
    (sessions, cubic, seconds): (usize, usize, usize),
    link: &str,
) -> Result<(), Failure> {
    let mut wan = Command::new(wan)
        .args(["--left", &names[0], "--right", &names[1]])
        .args(["--left-address", "10.9.0.1/24", "--right-address", "10.9.0.2/24"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut orders = wan.stdin.take().ok_or("no stdin")?;
    let mut answers = BufReader::new(wan.stdout.take().ok_or("no stdout")?).lines();
    println!("{}", answers.next().ok_or("the link ended")??);
    writeln!(orders, "{{\"set\":{{\"both\":{link}}}}}")?;
    println!("{}", answers.next().ok_or("the link ended")??);

    let (ours, theirs) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    bulk(names, sessions, &ours)?;
    tcp(names, cubic, &theirs)?;
    let mut totals = Vec::new();
    for _ in 0..seconds {
        std::thread::sleep(Duration::from_secs(1));
        let total = [&ours, &theirs].map(|count| count.load(Ordering::Relaxed));
        let before = totals.last().copied().unwrap_or([0, 0]);
        let mbit = |at: usize| megabits(total[at] - before[at], 1);
        println!("{:.1} {:.1}", mbit(0), mbit(1));
        totals.push(total);
    }
    let (half, end) = (totals[seconds / 2 - 1], totals[seconds - 1]);
    let mbit = |at: usize| megabits(end[at] - half[at], seconds - seconds / 2);
    println!(
        "{{\"link\":{link},\"sessions\":{sessions},\"cubic\":{cubic},\"tunnel_mbit\":{:.2},\
         \"cubic_mbit\":{:.2}}}",
        mbit(0),
        mbit(1)
    );
    drop(orders);
    wan.wait()?;
    Ok(())
}

fn megabits(bytes: u64, seconds: usize) -> f64 {
    bytes as f64 * 8.0 / 1e6 / seconds as f64
}

fn ip(arguments: &[&str]) -> Result<(), Failure> {
    let status = Command::new("ip").args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments:?}: {status}").into()) }
}

/// A thread in a namespace.
fn inside(
    name: &str,
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    let file = File::open(format!("/run/netns/{name}"))?;
    std::thread::spawn(move || {
        move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(Failure::from)
            .and_then(|()| work())
            .inspect_err(|error| println!("{error}"))
    });
    Ok(())
}

fn tcp(names: &[String; 2], flows: usize, arrived: &Arc<AtomicU64>) -> Result<(), Failure> {
    let arrived = Arc::clone(arrived);
    inside(&names[1], move || {
        let listener = TcpListener::bind(SINK)?;
        loop {
            let (mut stream, _) = listener.accept()?;
            let arrived = Arc::clone(&arrived);
            std::thread::spawn(move || {
                let mut room = vec![0; 1 << 16];
                while let Ok(read @ 1..) = stream.read(&mut room) {
                    arrived.fetch_add(read as u64, Ordering::Relaxed);
                }
            });
        }
    })?;
    for _ in 0..flows {
        inside(&names[0], || {
            std::thread::sleep(Duration::from_millis(200));
            let mut stream = TcpStream::connect(SINK)?;
            socket2::SockRef::from(&stream).set_tcp_congestion(b"cubic")?;
            let bytes = vec![0; 1 << 16];
            loop {
                stream.write_all(&bytes)?;
            }
        })?;
    }
    Ok(())
}

fn bulk(names: &[String; 2], sessions: usize, arrived: &Arc<AtomicU64>) -> Result<(), Failure> {
    if sessions == 0 {
        return Ok(());
    }
    let (node, core) = (PrivateKey::generate(), PrivateKey::generate());
    let (to_node, to_core) = (node.public_key(), core.public_key());
    let flows = Flows::default();
    flows.set(sessions);
    let (certified, transport) = (Certified::new(), transport_of(Class::Bulk, &flows));
    let server = certified.server_over(Arc::clone(&transport));
    let client = certified.client_over(transport);
    let arrived = Arc::clone(arrived);
    inside(&names[1], move || runtime()?.block_on(receive(core, to_node, server, arrived)))?;
    inside(&names[0], move || {
        std::thread::sleep(Duration::from_millis(200));
        runtime()?.block_on(send(node, to_core, client, sessions))
    })
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn endpoint(
    own: PrivateKey,
    listen: &str,
    peer: PeerConfig,
    server: Option<quinn::ServerConfig>,
    tasks: &Tasks,
) -> Result<Endpoint, Failure> {
    let config = TunnelConfig::new(own, listen.parse()?);
    let tunnel = Tunnel::bind(config, tasks, Metrics::default())?;
    tunnel.set_peers(vec![peer]);
    let port = if server.is_some() { TRUNK_PORT } else { 0 };
    let socket = tunnel.udp_socket(port, Class::Bulk)?;
    let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    Ok(Endpoint::new_with_abstract_socket(config, server, socket, runtime)?)
}

async fn receive(
    own: PrivateKey,
    node: PublicKey,
    server: quinn::ServerConfig,
    arrived: Arc<AtomicU64>,
) -> Result<(), Failure> {
    let tasks = Tasks::default();
    let accepting = endpoint(own, CORE, PeerConfig::new(node), Some(server), &tasks)?;
    let connection = accepting.accept().await.ok_or("no one came")?.await?;
    loop {
        let (_, mut stream) = connection.accept_bi().await?;
        let arrived = Arc::clone(&arrived);
        tasks.tracker.spawn(async move {
            while let Ok(Some(chunk)) = stream.read_chunk(usize::MAX, true).await {
                arrived.fetch_add(chunk.bytes.len() as u64, Ordering::Relaxed);
            }
        });
    }
}

async fn send(
    own: PrivateKey,
    core: PublicKey,
    client: quinn::ClientConfig,
    sessions: usize,
) -> Result<(), Failure> {
    let tasks = Tasks::default();
    let there = PeerConfig { endpoint: Some(CORE.parse()?), ..PeerConfig::new(core) };
    let mut dialing = endpoint(own, NODE, there, None, &tasks)?;
    dialing.set_default_client_config(client);
    let target = SocketAddr::new(core.address().into(), TRUNK_PORT);
    let connection = dialing.connect(target, "core")?.await?;
    let megabyte = bytes::Bytes::from(vec![0x5a; 1_000_000]);
    for _ in 0..sessions {
        let (mut stream, _) = connection.open_bi().await?;
        let megabyte = megabyte.clone();
        tasks
            .tracker
            .spawn(async move { while stream.write_chunk(megabyte.clone()).await.is_ok() {} });
    }
    connection.closed().await;
    Ok(())
}
