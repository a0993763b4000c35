//! Many who connect and say nothing.

use std::net::Ipv4Addr;

use tokio::net::TcpSocket;

use super::super::handshakes::{STREAM_HANDSHAKES_MAX, STREAM_HANDSHAKES_PER_SOURCE_MAX};
use super::*;

/// So many may be under way, and no more.
#[tokio::test]
async fn handshakes_are_limited() {
    let pair = Pair::new(4).await;
    let mut under_way = Vec::new();
    let sources = STREAM_HANDSHAKES_MAX / STREAM_HANDSHAKES_PER_SOURCE_MAX;
    for host in 0..sources {
        for _ in 0..STREAM_HANDSHAKES_PER_SOURCE_MAX {
            under_way.push(connect(&pair, host).await);
        }
    }
    assert!(is_closed(connect(&pair, sources).await).await);
    assert_eq!(pair.core.attempts(StreamOutcome::Full), 1);
}

/// Who holds all that one source may leaves the others theirs.
#[tokio::test]
async fn handshakes_of_one_source_are_limited() {
    let pair = Pair::new(4).await;
    let mut under_way = Vec::new();
    for _ in 0..STREAM_HANDSHAKES_PER_SOURCE_MAX {
        under_way.push(connect(&pair, 1).await);
    }
    assert!(is_closed(connect(&pair, 1).await).await);
    assert_eq!(pair.core.attempts(StreamOutcome::SourceFull), 1);
    pair.open().await;
    assert_eq!(pair.core.attempts(StreamOutcome::Full), 0);
}

/// From an address of loopback's own; 127.0.0.1 is left to members.
async fn connect(pair: &Pair, host: usize) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    let host = u8::try_from(host).unwrap();
    socket.bind((Ipv4Addr::new(127, 0, 1, host), 0).into()).unwrap();
    socket.connect(pair.server.address()).await.unwrap()
}

async fn is_closed(mut socket: TcpStream) -> bool {
    matches!(timeout(TIME / 4, socket.read(&mut [0])).await, Ok(Ok(0) | Err(_)))
}
