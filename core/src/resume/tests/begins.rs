//! How a resumable session begins, or an ordinary one in its stead.

use super::*;
use crate::bridge::tests::value;
use antipode_proto::resume::Welcome;
use tokio::io::AsyncWriteExt;

const OFFER: &str = "antipode.resume.v1, chat, antipode.core.elsewhere";

#[tokio::test]
async fn the_backend_is_asked_for_its_own_and_the_client_is_welcomed() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "[resume]\nwindow = \"90s\"\nping_interval = \"7s\"\n");
    let node = core
        .open(upgrade(&[
            ("sec-websocket-protocol", OFFER),
            ("sec-websocket-extensions", "permessage-deflate"),
            ("origin", "https://chat.example"),
        ]))
        .await;
    let mut backend = accept(&listener).await;
    let extra = "sec-websocket-protocol: chat\r\nset-cookie: a=1\r\n";
    let head = answer_upgrade(&mut backend, extra, b"").await;
    assert!(head.contains("sec-websocket-protocol: chat\r\n"), "{head}");
    assert!(head.contains("origin: https://chat.example\r\n"), "{head}");
    assert!(!head.contains("antipode") && !head.contains("permessage"), "{head}");

    let (client, _wire) = Client::welcomed(node).await;
    let Welcome { credit, window_ms, ping_ms, token, core: name, protocol } = &client.welcome;
    assert_eq!((*credit, *window_ms, *ping_ms), (262_144, 90_000, 7_000));
    assert_eq!((&**name, &**protocol, token.len()), ("core-1", "chat", 49));

    let mut backend = Backend::new(backend);
    client.send(b"up").await;
    assert_eq!(backend.next().await, (0x82, b"up".to_vec()));
    backend.send(0x81, b"down").await;
    let chunk = client.chunk().await;
    assert_eq!((chunk.frame, &chunk.payload[..]), (Some(0x81), &b"down"[..]));
    assert_eq!(core.metrics.resume.sessions.get(), 1);
    assert_eq!(core.metrics.resume.detached.get(), 0);
}

#[tokio::test]
async fn what_comes_with_the_backends_answer_is_not_lost() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[("sec-websocket-protocol", OFFER)])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"\x81\x05early").await;
    let (client, _wire) = Client::welcomed(node).await;
    assert_eq!(client.welcome.protocol, "", "the backend chose none");
    assert_eq!(&client.chunk().await.payload[..], b"early");
}

/// Each session has a token of its own.
#[tokio::test]
async fn tokens_differ() {
    let (_core, one, _wire, _backend) = begun("").await;
    let (_core2, two, _wire2, _backend2) = begun("").await;
    assert_ne!(one.welcome.token, two.welcome.token);
}

#[tokio::test]
async fn a_refusal_of_the_backend_stays_an_http_answer() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[("sec-websocket-protocol", OFFER)])).await;
    let mut backend = accept(&listener).await;
    crate::bridge::tests::read_head(&mut backend).await;
    let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 4\r\n\r\nnope";
    backend.write_all(answer).await.unwrap();
    assert_eq!(node.response().await.status, 403);
    assert_eq!(&node.rest().await.0[..], b"nope");
    node.send_end(Cause::ClientClosed);
    assert_over(&core, Cause::Complete).await;
    let taken = core.bridge.resume.take_place();
    assert!(taken.is_some(), "its place is free again");
}

#[tokio::test]
async fn a_backend_that_is_not_there_is_a_502() {
    let (listener, url) = listen().await;
    drop(listener);
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[("sec-websocket-protocol", OFFER)])).await;
    let response = node.response().await;
    assert_eq!(
        (response.status, &*value(&response, "antipode-error")),
        (502, "backend_unreachable")
    );
}

/// Disabled, or full: the client gets what everybody else gets, its extensions included.
#[tokio::test]
async fn without_a_place_it_is_an_ordinary_websocket() {
    for (extra, reason) in
        [("[resume]\nenabled = false\n", "disabled"), ("[resume]\nsessions_max = 1\n", "full")]
    {
        let (listener, url) = listen().await;
        let core = Core::new(&[&url], extra);
        let _first = core.bridge.resume.take_place();
        let extensions = ("sec-websocket-extensions", "permessage-deflate");
        let node = core.open(upgrade(&[("sec-websocket-protocol", OFFER), extensions])).await;
        let mut backend = accept(&listener).await;
        let extra =
            "sec-websocket-protocol: chat\r\nsec-websocket-extensions: permessage-deflate\r\n";
        let head = answer_upgrade(&mut backend, extra, b"").await;
        assert!(!head.contains("antipode"), "{head}");
        let response = node.response().await;
        assert_eq!(value(&response, "sec-websocket-protocol"), "chat");
        assert_eq!(value(&response, "sec-websocket-extensions"), "permessage-deflate");
        node.send_frame(0x82, b"plain").await;
        assert_eq!(Backend::new(backend).next().await, (0x82, b"plain".to_vec()));
        let mut registry = prometheus_client::registry::Registry::default();
        registry.register("fallbacks", "", core.metrics.resume.fallbacks.clone());
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        assert!(text.contains(&format!("{{reason=\"{reason}\"}}")), "{text}");
    }
}

/// A payload is a chunk of its own, untouched, so that a lane can tell equal ones.
#[tokio::test]
async fn payloads_stay_apart_from_their_heads() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[("sec-websocket-protocol", OFFER)])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
    node.response().await;
    node.chunk().await;
    let mut backend = Backend::new(backend);
    backend.send(0x82, &[7; 100]).await;
    let (head, payload) = (node.chunk().await, node.chunk().await);
    assert_eq!(head.frame, Some(0x82));
    assert_eq!(head.frame_len, u64::try_from(head.payload.len() + 100).ok());
    assert_eq!(
        (payload.frame, payload.frame_len, &payload.payload[..]),
        (None, None, &[7; 100][..])
    );
    backend.send(0x81, b"small").await;
    let small = node.chunk().await;
    assert_eq!((small.frame, small.frame_len), (Some(0x82), None));
    assert!(small.payload.ends_with(b"small"));
}
