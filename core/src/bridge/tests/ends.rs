//! How WebSockets end, and what each side is told.

use super::*;

const CLOSE: u8 = 0x88;

/// A session past its upgrade.
pub(super) async fn relayed(extra: &str) -> (Core, NodeEnd, TcpStream) {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], extra);
    let node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
    node.response().await;
    (core, node, backend)
}

#[tokio::test]
async fn the_client_closes_first() {
    let (core, node, mut backend) = relayed("").await;
    node.send_close(4001, "done here");
    let mut bytes = [0; 17];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(frames(&bytes), [(CLOSE, b"\x0f\xa1done here".to_vec())]);
    backend.write_all(b"\x88\x04\x0f\xa1ok").await.unwrap();
    let end = node.end().await;
    assert_eq!(
        (end.cause(), end.close_code, &*end.reason),
        (Cause::BackendClosed, Some(4001), "ok")
    );
    drop(backend);
    timeout(PATIENCE, node.port.finished()).await.unwrap();
    assert_closed(&core, "client_closed").await;
}

#[tokio::test]
async fn a_close_without_a_code_stays_without_one() {
    let (_core, node, mut backend) = relayed("").await;
    node.send_end(Cause::ClientClosed);
    let mut bytes = [0; 6];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(frames(&bytes), [(CLOSE, vec![])]);
    backend.write_all(b"\x88\x00").await.unwrap();
    assert_eq!(node.end().await.close_code, None);
}

#[tokio::test]
async fn the_backend_closes_first() {
    let (core, node, mut backend) = relayed("").await;
    backend.write_all(b"\x81\x02hi\x88\x07\x0f\xa0bye!!").await.unwrap();
    assert_eq!(&node.chunk().await.payload[..], b"hi");
    let end = node.end().await;
    assert_eq!(
        (end.cause(), end.close_code, &*end.reason),
        (Cause::BackendClosed, Some(4000), "bye!!")
    );
    node.send_frame(0x81, b"late").await;
    node.send_close(4000, "");
    let mut bytes = [0; 18];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(frames(&bytes), [(0x81, b"late".to_vec()), (CLOSE, b"\x0f\xa0".to_vec())]);
    drop(backend);
    timeout(PATIENCE, node.port.finished()).await.unwrap();
    assert_closed(&core, "backend_closed").await;
}

#[tokio::test]
async fn a_client_that_never_closes_is_not_waited_for() {
    let (_core, node, mut backend) = relayed("[timeouts]\nclosing = \"200ms\"\n").await;
    backend.write_all(b"\x88\x02\x03\xe8").await.unwrap();
    assert_eq!(node.end().await.close_code, Some(1000));
    let frames = frames(&read_to_end(&mut backend).await);
    assert_eq!(frames[0].1[..2], 1001_u16.to_be_bytes());
}

#[tokio::test]
async fn a_backend_that_never_closes_is_not_waited_for() {
    let (_core, node, _backend) = relayed("[timeouts]\nclosing = \"200ms\"\n").await;
    node.send_close(1000, "");
    assert_eq!(node.end().await.cause(), Cause::BackendTimeout);
}

#[tokio::test]
async fn a_backend_that_hangs_up_is_lost() {
    let (core, node, backend) = relayed("").await;
    drop(backend);
    assert_eq!(node.end().await.cause(), Cause::BackendLost);
    node.send_end(Cause::ClientClosed);
    timeout(PATIENCE, node.port.finished()).await.unwrap();
    assert_closed(&core, "backend_lost").await;
}

#[tokio::test]
async fn a_backend_that_breaks_the_protocol_is_told_so() {
    for (bytes, code, label) in [
        (&b"\x83\x00"[..], 1002_u16, "reserved_opcode"),
        (&b"\x81\x01\xff"[..], 1007, "not_utf8"),
        (&b"\x82\x7f\0\0\0\x01\0\0\0\0"[..], 1009, "frame_too_large"),
        (&b"\x81\x85\0\0\0\0hello"[..], 1002, "masked"),
    ] {
        let (_core, node, mut backend) = relayed("").await;
        backend.write_all(bytes).await.unwrap();
        let end = node.end().await;
        assert_eq!((end.cause(), &*end.reason), (Cause::BackendProtocol, label));
        let frames = frames(&read_to_end(&mut backend).await);
        assert_eq!(frames, [(CLOSE, [&code.to_be_bytes()[..], label.as_bytes()].concat())]);
    }
}

#[tokio::test]
async fn a_lost_client_is_lost_to_the_backend_too() {
    let (_core, node, mut backend) = relayed("").await;
    node.send_end(Cause::ClientLost);
    assert_eq!(node.end().await.cause(), Cause::ClientLost);
    assert!(read_to_end(&mut backend).await.is_empty(), "no close frame that nobody sent");
}

