//! The upgrade, and frames both ways.

use super::*;

const TEXT: u32 = 0x81;

#[tokio::test]
async fn a_message_goes_up_and_its_echo_comes_down() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core
        .open(upgrade(&[
            ("origin", "https://chat.example"),
            ("cookie", "session=1"),
            ("sec-websocket-protocol", "chat"),
            ("sec-websocket-key", "the client's own"),
        ]))
        .await;
    let mut backend = accept(&listener).await;
    let extra = "sec-websocket-protocol: chat\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n";
    let head = answer_upgrade(&mut backend, extra, b"").await;
    assert!(head.starts_with("GET /chat?room=1 HTTP/1.1\r\n"), "{head}");
    for line in ["host: chat.example", "origin: https://chat.example", "cookie: session=1"] {
        assert!(head.contains(&format!("{line}\r\n")), "{head}");
    }
    assert!(!head.contains("the client's own"), "{head}");

    let response = node.response().await;
    assert_eq!(response.status, 101);
    assert_eq!(value(&response, "sec-websocket-protocol"), "chat");
    assert_eq!(value(&response, "set-cookie"), "a=1|b=2");
    for hop in ["connection", "upgrade", "sec-websocket-accept"] {
        assert_eq!(value(&response, hop), "", "{hop}");
    }

    node.send_frame(TEXT, b"hello").await;
    let mut bytes = [0; 11];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(frames(&bytes), [(0x81, b"hello".to_vec())]);
    backend.write_all(b"\x01\x02hi\x80\x01!").await.unwrap();
    let (first, second) = (node.chunk().await, node.chunk().await);
    assert_eq!((first.frame, first.frame_len, &first.payload[..]), (Some(1), None, &b"hi"[..]));
    assert_eq!((second.frame, &second.payload[..]), (Some(0x80), &b"!"[..]));
}

#[tokio::test]
async fn what_comes_with_the_101_is_not_lost() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"\x81\x05early\x81\x01").await;
    node.response().await;
    assert_eq!(&node.chunk().await.payload[..], b"early");
    backend.write_all(b"!").await.unwrap();
    assert_eq!(&node.chunk().await.payload[..], b"!");
}

#[tokio::test]
async fn a_client_that_was_answered_early_may_speak_early() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(RequestHead { answered_early: true, ..upgrade(&[]) }).await;
    node.send_frame(TEXT, b"one").await;
    node.send_frame(TEXT, b"two").await;
    let mut backend = accept(&listener).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    answer_upgrade(&mut backend, "", b"").await;
    let mut bytes = [0; 18];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(frames(&bytes), [(0x81, b"one".to_vec()), (0x81, b"two".to_vec())]);
}

#[tokio::test]
async fn large_frames_go_in_chunks_both_ways() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[])).await;
    let backend = accept(&listener).await;
    let large = 4 << 20;
    let served = async {
        let mut socket = tokio_tungstenite::accept_async(backend).await.unwrap();
        use futures_of_tungstenite::*;
        let message = next(&mut socket).await;
        assert_eq!(message.len(), large);
        send(&mut socket, message).await;
        socket
    };
    let played = async {
        node.response().await;
        let mut start = (Some(0x82), Some(4 << 20));
        for piece in vec![7_u8; large].chunks(16 * 1024) {
            let (frame, frame_len) = std::mem::take(&mut start);
            let payload = Bytes::copy_from_slice(piece);
            node.send(Chunk { frame, frame_len, payload, shared: 0 }).await;
        }
        let mut received = 0;
        while received < large {
            let chunk = node.chunk().await;
            assert_eq!(chunk.frame_len.is_some(), received == 0);
            assert!(chunk.payload.len() <= 16 * 1024);
            received += chunk.payload.len();
        }
    };
    tokio::join!(served, played);
}

#[tokio::test]
async fn a_burst_of_pings_is_answered_in_order() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
    node.response().await;
    let pings: Vec<u8> = (0..200_u8).flat_map(|i| [0x89, 1, i]).collect();
    backend.write_all(&pings).await.unwrap();
    backend.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    node.end().await;
    node.send_close(1000, "");
    let frames = frames(&read_to_end_after_close(&mut backend).await);
    let pongs: Vec<u8> = frames.iter().filter(|f| f.0 == 0x8a).map(|f| f.1[0]).collect();
    assert!(pongs.is_sorted(), "{pongs:?}");
    assert!(pongs.len() <= 200);
    assert_eq!(pongs.last().copied().unwrap_or(199), 199);
    let skipped = usize::try_from(core.metrics.pongs_skipped.get()).unwrap();
    assert!(pongs.len() + skipped <= 200);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_the_backend_back() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
    node.response().await;
    let frame = [&b"\x82\x7e\x40\x00"[..], &[7; 0x4000]].concat();
    let mut written = 0_u64;
    while written < 1 << 30 {
        match timeout(Duration::from_millis(500), backend.write_all(&frame)).await {
            Ok(outcome) => outcome.unwrap(),
            Err(_) => break,
        }
        written += 0x4000;
    }
    assert!(written < 64 << 20, "the core took {written} bytes that nobody read");
}

#[tokio::test]
async fn pings_go_to_the_backend_if_configured_and_silence_ends_it() {
    let (listener, url) = listen().await;
    let extra = "[websocket]\nping_interval = \"50ms\"\nping_timeout = \"300ms\"\n";
    let core = Core::new(&[&url], extra);
    let node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
    node.response().await;
    let mut ping = [0; 6];
    backend.read_exact(&mut ping).await.unwrap();
    assert_eq!(frames(&ping), [(0x89, vec![])]);
    assert_eq!(node.end().await.cause(), Cause::BackendTimeout);
}

/// A session that idles costs its task: keep it small.
#[tokio::test]
async fn the_task_of_a_session_is_small() {
    let core = Core::new(&[&nobody().await], "");
    let (_node, incoming) = port_pair(upgrade(&[])).await;
    let port = Arc::new(incoming.port);
    let serve = super::super::websocket::carry(&core.bridge, incoming.head, &port);
    let bytes = size_of_val(&serve);
    assert!(bytes <= 4096, "{bytes}");
}

/// The test plays the server: it ends TCP once it has the client's close frame.
async fn read_to_end_after_close(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    while !frames_end_in_close(&bytes) {
        let read = timeout(PATIENCE, socket.read_buf(&mut bytes)).await.expect("a close frame");
        assert_ne!(read.unwrap(), 0);
    }
    bytes
}

fn frames_end_in_close(bytes: &[u8]) -> bool {
    // A close frame with a code has 8 bytes.
    bytes.len() >= 8 && bytes[bytes.len() - 8..][..2] == [0x88, 0x82]
}

/// tungstenite's streams speak futures' traits; two functions are enough here.
mod futures_of_tungstenite {
    use std::future::poll_fn;
    use std::pin::Pin;

    use futures_util::{Sink, Stream};
    use tokio::net::TcpStream;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::Message;

    pub(super) async fn next(socket: &mut WebSocketStream<TcpStream>) -> Message {
        poll_fn(|task| Pin::new(&mut *socket).poll_next(task)).await.unwrap().unwrap()
    }

    pub(super) async fn send(socket: &mut WebSocketStream<TcpStream>, message: Message) {
        poll_fn(|task| Pin::new(&mut *socket).poll_ready(task)).await.unwrap();
        Pin::new(&mut *socket).start_send(message).unwrap();
        poll_fn(|task| Pin::new(&mut *socket).poll_flush(task)).await.unwrap();
    }
}
