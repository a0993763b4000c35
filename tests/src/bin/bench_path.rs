//! Round trip and messages a second through the whole path, beside the same backend direct: JSON.
//!
//! Gateway, core, node, backend and clients are processes of their own on loopback. Direct and
//! relay take turns, and each figure is the median of its rounds, so that a busy machine hits both.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::Client;
use antipode_tests::process::Process;
use antipode_tests::report::{progress, result};
use antipode_tests::stories::echo;
use antipode_tests::world::{Plan, World};
use anyhow::Context;
use clap::Parser;
use hdrhistogram::Histogram;
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

/// Measures the relay's cost on loopback.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Seconds of each measurement.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Turns of direct and relay.
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Sockets that echo at once when messages are counted.
    #[arg(long, default_value_t = 200)]
    sockets: usize,
    /// Bytes in a message.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// Only be the backend, until killed.
    #[arg(long, hide = true)]
    backend: bool,
}

/// Medians over the rounds of one side.
#[derive(Debug, Default)]
struct Figures {
    p50_us: Vec<u64>,
    p99_us: Vec<u64>,
    messages: Vec<u64>,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    if args.backend {
        let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        result(&backend.address().to_string());
        return std::future::pending().await;
    }
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--backend");
    let backend = Process::start("backend", command)?;
    let address = backend.wait_for("127.0.0.1:", Duration::from_secs(10))?.parse()?;
    let world = World::start(Plan::with_backend(address)).await?;

    let sides = [Client::direct(address), world.client(0)];
    let mut figures = [Figures::default(), Figures::default()];
    for round in 1..=args.rounds {
        for (client, figures) in sides.iter().zip(&mut figures) {
            progress(&format!("round {round}: {}", client.ws_url()));
            let latency = run(client, 1, &args).await?;
            figures.p50_us.push(latency.value_at_quantile(0.5));
            figures.p99_us.push(latency.value_at_quantile(0.99));
            let echoes = run(client, args.sockets, &args).await?.len();
            // There and back.
            figures.messages.push(echoes * 2 / args.seconds);
        }
    }
    let told = told(&args, &mut figures)?;
    result(&serde_json::to_string_pretty(&told)?);
    Ok(())
}

/// Echoes on `sockets` sockets, one message under way on each; round trips in microseconds.
async fn run(client: &Client, sockets: usize, args: &Args) -> anyhow::Result<Histogram<u64>> {
    let mut open = Vec::new();
    for _ in 0..sockets {
        let mut socket = client.open("/").await?;
        echo(&mut socket, Message::binary(vec![1; args.bytes])).await?;
        open.push(socket);
    }
    let mut tasks = JoinSet::new();
    let end = Instant::now() + Duration::from_secs(args.seconds);
    for mut socket in open {
        let message = Message::binary(vec![1; args.bytes]);
        tasks.spawn(async move {
            let mut seen = Vec::new();
            loop {
                let sent = Instant::now();
                if sent >= end {
                    break;
                }
                echo(&mut socket, message.clone()).await?;
                seen.push(u64::try_from(sent.elapsed().as_micros())?);
            }
            drop(socket.close(None).await);
            anyhow::Ok(seen)
        });
    }
    let mut latency = Histogram::new(3)?;
    while let Some(seen) = tasks.join_next().await {
        for value in seen?? {
            latency.record(value)?;
        }
    }
    Ok(latency)
}

fn told(args: &Args, figures: &mut [Figures; 2]) -> anyhow::Result<Value> {
    let [direct, relay] = figures;
    let mut side = |values: fn(&mut Figures) -> &mut Vec<u64>| -> anyhow::Result<Value> {
        let direct = median(values(direct)).context("a round ran")?;
        let relay = median(values(relay)).context("a round ran")?;
        Ok(json!({ "direct": direct, "relay": relay, "ratio": ratio(relay, direct) }))
    };
    Ok(json!({
        "round_trip_p50_us": side(|figures| &mut figures.p50_us)?,
        "round_trip_p99_us": side(|figures| &mut figures.p99_us)?,
        "messages_per_second": side(|figures| &mut figures.messages)?,
        "sockets": args.sockets,
        "message_bytes": args.bytes,
        "rounds": args.rounds,
        "seconds": args.seconds,
        "cores": std::thread::available_parallelism()?.get(),
        "optimised": !cfg!(debug_assertions),
    }))
}

fn median(values: &mut [u64]) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// In hundredths, so that runs can be compared by eye.
fn ratio(relay: u64, direct: u64) -> f64 {
    let hundredths = relay * 100 / direct.max(1);
    u32::try_from(hundredths).map_or(f64::INFINITY, |value| f64::from(value) / 100.0)
}
