//! HTTP exchanges: bodies both ways, whole or broken off.

use antipode_proto::trunk::v1::{Cause, End, Header};
use antipode_trunk::{Body, SessionPort};
use bytes::Bytes;

use super::bench::{head, next, piece, within};
use super::*;

#[tokio::test]
async fn a_body_goes_up_and_another_comes_down() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client.send("POST /p HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nX-A: 1\r\n\r\nhello").await;
    let asked = bench.asked().await;
    assert_eq!((&*asked.head.method, &*asked.head.target), ("POST", "/p"));
    assert_eq!(field(&asked.head.headers, "content-length"), ["5"]);
    assert_eq!(next(&asked.port).await, piece(b"hello"));
    assert_eq!(next(&asked.port).await, end(Cause::Complete, None, ""));
    asked.port.send(head(200, &[("content-length", "3"), ("connection", "close")])).unwrap();
    asked.port.send(piece(b"abc")).unwrap();
    asked.port.send(end(Cause::Complete, None, "")).unwrap();
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 200 ") && has_line(&answer, "content-length: 3"));
    assert!(!has_line(&answer, "connection: close"), "a backend's hop is not ours: {answer}");
    assert_eq!(client.take(3).await, "abc");
    within(asked.port.finished()).await;
    bench.closed("http", "complete").await;

    client.send("GET /again HTTP/1.1\r\nHost: a\r\n\r\n").await;
    assert_eq!(bench.asked().await.head.target, "/again", "the socket is kept");
}

#[tokio::test]
async fn chunked_bodies_and_trailers_cross() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client
        .send(
            "PUT / HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nTransfer-Encoding: chunked\r\n\r\n\
               3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n",
        )
        .await;
    let asked = bench.asked().await;
    assert!(field(&asked.head.headers, "transfer-encoding").is_empty());
    assert_eq!(field(&asked.head.headers, "te"), ["trailers"]);
    assert_eq!(next(&asked.port).await, piece(b"abc"));
    let Body::End(told) = next(&asked.port).await else { panic!("no end") };
    assert_eq!(field(&told.trailers, "x-sum"), ["7"]);

    asked.port.send(head(200, &[("trailer", "x-out")])).unwrap();
    asked.port.send(piece(b"de")).unwrap();
    let trailer = Header { name: "x-out".to_owned(), value: Bytes::from("9") };
    let cause = i32::from(Cause::Complete);
    let last = End { cause, trailers: vec![trailer], ..End::default() };
    asked.port.send(Body::from(last)).unwrap();
    client.head().await;
    assert_eq!(client.take(7 + 3 + 10 + 2).await, "2\r\nde\r\n0\r\nx-out: 9\r\n\r\n");
}

