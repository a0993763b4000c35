//! A far link that is full: what the tunnel takes of it beside others, and what bulk leaves to
//! chat.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::Client;
use antipode_tests::far::Family::V4;
use antipode_tests::far::{Ground, address};
use antipode_tests::namespaces::{NEED_ROOT, has_root};
use antipode_tests::report::progress;
use antipode_tests::require::require;
use antipode_tests::stories;
use antipode_tests::wan::pair::{connect, listen};
use anyhow::ensure;
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty};
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

const SECOND: Duration = Duration::from_secs(1);
const FLOWS: usize = 8;
/// Of the link, for either side: half would be just, a tenth is starving.
const SHARE_MIN: f64 = 0.2;
/// What bulk may add to a chat message's round trip, and what a busy machine adds to that.
const DELAY_MAX: Duration = Duration::from_millis(20);
const SLACK: Duration = Duration::from_millis(10);
/// A machine where others work too may be late now and then; a queue of bulk's is there always.
const TRIES: usize = 3;

/// One at a time: what either measures must not be the other's load.
static ALONE: Mutex<()> = Mutex::const_new(());

/// Bytes that arrived.
type Count = Arc<AtomicU64>;

#[tokio::test(flavor = "multi_thread")]
async fn eight_sessions_and_eight_cubic_flows_share_a_link() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let link = r#"{"delay_ms": 25, "rate_mbit": 20, "queue_ms": 100}"#;
    let ground = Ground::make(&[(V4, link)])?;
    let backend = Backend::start(ground.lab.here)?;
    let world = ground.world(backend.address()).await?;
    let (ours, theirs) = (Count::default(), Count::default());
    let stop = Arc::new(AtomicBool::new(false));
    cubic(&ground, &theirs, &stop)?;
    let _downloads = downloads(&world.client(0), FLOWS, &ours);
    tokio::time::sleep(6 * SECOND).await;
    let before = [&ours, &theirs].map(|count| count.load(Ordering::Relaxed));
    tokio::time::sleep(10 * SECOND).await;
    let after = [&ours, &theirs].map(|count| count.load(Ordering::Relaxed));
    stop.store(true, Ordering::Relaxed);

    // Megabits a second of payload.
    #[allow(clippy::cast_precision_loss, reason = "a share")]
    let [ours, theirs] = [0, 1].map(|at| (after[at] - before[at]) as f64 * 8.0 / 10e6);
    let told = format!("the tunnel {ours:.2} Mbit/s, cubic {theirs:.2} Mbit/s");
    progress(&told);
    let all = ours + theirs;
    ensure!(all > 15.0, "the link is not full: {told}");
    ensure!(ours > SHARE_MIN * all && theirs > SHARE_MIN * all, "{told}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn chat_does_not_wait_for_bulk() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(());
    }
    let _alone = ALONE.lock().await;
    let link = r#"{"delay_ms": 25, "rate_mbit": 10, "queue_ms": 200}"#;
    let ground = Ground::make(&[(V4, link)])?;
    let backend = Backend::start(ground.lab.here)?;
    let world = ground.world(backend.address()).await?;
    let client = world.client(0);
    let alone = round_trips(&client, 3 * SECOND).await?;
    let bulk = Count::default();
    let _downloads = downloads(&client, 1, &bulk);
    tokio::time::sleep(4 * SECOND).await;
    let mut tries = 0;
    loop {
        let before = bulk.load(Ordering::Relaxed);
        let beside = round_trips(&client, 6 * SECOND).await?;
        let carried = bulk.load(Ordering::Relaxed) - before;

        let told = format!("alone {alone:?}, beside bulk {beside:?}, {carried} bytes of it in 6 s");
        progress(&told);
        ensure!(carried > 4_000_000, "there was no bulk: {told}");
        if beside.p99 <= alone.p99 + DELAY_MAX + SLACK {
            return Ok(());
        }
        tries += 1;
        ensure!(tries < TRIES, "{told}");
    }
}

/// How long echoes took.
#[derive(Clone, Copy, Debug)]
struct RoundTrips {
    #[allow(dead_code, reason = "to be printed")]
    p50: Duration,
    p99: Duration,
}

/// An echo of 128 bytes each 20 ms for a while.
async fn round_trips(client: &Client, length: Duration) -> anyhow::Result<RoundTrips> {
    let mut socket = client.open("/").await?;
    let (start, mut times) = (Instant::now(), Vec::new());
    while start.elapsed() < length {
        let sent = Instant::now();
        stories::echo(&mut socket, Message::binary(vec![7; 128])).await?;
        times.push(sent.elapsed());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    Ok(RoundTrips { p50: at(50), p99: at(99) })
}

/// Downloads that do not end before they are dropped; what arrives is counted.
fn downloads(client: &Client, number: usize, count: &Count) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for _ in 0..number {
        let (client, count) = (client.clone(), Arc::clone(count));
        tasks.spawn(async move {
            let request = Request::get("/download?bytes=1000000000").body(Empty::<Bytes>::new());
            let mut exchange =
                client.request(request.expect("a request")).await.expect("an answer");
            while let Some(Ok(frame)) = exchange.response.body_mut().frame().await {
                let length = frame.data_ref().map_or(0, Bytes::len);
                count.fetch_add(u64::try_from(length).expect("a length"), Ordering::Relaxed);
            }
        });
    }
    tasks
}

/// TCP flows from the core's host to the node's, past the tunnel; what arrives is counted.
fn cubic(ground: &Ground, count: &Count, stop: &Arc<AtomicBool>) -> anyhow::Result<()> {
    let far = address(V4, 0, 2);
    let listener = listen(&ground.lab.west.namespace, &far.to_string(), 7000)?;
    let to = SocketAddr::new(far, 7000);
    for _ in 0..FLOWS {
        let near = connect(&ground.lab.east.namespace, to, 5 * SECOND)??;
        let (far, _) = listener.accept()?;
        rustix::net::sockopt::set_tcp_congestion(&far, "cubic")?;
        let (count, stop, halt) = (Arc::clone(count), Arc::clone(stop), Arc::clone(stop));
        std::thread::spawn(move || {
            read(near, &count, &stop);
        });
        std::thread::spawn(move || write(far, &halt));
    }
    Ok(())
}

fn read(mut socket: TcpStream, count: &AtomicU64, stop: &AtomicBool) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(length @ 1..) = socket.read(&mut buffer) {
        count.fetch_add(u64::try_from(length).expect("a length"), Ordering::Relaxed);
        if stop.load(Ordering::Relaxed) {
            return;
        }
    }
}

fn write(mut socket: TcpStream, stop: &AtomicBool) {
    let buffer = vec![0; 1 << 16];
    while !stop.load(Ordering::Relaxed) && socket.write_all(&buffer).is_ok() {}
}
