//! Many at once: floods of tiny frames, one payload for a crowd, and a crowd that comes back.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::choir::{Choir, drop_of};
use antipode_tests::client::{Client, Socket};
use antipode_tests::metrics::value;
use antipode_tests::process::Process;
use antipode_tests::raw_resume::Session;
use antipode_tests::settings;
use antipode_tests::stories::echo;
use antipode_tests::world::{Plan, World, ready};
use anyhow::{Context, ensure};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::{Error, Message};

const LIMIT: Duration = Duration::from_secs(120);
/// Messages of one byte, each way.
const DROPS: u32 = 200_000;
/// Far more than an echo takes beside two floods, far less than waiting for them.
const ECHO_MAX: Duration = Duration::from_secs(10);
/// Clients that get the same at once.
const SINGERS: usize = 200;
const PAYLOAD_BYTES: usize = 4096;
const ROUNDS: usize = 10;

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_tiny_frames_end_no_lane_and_hold_up_nobody() -> anyhow::Result<()> {
    let choir = Choir::start().await?;
    let world = World::start(Plan::with_backend(choir.address())).await?;
    let client = world.client(0);
    let mut lively = client.open("/").await?;
    let mut floods = JoinSet::new();
    floods.spawn(flood_up(client.open("/count").await?));
    floods.spawn(flood_down(client.open(&format!("/drizzle?count={DROPS}")).await?));
    let mut echoes = 0;
    while !floods.is_empty() {
        timeout(ECHO_MAX, echo(&mut lively, Message::text("quick"))).await.context("held up")??;
        echoes += 1;
        while let Some(flood) = floods.try_join_next() {
            flood??;
        }
    }
    ensure!(echoes > 20, "only {echoes} echoes beside the floods");
    for program in [1, 2] {
        let metrics = world.metrics(program).await?;
        for series in ["antipode_trunk_lanes_lost_total", "antipode_trunk_protocol_errors_total"] {
            ensure!(value(&metrics, series) == 0, "program {program}:\n{metrics}");
        }
    }
    Ok(())
}

/// Sends as fast as it can, and asks how many arrived, each once and in order.
async fn flood_up(mut socket: Socket) -> anyhow::Result<()> {
    for number in 0..DROPS {
        socket.feed(Message::binary(vec![drop_of(number)])).await?;
    }
    socket.send(Message::text("how many?")).await?;
    let told = timeout(LIMIT, socket.next()).await?.context("an answer")??;
    ensure!(told.to_text()? == DROPS.to_string(), "{told} of {DROPS} arrived in order");
    Ok(())
}

