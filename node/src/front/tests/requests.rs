//! Heads: what gets which status, and what is forwarded.

use super::bench::{UPGRADE, head, next, piece};
use super::*;
use antipode_proto::trunk::v1::{Cause, SessionKind};
use antipode_trunk::Body;

/// A request line and headers that are good for all but what the row is about.
const GET: &str = "GET / HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n";

#[tokio::test]
async fn what_is_wrong_is_told() {
    let bench = Bench::start().await;
    let swap = |from: &str, to: &str| UPGRADE.replace(from, to);
    let rows: Vec<(&str, String, &str)> = vec![
        ("no HTTP", "\x16\x03\x01 hello\r\n\r\n".into(), "400"),
        ("no version", "GET /\r\n\r\n".into(), "400"),
        ("HTTP/2 in clear text", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".into(), "505"),
        ("a header without a name", format!("{GET}: x\r\n\r\n"), "400"),
        ("a space before the colon", format!("{GET}X-A : x\r\n\r\n"), "400"),
        ("no Host", "GET / HTTP/1.1\r\n\r\n".into(), "400"),
        ("two Hosts", format!("{GET}Host: b.example\r\n\r\n"), "400"),
        ("a bad Host", "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(), "400"),
        ("a Host with a user", "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n".into(), "400"),
        ("a bad length", format!("{GET}Content-Length: x\r\n\r\n"), "400"),
        ("two lengths", format!("{GET}Content-Length: 1\r\nContent-Length: 2\r\n\r\n"), "400"),
        ("a tunnel", "CONNECT b.example:443 HTTP/1.1\r\nHost: b.example\r\n\r\n".into(), "405"),
        ("a bare asterisk", GET.replace("GET /", "GET *") + "\r\n", "400"),
        ("asked what it can do", GET.replace("GET /", "OPTIONS *") + "\r\n", "204"),
        ("large headers", format!("{GET}X: {}\r\n\r\n", "x".repeat(40_000)), "431"),
        ("many headers", format!("{GET}{}\r\n", "X: y\r\n".repeat(120)), "431"),
        ("another method", swap("GET", "POST"), "405"),
        ("HTTP/1.0", swap("HTTP/1.1", "HTTP/1.0"), "400"),
        ("no key", swap("Sec-WebSocket-Key", "X-Key"), "400"),
        ("a short key", swap("dGhlIHNhbXBsZSBub25jZQ==", "c2hvcnQ="), "400"),
        ("two keys", swap("\r\n\r\n", "\r\nSec-WebSocket-Key: eA==\r\n\r\n"), "400"),
        ("another version", swap("Version: 13", "Version: 8"), "426"),
        ("no version of the protocol", swap("Sec-WebSocket-Version", "X-V"), "426"),
        ("no Connection", swap("Connection: Upgrade", "Connection: close"), "400"),
        ("no Upgrade", swap("Upgrade: websocket", "X-Upgrade: websocket"), "400"),
        ("no Host on an upgrade", swap("Host: chat.example", "X-Host: a"), "400"),
    ];
    for (what, request, status) in rows {
        let answer = bench.tell(&request).await;
        let found = answer.split(' ').nth(1);
        assert_eq!(found, Some(status), "{what}: {answer:?}");
        if status == "426" {
            assert!(has_line(&answer, "sec-websocket-version: 13"), "{answer}");
        }
    }
    let answer = bench
        .tell(format!(
            "GET {} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
            crate::front::HEALTH_PATH
        ))
        .await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "it goes on serving: {answer}");
}

#[tokio::test]
async fn a_head_that_never_ends_is_told_so() {
    let bench = Bench::with("front = { head_timeout = \"200ms\" }").await;
    let answer = bench.tell("GET / HTTP/1.1\r\nHost: a").await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert_eq!(bench.tell("").await, "", "a client that says nothing is left");
    bench.counted("requests_refused_total{reason=\"head_timeout\"} 1").await;
}

#[tokio::test]
async fn the_request_arrives_as_it_was_sent() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    let request = UPGRADE.replace(
        "\r\n\r\n",
        "\r\nOrigin: https://app.example\r\nCookie: a=1; b=2\r\nAuthorization: Bearer x\r\n\
         User-Agent: test\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
         Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n\
         X-Forwarded-For: 10.0.0.1\r\nX-Real-IP: 10.0.0.1\r\nProxy-Authorization: x\r\n\
         Keep-Alive: x\r\n\r\n",
    );
    client.send(request).await;
    let asked = bench.asked().await;
    let head = &asked.head;
    assert_eq!(head.kind(), SessionKind::Websocket);
    assert_eq!((&*head.method, &*head.target), ("GET", "/chat?room=1"));
    assert_eq!((&*head.authority, &*head.scheme), ("chat.example", "http"));
    assert_eq!(head.client_ip, "127.0.0.1");
    assert!(!head.answered_early);
    let sent: Vec<_> = head.headers.iter().map(|header| header.name.as_str()).collect();
    assert_eq!(
        sent,
        [
            "origin",
            "cookie",
            "authorization",
            "user-agent",
            "sec-websocket-protocol",
            "sec-websocket-extensions",
            "x-forwarded-for",
            "x-forwarded-proto",
            "x-forwarded-host",
            "forwarded",
        ]
    );
    assert_eq!(field(&head.headers, "cookie"), ["a=1; b=2"]);
    assert_eq!(field(&head.headers, "x-forwarded-for"), ["127.0.0.1"]);
    let forwarded = ["for=127.0.0.1;host=chat.example;proto=http"];
    assert_eq!(field(&head.headers, "forwarded"), forwarded);
}

