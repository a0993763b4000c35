//! Sessions that can go on elsewhere, as the front sees them: which core, answered by whom.

use antipode_proto::trunk::v1::SessionKind;
use antipode_websocket::Event;
use bytes::Bytes;

use super::bench::{head, next, offering, value_of};
use super::*;

#[tokio::test]
async fn a_session_goes_on_at_the_core_that_holds_it() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    let offer = "antipode.resume.v1, antipode.core.in-memory\r\n\
                 Sec-WebSocket-Extensions: permessage-deflate";
    client.send(offering(offer)).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "before the core has said anything: {answer}");
    assert_eq!(value_of(&answer, "sec-websocket-protocol"), Some("antipode.resume.v1"));
    assert_eq!(value_of(&answer, "sec-websocket-extensions"), None);
    client.frame(0x82, b"attach").await;

    let asked = bench.asked().await;
    assert!(asked.head.answered_early && asked.head.resumable);
    assert_eq!(asked.head.kind(), SessionKind::Websocket);
    assert_eq!(field(&asked.head.headers, "sec-websocket-protocol"), ["antipode.resume.v1"]);
    assert!(field(&asked.head.headers, "sec-websocket-extensions").is_empty());
    assert_eq!(next(&asked.port).await, whole(0x82, b"attach"));
    asked.port.send(head(101, &[])).unwrap();
    asked.port.send(whole(0x82, b"attached")).unwrap();
    let Some(Event::Chunk { payload, .. }) = client.event().await else { panic!("no frame") };
    assert_eq!(payload, Bytes::from_static(b"attached"));
    bench.counted("resumes_total 1").await;
    bench.counted("sessions_resumable 1").await;
    drop(client);
    bench.counted("sessions_resumable 0").await;
}

#[tokio::test]
async fn a_core_that_is_not_there_and_one_that_can_t_be() {
    let bench = Bench::start().await;
    let answer = bench.ask(offering("antipode.resume.v1, antipode.core.c-9")).await;
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(value_of(&answer, "antipode-error"), Some("core_away"));
    let after: u32 = value_of(&answer, "retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&after), "{after}");
    bench.counted("requests_refused_total{reason=\"core_away\"} 1").await;
    assert_eq!(bench.front.metrics.failed(), 0, "what a stranger names says nothing of the node");
    for offer in ["antipode.core.c-9", "antipode.resume.v1, antipode.core.../etc"] {
        let answer = bench.ask(offering(offer)).await;
        assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
        assert_eq!(value_of(&answer, "antipode-error"), Some("resume_offer"));
    }
}

#[tokio::test]
async fn a_new_session_is_answered_by_the_core_in_either_mode() {
    let early = "upgrade = { answer = \"early\", subprotocols = [\"chat\"] }";
    for mode in ["", early] {
        let mut bench = Bench::with(mode).await;
        let mut client = bench.client().await;
        client.send(offering("chat, antipode.resume.v1")).await;
        let asked = bench.asked().await;
        assert!(asked.head.resumable && !asked.head.answered_early, "{mode}");
        let offered = field(&asked.head.headers, "sec-websocket-protocol");
        assert_eq!(offered, ["chat, antipode.resume.v1"]);
        let refused = head(403, &[("content-length", "0")]);
        asked.port.send(refused).unwrap();
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 403 "), "the backend's refusal is a status: {answer}");
    }
}

#[tokio::test]
async fn a_core_that_does_not_agree_leaves_an_ordinary_websocket() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client.send(offering("chat, antipode.resume.v1")).await;
    let asked = bench.asked().await;
    asked.port.send(head(101, &[("sec-websocket-protocol", "chat")])).unwrap();
    let answer = client.head().await;
    assert_eq!(value_of(&answer, "sec-websocket-protocol"), Some("chat"));
    client.frame(0x81, b"hello").await;
    assert_eq!(next(&asked.port).await, whole(0x81, b"hello"));
    bench.counted("sessions_resumable 0").await;
}
