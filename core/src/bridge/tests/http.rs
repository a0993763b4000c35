//! HTTP exchanges.

use super::*;

#[tokio::test]
async fn a_request_without_a_body_has_none() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    for method in ["GET", "POST", "DELETE"] {
        let accept_header = [("accept", "*/*"), ("connection", "x-hop"), ("x-hop", "1")];
        let head = request(SessionKind::Http, method, "/a%20b?c=d&e", &accept_header);
        let node = core.open(head).await;
        node.send_end(Cause::Complete);
        let mut backend = accept(&listener).await;
        let head = read_head(&mut backend).await;
        let expected =
            format!("{method} /a%20b?c=d&e HTTP/1.1\r\naccept: */*\r\nhost: chat.example\r\n\r\n");
        assert_eq!(head, expected);
        let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\
                      keep-alive: timeout=5\r\nset-cookie: a=1\r\nset-cookie: b=2\r\n\r\nok";
        backend.write_all(answer.as_bytes()).await.unwrap();
        let response = node.response().await;
        assert_eq!(response.status, 200);
        assert_eq!(value(&response, "set-cookie"), "a=1|b=2");
        assert_eq!(value(&response, "content-length"), "2");
        assert_eq!(value(&response, "connection") + &value(&response, "keep-alive"), "");
        let (body, end) = node.rest().await;
        assert_eq!((&body[..], end.cause()), (&b"ok"[..], Cause::Complete));
        timeout(PATIENCE, node.port.finished()).await.unwrap();
    }
}

#[tokio::test]
async fn bodies_stream_both_ways() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(request(SessionKind::Http, "POST", "/", &[])).await;
    node.send_body(b"first ").await;
    let mut backend = accept(&listener).await;
    let head = read_head(&mut backend).await;
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    let mut bytes = [0; 11];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"6\r\nfirst \r\n");

    let answer =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n3\r\none\r\n";
    backend.write_all(answer.as_bytes()).await.unwrap();
    assert_eq!(value(&node.response().await, "transfer-encoding"), "");
    assert_eq!(&node.chunk().await.payload[..], b"one");

    node.send_body(b"second").await;
    node.send_end(Cause::Complete);
    let mut bytes = [0; 16];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"6\r\nsecond\r\n0\r\n\r\n");
    backend.write_all(b"3\r\ntwo\r\n0\r\nx-sum: 7\r\n\r\n").await.unwrap();
    let (body, end) = node.rest().await;
    assert_eq!(&body[..], b"two");
    assert_eq!((&*end.trailers[0].name, &end.trailers[0].value[..]), ("x-sum", &b"7"[..]));
}

#[tokio::test]
async fn a_large_upload_and_download_pass_through() {
    const BYTES: usize = 8 << 20;
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let length = [("content-length", "8388608")];
    let node = core.open(request(SessionKind::Http, "PUT", "/", &length)).await;
    let served = async {
        let mut backend = accept(&listener).await;
        let head = read_head(&mut backend).await;
        assert!(head.contains("content-length: 8388608\r\n"), "{head}");
        let mut body = vec![0; BYTES];
        backend.read_exact(&mut body).await.unwrap();
        backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 8388608\r\n\r\n").await.unwrap();
        backend.write_all(&body).await.unwrap();
        backend
    };
    let played = async {
        for piece in vec![9; BYTES].chunks(16 * 1024) {
            node.send_body(piece).await;
        }
        node.send_end(Cause::Complete);
        node.response().await;
        let (body, end) = node.rest().await;
        assert_eq!((body.len(), end.cause()), (BYTES, Cause::Complete));
        assert!(body.iter().all(|&byte| byte == 9));
    };
    tokio::join!(served, played);
}

