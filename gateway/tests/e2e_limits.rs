//! Limits on whoever knocks: reached, told and counted.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::net::SocketAddr;
use std::time::Duration;

use antipode_gateway::member::Role;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

mod support;
use support::Gateway;
use support::stream::Stream;

/// Longer than any limit here.
const PATIENCE: Duration = Duration::from_secs(40);
const ADMIN: &str = "admin = { listen = \"127.0.0.1:0\" }";

#[tokio::test(flavor = "multi_thread")]
async fn sockets_are_limited() {
    let gateway = Gateway::start_with(&format!("sockets_max = 1\n{ADMIN}")).await;
    let http = gateway.app.addresses().http.unwrap();
    let mut first = TcpStream::connect(http).await.unwrap();
    first.write_all(b"GET /v1/nodes HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    let mut byte = [0];
    assert_eq!(timeout(PATIENCE, first.read(&mut byte)).await.unwrap().unwrap(), 1, "served");
    let mut second = TcpStream::connect(http).await.unwrap();
    assert_eq!(end_of(&mut second).await, "", "closed at once");
    let metrics = metrics(&gateway).await;
    assert!(metrics.contains("sockets_refused_total{reason=\"full\"} 1\n"), "{metrics}");
}

/// All wait as long as they may, at the same time.
#[tokio::test(flavor = "multi_thread")]
async fn who_says_nothing_is_not_waited_for() {
    let gateway = Gateway::start_with(ADMIN).await;
    let addresses = gateway.app.addresses();
    let one = gateway.enrol("one", Role::Node, 1).await.unwrap();
    let _mute = Stream::open(&gateway, Some(&one)).await.unwrap();
    let mut silent = TcpStream::connect(addresses.registry).await.unwrap();
    let mut slow = TcpStream::connect(addresses.http.unwrap()).await.unwrap();
    slow.write_all(b"GET /v1/nodes HTTP/1.1\r\nHo").await.unwrap();
    let ended = tokio::join!(end_of(&mut silent), end_of(&mut slow));
    assert_eq!(ended.0, "", "no handshake, no word");
    let metrics = metrics(&gateway).await;
    for line in [
        "sockets_refused_total{reason=\"handshake_timeout\"} 1\n",
        "sockets_refused_total{reason=\"head_timeout\"} 1\n",
        "attend_ends_total{reason=\"idle\"} 1\n",
    ] {
        assert!(metrics.contains(line), "no {line} in {metrics}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_members_are_counted() {
    let more = format!("members_max = 1\nenrol = {{ per_minute_max = 3 }}\n{ADMIN}");
    let gateway = Gateway::start_with(&more).await;
    gateway.enrol("one", Role::Node, 1).await.unwrap();
    for key in 2..=4 {
        assert!(gateway.enrol("two", Role::Node, key).await.is_err());
    }
    let metrics = metrics(&gateway).await;
    for line in ["outcome=\"ok\"} 1\n", "outcome=\"full\"} 2\n", "outcome=\"too_often\"} 1\n"] {
        assert!(metrics.contains(&format!("enrolments_total{{{line}")), "{line} in {metrics}");
    }
}

async fn end_of(socket: &mut TcpStream) -> String {
    let mut read = Vec::new();
    // A reset is an end too.
    let _ = timeout(PATIENCE, socket.read_to_end(&mut read)).await.expect("it is closed");
    String::from_utf8_lossy(&read).into_owned()
}

async fn metrics(gateway: &Gateway) -> String {
    let admin: SocketAddr = gateway.app.addresses().admin.unwrap();
    let mut socket = TcpStream::connect(admin).await.unwrap();
    let request = b"GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    socket.write_all(request).await.unwrap();
    end_of(&mut socket).await
}
