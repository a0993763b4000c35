//! An HTTP request that may have reached the backend is never made a second time: it ends with an
//! answer that says so.

use std::net::SocketAddr;
use std::time::Duration;

use antipode_tests::client::Client;
use antipode_tests::counted::{Counted, Treat, Treatment};
use antipode_tests::faults::wire::Wire;
use antipode_tests::settings::WIREGUARD_PORT;
use antipode_tests::world::{Plan, Sites, World};
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use tokio::task::JoinSet;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(30);

const BACKEND: Treat = Treat {
    end: "body",
    by_path: |path| match path {
        "/late" => Treatment::Answer(Duration::from_secs(6), "done"),
        "/silent" => Treatment::Silence,
        _ => Treatment::Vanish,
    },
};

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
    let backend = Counted::start(BACKEND).await?;
    let world = World::start(Plan::with_backend(backend.address)).await?;
    let (status, text) = answer(post(&world.client(0), "/vanish")).await?;
    assert_eq!(status, 502, "{text}");
    sleep(Duration::from_secs(1)).await;
    assert_eq!(backend.requests(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_that_never_answers_is_a_504() -> anyhow::Result<()> {
    let backend = Counted::start(BACKEND).await?;
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
    let backend = Counted::start(BACKEND).await?;
    let mut sites = Sites::on_loopback();
    let core = sites.core.address;
    let endpoint = SocketAddr::new(core, WIREGUARD_PORT + 1);
    let wire = Wire::start(endpoint, SocketAddr::new(core, WIREGUARD_PORT))?;
    sites.core.endpoints = vec![endpoint.to_string()];
    let plan = Plan { sites: Some(sites), ..Plan::with_backend(backend.address) };
    let world = World::start(plan).await?;
    let waiting = post(&world.client(0), "/late");
    backend.asked(1, LIMIT).await?;
    wire.cut(true);
    sleep(Duration::from_secs(4)).await;
    wire.cut(false);
    assert_eq!(answer(waiting).await?, (200, "done".to_owned()));
    assert_eq!(backend.requests(), 1);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_dies_with_the_request_is_a_502_or_504() -> anyhow::Result<()> {
    let backend = Counted::start(BACKEND).await?;
    let mut world = World::start(Plan::with_backend(backend.address)).await?;
    let waiting = post(&world.client(0), "/silent");
    backend.asked(1, LIMIT).await?;
    world.core.as_ref().expect("the plan has a core").kill();
    let text = std::fs::read_to_string(world.folder.path().join("core.toml"))?;
    world.core = Some(world.run("core", "core", &text)?);
    let (status, text) = answer(waiting).await?;
    assert!([502, 504].contains(&status), "{status} {text}");
    assert_eq!(backend.requests(), 1);
    Ok(())
}