/// Gets all of them, each once and in order.
async fn flood_down(mut socket: Socket) -> anyhow::Result<()> {
    for number in 0..DROPS {
        let message = loop {
            let message = timeout(LIMIT, socket.next()).await?.context("another one")??;
            // The node asks whether a client that says nothing is there.
            if !message.is_ping() {
                break message;
            }
        };
        ensure!(message.is_binary(), "number {number} is {message:?}");
        ensure!(*message.into_data() == [drop_of(number)], "number {number} is another");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn one_payload_for_a_crowd_crosses_once() -> anyhow::Result<()> {
    let choir = Choir::start().await?;
    let world = World::start(Plan::with_backend(choir.address())).await?;
    let client = world.client(0);
    let mut singers: Vec<Socket> = stream::iter(0..SINGERS)
        .map(|_| client.open("/singer"))
        .buffer_unordered(20)
        .try_collect()
        .await?;
    let mut conductor = client.open("/conductor").await?;
    let before = crossed(&world).await?;
    for round in 0..ROUNDS {
        let payload = vec![u8::try_from(round)?; PAYLOAD_BYTES];
        conductor.send(Message::binary(payload.clone())).await?;
        let told = timeout(LIMIT, conductor.next()).await?.context("an answer")??;
        ensure!(told.to_text()? == SINGERS.to_string(), "{told} singers");
        for singer in &mut singers {
            let got = timeout(LIMIT, singer.next()).await?.context("the payload")??;
            ensure!(*got.into_data() == payload, "another payload");
        }
    }
    let crossed = crossed(&world).await? - before;
    let alone = u64::try_from(ROUNDS * SINGERS * PAYLOAD_BYTES)?;
    ensure!(crossed < alone / 4, "{crossed} bytes crossed, without fan-out {alone} would have");
    let saved = value(&world.metrics(1).await?, "antipode_trunk_fan_out_saved_bytes_total");
    ensure!(saved > alone / 2, "{saved} bytes saved of {alone}");
    Ok(())
}

/// Bytes that the core has sent through the tunnel.
async fn crossed(world: &World) -> anyhow::Result<u64> {
    Ok(value(&world.metrics(1).await?, "antipode_tunnel_bytes_total{direction=\"out\"}"))
}

/// What a node said to one who came.
#[derive(Debug, Default)]
struct Told {
    opened: usize,
    refused: usize,
}

/// So many clients at once, who offer `protocols`; all that are refused must be told `error` and
/// when to come back.
async fn storm(
    client: &Client,
    count: usize,
    protocols: &str,
    error: &str,
) -> anyhow::Result<(Told, Vec<Socket>)> {
    let header = [("sec-websocket-protocol", protocols)];
    let headers = if protocols.is_empty() { &header[..0] } else { &header[..] };
    let answers = stream::iter(0..count).map(|_| client.open_with("/", headers));
    let answers: Vec<_> = answers.buffer_unordered(count).collect().await;
    let (mut told, mut sockets) = (Told::default(), Vec::new());
    for answer in answers {
        let refusal = match answer {
            Ok((socket, _)) => {
                told.opened += 1;
                sockets.push(socket);
                continue;
            }
            Err(refusal) => refusal,
        };
        let Some(Error::Http(response)) = refusal.downcast_ref() else { return Err(refusal) };
        let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
        ensure!(
            response.status() == 503 && header("antipode-error") == Some(error),
            "{response:?}"
        );
        let after: u32 = header("retry-after").context("when to come back")?.parse()?;
        ensure!((1..=10).contains(&after), "after {after} s");
        told.refused += 1;
    }
    Ok((told, sockets))
}

/// New sessions are let in by the piece, resumes before them.
const PACED: &str = "[pacing]\nhandshakes_per_second_max = 0\nsessions_per_second_max = 2\n\
     resumes_per_second_max = 6\nwait_max = \"0s\"\n";
const PACED_HANDSHAKES: &str = "[pacing]\nhandshakes_per_second_max = 2\nwait_max = \"0s\"\n";
/// More than any rate above lets in while they come.
const STORM: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_that_comes_back_is_paced_and_resumes_get_through() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let world = World::start(Plan::with_backend(backend.address())).await?;
    let _more = [start_node(&world, 1, PACED)?, start_node(&world, 2, PACED_HANDSHAKES)?];
    let mut sessions = Vec::new();
    for _ in 0..5 {
        sessions.push(Session::begin(&world.client(0), "/").await?);
    }
    let paced = world.client(1);
    let resumes = async {
        for session in &mut sessions {
            session.resume(&paced).await.context("a resume in the middle of the storm")?;
        }
        anyhow::Ok(())
    };
    let (new, resumed) = tokio::join!(storm(&paced, STORM, "", "sessions_per_second_max"), resumes);
    resumed?;
    let (new, _sockets) = new?;
    let offer = sessions[0].offer();
    let (again, _more_sockets) = storm(&paced, STORM, &offer, "resumes_per_second_max").await?;
    ensure!(new.refused > 0 && again.refused > 0 && again.opened > 0, "{new:?} {again:?}");
    let metrics = world.metrics(3).await?;
    for (reason, told) in [("sessions_per_second_max", &new), ("resumes_per_second_max", &again)] {
        let series = format!("antipode_node_requests_refused_total{{reason=\"{reason}\"}}");
        ensure!(value(&metrics, &series) == u64::try_from(told.refused)?, "{told:?}\n{metrics}");
    }
    handshakes_are_paced(&world).await
}

async fn handshakes_are_paced(world: &World) -> anyhow::Result<()> {
    let client = world.client(2);
    let attempts = stream::iter(0..STORM).map(|_| client.stream());
    let attempts: Vec<_> = attempts.buffer_unordered(STORM).collect().await;
    let refused = attempts.iter().filter(|attempt| attempt.is_err()).count();
    ensure!(0 < refused && refused < STORM, "{refused} of {STORM} refused");
    let series = "antipode_node_clients_refused_total{limit=\"handshakes_per_second_max\"}";
    let counted = value(&world.metrics(4).await?, series);
    ensure!(counted == u64::try_from(refused)?, "{counted} counted, {refused} seen");
    Ok(())
}

fn start_node(world: &World, index: usize, more: &str) -> anyhow::Result<Process> {
    let node = world.node(index, more)?;
    ready(&node, settings::admin(world.sites.nodes.address, 2 + index), LIMIT)?;
    Ok(node)
}
