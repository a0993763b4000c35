//! Another process goes on with resumable sessions; their clients find it with their tokens.

use super::*;
use crate::bridge::websocket::Parts;
use crate::handover::{Summons, Wave};
use crate::resume::{inherit, machine_config};
use antipode_proto::handover::v1::HandedSession;
use antipode_proto::handover::v1::from_predecessor::Kind;
use antipode_proto::handover::v1::handed_session::Owner;
use antipode_proto::session::Session;
use antipode_runtime::clock;
use antipode_websocket::Policy;

/// Moves the only session of `from` into another core, as the two processes would.
async fn move_to_another(from: &Core) -> Core {
    let to = Core::new(&["http://127.0.0.1:1"], "");
    let mut offers = Summons::gather(&from.bridge.summons, Wave::Sockets);
    let offer = timeout(PATIENCE, offers.recv()).await.expect("it comes").expect("a session");
    let (Kind::Session(session), Some(socket)) = offer.made else { panic!("no session") };
    let HandedSession { owner, machine, websocket } = session;
    let Some(Owner::Resume(place)) = owner else { panic!("whose is it? {owner:?}") };
    let config = machine_config(&crate::config::ResumeTable::default());
    let machine = Session::import(machine.unwrap(), config, clock::now()).unwrap();
    let policy = Policy {
        frame_bytes_max: 1 << 20,
        chunk_bytes_max: antipode_trunk::CHUNK_BYTES_MAX,
        rsv1_allowed: false,
    };
    let parts = Parts::import(websocket.unwrap(), socket, policy).unwrap();
    assert!(inherit(&to.bridge, &place, machine, false, ("", parts), None));
    offer.taken.send(()).unwrap();
    to
}

#[tokio::test]
async fn a_session_goes_on_in_another_process() {
    let (core, client, wire, mut backend) = begun("").await;
    backend.send(0x82, b"d1").await;
    assert_eq!(&client.chunk().await.payload[..], b"d1");
    wire.cut();
    client.detach();
    until("the core notices", || core.metrics.resume.detached.get() == 1).await;
    backend.send(0x82, b"d2").await;
    client.send(b"u2").await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let next = move_to_another(&core).await;
    until("it is gone from the first", || core.metrics.resume.sessions.get() == 0).await;
    assert_eq!(core.metrics.sessions.get(), 0);
    assert_eq!((next.metrics.resume.sessions.get(), next.metrics.resume.detached.get()), (1, 1));
    backend.send(0x82, b"d3").await;
    let mut wire = client.attach(&next).await;
    assert_eq!(backend.next().await.1, b"u2");
    for expected in [b"d2", b"d3"] {
        assert_eq!(&client.chunk().await.payload[..], expected);
    }
    assert_eq!(next.metrics.resume.detached.get(), 0);
    client.end(1000, "");
    assert_eq!(backend.next().await, (0x88, b"\x03\xe8".to_vec()));
    backend.send(0x88, b"\x03\xe8").await;
    drop(backend);
    assert_eq!(client.ended().await.close_code, Some(1000));
    assert_eq!(wire.closed().await, (Cause::BackendClosed, Some(1000)));
    assert_over(&next, Cause::ClientClosed).await;
}

/// Its client is there and speaks until the very last moment.
#[tokio::test]
async fn an_attached_session_goes_on_where_it_stood() {
    let (core, client, _wire, mut backend) = begun("").await;
    for round in 0..50_u8 {
        client.send(&[round, 1]).await;
        backend.send(0x82, &[round, 2]).await;
    }
    let next = move_to_another(&core).await;
    client.detach();
    let _wire = client.attach(&next).await;
    client.send(b"after").await;
    backend.send(0x82, b"after").await;
    for round in 0..50_u8 {
        assert_eq!(backend.next().await.1, [round, 1]);
        assert_eq!(client.chunk().await.payload[..], [round, 2]);
    }
    assert_eq!(backend.next().await.1, b"after");
    assert_eq!(&client.chunk().await.payload[..], b"after");
}