#[tokio::test]
async fn sockets_are_used_again() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let mut backend = None;
    for target in ["/1", "/2", "/3"] {
        let node = core.open(get(target)).await;
        node.send_end(Cause::Complete);
        if backend.is_none() {
            backend = Some(accept(&listener).await);
        }
        let socket = backend.as_mut().unwrap();
        let head = read_head(socket).await;
        assert!(head.starts_with(&format!("GET {target} ")), "{head}");
        socket.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.unwrap();
        assert_eq!(node.response().await.status, 204);
        assert_eq!(node.rest().await.1.cause(), Cause::Complete);
        timeout(PATIENCE, node.port.finished()).await.unwrap();
    }
}

#[tokio::test]
async fn a_client_that_leaves_aborts_the_request() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(request(SessionKind::Http, "POST", "/", &[])).await;
    node.send_body(b"half").await;
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    node.send_end(Cause::ClientLost);
    let bytes = read_to_end(&mut backend).await;
    assert!(!bytes.ends_with(b"0\r\n\r\n"), "half a body must not look whole");
    assert_eq!(node.next().await.unwrap_err().cause, Cause::ClientLost);
}

#[tokio::test]
async fn an_answer_before_the_whole_request_does_not_make_it_whole() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(request(SessionKind::Http, "POST", "/", &[])).await;
    node.send_body(b"half").await;
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    let mut bytes = [0; 9];
    backend.read_exact(&mut bytes).await.unwrap();
    backend.write_all(b"HTTP/1.1 413 Too Much\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(node.response().await.status, 413);
    assert_eq!(node.end().await.cause(), Cause::Complete);
    assert!(read_to_end(&mut backend).await.is_empty(), "half a body must not look whole");
    node.send_end(Cause::Complete);
    timeout(PATIENCE, node.port.finished()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_during_the_answer_frees_the_backend() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(get("/events")).await;
    node.send_end(Cause::Complete);
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await.unwrap();
    node.response().await;
    node.port.reset(Cause::ClientLost, "");
    assert!(read_to_end(&mut backend).await.is_empty());
}

#[tokio::test]
async fn a_backend_that_breaks_off_is_lost() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(get("/")).await;
    node.send_end(Cause::Complete);
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf").await.unwrap();
    drop(backend);
    node.response().await;
    let (body, end) = node.rest().await;
    assert_eq!((&body[..], end.cause()), (&b"half"[..], Cause::BackendLost));
}

#[tokio::test]
async fn bad_answers_are_502() {
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "a".repeat(70_000));
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: 1\r\n".repeat(200));
    check("hung up", "", 502, "backend_lost").await;
    check("no http", "SSH-2.0-OpenSSH_9.2\r\n", 502, "backend_protocol").await;
    check("long head", &long, 502, "backend_head_too_large").await;
    check("many headers", &many, 502, "backend_head_too_large").await;
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nupgrade: h2c\r\nconnection: upgrade\r\n\r\n";
    check("an upgrade that nobody asked for", upgrade, 502, "backend_protocol").await;
}

#[tokio::test]
async fn a_backend_that_does_not_answer_is_504() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "[timeouts]\nresponse_head = \"300ms\"\n");
    let node = core.open(get("/")).await;
    node.send_end(Cause::Complete);
    let _backend = accept(&listener).await;
    let response = node.response().await;
    assert_eq!((response.status, &*value(&response, "antipode-error")), (504, "backend_timeout"));
    let (text, end) = node.rest().await;
    assert!(text.starts_with(b"The server behind the relay"));
    assert_eq!(end.cause(), Cause::Complete);
}

/// The backend writes `answer` and hangs up; the client gets an answer of the core's.
async fn check(what: &str, answer: &str, status: u32, label: &str) {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(request(SessionKind::Http, "POST", "/", &[("content-length", "2")])).await;
    node.send_body(b"hi").await;
    node.send_end(Cause::Complete);
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    let _ = backend.write_all(answer.as_bytes()).await;
    let _ = backend.shutdown().await;
    let response = node.response().await;
    assert_eq!((response.status, &*value(&response, "antipode-error")), (status, label), "{what}");
    let again = timeout(Duration::from_millis(50), listener.accept()).await;
    assert!(again.is_err(), "{what}: the request was sent again");
}
