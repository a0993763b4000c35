//! SIGTERM with clients in the middle of something: they are told, and the program ends in time.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::Socket;
use antipode_tests::process::Process;
use antipode_tests::settings;
use antipode_tests::stories;
use antipode_tests::world::{Plan, World, ready};
use anyhow::Context;
use bytes::Bytes;
use futures_util::StreamExt;
use http::Request;
use http_body_util::Empty;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const LIMIT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(4);
/// For what follows the grace: tasks that are cut return at their next await.
const SLACK: Duration = Duration::from_secs(3);

#[tokio::test(flavor = "multi_thread")]
async fn a_node_and_a_core_end_within_their_grace() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let plan = Plan { with_core: false, nodes: 0, ..Plan::with_backend(backend.address()) };
    let world = World::start(plan).await?;
    let core = start_core(&world, &backend)?;
    let nodes = [start_node(&world, 0)?, start_node(&world, 1)?];
    for node in 0..2 {
        stories::messages_come_back(&world.client(node)).await?;
    }

    let mut open = world.client(0).open("/").await?;
    let deaf = world.client(0).open("/").await?;
    let target = "/stream?ticks=600&every_ms=100";
    let request = Request::get(target).body(Empty::<Bytes>::new())?;
    let endless = world.client(0).request(request).await?;
    let mut elsewhere = world.client(1).open("/").await?;
    let (node, told) = tokio::join!(terminate(&nodes[0]), last_code(&mut open));
    assert_eq!(node?, Some(0), "{}", nodes[0].printed());
    assert_eq!(told?, 1001);
    drop((deaf, endless));
    stories::echo(&mut elsewhere, Message::text("still here")).await?;

    let (core_code, told) = tokio::join!(terminate(&core), last_code(&mut elsewhere));
    assert_eq!(core_code?, Some(0), "{}", core.printed());
    assert_eq!(told?, 1012);
    assert_eq!(terminate(&nodes[1]).await?, Some(0), "{}", nodes[1].printed());
    Ok(())
}

fn start_core(world: &World, backend: &Backend) -> anyhow::Result<Arc<Process>> {
    world.token("core", "core")?;
    let backend = format!("http://{}", backend.address());
    let text = settings::core(world.folder.path(), &world.sites.core, "core", &backend);
    let core = world.run("core", "core", &with_grace(&text))?;
    ready(&core, settings::admin(world.sites.core.address, 1), LIMIT)?;
    Ok(Arc::new(core))
}

fn start_node(world: &World, index: usize) -> anyhow::Result<Arc<Process>> {
    let name = format!("node{index}");
    world.token("node", &name)?;
    let node = world.run("node", &name, &with_grace(&world.node_settings(index)))?;
    ready(&node, settings::admin(world.sites.nodes.address, 2 + index), LIMIT)?;
    Ok(Arc::new(node))
}

fn with_grace(settings: &str) -> String {
    format!("drain_grace = \"{}s\"\n{settings}", GRACE.as_secs())
}

/// SIGTERM; the exit code.
async fn terminate(process: &Arc<Process>) -> anyhow::Result<Option<i32>> {
    let process = Arc::clone(process);
    let status = tokio::task::spawn_blocking(move || process.terminate(GRACE + SLACK)).await??;
    Ok(status.code())
}

/// The code of the close frame that comes.
async fn last_code(socket: &mut Socket) -> anyhow::Result<u16> {
    loop {
        let message = timeout(GRACE + SLACK, socket.next()).await?;
        if let Message::Close(Some(frame)) = message.context("no close frame")?? {
            return Ok(frame.code.into());
        }
    }
}