#[tokio::test]
async fn a_target_in_absolute_form_names_the_host() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client.send("GET http://t.example/p?q HTTP/1.1\r\nHost: h.example\r\n\r\n").await;
    let asked = bench.asked().await;
    assert_eq!((&*asked.head.authority, &*asked.head.target), ("t.example", "/p?q"));
    assert_eq!(asked.head.kind(), SessionKind::Http);
}

#[tokio::test]
async fn the_answer_of_the_backend_comes_through() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client.send(UPGRADE).await;
    let asked = bench.asked().await;
    let headers = [
        ("sec-websocket-protocol", "chat"),
        ("set-cookie", "io=1"),
        ("set-cookie", "lb=2"),
        ("sec-websocket-accept", "wrong"),
        ("connection", "x-hop"),
        ("x-hop", "1"),
    ];
    asked.port.send(head(101, &headers)).unwrap();
    let answer = client.head().await;
    for line in [
        "HTTP/1.1 101 Switching Protocols",
        "upgrade: websocket",
        "connection: upgrade",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "sec-websocket-protocol: chat",
        "set-cookie: io=1",
        "set-cookie: lb=2",
    ] {
        assert!(has_line(&answer, line), "no {line:?} in {answer}");
    }
    assert!(!answer.contains("x-hop") && !answer.contains("wrong"), "{answer}");
}

#[tokio::test]
async fn a_refusal_of_the_backend_comes_through_with_its_body() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client.send(UPGRADE).await;
    let asked = bench.asked().await;
    asked.port.send(head(401, &[("www-authenticate", "Basic")])).unwrap();
    asked.port.send(piece(b"who are you?")).unwrap();
    asked.port.send(end(Cause::Complete, None, "")).unwrap();
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 401 ") && has_line(&answer, "www-authenticate: Basic"));
    assert_eq!(client.take(22).await, "C\r\nwho are you?\r\n0\r\n\r\n");
    let Body::End(told) = next(&asked.port).await else { panic!("no end") };
    assert_eq!(told.cause(), Cause::Complete);
}

#[tokio::test]
async fn a_core_without_a_backend_is_told_to_the_client() {
    for (cause, status, label) in [
        (Cause::BackendUnreachable, "502", "backend_unreachable"),
        (Cause::BackendTimeout, "504", "backend_timeout"),
        (Cause::CoreDraining, "502", "core_draining"),
        (Cause::SessionLost, "502", "session_lost"),
        (Cause::TrunkLost, "504", "trunk_lost"),
        (Cause::CoreFull, "503", "core_full"),
    ] {
        let mut bench = Bench::start().await;
        for request in [UPGRADE, "GET / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            let mut client = bench.client().await;
            client.send(request).await;
            bench.asked().await.port.reset(cause, "test");
            let answer = client.head().await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{cause:?}: {answer}");
            assert!(has_line(&answer, &format!("antipode-error: {label}")), "{answer}");
            assert_eq!(has_line(&answer, "retry-after: 5"), status == "503", "{answer}");
        }
    }
}

#[tokio::test]
async fn an_early_answer_agrees_on_a_subprotocol_alone() {
    let early = "upgrade = { answer = \"early\", subprotocols = [\"v2\", \"v1\"] }";
    let mut bench = Bench::with(early).await;
    let mut client = bench.client().await;
    let more = "\r\nSec-WebSocket-Protocol: v3, v1, v2\r\n\
                Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    client.send(UPGRADE.replace("\r\n\r\n", more)).await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 101 ") && has_line(&answer, "sec-websocket-protocol: v1"));
    assert!(!answer.contains("extensions"));
    client.frame(0x81, b"first").await;

    let asked = bench.asked().await;
    assert!(asked.head.answered_early);
    assert_eq!(field(&asked.head.headers, "sec-websocket-protocol"), ["v1"]);
    assert!(field(&asked.head.headers, "sec-websocket-extensions").is_empty());
    assert_eq!(next(&asked.port).await, whole(0x81, b"first"));
    asked.port.send(head(101, &[])).unwrap();
    asked.port.send(whole(0x81, b"second")).unwrap();
    client.event().await.unwrap();
}
