//! Who is slow, and whoever sends tiny frames by the thousand, harms nobody else: over real lanes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

mod world;

use std::net::{Ipv6Addr, SocketAddr};
use std::time::Duration;

use antipode_proto::registry::v1::Carrier;
use antipode_proto::trunk::v1::{Cause, ResponseHead};
use antipode_trunk::metrics::{Direction, DirectionLabels};
use antipode_trunk::{Body, CHUNK_BYTES_MAX, SessionPort};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

use world::{Core, Node, World, chunk, next, request};

/// All but one of a trunk's sessions stalled; eight lanes, so that it shares one with many.
const STALLED: usize = 120;
const TURNS: u32 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_that_read_nothing_hold_up_nobody() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut lab = Lab::start(carrier).await;
        let stalled = lab.open(STALLED).await;
        let mut pushed = Vec::new();
        for (_, backend) in &stalled {
            pushed.push(push(backend).await);
        }
        lab.turns().await;
        for ((client, _), pushed) in stalled.iter().zip(pushed) {
            pull(client, pushed).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn backends_that_read_nothing_hold_up_nobody() {
    for carrier in [Carrier::Quic, Carrier::Tcp] {
        let mut lab = Lab::start(carrier).await;
        let stalled = lab.open(STALLED).await;
        let mut pushed = Vec::new();
        for (client, _) in &stalled {
            pushed.push(push(client).await);
        }
        lab.turns().await;
        for ((_, backend), pushed) in stalled.iter().zip(pushed) {
            pull(backend, pushed).await;
        }
    }
}

/// Each a batch, a gRPC message and an HTTP/2 DATA frame of its own, many of them at once whenever
/// the link has stood still for a moment. h2 ends connections over less (RUSTSEC-2026-0258).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_tiny_frames_ends_no_lane() {
    let mut lab = Lab::start(Carrier::Tcp).await;
    let sessions = lab.open(64).await;
    let gate = lab.gate.clone();
    let toggling = lab.relay.spawn(async move {
        loop {
            for state in [Gate::Shut, Gate::Open] {
                gate.send_replace(state);
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    });
    let each = 2_000;
    let labels = DirectionLabels { direction: Direction::Out };
    let frames = lab.node.metrics.frames.get_or_create(&labels).clone();
    for _ in 0..each {
        for (client, _) in &sessions {
            let before = frames.get();
            client.send(chunk(b"x")).unwrap();
            // Until it has gone by itself: what waits together would be gathered.
            for _ in 0..10_000 {
                if frames.get() > before {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
    for (_, backend) in &sessions {
        for _ in 0..each {
            let body = timeout(Duration::from_secs(60), next(backend)).await.expect("it flows");
            assert_eq!(body, chunk(b"x"));
        }
    }
    let batches = lab.node.metrics.batches.get_or_create(&labels).get();
    assert!(batches > 32 * each, "{batches} batches: most were gathered");
    assert_eq!(lab.node.metrics.lanes_lost.get(), 0, "a lane was lost");
    toggling.abort();
    lab.gate.send_replace(Gate::Open);
    assert_eq!(lab.node.metrics.replayed_segments.get(), 0);
    lab.turns().await;
}

/// A node and a core, and between them a relay that may stand still.
struct Lab {
    core: Core,
    node: Node,
    gate: watch::Sender<Gate>,
    relay: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq)]
enum Gate {
    Open,
    Shut,
}

impl Lab {
    async fn start(carrier: Carrier) -> Self {
        let world = World::new();
        let core = Core::start(&world, [1; 16]).await;
        let node = Node::start(&world, [2; 16]);
        core.admit(&["node-1"]);
        let (gate, passage) = watch::channel(Gate::Open);
        let mut relay = JoinSet::new();
        let target = match carrier {
            Carrier::Tcp => {
                let listener = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.unwrap();
                let address = listener.local_addr().unwrap();
                relay.spawn(pass(listener, core.tcp, passage));
                core.target_at(Carrier::Tcp, address)
            }
            Carrier::Quic | Carrier::Unspecified => core.target(carrier),
        };
        node.dial(target);
        node.up().await;
        Self { core, node, gate, relay }
    }

    /// Sessions that have begun: the client's end and the backend's.
    async fn open(&mut self, count: usize) -> Vec<(SessionPort, SessionPort)> {
        let mut sessions = Vec::new();
        for _ in 0..count {
            let client = self.node.trunks.open(request("/")).unwrap();
            let backend = self.core.accepted.recv().await.unwrap().port;
            backend.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
            assert!(matches!(next(&client).await, Body::Response(_)));
            sessions.push((client, backend));
        }
        sessions
    }

    /// One more session comes and goes on as if it were alone.
    async fn turns(&mut self) {
        let (client, backend) = self.open(1).await.pop().unwrap();
        let start = Instant::now();
        for turn in 0..TURNS {
            client.ready().await.unwrap();
            client.send(chunk(&turn.to_be_bytes())).unwrap();
            assert_eq!(next(&backend).await, chunk(&turn.to_be_bytes()));
            backend.ready().await.unwrap();
            backend.send(chunk(&[turn.to_le_bytes(); 256].concat())).unwrap();
            assert_eq!(next(&client).await, chunk(&[turn.to_le_bytes(); 256].concat()));
        }
        // A turn takes well below a millisecond; on a busy machine, a few.
        assert!(start.elapsed() < Duration::from_millis(50) * TURNS, "{:?}", start.elapsed());
        client.reset(Cause::ClientClosed, "done");
    }
}

/// Sends until the far end's credit is spent; says how much that was.
async fn push(port: &SessionPort) -> usize {
    let mut pushed = 0;
    while let Ok(ready) = timeout(Duration::from_millis(20), port.ready()).await {
        ready.unwrap();
        port.send(chunk(&vec![7; CHUNK_BYTES_MAX])).unwrap();
        pushed += CHUNK_BYTES_MAX;
        assert!(pushed <= 272 * 1024, "nothing holds the sender back");
    }
    pushed
}

/// Reads everything that was pushed.
async fn pull(port: &SessionPort, pushed: usize) {
    let mut pulled = 0;
    while pulled < pushed {
        let Body::Chunk(chunk) = next(port).await else { continue };
        assert_eq!(chunk.payload, vec![7; CHUNK_BYTES_MAX]);
        pulled += chunk.payload.len();
    }
    assert_eq!(pulled, pushed, "what was stalled is all there");
}

/// Relays while the gate is open; what comes meanwhile waits in the sockets.
async fn pass(listener: TcpListener, target: SocketAddr, gate: watch::Receiver<Gate>) {
    let mut streams = JoinSet::new();
    loop {
        let (near, _) = listener.accept().await.unwrap();
        let far = TcpStream::connect(target).await.unwrap();
        let ((near_read, near_write), (far_read, far_write)) =
            (near.into_split(), far.into_split());
        streams.spawn(one_way(near_read, far_write, gate.clone()));
        streams.spawn(one_way(far_read, near_write, gate.clone()));
    }
}

async fn one_way(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut gate: watch::Receiver<Gate>) {
    let mut bytes = vec![0; 1 << 20];
    loop {
        let Ok(count @ 1..) = from.read(&mut bytes).await else { return };
        let Ok(_) = gate.wait_for(|gate| *gate == Gate::Open).await else { return };
        let Ok(()) = to.write_all(&bytes[..count]).await else { return };
    }
}
