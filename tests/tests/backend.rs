//! The test backend and the stories, with nothing between: what they say of the relay counts only
//! if they hold without it.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::Client;
use antipode_tests::stories;

fn start() -> anyhow::Result<(Backend, Client)> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let client = Client::direct(backend.address());
    Ok((backend, client))
}

#[tokio::test]
async fn websocket_stories_hold() -> anyhow::Result<()> {
    let (backend, client) = start()?;
    stories::messages_come_back(&client).await?;
    stories::large_message(&client, 4 << 20).await?;
    stories::client_closes(&client, &backend.closes()).await?;
    stories::backend_closes(&client).await?;
    stories::client_vanishes(&client, &backend.closes()).await
}

#[tokio::test]
async fn http_stories_hold() -> anyhow::Result<()> {
    let (_backend, client) = start()?;
    stories::download(&client, 3_000_000).await?;
    stories::upload(&client, 3_000_000).await?;
    stories::streams(&client, 10, Duration::from_millis(50)).await
}

#[tokio::test]
async fn it_tells_what_it_was_asked() -> anyhow::Result<()> {
    let (_backend, client) = start()?;
    let (status, answer) = client.get("/headers?a=b").await?;
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    assert_eq!((status, &answer["target"]), (200, &"/headers?a=b".into()));
    let (_, answer) = client.open_with("/", &[("sec-websocket-protocol", "a, b")]).await?;
    assert_eq!(answer.headers()["sec-websocket-protocol"], "b");
    assert!(client.open("/refuse?status=403").await.is_err());
    Ok(())
}
