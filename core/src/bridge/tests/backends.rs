//! Which backend takes a session, and what happens where none does.

use super::*;

#[tokio::test]
async fn no_backend_is_a_502_that_says_so() {
    let core = Core::new(&[&nobody().await], "");
    for head in [get("/"), upgrade(&[])] {
        let is_http = head.kind() == SessionKind::Http;
        let node = core.open(head).await;
        if is_http {
            node.send_end(Cause::Complete);
        }
        let response = node.response().await;
        assert_eq!(response.status, 502);
        assert_eq!(value(&response, "antipode-error"), "backend_unreachable");
        assert_eq!(node.rest().await.1.cause(), Cause::Complete);
    }
}

#[tokio::test]
async fn an_early_answered_client_gets_a_cause_instead_of_a_text() {
    let core = Core::new(&[&nobody().await], "");
    let node = core.open(RequestHead { answered_early: true, ..upgrade(&[]) }).await;
    assert_eq!(node.response().await.status, 502);
    assert_eq!(node.end().await.cause(), Cause::BackendUnreachable);
}

/// With all credit spent on what nobody will take, the client's end could not even be sent.
#[tokio::test]
async fn what_came_early_is_acknowledged_though_no_backend_takes_it() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(RequestHead { answered_early: true, ..upgrade(&[]) }).await;
    let mut backend = accept(&listener).await;
    while timeout(Duration::from_millis(200), node.port.ready()).await.is_ok() {
        let payload = Bytes::from_static(&[7; 16 * 1024]);
        node.send(Chunk { frame: Some(0x82), payload, ..Chunk::default() }).await;
    }
    read_head(&mut backend).await;
    let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n";
    backend.write_all(answer).await.unwrap();
    assert_eq!(node.response().await.status, 502);
    assert_eq!(node.end().await.cause(), Cause::BackendProtocol);
    node.send_end(Cause::ClientClosed);
    timeout(Duration::from_secs(5), node.port.finished()).await.expect("the end goes up");
    assert!(node.port.look(|machine| machine.ended().is_none()), "in order");
}

#[tokio::test]
async fn the_next_backend_takes_what_one_cannot() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&nobody().await, &url], "");
    let node = core.open(request(SessionKind::Http, "POST", "/", &[])).await;
    node.send_body(b"body").await;
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    let mut bytes = [0; 9];
    backend.read_exact(&mut bytes).await.unwrap();
    assert_eq!(&bytes, b"4\r\nbody\r\n");

    let _node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    answer_upgrade(&mut backend, "", b"").await;
}

#[tokio::test]
async fn a_refused_upgrade_comes_through_with_its_body() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    let answer =
        "HTTP/1.1 401 Unauthorized\r\nwww-authenticate: Bearer\r\ncontent-length: 2\r\n\r\nno";
    backend.write_all(answer.as_bytes()).await.unwrap();
    let response = node.response().await;
    assert_eq!((response.status, &*value(&response, "www-authenticate")), (401, "Bearer"));
    assert_eq!(node.rest().await.0, b"no");
}

#[tokio::test]
async fn an_upgrade_with_a_wrong_accept_is_a_502() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "");
    let node = core.open(upgrade(&[])).await;
    let mut backend = accept(&listener).await;
    read_head(&mut backend).await;
    let answer = "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\
                  connection: Upgrade\r\nsec-websocket-accept: AAAA\r\n\r\n";
    backend.write_all(answer.as_bytes()).await.unwrap();
    let response = node.response().await;
    assert_eq!((response.status, &*value(&response, "antipode-error")), (502, "backend_protocol"));
}

#[tokio::test]
async fn a_full_core_says_so() {
    let (listener, url) = listen().await;
    let core = Core::new(&[&url], "[limits]\nsessions_max = 1\n");
    let _first = core.open(upgrade(&[])).await;
    let _backend = accept(&listener).await;
    let second = core.open(get("/")).await;
    let response = second.response().await;
    assert_eq!((response.status, &*value(&response, "retry-after")), (503, "1"));
    assert_eq!(value(&response, "antipode-error"), "core_full");
}

#[tokio::test]
async fn sessions_go_to_the_backend_with_fewest() {
    let ((one, one_url), (two, two_url)) = (listen().await, listen().await);
    let core = Core::new(&[&one_url, &two_url], "");
    let mut held = Vec::new();
    for _ in 0..2 {
        held.push(core.open(upgrade(&[])).await);
        held.push(core.open(upgrade(&[])).await);
        accept(&one).await;
        accept(&two).await;
    }
}

