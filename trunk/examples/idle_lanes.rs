//! What lanes cost that carry nothing: both ends of one trunk in this process, over QUIC on
//! loopback.
//!
//! `cargo run --release -p antipode-trunk --example idle_lanes [lanes] [seconds]`
#![allow(clippy::print_stdout, reason = "a line for people")]
#![allow(clippy::unwrap_used, reason = "it stops at the first surprise")]

#[path = "../tests/world/mod.rs"]
#[allow(unreachable_pub, reason = "tests are crates of their own")]
mod world;

use std::time::Duration;

use antipode_proto::registry::v1::Carrier;
use antipode_runtime::process::Probe;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::Sockets;
use tokio::time::sleep;

use world::{Core, Node, World, udp};

#[tokio::main]
async fn main() {
    let mut given = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (lanes, seconds) = (given.next().unwrap_or(64), given.next().unwrap_or(20));
    let shutdown = Shutdown::default();
    let probe = Probe::start(&shutdown);
    let world = World::new();
    let core = Core::start(&world, [1; 16]).await;
    core.admit(&["node-1"]);
    let sockets = Sockets { chat: udp().0, bulk: Some(udp().0) };
    let node = Node::start_lanes(&world, [2; 16], sockets, lanes);
    sleep(Duration::from_secs(1)).await;
    let before = probe.usage();
    node.dial(core.target(Carrier::Quic));
    node.until(|up| up == lanes).await;
    sleep(Duration::from_secs(3)).await;
    let up = probe.usage();
    sleep(Duration::from_secs(seconds.into())).await;
    let idle = probe.usage();
    let grown = up.memory_bytes.saturating_sub(before.memory_bytes) / 1024;
    let cpu = f64::from(idle.cpu_permille) / 10.0;
    println!("{lanes} lanes, both ends: {grown} KiB, {cpu:.1} % of a core while idle");
}
