//! What a session's two ends promise each other, over lanes in memory.

use antipode_proto::trunk::v1::{Cause, Chunk, End, RequestHead, ResponseHead};
use antipode_trunk::testing::port_pair;
use antipode_trunk::{Body, CHUNK_BYTES_MAX, SessionPort, Trunks};
use bytes::Bytes;
use tokio::time::{Duration, timeout};

#[tokio::test]
async fn a_session_runs_its_course() {
    let (node, core) = port_pair(request("/chat")).await;
    assert_eq!((core.head.target.as_str(), core.node.name.as_str()), ("/chat", "node-in-memory"));
    let core = core.port;

    core.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
    assert!(matches!(next(&node).await, Body::Response(head) if head.status == 101));
    node.send(chunk(b"up")).unwrap();
    core.send(chunk(b"down")).unwrap();
    assert_eq!((next(&core).await, next(&node).await), (chunk(b"up"), chunk(b"down")));

    node.send(end(Cause::ClientClosed)).unwrap();
    assert_eq!(next(&core).await, end(Cause::ClientClosed));
    core.send(end(Cause::BackendClosed)).unwrap();
    assert_eq!(next(&node).await, end(Cause::BackendClosed));
    timeout(Duration::from_secs(5), async { tokio::join!(node.finished(), core.finished()) })
        .await
        .expect("both ends finish");
}

#[tokio::test]
async fn who_does_not_consume_stops_the_sender() {
    let (node, core) = port_pair(request("/")).await;
    let mut sent = 0_usize;
    while let Ok(ready) = timeout(Duration::from_millis(200), node.ready()).await {
        ready.expect("the session lives");
        node.send(chunk(&vec![0; CHUNK_BYTES_MAX])).unwrap();
        sent += CHUNK_BYTES_MAX;
        assert!(sent < 8 << 20, "nothing holds the sender back");
    }
    let mut got = 0;
    while got < sent {
        let delivery = core.port.deliver().await.expect("the session lives");
        if let Body::Chunk(chunk) = delivery.body {
            got += chunk.payload.len();
        }
        core.port.consumed(delivery.seq);
    }
    timeout(Duration::from_secs(5), node.ready()).await.expect("credit came back").unwrap();
}

#[tokio::test]
async fn a_dropped_port_resets_the_other_end() {
    let (node, core) = port_pair(request("/")).await;
    drop(core);
    let ended = node.deliver().await.expect_err("the core's end is gone");
    assert_eq!(ended.cause, Cause::Internal);
    assert_eq!(node.send(chunk(b"late")).expect_err("over").cause, Cause::Internal);
}

#[tokio::test]
async fn a_reset_says_why() {
    let (node, core) = port_pair(request("/")).await;
    node.reset(Cause::ClientSlow, "read nothing for 30 s");
    let ended = core.port.deliver().await.expect_err("reset");
    assert_eq!((ended.cause, ended.detail.as_str()), (Cause::ClientSlow, "read nothing for 30 s"));
    let ended = core.port.ready().await.expect_err("reset");
    assert_eq!(ended.cause, Cause::ClientSlow);
}

#[tokio::test]
async fn many_sessions_share_the_lanes() {
    let (trunks, mut accepted) = Trunks::in_memory();
    let mut ports = Vec::new();
    for index in 0..500 {
        ports.push(trunks.open(request(&format!("/{index}"))).expect("in memory is always up"));
    }
    let mut far = Vec::new();
    for _ in 0..500 {
        far.push(accepted.recv().await.expect("each one arrives"));
    }
    for incoming in &far {
        incoming.port.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
        let target = incoming.head.target.clone();
        incoming.port.send(chunk(target.as_bytes())).unwrap();
    }
    for (index, port) in ports.iter().enumerate() {
        assert!(matches!(next(port).await, Body::Response(_)));
        assert_eq!(next(port).await, chunk(format!("/{index}").as_bytes()), "mixed up");
    }
}

#[tokio::test]
async fn who_reads_slowly_is_heard_out() {
    let (node, core) = port_pair(request("/")).await;
    let core = core.port;
    core.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
    core.send(chunk(b"last words")).unwrap();
    core.send(end(Cause::BackendClosed)).unwrap();
    for _ in 0..3 {
        let waits = timeout(Duration::from_millis(100), core.heard_out()).await;
        assert!(waits.is_err(), "the node has not written everything yet");
        next(&node).await;
    }
    timeout(Duration::from_secs(5), core.heard_out()).await.expect("all is written");
}

async fn next(port: &SessionPort) -> Body {
    let delivery = timeout(Duration::from_secs(5), port.deliver()).await.expect("in time");
    let delivery = delivery.expect("the session lives");
    port.consumed(delivery.seq);
    delivery.body
}

fn request(target: &str) -> RequestHead {
    RequestHead { target: target.into(), ..RequestHead::default() }
}

fn chunk(payload: &[u8]) -> Body {
    Chunk { payload: Bytes::copy_from_slice(payload), ..Chunk::default() }.into()
}

fn end(cause: Cause) -> Body {
    End { cause: cause.into(), ..End::default() }.into()
}
