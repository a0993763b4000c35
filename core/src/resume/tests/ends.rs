//! How resumable sessions end, with and without an attachment.

use super::client::{open_early, open_with};
use super::*;
use antipode_proto::trunk::v1::{Attach, Reset};

#[tokio::test]
async fn the_client_closes() {
    let (core, client, mut wire, mut backend) = begun("[resume]\nsessions_max = 1\n").await;
    assert!(core.bridge.resume.take_place().is_none(), "it has the only place");
    client.send(b"last").await;
    client.end(4001, "done");
    assert_eq!(backend.next().await.1, b"last");
    assert_eq!(backend.next().await, (0x88, b"\x0f\xa1done".to_vec()));
    backend.send(0x88, b"\x0f\xa1ok").await;
    let end = client.ended().await;
    assert_eq!(
        (end.cause(), end.close_code, &*end.reason),
        (Cause::BackendClosed, Some(4001), "ok")
    );
    assert_eq!(wire.closed().await, (Cause::BackendClosed, Some(1000)));
    drop(backend);
    assert_over(&core, Cause::ClientClosed).await;
    assert!(core.bridge.resume.take_place().is_some(), "and gives it back");
}

#[tokio::test]
async fn the_backend_closes_while_its_client_is_away() {
    let (core, client, wire, mut backend) = begun("").await;
    wire.cut();
    client.detach();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    backend.send(0x81, b"goodbye").await;
    backend.send(0x88, b"\x0f\xa0enough").await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let mut wire = client.attach(&core).await;
    assert_eq!(&client.chunk().await.payload[..], b"goodbye");
    let end = client.ended().await;
    assert_eq!(
        (end.cause(), end.close_code, &*end.reason),
        (Cause::BackendClosed, Some(4000), "enough")
    );
    client.end(4000, "");
    assert_eq!(backend.next().await, (0x88, b"\x0f\xa0".to_vec()));
    drop(backend);
    assert_eq!(wire.closed().await, (Cause::BackendClosed, Some(1000)));
    assert_over(&core, Cause::BackendClosed).await;
}

#[tokio::test]
async fn a_backend_that_is_lost_while_its_client_is_away_is_told_later() {
    let (core, client, wire, backend) = begun("").await;
    wire.cut();
    client.detach();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    drop(backend);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let _wire = client.attach(&core).await;
    assert_eq!(client.ended().await.cause(), Cause::BackendLost);
    client.end(1000, "");
    assert_over(&core, Cause::BackendLost).await;
}

/// A client that comes back with its close: the backend gets what it said before, and the code.
#[tokio::test]
async fn a_close_said_while_away_arrives_with_the_client() {
    let (core, client, wire, mut backend) = begun("").await;
    wire.cut();
    client.detach();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    client.send(b"last words").await;
    client.end(4002, "bye");
    assert!(backend.sees_nothing().await);
    let _wire = client.attach(&core).await;
    assert_eq!(backend.next().await.1, b"last words");
    assert_eq!(backend.next().await, (0x88, b"\x0f\xa2bye".to_vec()));
}

#[tokio::test]
async fn a_client_that_does_not_come_back_is_lost_to_the_backend() {
    let (core, client, wire, mut backend) = begun("[resume]\nwindow = \"400ms\"\n").await;
    client.send(b"u1").await;
    assert_eq!(backend.next().await.1, b"u1");
    wire.cut();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    assert!(backend.sees_nothing().await, "not before the window ends");
    assert!(backend.rest().await.is_empty(), "no close frame that nobody sent");
    assert_over(&core, Cause::ClientLost).await;
    assert_eq!(core.metrics.resume.expired.get(), 1);

    let token = client.welcome.token.clone();
    let attach = Attach { epoch: 2, received: 0, credit: 262_144, token };
    let mut late = open_with(&core, Frame::Attach(attach)).await;
    assert_eq!(refused(&late.told().await), Cause::SessionLost);
    assert_eq!(late.closed().await, (Cause::SessionLost, Some(4410)));
}

