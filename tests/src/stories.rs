//! What a client does with a server, told once: to a backend direct, and to it through the relay.

use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use http::Request;
use http_body_util::{BodyExt, BodyStream, Empty, StreamBody};
use hyper::body::Frame;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use crate::body::{blocks, digest, hex};
use crate::client::{Client, Socket};
use crate::sockets::{Closes, Ending};

/// Nothing in a story waits longer than this on loopback.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Sends `message` and expects it back.
///
/// # Errors
///
/// If something else comes, or nothing.
pub async fn echo(socket: &mut Socket, message: Message) -> anyhow::Result<()> {
    let sent = message.clone();
    // Reading while writing: a large message meets flow control on both ways.
    let (mut sink, mut source) = socket.split();
    let both = async { tokio::join!(sink.send(message), source.next()) };
    let (written, read) = timeout(PATIENCE, both).await.context("no echo in time")?;
    written?;
    let read = read.context("closed instead of an echo")??;
    ensure!(read == sent, "the echo differs: sent {} bytes, got {}", sent.len(), read.len());
    Ok(())
}

/// Text and binary of many lengths come back as they were sent.
///
/// # Errors
///
/// What went otherwise; so with every story.
pub async fn messages_come_back(client: &Client) -> anyhow::Result<()> {
    let mut socket = client.open("/").await?;
    echo(&mut socket, Message::text("")).await?;
    echo(&mut socket, Message::text("héllo wörld ☃ 🌏")).await?;
    for length in [0, 1, 125, 126, 127, 16_383, 16_384, 16_385, 65_535, 65_536, 1 << 20] {
        echo(&mut socket, Message::binary(vec![7; length])).await?;
    }
    socket.close(None).await?;
    Ok(())
}

/// One message of `bytes` comes back whole.
///
/// # Errors
///
/// As above.
pub async fn large_message(client: &Client, bytes: u64) -> anyhow::Result<()> {
    let mut socket = client.open("/").await?;
    let message: Vec<u8> = blocks(bytes).flat_map(|block| block.to_vec()).collect();
    echo(&mut socket, Message::binary(message)).await?;
    socket.close(None).await?;
    Ok(())
}

/// The client's close code and reason reach the backend and are answered.
///
/// # Errors
///
/// As above.
pub async fn client_closes(client: &Client, closes: &Closes) -> anyhow::Result<()> {
    for (code, reason) in [(1000, ""), (1001, "going away"), (3000, "registered"), (4999, "ours")] {
        let target = format!("/?client-closes-with={code}");
        let mut socket = client.open(&target).await?;
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        socket.close(Some(frame.clone())).await?;
        ensure!(last_frame(&mut socket).await? == Some(frame), "{code} is not answered");
        let seen = closes.of(&target, PATIENCE).await?;
        ensure!(seen == Ending::Closed(code, reason.into()), "{code} reached as {seen:?}");
    }
    let mut socket = client.open("/?client-closes-with=nothing").await?;
    socket.close(None).await?;
    ensure!(last_frame(&mut socket).await?.is_none(), "a close without code is answered so");
    let seen = closes.of("/?client-closes-with=nothing", PATIENCE).await?;
    ensure!(seen == Ending::Closed(1005, String::new()), "no code reached as {seen:?}");
    Ok(())
}

/// The backend's close code and reason reach the client.
///
/// # Errors
///
/// As above.
pub async fn backend_closes(client: &Client) -> anyhow::Result<()> {
    for (code, reason) in [(1000, ""), (1011, "no%20luck"), (4001, "bye%20now")] {
        let target = format!("/close?code={code}&reason={reason}");
        let mut socket = client.open(&target).await?;
        let seen = last_frame(&mut socket).await?.context("no close frame")?;
        let reason = reason.replace("%20", " ");
        ensure!(seen == CloseFrame { code: code.into(), reason: reason.into() }, "got {seen:?}");
    }
    Ok(())
}

