//! What stalled neighbours cost: turns of one session over a real trunk on loopback, alone, and
//! with all other sessions of its trunk stalled. Both trunks take turns, so that whatever else the
//! machine does hits both.
//!
//! `cargo run --release -p antipode-trunk --example slow_neighbours [stalled] [turns]`
#![allow(clippy::print_stdout, reason = "a table for people")]
#![allow(clippy::unwrap_used, reason = "it stops at the first surprise")]

#[path = "../tests/world/mod.rs"]
#[allow(unreachable_pub, reason = "tests are crates of their own")]
mod world;

use std::time::Duration;

use antipode_proto::registry::v1::Carrier;
use antipode_proto::trunk::v1::ResponseHead;
use antipode_runtime::clock;
use antipode_trunk::{Body, CHUNK_BYTES_MAX, SessionPort};
use tokio::time::timeout;

use world::{Core, Node, World, chunk, next, request};

#[derive(Clone, Copy)]
enum Slow {
    Nobody,
    Clients,
    Backends,
}

#[tokio::main]
async fn main() {
    let mut given = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (stalled, turns) = (given.next().unwrap_or(180), given.next().unwrap_or(20_000));
    println!("{turns} turns of 1 KiB each way, {stalled} stalled neighbours, QUIC on loopback");
    println!("| stalled | p50 alone | p50 | p99 alone | p99 | p99, times alone |");
    println!("|---|---|---|---|---|---|");
    for (name, slow) in [("clients", Slow::Clients), ("backends", Slow::Backends)] {
        let mut alone = Trunk::start(0, Slow::Nobody).await;
        let mut crowded = Trunk::start(stalled, slow).await;
        for _ in 0..turns / 20 {
            alone.turn().await;
            crowded.turn().await;
        }
        (alone.taken, crowded.taken) = (Vec::new(), Vec::new());
        for _ in 0..turns {
            alone.turn().await;
            crowded.turn().await;
        }
        let p = |trunk: &Trunk, share| trunk.at(share).as_secs_f64() * 1e6;
        println!(
            "| {name} | {:.0} µs | {:.0} µs | {:.0} µs | {:.0} µs | {:.2} |",
            p(&alone, 50),
            p(&crowded, 50),
            p(&alone, 99),
            p(&crowded, 99),
            p(&crowded, 99) / p(&alone, 99),
        );
    }
}

struct Trunk {
    core: Core,
    node: Node,
    /// Client's end and backend's; the first one is the one that is measured.
    sessions: Vec<(SessionPort, SessionPort)>,
    taken: Vec<Duration>,
}

impl Trunk {
    async fn start(stalled: usize, slow: Slow) -> Self {
        let world = World::new();
        let core = Core::start(&world, [1; 16]).await;
        let node = Node::start(&world, [2; 16]);
        core.admit(&["node-1"]);
        node.dial(core.target(Carrier::Quic));
        node.up().await;
        let mut trunk = Self { core, node, sessions: Vec::new(), taken: Vec::new() };
        for _ in 0..=stalled {
            trunk.open().await;
        }
        for (client, backend) in trunk.sessions.iter().skip(1) {
            match slow {
                Slow::Nobody => {}
                Slow::Clients => fill(backend).await,
                Slow::Backends => fill(client).await,
            }
        }
        trunk
    }

    async fn open(&mut self) {
        let client = self.node.trunks.open(request("/")).unwrap();
        let backend = self.core.accepted.recv().await.unwrap().port;
        backend.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
        assert!(matches!(next(&client).await, Body::Response(_)));
        self.sessions.push((client, backend));
    }

    async fn turn(&mut self) {
        let (client, backend) = &self.sessions[0];
        let payload = [7_u8; 1024];
        let start = clock::now();
        client.send(chunk(&payload)).unwrap();
        next(backend).await;
        backend.send(chunk(&payload)).unwrap();
        next(client).await;
        self.taken.push(clock::now() - start);
    }

    fn at(&self, percent: usize) -> Duration {
        let mut taken = self.taken.clone();
        taken.sort_unstable();
        taken[taken.len() * percent / 100]
    }
}

/// Sends until the far end's credit is spent.
async fn fill(port: &SessionPort) {
    while let Ok(ready) = timeout(Duration::from_millis(2), port.ready()).await {
        ready.unwrap();
        port.send(chunk(&[7; CHUNK_BYTES_MAX])).unwrap();
    }
}
