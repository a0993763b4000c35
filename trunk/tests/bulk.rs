//! Bulk beside chat over real tunnels and a narrow path: what somebody waits for does not wait for
//! what is large, and nothing is lost when a session, a lane or a way changes.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(clippy::print_stderr, reason = "what was measured is worth a line")]

mod path;
mod traffic;
mod tunnels;
mod world;

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::trunk::v1::{Chunk, ResponseHead};
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::metrics::MoveLabels;
use antipode_trunk::{Body, SessionPort, Sockets};
use antipode_tunnel::key::BULK_PORT_OFFSET;
use antipode_tunnel::{Class, PrivateKey, TRUNK_PORT, Tunnel};
use bytes::Bytes;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use path::Path;
use traffic::Traffic;
use world::{Core, Node, World, chunk, next, request};

const ONE_WAY: Duration = Duration::from_millis(50);
const BITS_PER_SECOND: u64 = 10_000_000;
const FRAME_BYTES: usize = 1 << 20;
/// How much longer chat may take beside bulk: 20 ms is the aim, the rest is for a busy machine.
const BOUND: Duration = Duration::from_millis(60);

struct Lab {
    core: Core,
    node: Node,
    node_tunnel: Tunnel,
    path: Path,
    _shutdown: Shutdown,
}

impl Lab {
    async fn start() -> Self {
        let (world, shutdown) = (World::new(), Shutdown::default());
        let (node_key, core_key) = (PrivateKey::generate(), PrivateKey::generate());
        let (to_node, to_core) = (node_key.public_key(), core_key.public_key());
        let core_tunnel = tunnels::of_core(&core_key, to_node, &shutdown);
        let socket = |tunnel: &Tunnel, port, class| tunnel.udp_socket(port, class).unwrap();
        let chat = socket(&core_tunnel, TRUNK_PORT, Class::Chat);
        let bulk = socket(&core_tunnel, TRUNK_PORT + BULK_PORT_OFFSET, Class::Bulk);
        let quic = tunnels::trunk_of(to_core);
        let core = Core::start_with(&world, [1; 16], chat, Some(bulk), quic).await;
        tunnels::admit(&core, to_node);

        let path = Path::start(core_tunnel.local_addr(), ONE_WAY).await;
        path.limit(BITS_PER_SECOND);
        let node_tunnel = tunnels::of_node(&node_key, (to_core, path.address), &shutdown);
        let chat = socket(&node_tunnel, 0, Class::Chat);
        let bulk = Some(socket(&node_tunnel, 0, Class::Bulk));
        let node = Node::start_with(&world, [2; 16], Sockets { chat, bulk });
        tunnels::dial(&node, &node_tunnel, to_core).await;
        let lab = Self { core, node, node_tunnel, path, _shutdown: shutdown };
        lab.bulk_up().await;
        lab
    }

    async fn bulk_up(&self) {
        let up = async {
            while self.node.metrics.bulk_lanes_up.get() < i64::from(world::BULK_LANES) {
                sleep(Duration::from_millis(10)).await;
            }
        };
        timeout(Duration::from_secs(10), up).await.expect("the lanes for bulk come up");
    }

    async fn open(&mut self) -> (Arc<SessionPort>, Arc<SessionPort>) {
        let near = self.node.trunks.open(request("/")).expect("the trunk is up");
        let far = self.core.accepted.recv().await.expect("the session arrives").port;
        far.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
        next(&near).await;
        (Arc::new(near), Arc::new(far))
    }

