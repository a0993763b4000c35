//! Bridges between ports in memory and real servers on loopback.

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::body::Body;
use antipode_proto::trunk::v1::{
    Cause, Chunk, End, Header, RequestHead, ResponseHead, SessionKind,
};
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::testing::port_pair;
use antipode_trunk::{Ended, SessionPort};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Bridge;
use crate::backend::Backends;
use crate::config::Config;
use crate::metrics::Metrics;
use crate::resume::Resume;
use crate::resume::token::{KEY_BYTES, TokenKey};

mod backends;
mod ends;
mod http;
mod limits;
mod once;
mod websocket;

/// No step of a test takes so long.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A core without its trunk, and what its sessions count.
pub(crate) struct Core {
    pub(crate) bridge: Arc<Bridge>,
    pub(crate) metrics: Metrics,
    pub(crate) shutdown: Shutdown,
}

impl Core {
    /// A core with these backends and `extra` lines of settings; health is not checked.
    pub(crate) fn new(backends: &[&str], extra: &str) -> Self {
        let tables: String =
            backends.iter().map(|url| format!("[[backend]]\nurl = \"{url}\"\n")).collect();
        // Keys without a table stand first.
        let (keys, extra) = extra.split_at(extra.find('[').unwrap_or(extra.len()));
        let text = format!("{keys}[health]\ncheck = \"none\"\n{tables}{extra}");
        Self::with(&crate::config::tests::with_member(&text))
    }

    fn with(toml: &str) -> Self {
        antipode_runtime::crypto::install();
        let config: Config = toml::from_str(toml).unwrap();
        let (metrics, shutdown) = (Metrics::default(), Shutdown::default());
        let backends = Backends::new(&config, &metrics, &shutdown).unwrap();
        backends.start_checks(&config, &shutdown);
        let key = TokenKey::new(&[7; KEY_BYTES]);
        let (core, budget) = ("core-1".to_owned(), antipode_trunk::Budget::unlimited());
        let resume = Resume::new(config.resume, key, core, budget, metrics.clone());
        let bridge = Bridge::new(config, backends, resume, metrics.clone(), &shutdown);
        Self { bridge, metrics, shutdown }
    }

    /// The node's end of a new session.
    pub(crate) async fn open(&self, head: RequestHead) -> NodeEnd {
        let (port, incoming) = port_pair(head).await;
        self.bridge.spawn(incoming);
        NodeEnd { port }
    }
}

/// The node's end of a session, as a test plays it.
pub(crate) struct NodeEnd {
    pub(crate) port: SessionPort,
}

impl NodeEnd {
    pub(crate) async fn next(&self) -> Result<Body, Ended> {
        let delivery = timeout(PATIENCE, self.port.deliver()).await.expect("something comes")?;
        self.port.consumed(delivery.seq);
        Ok(delivery.body)
    }

    pub(crate) async fn response(&self) -> ResponseHead {
        let next = self.next().await.unwrap();
        let Body::Response(head) = next else { panic!("no response head: {next:?}") };
        *head
    }

    pub(crate) async fn chunk(&self) -> Chunk {
        let next = self.next().await.unwrap();
        let Body::Chunk(chunk) = next else { panic!("no chunk: {next:?}") };
        chunk
    }

    pub(crate) async fn end(&self) -> End {
        let next = self.next().await.unwrap();
        let Body::End(end) = next else { panic!("no end: {next:?}") };
        *end
    }

    /// Payload up to the end.
    pub(crate) async fn rest(&self) -> (Vec<u8>, End) {
        let mut payload = Vec::new();
        loop {
            match self.next().await.unwrap() {
                Body::Chunk(chunk) => payload.extend_from_slice(&chunk.payload),
                Body::End(end) => return (payload, *end),
                other @ (Body::Request(_) | Body::Response(_)) => panic!("a head: {other:?}"),
            }
        }
    }

    pub(crate) async fn send(&self, chunk: Chunk) {
        timeout(PATIENCE, self.port.ready()).await.expect("there is room").unwrap();
        self.port.send(chunk.into()).unwrap();
    }