#[tokio::test]
async fn a_node_that_drains_says_so_to_the_backend() {
    let (_core, node, mut backend) = relayed("").await;
    node.send_end(Cause::NodeDraining);
    let mut bytes = [0; 8];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(frames(&bytes), [(CLOSE, 1001_u16.to_be_bytes().to_vec())]);
}

#[tokio::test]
async fn no_close_frame_inside_a_frame() {
    let (_core, node, mut backend) = relayed("").await;
    let payload = Bytes::from_static(b"half");
    node.send(Chunk { frame: Some(0x82), frame_len: Some(8), payload, shared: 0 }).await;
    node.send_close(1000, "");
    let frames = frames(&read_to_end(&mut backend).await);
    assert_eq!(frames, [(0x82, b"half".to_vec())]);
}

#[tokio::test]
async fn chunks_that_make_no_frame_end_the_session() {
    let (_core, node, mut backend) = relayed("").await;
    node.send_body(b"the rest of nothing").await;
    let ended = node.next().await.unwrap_err();
    assert_eq!(ended.cause, Cause::TrunkProtocol);
    assert!(read_to_end(&mut backend).await.is_empty());
}

#[tokio::test]
async fn a_reset_reaches_the_backend_as_a_close() {
    let (core, node, mut backend) = relayed("").await;
    node.port.reset(Cause::SessionLost, "the node restarted");
    let frames = frames(&read_to_end(&mut backend).await);
    assert_eq!(frames, [(CLOSE, [&1001_u16.to_be_bytes()[..], b"the node restarted"].concat())]);
    assert_closed(&core, "session_lost").await;
}

#[tokio::test]
async fn a_drain_ends_what_does_not_end_itself() {
    let (core, node, _backend) = relayed("drain_grace = \"500ms\"\n").await;
    let finish = core.shutdown.finish(Duration::from_millis(500)).await;
    assert_eq!(finish, antipode_runtime::shutdown::Finish::Drained);
    assert_eq!(node.next().await.unwrap_err().cause, Cause::CoreDraining);
}

/// The session's task is over and has counted its cause.
pub(super) async fn assert_closed(core: &Core, cause: &str) {
    let counted = async {
        while core.metrics.sessions.get() != 0 || core.bridge.sessions_len() != 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, counted).await.expect("the session closes");
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("closed", "", core.metrics.sessions_closed.clone());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(&format!("closed_total{{cause=\"{cause}\"}} 1")), "{text}");
}

/// The backend is gone before it can be told, and nobody has noticed: the client takes nothing.
#[tokio::test]
async fn a_close_that_the_backend_never_gets_is_over_all_the_same() {
    let (_core, node, mut backend) = relayed("[timeouts]\nclosing = \"200ms\"\n").await;
    let len = 512 * 1024_u64;
    backend.write_all(&[&[0x82, 0x7f][..], &len.to_be_bytes()].concat()).await.unwrap();
    backend.write_all(&vec![7; 512 * 1024]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    backend.set_zero_linger().unwrap();
    drop(backend);
    tokio::time::sleep(Duration::from_millis(50)).await;
    node.send_close(1000, "");
    tokio::time::sleep(Duration::from_millis(50)).await;
    let (_, end) = node.rest().await;
    assert!([Cause::BackendLost, Cause::BackendTimeout].contains(&end.cause()), "{end:?}");
    timeout(PATIENCE, node.port.finished()).await.expect("the close is acknowledged");
}

#[tokio::test]
async fn who_reads_slowly_gets_the_last_words_too() {
    let (_core, node, mut backend) = relayed("[timeouts]\nclosing = \"50ms\"\n").await;
    backend.write_all(b"\x81\x02hi\x88\x02\x03\xe8").await.unwrap();
    // The client takes nothing for many times as long as a close may take.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(&node.chunk().await.payload[..], b"hi");
    assert_eq!(node.end().await.close_code, Some(1000));
}

/// The way up waits for a backend that takes nothing, the way down for one that says nothing.
#[tokio::test]
async fn a_reset_is_noticed_though_the_backend_stands_still() {
    let (core, node, _backend) = relayed("[timeouts]\nclosing = \"100ms\"\n").await;
    let payload = [7; 16 * 1024];
    while timeout(Duration::from_millis(300), node.port.ready()).await.is_ok() {
        node.send_frame(0x82, &payload).await;
    }
    node.port.reset(Cause::ClientLost, "gone");
    assert_closed(&core, "client_lost").await;
}
