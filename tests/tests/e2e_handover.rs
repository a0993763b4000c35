//! A new process of the core takes over from the one that serves, and what becomes of everybody.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::certificate::Certificates;
use antipode_tests::client::{Client, Socket};
use antipode_tests::counted::{Counted, Treat, Treatment};
use antipode_tests::faults::crowd::Habit;
use antipode_tests::faults::stage::{Setting, Stage};
use antipode_tests::faults::unix_ms;
use antipode_tests::foreign::{NEED_NPM, has_npm};
use antipode_tests::require::require;
use antipode_tests::stories;
use antipode_tests::world::{Plan, World};
use anyhow::{Context, ensure};
use futures_util::StreamExt;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_tungstenite::tungstenite::Message;

const LIMIT: Duration = Duration::from_secs(30);

/// In which traffic must flow again, with a machine that does much else.
const FLOW_SECONDS_MAX: f64 = 3.0;

#[tokio::test(flavor = "multi_thread")]
async fn sessions_go_on_through_one_upgrade_after_another() -> anyhow::Result<()> {
    let habit = Habit { every: Duration::from_millis(20), bytes: 700 };
    let setting = Setting { nodes: 2, plain: 60, resumable: 0, habit, ..Setting::default() };
    let mut stage = Stage::set(setting).await?;
    let mut upgraded_at = 0;
    for _ in 0..3 {
        upgraded_at = unix_ms();
        upgrade(&mut stage.world)?;
        stage.flows_since(unix_ms(), LIMIT).await?;
    }
    let outcome = stage.strike(upgraded_at).await?;
    outcome.untouched()?;
    let flow = outcome.plain_verdict.flow_seconds(1000).unwrap_or(f64::INFINITY);
    ensure!(flow < FLOW_SECONDS_MAX, "{flow} s until all flowed again");
    Ok(())
}

/// Its WebSocket moves with its session.
#[tokio::test(flavor = "multi_thread")]
async fn resumable_clients_have_nothing_to_resume() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) {
        return Ok(());
    }
    let habit = Habit { every: Duration::from_millis(20), bytes: 20_000 };
    let setting = Setting { plain: 0, resumable: 20, habit, ..Setting::default() };
    let mut stage = Stage::set(setting).await?;
    for _ in 0..2 {
        upgrade(&mut stage.world)?;
        stage.flows_since(unix_ms(), LIMIT).await?;
    }
    let outcome = stage.strike(unix_ms()).await?;
    outcome.untouched()?;
    ensure!(outcome.resumable_verdict.resumed == 0, "{:?}", outcome.resumable_verdict);
    Ok(())
}

/// Frames of many chunks are cut anywhere, and their rest comes from another process.
#[tokio::test(flavor = "multi_thread")]
async fn frames_that_are_under_way_arrive_whole() -> anyhow::Result<()> {
    let habit = Habit { every: Duration::from_millis(5), bytes: 300_000 };
    let setting = Setting { plain: 4, resumable: 0, habit, ..Setting::default() };
    let mut stage = Stage::set(setting).await?;
    for _ in 0..2 {
        upgrade(&mut stage.world)?;
        stage.flows_since(unix_ms(), LIMIT).await?;
    }
    stage.strike(unix_ms()).await?.untouched()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_successor_that_fails_leaves_everybody_where_they_are() -> anyhow::Result<()> {
    let setting = Setting { plain: 20, resumable: 0, ..Setting::default() };
    let mut stage = Stage::set(setting).await?;
    let socket = handover_socket(&stage.world);

    // It goes before it says anything, and in the middle of it.
    drop(UnixStream::connect(&socket)?);
    let other = claim(7, "somebody");
    let told = tokio::task::block_in_place(|| said_to(&socket, &other))?;
    ensure!(told.contains("version"), "refused for its version: {told}");
    let other = claim(1, "somebody else");
    let told = tokio::task::block_in_place(|| said_to(&socket, &other))?;
    ensure!(told.contains("handover.socket"), "refused for its name: {told}");
    let text = std::fs::read_to_string(stage.world.folder.path().join("core.toml"))?;
    let successor = stage.world.run("core", "core", &text)?;
    successor.wait_for("taking over", LIMIT)?;
    successor.kill();
    stage.flows_since(unix_ms() + 500, LIMIT).await?;
    let core = stage.world.core.as_ref().context("the stage has a core")?;
    ensure!(core.ended().is_none(), "it serves on: {}", core.printed());

    // And the next one succeeds.
    upgrade(&mut stage.world)?;
    stage.flows_since(unix_ms(), LIMIT).await?;
    stage.strike(unix_ms()).await?.untouched()
}

#[tokio::test(flavor = "multi_thread")]
async fn exchanges_end_in_words_and_are_made_once() -> anyhow::Result<()> {
    let treat = Treat {
        end: "\r\n\r\n",
        by_path: |path| match path {
            "/quick" => Treatment::Answer(Duration::ZERO, "quick"),
            "/soon" => Treatment::Answer(Duration::from_secs(1), "soon"),
            _ => Treatment::Silence,
        },
    };
    let backend = Counted::start(treat).await?;
    let mut world = World::start(Plan::with_backend(backend.address)).await?;
    let client = world.client(0);
    let soon = get(&client, "/soon");
    let never = get(&client, "/never");
    backend.asked(2, LIMIT).await?;
    let socket = handover_socket(&world);
    let upgrading = async {
        upgrade(&mut world)?;
        anyhow::Ok(world)
    };
    // New ones wait for whoever serves next.
    let waiting = async {
        sleep(Duration::from_millis(300)).await;
        get(&client, "/quick").await
    };
    let (world, waited, soon, never) = tokio::join!(upgrading, waiting, soon, never);
    ensure!(soon? == (200, "soon".into()), "one that ends in time");
    let (status, text) = never?;
    ensure!(status == 502 && text.contains("restarts"), "one that does not: {status} {text}");
    ensure!(waited? == (200, "quick".into()), "one that begins meanwhile");
    ensure!(backend.requests() == 3, "{} requests of 3", backend.requests());
    ensure!(world.is_ok() && socket.exists());
    Ok(())
}

/// TLS has state that no descriptor carries.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_with_tls_are_told() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let folder = tempfile::tempdir()?;
    let certificates = Certificates::make(folder.path(), &["127.0.0.1"])?;
    let front = TlsFront::start(&certificates, backend.address()).await?;
    let authority = certificates.authority_file.display();
    let url = format!("https://{}\"\nca_file = \"{authority}", front.address);
    let plan = Plan { backend: url, ..Plan::with_backend(backend.address()) };
    let mut world = World::start(plan).await?;
    let mut socket = world.client(0).open("/").await?;
    stories::echo(&mut socket, Message::text("hello")).await?;
    upgrade(&mut world)?;
    ensure!(last_code(&mut socket).await? == 1012);
    let mut again = world.client(0).open("/").await;
    while again.is_err() {
        sleep(Duration::from_millis(100)).await;
        again = world.client(0).open("/").await;
    }
    stories::echo(&mut again?, Message::text("hello again")).await
}