/// Each break has the whole window: the time of the last one does not count.
#[tokio::test]
async fn the_window_begins_with_each_break() {
    let (core, client, wire, mut backend) = begun("[resume]\nwindow = \"500ms\"\n").await;
    let mut wire = wire;
    for _ in 0..3 {
        wire.cut();
        client.detach();
        tokio::time::sleep(Duration::from_millis(300)).await;
        wire = client.attach(&core).await;
        client.send(b"here").await;
        assert_eq!(backend.next().await.1, b"here");
    }
    assert_eq!(core.metrics.resume.expired.get(), 0);
}

/// Nobody can come back to a session whose token has not been heard of.
#[tokio::test]
async fn a_client_that_was_never_heard_is_lost_at_once() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[("sec-websocket-protocol", "antipode.resume.v1")])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
    let (client, socket) = Client::greeted(node).await;
    socket.close(Cause::ClientLost, None, "");
    assert!(Backend::new(backend).rest().await.is_empty());
    assert_over(&core, Cause::ClientLost).await;
    drop(client);
}

/// Whatever ends the trunk's session ends the attachment only.
#[tokio::test]
async fn every_end_of_an_attachment_leaves_the_session() {
    for cause in [
        Cause::ClientLost,
        Cause::TrunkLost,
        Cause::NodeDraining,
        Cause::ClientClosed,
        Cause::ClientSlow,
        Cause::ClientIdle,
        Cause::Internal,
    ] {
        for by_reset in [false, true] {
            let (core, client, mut wire, mut backend) = begun("").await;
            client.send(b"u1").await;
            assert_eq!(backend.next().await.1, b"u1");
            wire.end_with(cause, by_reset);
            if !by_reset {
                assert_eq!(wire.closed().await, (cause, None), "the other direction ends, too");
            }
            client.detach();
            until("the core notices", || core.metrics.resume.detached.get() == 1).await;
            assert!(backend.sees_nothing().await);
            let _wire = client.attach(&core).await;
            client.send(b"u2").await;
            assert_eq!(backend.next().await.1, b"u2");
        }
    }
}

#[tokio::test]
async fn a_clients_reset_ends_the_session() {
    let (core, _client, wire, backend) = begun("").await;
    let cause = Cause::ClientClosed.into();
    wire.say(Frame::Reset(Reset { cause, detail: "no more".to_owned() }));
    backend.rest().await;
    assert_over(&core, Cause::ClientClosed).await;
}

#[tokio::test]
async fn a_drain_tells_the_client_why() {
    let (core, client, mut wire, _backend) = begun("drain_grace = \"500ms\"\n").await;
    let shutdown = core.shutdown.clone();
    let finish = shutdown.finish(Duration::from_millis(500));
    let (finish, cause) = tokio::join!(finish, client.reset());
    assert_eq!(cause, Cause::CoreDraining);
    assert_eq!(wire.closed().await, (Cause::CoreDraining, None));
    assert_eq!(finish, antipode_runtime::shutdown::Finish::Drained);
}

/// A session whose client is away, and one that is yet to say what it wants, do not outstay it.
#[tokio::test]
async fn a_drain_does_not_wait_for_clients_that_are_away() {
    let (core, _client, wire, backend) = begun("drain_grace = \"500ms\"\n").await;
    wire.cut();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    let finish = core.shutdown.finish(Duration::from_millis(500)).await;
    assert_eq!(finish, antipode_runtime::shutdown::Finish::Drained);
    backend.rest().await;
}

/// In the drain's grace sessions are still there to come back to.
#[tokio::test]
async fn a_draining_core_lets_clients_come_back() {
    let (core, client, wire, mut backend) = begun("drain_grace = \"5s\"\n").await;
    wire.cut();
    client.detach();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    core.shutdown.begin_drain();
    let _wire = client.attach(&core).await;
    client.send(b"still here").await;
    assert_eq!(backend.next().await.1, b"still here");
    drop(open_early(&core).await);
}
