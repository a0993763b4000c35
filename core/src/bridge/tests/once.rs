//! An exchange reaches a backend once or not at all: what may have had its effect is not sent
//! again.

use super::*;

const OK: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

/// How a backend fails an exchange that it has read.
#[derive(Clone, Copy, Debug)]
enum Failure {
    /// It ends its socket.
    HangsUp,
    /// Its socket is reset.
    Resets,
    /// It says nothing.
    IsSilent,
}

#[tokio::test]
async fn a_request_that_a_backend_has_read_goes_to_no_other() {
    for method in ["GET", "POST"] {
        for failure in [Failure::HangsUp, Failure::Resets, Failure::IsSilent] {
            let ((one, one_url), (two, two_url)) = (listen().await, listen().await);
            let extra = "[timeouts]\nresponse_head = \"200ms\"\n";
            let core = Core::new(&[&one_url, &two_url], extra);
            let node = core.open(request(SessionKind::Http, method, "/pay", &[])).await;
            node.send_end(Cause::Complete);
            let mut backend = tokio::select! {
                accepted = one.accept() => accepted.unwrap().0,
                accepted = two.accept() => accepted.unwrap().0,
            };
            read_head(&mut backend).await;
            fail(backend, failure, &node).await;
            let again = async {
                tokio::select! { _ = one.accept() => {}, _ = two.accept() => {} }
            };
            let again = timeout(Duration::from_millis(100), again).await;
            assert!(again.is_err(), "{method}, {failure:?}: sent again");
        }
    }
}

/// On a socket that was used before, an old rule of HTTP would allow another attempt.
#[tokio::test]
async fn nor_is_it_sent_again_after_a_socket_that_was_kept() {
    for failure in [Failure::HangsUp, Failure::Resets, Failure::IsSilent] {
        let (listener, url) = listen().await;
        let core = Core::new(&[&url], "[timeouts]\nresponse_head = \"200ms\"\n");
        let node = core.open(get("/first")).await;
        node.send_end(Cause::Complete);
        let mut backend = accept(&listener).await;
        read_head(&mut backend).await;
        backend.write_all(OK).await.unwrap();
        assert_eq!(node.response().await.status, 204);
        node.rest().await;

        let node = core.open(get("/second")).await;
        node.send_end(Cause::Complete);
        assert!(read_head(&mut backend).await.starts_with("GET /second "));
        fail(backend, failure, &node).await;
        let again = timeout(Duration::from_millis(100), listener.accept()).await;
        assert!(again.is_err(), "{failure:?}: sent again");
    }
}

/// A backend that takes half of a body has had half of it.
#[tokio::test]
async fn a_half_sent_body_goes_to_no_other() {
    let ((one, one_url), (two, two_url)) = (listen().await, listen().await);
    let core = Core::new(&[&one_url, &two_url], "");
    let length = [("content-length", "1000")];
    let node = core.open(request(SessionKind::Http, "PUT", "/", &length)).await;
    node.send_body(&[7; 500]).await;
    let mut backend = tokio::select! {
        accepted = one.accept() => accepted.unwrap().0,
        accepted = two.accept() => accepted.unwrap().0,
    };
    read_head(&mut backend).await;
    backend.read_exact(&mut [0; 500]).await.unwrap();
    fail(backend, Failure::Resets, &node).await;
    let again = async {
        tokio::select! { _ = one.accept() => {}, _ = two.accept() => {} }
    };
    assert!(timeout(Duration::from_millis(100), again).await.is_err(), "sent again");
}

/// Lets the backend fail, and looks at what the client is told.
async fn fail(backend: TcpStream, failure: Failure, node: &NodeEnd) {
    let (kept, expected) = match failure {
        Failure::HangsUp => {
            drop(backend);
            (None, (502, "backend_lost"))
        }
        Failure::Resets => {
            backend.set_zero_linger().unwrap();
            drop(backend);
            (None, (502, "backend_lost"))
        }
        Failure::IsSilent => (Some(backend), (504, "backend_timeout")),
    };
    let response = node.response().await;
    let told = (response.status, &*value(&response, "antipode-error"));
    assert_eq!(told, expected, "{failure:?}");
    drop(kept);
}