#[tokio::test]
async fn answers_without_a_body_end() {
    let mut bench = Bench::start().await;
    for (method, status) in [("HEAD", 200), ("GET", 204), ("GET", 304)] {
        let mut client = bench.client().await;
        client.send(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n")).await;
        let asked = bench.asked().await;
        asked.port.send(head(status, &[("etag", "x")])).unwrap();
        let answer = client.head().await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        asked.port.send(end(Cause::Complete, None, "")).unwrap();
        next(&asked.port).await;
        within(asked.port.finished()).await;
    }
}

#[tokio::test]
async fn large_bodies_stream_both_ways() {
    const LEN: usize = 20 << 20;
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: {LEN}\r\n\r\n");
    client.send(request).await;
    let asked = bench.asked().await;
    let length = LEN.to_string();
    asked.port.send(head(200, &[("content-length", &length)])).unwrap();
    let upload = async {
        let block = vec![7; 1 << 20];
        for _ in 0..20 {
            client.send(&block).await;
        }
    };
    let (_, received) = tokio::join!(upload, drain_body(&asked.port));
    assert_eq!(received, LEN);
    let flood = async {
        let block = vec![8; 16 << 10];
        for _ in 0..LEN / block.len() {
            within(asked.port.ready()).await.unwrap();
            asked.port.send(piece(&block)).unwrap();
        }
        asked.port.send(end(Cause::Complete, None, "")).unwrap();
    };
    let download = async {
        client.head().await;
        client.take(LEN).await
    };
    let ((), body) = tokio::join!(flood, download);
    assert!(body.iter().all(|byte| *byte == 8));
}

#[tokio::test]
async fn an_answer_that_breaks_off_can_t_pass_for_whole() {
    let mut bench = Bench::start().await;
    for (version, length) in [("1.1", None), ("1.1", Some("9")), ("1.0", None)] {
        for cause in [None, Some(Cause::BackendLost)] {
            let mut client = bench.client().await;
            client.send(format!("GET / HTTP/{version}\r\nHost: a\r\n\r\n")).await;
            let asked = bench.asked().await;
            let headers: Vec<_> = length.map(|len| ("content-length", len)).into_iter().collect();
            asked.port.send(head(200, &headers)).unwrap();
            asked.port.send(piece(b"half")).unwrap();
            client.head().await;
            client.take(if version == "1.1" && length.is_none() { 9 } else { 4 }).await;
            match cause {
                Some(cause) => asked.port.send(end(cause, None, "")).unwrap(),
                None => asked.port.reset(Cause::Internal, "test"),
            }
            let mut byte = [0];
            let read = within(tokio::io::AsyncReadExt::read(&mut client.socket, &mut byte)).await;
            let is_reset = read.is_err();
            assert!(is_reset, "HTTP/{version} {length:?} {cause:?}: {read:?}");
        }
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_the_exchange() {
    let mut bench = Bench::start().await;
    let mut client = bench.client().await;
    client.send("GET /before HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let asked = bench.asked().await;
    drop(client);
    lost(&asked.port).await;

    let mut client = bench.client().await;
    client.send("GET /amid HTTP/1.1\r\nHost: a\r\n\r\n").await;
    let asked = bench.asked().await;
    asked.port.send(head(200, &[])).unwrap();
    asked.port.send(piece(b"half")).unwrap();
    client.head().await;
    drop(client);
    lost(&asked.port).await;

    let mut client = bench.client().await;
    client.send("POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nhalf").await;
    let asked = bench.asked().await;
    assert_eq!(next(&asked.port).await, piece(b"half"));
    drop(client);
    lost(&asked.port).await;
    assert_eq!(bench.front.admission.sessions(), 0);
}

#[tokio::test]
async fn a_body_beyond_the_limit_is_refused() {
    let mut bench = Bench::with("session = { http_body_bytes_max = 8 }").await;
    let answer = bench.tell("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    bench.counted("requests_refused_total{reason=\"body_bytes_max\"} 1").await;

    let mut client = bench.client().await;
    let request = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    client.send(format!("{request}5\r\nabcde\r\n5\r\nabcde\r\n0\r\n\r\n")).await;
    let asked = bench.asked().await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    drop(asked);
}

#[tokio::test]
async fn a_client_that_announces_a_body_and_sends_none_is_dropped() {
    let mut bench = Bench::with("session = { body_timeout = \"200ms\" }").await;
    let mut client = bench.client().await;
    client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n").await;
    let _asked = bench.asked().await;
    let answer = client.head().await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    bench.closed("http", "client_idle").await;
}

async fn lost(port: &SessionPort) {
    let ended = within(async {
        loop {
            match port.deliver().await {
                Ok(delivery) => port.consumed(delivery.seq),
                Err(ended) => return ended,
            }
        }
    });
    assert_eq!(ended.await.cause, Cause::ClientLost);
}

async fn drain_body(port: &SessionPort) -> usize {
    let mut received = 0;
    loop {
        match next(port).await {
            Body::Chunk(chunk) => received += chunk.payload.len(),
            Body::End(_) => return received,
            Body::Request(_) | Body::Response(_) => panic!("a head"),
        }
    }
}