    pub(crate) async fn send_frame(&self, first_byte: u32, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        self.send(Chunk { frame: Some(first_byte), payload, ..Chunk::default() }).await;
    }

    pub(crate) async fn send_body(&self, payload: &[u8]) {
        self.send(Chunk { payload: Bytes::copy_from_slice(payload), ..Chunk::default() }).await;
    }

    pub(crate) fn send_end(&self, cause: Cause) {
        self.port.send(super::end(cause)).unwrap();
    }

    pub(crate) fn send_close(&self, code: u32, reason: &str) {
        let end = End {
            cause: Cause::ClientClosed.into(),
            close_code: Some(code),
            reason: reason.to_owned(),
            trailers: Vec::new(),
        };
        self.port.send(end.into()).unwrap();
    }
}

pub(crate) fn get(target: &str) -> RequestHead {
    request(SessionKind::Http, "GET", target, &[])
}

pub(crate) fn upgrade(headers: &[(&str, &str)]) -> RequestHead {
    request(SessionKind::Websocket, "GET", "/chat?room=1", headers)
}

pub(crate) fn request(
    kind: SessionKind,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
) -> RequestHead {
    let header = |(name, value): &(&str, &str)| Header {
        name: (*name).to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    RequestHead {
        kind: kind.into(),
        method: method.to_owned(),
        target: target.to_owned(),
        authority: "chat.example".to_owned(),
        scheme: "https".to_owned(),
        headers: headers.iter().map(header).collect(),
        client_ip: "203.0.113.9".to_owned(),
        ..RequestHead::default()
    }
}

/// The header's values, joined by `|`.
pub(crate) fn value(head: &ResponseHead, name: &str) -> String {
    let values = head.headers.iter().filter(|header| header.name == name);
    values.map(|header| String::from_utf8_lossy(&header.value)).collect::<Vec<_>>().join("|")
}

/// A listener on loopback and its url.
pub(crate) async fn listen() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    (listener, url)
}

pub(crate) async fn accept(listener: &TcpListener) -> TcpStream {
    timeout(PATIENCE, listener.accept()).await.expect("the core connects").unwrap().0
}

/// What the backend gets up to an empty line.
pub(crate) async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let byte = timeout(PATIENCE, socket.read_u8()).await.expect("a request comes");
        head.push(byte.expect("the head is whole"));
    }
    String::from_utf8(head).unwrap()
}

/// A url where nobody listens.
async fn nobody() -> String {
    listen().await.1
}

/// Answers an upgrade by hand, with `extra` header lines, and `behind` in the same write.
pub(crate) async fn answer_upgrade(socket: &mut TcpStream, extra: &str, behind: &[u8]) -> String {
    let head = read_head(socket).await;
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap();
    let accept = antipode_websocket::handshake::accept_key(key);
    let mut answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: Upgrade\r\n\
         sec-websocket-accept: {accept}\r\n{extra}\r\n"
    )
    .into_bytes();
    answer.extend_from_slice(behind);
    socket.write_all(&answer).await.unwrap();
    head
}

/// What the core writes until it ends the socket.
pub(crate) async fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    let read = timeout(PATIENCE, socket.read_to_end(&mut bytes));
    let _ = read.await.expect("the core ends the socket");
    bytes
}

/// The frames in `bytes`, unmasked: first byte and payload.
pub(crate) fn frames(bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut rest = bytes;
    while let [first, second, after @ ..] = rest {
        assert_eq!(second & 0x80, 0x80, "a client masks");
        let (len, after) = match second & 0x7f {
            126 => (usize::from(u16::from_be_bytes([after[0], after[1]])), &after[2..]),
            len => (usize::from(len), after),
        };
        let (key, after) = after.split_at(4);
        let (masked, after) = after.split_at(len.min(after.len()));
        let payload = masked.iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key);
        frames.push((*first, payload.collect()));
        rest = after;
    }
    frames
}
