//! WebSockets by hand, for what no library would send or would show.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::client::Client;

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(10);

/// A good upgrade request, line by line.
pub const UPGRADE: [&str; 6] = [
    "GET / HTTP/1.1",
    "Host: relay.example",
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
];

/// The lines as a request's head.
#[must_use]
pub fn head(lines: &[&str]) -> String {
    lines.join("\r\n") + "\r\n\r\n"
}

/// A client's frame: first byte, length, a mask of zeros, payload.
///
/// # Panics
///
/// Never: a length fits into 64 bits.
#[must_use]
pub fn masked(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = payload.len();
    let mut frame = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(short @ 0..=125), _) => frame.push(0x80 | short),
        (_, Ok(middle)) => {
            frame.push(0x80 | 126);
            frame.extend(middle.to_be_bytes());
        }
        (_, Err(_)) => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(length).expect("a length fits").to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

/// Opens a WebSocket at `target`, sends `frame`, and returns the code of the close that follows.
///
/// # Errors
///
/// If the upgrade is not answered.
pub async fn close_after(
    client: &Client,
    target: &str,
    frame: &[u8],
) -> anyhow::Result<Option<u16>> {
    let mut stream = client.stream().await?;
    let mut lines = UPGRADE.to_vec();
    let request = format!("GET {target} HTTP/1.1");
    lines[0] = &request;
    stream.write_all(head(&lines).as_bytes()).await?;
    let mut answered = Vec::new();
    while !answered.ends_with(b"\r\n\r\n") {
        answered.push(stream.read_u8().await?);
    }
    stream.write_all(frame).await?;
    let mut answer = Vec::new();
    // A socket that is cut, or stays open: what came is the answer.
    drop(timeout(LIMIT, stream.read_to_end(&mut answer)).await);
    // The server's frames here are small and unmasked; an echo may come before the close.
    let mut rest = answer.as_slice();
    while let [first, length, after @ ..] = rest {
        if *first == 0x88 {
            return Ok(after.first_chunk::<2>().map(|code| u16::from_be_bytes(*code)));
        }
        rest = after.get(usize::from(*length)..).unwrap_or_default();
    }
    Ok(None)
}
