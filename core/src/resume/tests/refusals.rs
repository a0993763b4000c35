//! Upgrades that can't go on with a session, and clients that break the protocol.

use super::client::{open_early, open_with};
use super::*;
use crate::resume::token::{KEY_BYTES, SessionId, TokenKey};
use antipode_proto::trunk::v1::{Attach, Chunk};
use bytes::Bytes;

#[tokio::test]
async fn a_token_that_is_not_ours_is_refused() {
    let (core, client, _wire, mut backend) = begun("").await;
    let mut forged = client.welcome.token.to_vec();
    forged[20] ^= 1;
    let foreign = TokenKey::new(&[8; KEY_BYTES]).sign(SessionId::new([1; 16]));
    for token in [forged, foreign.as_bytes().to_vec(), Vec::new()] {
        check_refused(&core, attach(2, 0, &token), Cause::Policy).await;
    }
    client.send(b"unmoved").await;
    assert_eq!(backend.next().await.1, b"unmoved");
}

#[tokio::test]
async fn a_session_that_is_over_is_lost() {
    let core = Core::new(&["http://127.0.0.1:1"], "");
    let token = TokenKey::new(&[7; KEY_BYTES]).sign(SessionId::new([1; 16]));
    check_refused(&core, attach(2, 0, token.as_bytes()), Cause::SessionLost).await;
}

#[tokio::test]
async fn an_older_attachment_is_refused_and_changes_nothing() {
    let (core, client, _wire, mut backend) = begun("").await;
    for epoch in [0, 1] {
        let stale = attach(epoch, 0, &client.welcome.token);
        check_refused(&core, stale, Cause::Replaced).await;
    }
    assert_eq!(core.metrics.resume.moved.get(), 0);
    client.send(b"unmoved").await;
    assert_eq!(backend.next().await.1, b"unmoved");
}

/// A client that claims what was never sent has another session's state.
#[tokio::test]
async fn an_impossible_position_ends_the_session() {
    let (core, client, _wire, backend) = begun("").await;
    let ahead = attach(2, 99, &client.welcome.token);
    check_refused(&core, ahead, Cause::TrunkProtocol).await;
    backend.rest().await;
    assert_over(&core, Cause::TrunkProtocol).await;
    let again = attach(3, 0, &client.welcome.token);
    check_refused(&core, again, Cause::SessionLost).await;
}

#[tokio::test]
async fn who_says_something_else_first_is_refused() {
    let core = Core::new(&["http://127.0.0.1:1"], "");
    check_refused(&core, Frame::Ping(1), Cause::ClientProtocol).await;
    for first in [&b"\xff"[..], b"\x02\x02"] {
        let socket = open_early(&core).await;
        let payload = Bytes::copy_from_slice(first);
        let chunk = Chunk { frame: Some(0x82), payload, ..Chunk::default() };
        socket.port().send(chunk.into()).unwrap();
        let mut wire = Wire::listening(socket);
        assert_eq!(refused(&wire.told().await), Cause::ClientProtocol);
        assert_eq!(wire.closed().await, (Cause::ClientProtocol, Some(4410)));
    }
}

#[tokio::test]
async fn who_says_nothing_is_not_waited_for() {
    let core = Core::new(&["http://127.0.0.1:1"], "[resume]\nattach_timeout = \"50ms\"\n");
    let mut wire = Wire::listening(open_early(&core).await);
    let told = wire.told().await;
    let Told::Closed(end) = told else { panic!("{told:?}") };
    assert_eq!((end.cause(), end.close_code), (Cause::ClientIdle, None), "it may try again");
    assert_counted(&core, "late");
}

#[tokio::test]
async fn a_core_that_resumes_nothing_says_so() {
    let core = Core::new(&["http://127.0.0.1:1"], "[resume]\nenabled = false\n");
    let token = TokenKey::new(&[7; KEY_BYTES]).sign(SessionId::new([1; 16]));
    check_refused(&core, attach(2, 0, token.as_bytes()), Cause::SessionLost).await;
    assert_counted(&core, "disabled");
}

#[tokio::test]
async fn a_client_that_breaks_the_protocol_loses_its_session() {
    let whole = |frame, payload: &[u8]| {
        let payload = Bytes::copy_from_slice(payload);
        Chunk { frame: Some(frame), payload, ..Chunk::default() }
    };
    let too_large = Chunk { frame_len: Some(16_420), ..whole(0x82, b"") };
    for (broken, label) in [
        (whole(0x81, b"text"), "text"),
        (whole(0xc2, b"\x0a\x01"), "reserved_bit"),
        (too_large, "too_large"),
        (whole(0x82, b"\x63"), "kind"),
        (whole(0x82, b""), "short"),
        (whole(0x82, b"\x0b\x01"), "out_of_place"),
    ] {
        let (core, client, wire, backend) = begun("").await;
        wire.send_chunk(broken);
        assert_eq!(client.reset().await, Cause::ClientProtocol, "{label}");
        let frames = backend.rest().await;
        let close = [&1002_u16.to_be_bytes()[..], label.as_bytes()].concat();
        assert_eq!(frames, [(0x88, close)], "{label}");
        assert_over(&core, Cause::ClientProtocol).await;
    }
}

/// The largest frame there is: a full piece with the longest numbers before it.
#[tokio::test]
async fn the_largest_message_passes() {
    let (_core, client, _wire, mut backend) = begun("").await;
    client.send(&vec![7; 16 * 1024]).await;
    assert_eq!(backend.next().await.1.len(), 16 * 1024);
    drop(client);
}

/// More than the credit allows is the session machine's to notice.
#[tokio::test]
async fn a_client_that_ignores_its_credit_loses_its_session() {
    let (core, _client, wire, _backend) = begun("[timeouts]\nclosing = \"100ms\"\n").await;
    let position = |seq| antipode_proto::resume::Position { seq, ack: 0, credit: 262_144 };
    for seq in 2..=1500 {
        let payload = Bytes::from(vec![7; 16 * 1024]);
        let chunk = Chunk { frame: Some(0x82), payload, ..Chunk::default() };
        wire.say(Frame::Chunk(position(seq), chunk));
    }
    assert_over(&core, Cause::TrunkProtocol).await;
}

#[tokio::test]
async fn a_socket_that_is_closed_before_it_says_anything_is_let_go() {
    let core = Core::new(&["http://127.0.0.1:1"], "");
    let socket = open_early(&core).await;
    socket.close(Cause::ClientLost, None, "");
    timeout(PATIENCE, async {
        while let Ok(delivery) = socket.port().deliver().await {
            socket.port().consumed(delivery.seq);
            if delivery.body.is_end() {
                break;
            }
        }
        socket.port().finished().await;
    })
    .await
    .expect("the core ends it too");
    assert_counted(&core, "left");
}

async fn check_refused(core: &Core, first: Frame, expected: Cause) {
    let mut wire = open_with(core, first).await;
    assert_eq!(refused(&wire.told().await), expected);
    assert_eq!(wire.closed().await, (expected, Some(4410)));
}

fn assert_counted(core: &Core, outcome: &str) {
    let mut registry = prometheus_client::registry::Registry::default();
    registry.register("resumes", "", core.metrics.resume.resumes.clone());
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
    assert!(text.contains(&format!("{{outcome=\"{outcome}\"}} 1")), "{text}");
}

fn attach(epoch: u64, received: u64, token: &[u8]) -> Frame {
    let token = Bytes::copy_from_slice(token);
    Frame::Attach(Attach { epoch, received, credit: 262_144, token })
}