/// Starts a new core, and waits for the end of the old one.
fn upgrade(world: &mut World) -> anyhow::Result<()> {
    tokio::task::block_in_place(|| world.upgrade_core())
}

fn handover_socket(world: &World) -> PathBuf {
    world.folder.path().join("core/handover.sock")
}

/// `FromSuccessor { claim { version, software, member_id } }` with its length.
fn claim(version: u8, member_id: &str) -> Vec<u8> {
    let mut claim = vec![0x08, version, 0x12, 4];
    claim.extend_from_slice(b"test");
    claim.extend_from_slice(&[0x1a, u8::try_from(member_id.len()).expect("a short name")]);
    claim.extend_from_slice(member_id.as_bytes());
    let mut message = vec![0x0a, u8::try_from(claim.len()).expect("a short claim")];
    message.extend_from_slice(&claim);
    let length = u32::try_from(message.len()).expect("a short message").to_be_bytes();
    [&length[..], &message].concat()
}

/// What a core answers to whoever says this, and then closes.
fn said_to(socket: &std::path::Path, message: &[u8]) -> anyhow::Result<String> {
    use std::io::{Read, Write};
    let mut socket = UnixStream::connect(socket)?;
    socket.write_all(message)?;
    socket.set_read_timeout(Some(LIMIT))?;
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

async fn last_code(socket: &mut Socket) -> anyhow::Result<u16> {
    loop {
        let message = timeout(LIMIT, socket.next()).await?;
        if let Message::Close(Some(frame)) = message.context("no close frame")?? {
            return Ok(frame.code.into());
        }
    }
}

fn get(
    client: &Client,
    path: &'static str,
) -> impl Future<Output = anyhow::Result<(u16, String)>> + use<> {
    let client = client.clone();
    let mut task = JoinSet::new();
    task.spawn(async move { client.get(path).await });
    async move { task.join_next().await.context("it was just spawned")?? }
}

/// TLS in front of a backend that has none.
struct TlsFront {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

impl TlsFront {
    async fn start(certificates: &Certificates, backend: SocketAddr) -> anyhow::Result<Self> {
        let chain = CertificateDer::pem_file_iter(&certificates.chain_file)?;
        let chain = chain.collect::<Result<Vec<_>, _>>()?;
        let key = PrivateKeyDer::from_pem_file(&certificates.key_file)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut sockets = JoinSet::new();
            while let Ok((socket, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                sockets.spawn(async move {
                    let Ok(mut near) = acceptor.accept(socket).await else { return };
                    let Ok(mut far) = TcpStream::connect(backend).await else { return };
                    drop(copy_bidirectional(&mut near, &mut far).await);
                });
            }
        });
        Ok(Self { address, _tasks: tasks })
    }
}
