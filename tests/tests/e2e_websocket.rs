//! WebSockets through the whole path: messages, large ones, closes both ways, the backend's own
//! answer.

use std::net::{IpAddr, Ipv4Addr};

use antipode_tests::backend::Backend;
use antipode_tests::raw::{close_after, masked};
use antipode_tests::stories;
use antipode_tests::world::{Plan, World};
use tokio_tungstenite::tungstenite::{Error, Message};

/// A relay holds pieces of a message, never the message.
const MEMORY_MAX: u64 = 128 << 20;

async fn start() -> anyhow::Result<(Backend, World)> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let world = World::start(Plan::with_backend(backend.address())).await?;
    Ok((backend, world))
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_and_closes_pass() -> anyhow::Result<()> {
    let (backend, world) = start().await?;
    let client = world.client(0);
    stories::messages_come_back(&client).await?;
    stories::client_closes(&client, &backend.closes()).await?;
    stories::backend_closes(&client).await?;
    stories::client_vanishes(&client, &backend.closes()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_64_mib_passes_in_pieces() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    stories::large_message(&world.client(0), 64 << 20).await?;
    for program in world.relay() {
        let peak = program.memory_peak_bytes()?;
        assert!(peak < MEMORY_MAX, "held {peak} bytes");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_backends_own_answer_comes_through() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    let client = world.client(0);
    let offered = [("sec-websocket-protocol", "chat.v1, chat.v2")];
    let (mut socket, answer) = client.open_with("/", &offered).await?;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "chat.v2", "the backend takes the last");
    assert_eq!(answer.headers()["set-cookie"], "backend=yes; Path=/");
    stories::echo(&mut socket, Message::text("agreed")).await?;

    let refused = client.open("/refuse?status=403").await.expect_err("the backend refuses");
    let Some(Error::Http(answer)) = refused.downcast_ref::<Error>() else {
        anyhow::bail!("refused otherwise: {refused:#}");
    };
    assert_eq!(answer.status(), 403);
    assert_eq!(answer.headers()["x-refused-by"], "backend");
    Ok(())
}

/// The backend's end without a close frame is told to the client with one.
#[tokio::test(flavor = "multi_thread")]
async fn a_lost_backend_is_a_typed_close() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    let client = world.client(0);
    // By hand: tungstenite does not know 1014, "bad gateway", which IANA's registry has.
    let code = close_after(&client, "/drop", &masked(0x81, b"drop me")).await?;
    assert_eq!(code, Some(1014));
    stories::messages_come_back(&client).await
}