/// A client that vanishes is seen at the backend.
///
/// # Errors
///
/// As above.
pub async fn client_vanishes(client: &Client, closes: &Closes) -> anyhow::Result<()> {
    let mut socket = client.open("/?client-vanishes").await?;
    echo(&mut socket, Message::text("still here")).await?;
    drop(socket);
    closes.of("/?client-vanishes", PATIENCE).await?;
    Ok(())
}

/// `GET /download` of `bytes` is whole and unchanged.
///
/// # Errors
///
/// As above.
pub async fn download(client: &Client, bytes: u64) -> anyhow::Result<()> {
    let request = Request::get(format!("/download?bytes={bytes}")).body(Empty::<Bytes>::new())?;
    let mut exchange = client.request(request).await?;
    let length = exchange.response.headers().get("content-length").context("a length")?;
    ensure!(length.to_str()? == bytes.to_string(), "Content-Length {length:?}");
    let mut hash = Sha256::new();
    let body = exchange.response.body_mut();
    while let Some(frame) = timeout(PATIENCE, body.frame()).await.context("body stalls")? {
        if let Some(part) = frame?.data_ref() {
            hash.update(part);
        }
    }
    ensure!(hex(&hash.finalize()) == digest(bytes), "the body differs");
    Ok(())
}

/// `POST /upload` of `bytes`, without a length told first, is whole and unchanged.
///
/// # Errors
///
/// As above.
pub async fn upload(client: &Client, bytes: u64) -> anyhow::Result<()> {
    let body = stream::iter(blocks(bytes)).map(|block| Ok::<_, std::io::Error>(Frame::data(block)));
    let request = Request::post("/upload").body(StreamBody::new(body))?;
    let (status, answer) = client.request(request).await?.text().await?;
    ensure!(status == 200, "{status} {answer}");
    let answer: serde_json::Value = serde_json::from_str(&answer)?;
    ensure!(answer["bytes"] == bytes, "{answer}");
    ensure!(answer["sha256"] == digest(bytes), "the body differs: {answer}");
    Ok(())
}

/// An answer that takes `ticks` times `every` comes tick by tick, not at the end.
///
/// # Errors
///
/// As above.
pub async fn streams(client: &Client, ticks: u32, every: Duration) -> anyhow::Result<()> {
    let target = format!("/stream?ticks={ticks}&every_ms={}", every.as_millis());
    let request = Request::get(target).body(Empty::<Bytes>::new())?;
    let exchange = client.request(request).await?;
    let start = Instant::now();
    let (body, mut seen, mut text) = (exchange.response.into_body(), Vec::new(), String::new());
    let mut body = BodyStream::new(body);
    while let Some(frame) = timeout(PATIENCE, body.try_next()).await.context("no tick")?? {
        if let Some(part) = frame.data_ref() {
            seen.push(start.elapsed());
            text.push_str(std::str::from_utf8(part)?);
        }
    }
    let expected: String = (0..ticks).map(|tick| format!("tick {tick}\n")).collect();
    ensure!(text == expected, "got {text:?}");
    let (first, last) = (seen[0], *seen.last().context("ticks came")?);
    ensure!(first < every * 3, "the first tick came after {first:?}");
    ensure!(last >= every * ticks.saturating_sub(2), "all came within {last:?}: held back");
    Ok(())
}

/// What the socket says last: its close frame, with a code or without.
///
/// # Errors
///
/// If it ends without a close frame.
pub async fn last_frame(socket: &mut Socket) -> anyhow::Result<Option<CloseFrame>> {
    let mut last = None;
    loop {
        match timeout(PATIENCE, socket.next()).await.context("neither message nor end")? {
            Some(Ok(Message::Close(frame))) => last = Some(frame),
            Some(Ok(_)) => {}
            None | Some(Err(Error::ConnectionClosed | Error::AlreadyClosed)) => break,
            // Some servers end TCP without TLS's goodbye after the close frame.
            Some(Err(_)) if last.is_some() => break,
            Some(Err(error)) => return Err(error.into()),
        }
    }
    last.context("ended without a close frame")
}
