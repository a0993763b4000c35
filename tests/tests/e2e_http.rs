//! HTTP exchanges through the whole path: large bodies both ways in bounded memory, slow ones as
//! they come.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::stories;
use antipode_tests::world::{Plan, World};
use bytes::Bytes;
use http::Request;
use http_body_util::{Empty, Full};

const BODY_BYTES: u64 = 100_000_000;
/// What two bodies may add to a program's peak: less than one of them. Half of it is QUIC's window.
const GROWTH_MAX: u64 = 80_000_000;

/// The most that each program of the relay has held so far.
fn peaks(world: &World) -> anyhow::Result<Vec<u64>> {
    world.relay().iter().map(|program| program.memory_peak_bytes()).collect()
}

async fn start() -> anyhow::Result<(Backend, World)> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let world = World::start(Plan::with_backend(backend.address())).await?;
    Ok((backend, world))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_megabytes_pass_each_way() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    let client = world.client(0);
    stories::download(&client, 1).await?;
    let before = peaks(&world)?;
    stories::download(&client, BODY_BYTES).await?;
    stories::upload(&client, BODY_BYTES).await?;
    for (peak, before) in peaks(&world)?.into_iter().zip(before) {
        let grown = peak - before;
        assert!(grown < GROWTH_MAX, "grew by {grown} bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_a_minute_comes_as_it_is_made() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    stories::streams(&world.client(0), 60, Duration::from_secs(1)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn small_exchanges_keep_their_shape() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    let client = world.client(0);
    for length in [0_usize, 1, 16_383, 16_384, 16_385, 300_000] {
        let body = "x".repeat(length);
        let request = Request::post("/echo").body(Full::new(Bytes::from(body.clone())))?;
        let (status, answer) = client.request(request).await?.text().await?;
        assert_eq!((status, answer.len()), (200, length));
        assert_eq!(answer, body);
    }
    for method in ["GET", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        let request = Request::builder().method(method).uri("/a/b%20c?d=%C3%A9&e");
        let request = request.body(Empty::<Bytes>::new())?;
        let (_, answer) = client.request(request).await?.text().await?;
        assert_eq!(answer, format!("{method} /a/b%20c\n"));
    }
    let head = Request::head("/download?bytes=12345").body(Empty::<Bytes>::new())?;
    let exchange = client.request(head).await?;
    assert_eq!(exchange.response.headers()["content-length"], "12345");
    assert_eq!(exchange.text().await?, (200, String::new()));
    Ok(())
}