    fn moves(&self, to: Class) -> u64 {
        self.node.metrics.moves.get_or_create(&MoveLabels { to }).get()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_does_not_wait_for_a_download() {
    beside(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_does_not_wait_for_an_upload() {
    beside(true).await;
}

/// Round trips of small frames, alone and beside large ones that fill the path.
async fn beside(up: bool) {
    let mut lab = Lab::start().await;
    let (near, far) = lab.open().await;
    let mut tasks = JoinSet::new();
    tasks.spawn(echo(far));
    let alone = round_trips(&near, 100).await;

    let (bulk_near, bulk_far) = lab.open().await;
    let (from, to) = if up { (bulk_near, bulk_far) } else { (bulk_far, bulk_near) };
    let arrived = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    tasks.spawn(pour(from));
    tasks.spawn(drain(to, Arc::clone(&arrived)));
    let began = Instant::now();
    let beside = round_trips(&near, 400).await;
    let arrived = arrived.load(std::sync::atomic::Ordering::Relaxed);
    let carried = f64::from(u32::try_from(arrived).unwrap()) / began.elapsed().as_secs_f64();

    let show = |trips: &[Duration]| [0.5, 0.9, 0.99, 1.0].map(|share| ms(at(trips, share)));
    let (alone_ms, beside_ms) = (show(&alone), show(&beside));
    let which = if up { "upload" } else { "download" };
    eprintln!(
        "{which}: {:.2} Mbit/s; chat p50, p90, p99, max in ms: alone {alone_ms:?}, \
         beside {beside_ms:?}",
        carried * 8.0 / 1e6
    );
    assert_eq!(lab.moves(Class::Bulk), 1, "the transfer moved, once");
    assert!(arrived > 2 * FRAME_BYTES, "the transfer gets on: {arrived} bytes");
    let longer = at(&beside, 0.9).saturating_sub(at(&alone, 0.9));
    assert!(longer < BOUND, "{longer:?} longer");
}

/// The tunnel's way changes again and again while sessions of both classes talk.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_way_gets_a_new_carrier_and_nothing_is_lost() {
    let mut lab = Lab::start().await;
    let traffic = Traffic::start(&lab.node, &mut lab.core, 6).await;
    let (near, far) = lab.open().await;
    let arrived = Arc::default();
    let mut tasks = JoinSet::new();
    tasks.spawn(pour(far));
    tasks.spawn(drain(near, Arc::clone(&arrived)));
    for _ in 0..4 {
        sleep(Duration::from_millis(700)).await;
        lab.path.rebind();
        let core = lab.node_tunnel.peers().first().map(|peer| peer.public_key.address());
        lab.node.trunks.handle_way_changed(core.expect("there is one peer"));
    }
    traffic.flows_within(Duration::from_secs(5)).await;
    traffic.finish().await;
    let replaced = lab.node.metrics.carriers_replaced.get();
    assert!(replaced >= 4, "{replaced} carriers were replaced");
    assert!(arrived.load(std::sync::atomic::Ordering::Relaxed) > FRAME_BYTES);
}

/// Large frames without end, whose bytes count.
async fn pour(port: Arc<SessionPort>) {
    let mut count = 0_usize;
    loop {
        for piece in 0..FRAME_BYTES / antipode_trunk::CHUNK_BYTES_MAX {
            if port.ready().await.is_err() {
                return;
            }
            let is_first = piece == 0;
            let mut payload = count.to_be_bytes().to_vec();
            payload.resize(antipode_trunk::CHUNK_BYTES_MAX, 7);
            count += 1;
            let frame_len = is_first.then_some(FRAME_BYTES.try_into().unwrap());
            let (frame, payload) = (is_first.then_some(0x82), Bytes::from(payload));
            let chunk = Chunk { frame, frame_len, payload, ..Chunk::default() };
            if port.send(chunk.into()).is_err() {
                return;
            }
        }
    }
}

async fn drain(port: Arc<SessionPort>, arrived: Arc<std::sync::atomic::AtomicUsize>) {
    let mut count = 0_usize;
    while let Ok(delivery) = port.deliver().await {
        port.consumed(delivery.seq);
        if let Body::Chunk(chunk) = delivery.body {
            assert_eq!(chunk.payload[..8], count.to_be_bytes(), "out of order");
            count += 1;
            arrived.fetch_add(chunk.payload.len(), std::sync::atomic::Ordering::Relaxed);
        }
    }
}

async fn echo(port: Arc<SessionPort>) {
    while let Ok(delivery) = port.deliver().await {
        port.consumed(delivery.seq);
        let _ = port.send(delivery.body);
    }
}

async fn round_trips(port: &SessionPort, count: usize) -> Vec<Duration> {
    let mut trips = Vec::new();
    for _ in 0..count {
        let sent = Instant::now();
        port.send(chunk(&[7; 100])).expect("alive");
        next(port).await;
        trips.push(sent.elapsed());
        sleep(Duration::from_millis(10)).await;
    }
    trips.sort();
    trips
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a few hundred trips")]
#[allow(clippy::cast_precision_loss, reason = "a few hundred trips")]
fn at(sorted: &[Duration], share: f64) -> Duration {
    let index = (sorted.len() as f64 * share) as usize;
    sorted[index.min(sorted.len() - 1)]
}

fn ms(duration: Duration) -> u128 {
    duration.as_millis()
}