#[tokio::test]
async fn the_cookie_brings_the_client_back() {
    let ((one, one_url), (two, two_url)) = (listen().await, listen().await);
    let text = crate::config::tests::with_member(&format!(
        "[health]\ncheck = \"none\"\n[sticky]\nmode = \"cookie\"\n\
         [[backend]]\nname = \"one\"\nurl = \"{one_url}\"\n\
         [[backend]]\nname = \"two\"\nurl = \"{two_url}\"\n"
    ));
    let core = Core::with(&text);
    for (listener, cookie) in [(&one, "antipode_backend=one"), (&two, "x=1; antipode_backend=two")]
    {
        let node = core.open(upgrade(&[("cookie", cookie)])).await;
        let mut backend = accept(listener).await;
        answer_upgrade(&mut backend, "", b"").await;
        assert_eq!(value(&node.response().await, "set-cookie"), "", "it has its cookie");
    }

    let node = core.open(get("/")).await;
    node.send_end(Cause::Complete);
    let (mut backend, name) = tokio::select! {
        accepted = one.accept() => (accepted.unwrap().0, "one"),
        accepted = two.accept() => (accepted.unwrap().0, "two"),
    };
    read_head(&mut backend).await;
    backend
        .write_all(b"HTTP/1.1 200 OK\r\nset-cookie: app=1\r\ncontent-length: 0\r\n\r\n")
        .await
        .unwrap();
    let expected = format!("app=1|antipode_backend={name}; Path=/; HttpOnly; SameSite=Lax");
    assert_eq!(value(&node.response().await, "set-cookie"), expected);
}

#[tokio::test]
async fn checks_find_out_who_is_well() {
    let (listener, url) = listen().await;
    let text = crate::config::tests::with_member(&format!(
        "[health]\ncheck = \"http\"\npath = \"/up\"\ninterval = \"20ms\"\nup = 1\ndown = 1\n\
         [[backend]]\nurl = \"{url}\"\n"
    ));
    let core = Core::with(&text);
    assert!(!core.bridge.backends().any_healthy(), "unknown is not healthy");
    for (status, healthy) in [(204, true), (503, false), (302, true)] {
        let mut socket = accept(&listener).await;
        let head = read_head(&mut socket).await;
        assert!(head.starts_with("GET /up HTTP/1.1\r\n"), "{head}");
        let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n");
        socket.write_all(answer.as_bytes()).await.unwrap();
        let seen = async {
            while core.bridge.backends().any_healthy() != healthy {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(PATIENCE, seen).await.unwrap_or_else(|_| panic!("{status}"));
    }
}

#[tokio::test]
async fn unix_sockets() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("chat.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let core = Core::new(&[&format!("unix:{}", path.display())], "");
    let node = core.open(get("/")).await;
    node.send_end(Cause::Complete);
    let (mut backend, _) = listener.accept().await.unwrap();
    backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    assert_eq!(node.response().await.status, 200);
}

#[tokio::test]
async fn https_trusts_the_given_ca_and_nobody_else() {
    antipode_runtime::crypto::install();
    let signed = rcgen::generate_simple_self_signed(["chat.internal".to_owned()]).unwrap();
    let key =
        rustls_pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).unwrap();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![signed.cert.der().clone()], key)
        .unwrap();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let (listener, url) = listen().await;
    let url = url.replace("http:", "wss:");
    let ca_file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(ca_file.path(), signed.cert.pem()).unwrap();

    let table = format!(
        "[[backend]]\nurl = \"{url}\"\nca_file = \"{}\"\nserver_name = \"chat.internal\"\n",
        ca_file.path().display()
    );
    let core = Core::new(&[], &table);
    let node = core.open(get("/")).await;
    node.send_end(Cause::Complete);
    let mut backend = acceptor.accept(accept(&listener).await).await.unwrap();
    assert_eq!(backend.get_ref().1.server_name(), Some("chat.internal"));
    backend.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await.unwrap();
    backend.flush().await.unwrap();
    assert_eq!(node.response().await.status, 200);

    let stranger = Core::new(&[&url], "");
    let node = stranger.open(get("/")).await;
    node.send_end(Cause::Complete);
    assert!(acceptor.accept(accept(&listener).await).await.is_err());
    assert_eq!(value(&node.response().await, "antipode-error"), "backend_unreachable");
}
