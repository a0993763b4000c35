//! An HTTP request that may have reached the backend is never made a second time: it ends with an
//! answer that says so.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use antipode_tests::client::Client;
use antipode_tests::faults::until;
use antipode_tests::faults::wire::Wire;
use antipode_tests::settings::WIREGUARD_PORT;
use antipode_tests::world::{Plan, Sites, World};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(30);

/// A backend that counts requests for one path, and treats each as the path says.
struct Counted {
    address: SocketAddr,
    requests: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Counted {
    async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicUsize::new(0));
        let (mut tasks, count) = (JoinSet::new(), Arc::clone(&requests));
        tasks.spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                sockets.spawn(serve(socket, Arc::clone(&count)));
            }
        });
        Ok(Self { address, requests, _tasks: tasks })
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::Relaxed)
    }

    /// Waits until a request has come.
    async fn asked(&self) -> anyhow::Result<()> {
        until("the backend has the request", LIMIT, || self.requests() > 0).await
    }
}

async fn serve(mut socket: TcpStream, count: Arc<AtomicUsize>) {
    let (mut read, mut buffer) = (Vec::new(), [0; 4096]);
    while !read.ends_with(b"body") {
        match socket.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(n) => read.extend_from_slice(&buffer[..n]),
        }
    }
    count.fetch_add(1, Ordering::Relaxed);
    if read.starts_with(b"POST /late") {
        sleep(Duration::from_secs(6)).await;
        let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\ndone";
        drop(socket.write_all(answer).await);
    } else if read.starts_with(b"POST /silent") {
        std::future::pending().await
    }
}

fn post(client: &Client, path: &str) -> JoinSet<anyhow::Result<(u16, String)>> {
    let (client, path, mut task) = (client.clone(), path.to_owned(), JoinSet::new());
    task.spawn(async move {
        let request = Request::post(path).body(Full::new(Bytes::from_static(b"body")))?;
        client.request(request).await?.text().await
    });
    task
}

async fn answer(mut task: JoinSet<anyhow::Result<(u16, String)>>) -> anyhow::Result<(u16, String)> {
    let joined = task.join_next().await.expect("a task was started");
    joined?
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_vanishes_with_the_request_is_a_502() -> anyhow::Result<()> {
    let backend = Counted::start().await?;
    let world = World::start(Plan::with_backend(backend.address)).await?;
    let (status, text) = answer(post(&world.client(0), "/vanish")).await?;
    assert_eq!(status, 502, "{text}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.requests(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_is_a_504() -> anyhow::Result<()> {
    let backend = Counted::start().await?;
    let core_more = "[timeouts]\nresponse_head = \"2s\"\n".to_owned();
    let plan = Plan { core_more, ..Plan::with_backend(backend.address) };
    let world = World::start(plan).await?;
    let (status, text) = answer(post(&world.client(0), "/silent")).await?;
    assert_eq!(status, 504, "{text}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.requests(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_in_the_middle_delays_an_answer_and_repeats_no_request() -> anyhow::Result<()> {
    let backend = Counted::start().await?;
    let mut sites = Sites::on_loopback();
    let core = sites.core.address;
    let endpoint = SocketAddr::new(core, WIREGUARD_PORT + 1);
    let wire = Wire::start(endpoint, SocketAddr::new(core, WIREGUARD_PORT))?;
    sites.core.endpoints = vec![endpoint];
    let plan = Plan { sites: Some(sites), ..Plan::with_backend(backend.address) };
    let world = World::start(plan).await?;
    let waiting = post(&world.client(0), "/late");
    backend.asked().await?;
    wire.cut(true);
    sleep(Duration::from_secs(4)).await;
    wire.cut(false);
    assert_eq!(answer(waiting).await?, (200, "done".to_owned()));
    assert_eq!(backend.requests(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_dies_with_the_request_is_a_502_or_504() -> anyhow::Result<()> {
    let backend = Counted::start().await?;
    let mut world = World::start(Plan::with_backend(backend.address)).await?;
    let waiting = post(&world.client(0), "/silent");
    backend.asked().await?;
    world.core.as_ref().expect("the plan has a core").kill();
    let text = std::fs::read_to_string(world.folder.path().join("core.toml"))?;
    world.core = Some(world.run("core", "core", &text)?);
    let (status, text) = answer(waiting).await?;
    assert!([502, 504].contains(&status), "{status} {text}");
    assert_eq!(backend.requests(), 1);
    Ok(())
}
