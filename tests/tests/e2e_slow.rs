//! One who reads slowly harms nobody else, and is told to go.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::{Client, Socket};
use antipode_tests::metrics::value;
use antipode_tests::process::Process;
use antipode_tests::sockets::Closes;
use antipode_tests::stories::echo;
use antipode_tests::world::{Plan, World};
use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_tungstenite::tungstenite::Message;

const LIMIT: Duration = Duration::from_secs(60);
/// How many stall beside one that does not.
const STALLED: usize = 40;
/// Far more than an echo takes while everybody's buffers fill up on a busy machine, less than
/// waiting for one who is stalled.
const ECHO_MAX: Duration = Duration::from_secs(5);
/// What a program may grow to while they stall; unbounded, they would hold a gigabyte a second.
const MEMORY_BYTES_MAX: u64 = 512 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_read_nothing_harm_nobody_and_are_told() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let node_more = "[session]\nclient_stall_timeout = \"6s\"\n".to_owned();
    // The backend of this test reads nothing either: it is not waited for.
    let core_more = "[timeouts]\nclosing = \"200ms\"\n".to_owned();
    let plan = Plan { node_more, core_more, ..Plan::with_backend(backend.address()) };
    let world = World::start(plan).await?;
    let client = world.client(0);
    let mut lively = client.open("/").await?;
    let mut stalled = JoinSet::new();
    for number in 0..STALLED {
        let target = format!("/flood?number={number}");
        stalled.spawn(stall(client.open(&target).await?, target, backend.closes()));
    }
    echo_for(&mut lively, Duration::from_secs(4)).await?;
    bounded(&world.relay())?;
    let codes = stalled.join_all().await.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    // One that is too late even for the last word finds its socket cut.
    ensure!(codes.iter().all(|code| [Some(4409), None].contains(code)), "{codes:?}");
    ensure!(codes.contains(&Some(4409)), "nobody was told");
    let series = "antipode_node_sessions_closed_total{kind=\"websocket\",reason=\"client_slow\"}";
    let mut counted = 0;
    for _ in 0..100 {
        counted = value(&world.metrics(2).await?, series);
        if counted == u64::try_from(STALLED)? {
            return echo(&mut lively, Message::text("still here")).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("{counted} were counted")
}

/// Reads nothing until the backend is told that this client is too slow; the code of its close.
async fn stall(mut socket: Socket, target: String, closes: Closes) -> anyhow::Result<Option<u16>> {
    closes.of(&target, LIMIT).await?;
    last_code(&mut socket).await
}

#[tokio::test(flavor = "multi_thread")]
async fn backends_that_read_nothing_harm_nobody_and_are_told() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let core_more = "[timeouts]\nwrite = \"6s\"\n".to_owned();
    let plan = Plan { core_more, ..Plan::with_backend(backend.address()) };
    let world = World::start(plan).await?;
    let client = world.client(0);
    let mut lively = client.open("/").await?;
    let mut stalled = JoinSet::new();
    for _ in 0..STALLED {
        stalled.spawn(pour(client.clone()));
    }
    echo_for(&mut lively, Duration::from_secs(4)).await?;
    bounded(&world.relay())?;
    while let Some(code) = stalled.join_next().await {
        assert_eq!(code??, Some(1013), "the backend reads slowly");
    }
    echo(&mut lively, Message::text("still here")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_budget_ends_those_that_stand_still_and_nobody_else() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let node_more = "[session]\nheld_bytes_max = 8388608\n".to_owned();
    let plan = Plan { node_more, ..Plan::with_backend(backend.address()) };
    let world = World::start(plan).await?;
    let client = world.client(0);
    let mut lively = client.open("/").await?;
    let mut stalled = Vec::new();
    for _ in 0..STALLED {
        stalled.push(client.open("/flood").await?);
    }
    let shed = "antipode_trunk_sessions_shed_total{cause=\"client_slow\"}";
    for _ in 0..200 {
        timeout(ECHO_MAX, echo(&mut lively, Message::text("quick"))).await??;
        let metrics = world.metrics(2).await?;
        let held = ["antipode_trunk_session_bytes", "antipode_trunk_session_bytes_max"];
        let [held, most] = held.map(|series| value(&metrics, series));
        ensure!(most == 8 << 20 && held <= most, "{held} bytes of {most}");
        if value(&metrics, shed) > 0 {
            return echo(&mut lively, Message::text("still here")).await;
        }
        sleep(Duration::from_millis(100)).await;
    }
    anyhow::bail!("nobody had to go:\n{}", world.metrics(2).await?)
}

/// Sends to a backend that reads nothing, until told to stop; the close code.
async fn pour(client: Client) -> anyhow::Result<Option<u16>> {
    let (mut sink, mut source) = client.open("/deaf").await?.split();
    let message = Message::binary(vec![7; 16 * 1024]);
    let pouring = async {
        while sink.send(message.clone()).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let told = async {
        while let Some(Ok(read)) = source.next().await {
            if let Message::Close(close) = read {
                return close.map(|close| u16::from(close.code));
            }
        }
        None
    };
    tokio::select! {
        code = timeout(LIMIT, told) => Ok(code?),
        () = pouring => unreachable!("it waits for ever in the end"),
    }
}

/// Echoes one after another; none may wait for those who are stalled.
async fn echo_for(socket: &mut Socket, length: Duration) -> anyhow::Result<()> {
    let end = Instant::now() + length;
    while Instant::now() < end {
        timeout(ECHO_MAX, echo(socket, Message::text("quick")))
            .await
            .context("an echo waited")??;
        sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

fn bounded(programs: &[&Process]) -> anyhow::Result<()> {
    for program in programs {
        let peak = program.memory_peak_bytes()?;
        ensure!(peak < MEMORY_BYTES_MAX, "{peak} bytes:\n{}", program.printed());
    }
    Ok(())
}

/// Reads what is there; the code of the close frame behind it.
async fn last_code(socket: &mut Socket) -> anyhow::Result<Option<u16>> {
    loop {
        match timeout(LIMIT, socket.next()).await? {
            Some(Ok(Message::Close(close))) => return Ok(close.map(|close| close.code.into())),
            Some(Ok(_)) => {}
            Some(Err(_)) | None => return Ok(None),
        }
    }
}
