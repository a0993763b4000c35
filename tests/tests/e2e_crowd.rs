//! Ten thousand sessions open at once, each of them alive.

use std::process::Command;
use std::time::Duration;

use antipode_tests::client::{Client, Socket};
use antipode_tests::process::Process;
use antipode_tests::require::require;
use antipode_tests::stories::echo;
use antipode_tests::world::{Plan, World};
use anyhow::{Context, ensure};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio_tungstenite::tungstenite::Message;

const SESSIONS: usize = 10_000;
const NODE_SESSIONS: &str = "antipode_node_sessions{kind=\"websocket\"} ";
/// Opened, or echoing, at once.
const AT_ONCE: usize = 100;
/// A TLS session in the node; tokio-rustls alone holds 9 KB of it.
const NODE_BYTES_A_SESSION_MAX: u64 = 48 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_sessions_live_at_once() -> anyhow::Result<()> {
    if !require("10,500 open files a process (ulimit -n)", files_max() >= 10_500) {
        return Ok(());
    }
    // A process of its own: each end of ten thousand sockets needs as many files.
    let mut command = Command::new(env!("CARGO_BIN_EXE_bench-path"));
    command.arg("--backend");
    let backend = Process::start("backend", command)?;
    let address = backend.wait_for("127.0.0.1:", Duration::from_secs(10))?.parse()?;
    let world = World::start(Plan::with_backend(address)).await?;
    let client = world.client(0);
    let before = world.nodes[0].memory_peak_bytes()?;

    let sockets: Vec<Socket> = stream::iter(0..SESSIONS)
        .map(|n| open(&client, n))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    ensure!(sessions(&world).await? == SESSIONS, "the node counts its sessions");

    let sockets: Vec<Socket> = stream::iter(sockets.into_iter().enumerate())
        .map(|(n, mut socket)| async move {
            echo(&mut socket, Message::text(format!("session {n} speaks"))).await?;
            anyhow::Ok(socket)
        })
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    ensure!(sessions(&world).await? == SESSIONS, "none is lost by speaking");
    let grown = world.nodes[0].memory_peak_bytes()? - before;
    let each = grown / u64::try_from(SESSIONS)?;
    ensure!(each < NODE_BYTES_A_SESSION_MAX, "the node held {each} bytes a session");

    drop(sockets);
    for _ in 0..600 {
        if sessions(&world).await? == 0 {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{} sessions are left a minute after the clients", sessions(&world).await?)
}

async fn open(client: &Client, n: usize) -> anyhow::Result<Socket> {
    client.open("/").await.with_context(|| format!("session {n}"))
}

/// What the node says it holds.
async fn sessions(world: &World) -> anyhow::Result<usize> {
    let metrics = world.metrics(2).await?;
    let line = metrics.lines().find_map(|line| line.strip_prefix(NODE_SESSIONS));
    Ok(line.with_context(|| format!("no {NODE_SESSIONS}in\n{metrics}"))?.parse()?)
}

/// What this process may open.
fn files_max() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find(|line| line.starts_with("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().nth(3));
    soft.and_then(|soft| soft.parse().ok()).unwrap_or(0)
}
