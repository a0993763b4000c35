//! A front on a free port, a core in memory that the test plays, and a raw client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::trunk::v1::{Cause, Chunk, End, Header, ResponseHead};
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{Body, Incoming, SessionPort, Trunks};
use antipode_websocket::{Event, FrameStart, Policy, Reader, Side, Writer};
use bytes::{Bytes, BytesMut};
use prometheus_client::registry::Registry;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::config::{Config, Listen};
use crate::front::Front;
use crate::front::listen::{Gates, Listener};
use crate::metrics::Metrics;
use crate::tls::Certificates;

/// A test that takes longer hangs.
const HANGS: Duration = Duration::from_secs(30);

/// The request of RFC 6455 section 1.2, for `/chat`.
pub(super) const UPGRADE: &str = "GET /chat?room=1 HTTP/1.1\r\nHost: chat.example\r\n\
    Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";

pub(super) struct Bench {
    pub(super) front: Arc<Front>,
    pub(super) shutdown: Shutdown,
    pub(super) address: SocketAddr,
    core: mpsc::Receiver<Incoming>,
}

impl Bench {
    pub(super) async fn start() -> Self {
        Self::with("").await
    }

    /// With `toml` added to a minimal configuration.
    pub(super) async fn with(toml: &str) -> Self {
        let (trunks, core) = Trunks::in_memory();
        Self::on(trunks, core, toml, false).await
    }

    pub(super) async fn on(
        trunks: Trunks,
        core: mpsc::Receiver<Incoming>,
        toml: &str,
        tls: bool,
    ) -> Self {
        let text = format!(
            "listen = [{{ address = \"127.0.0.1:0\" }}]\nmember = {{ state_dir = \"/tmp/x\", \
             name = \"a\", region = \"b\" }}\n{toml}"
        );
        let config: Config = toml::from_str(&text).unwrap();
        let shutdown = Shutdown::default();
        let front = Arc::new(Front::new(&config, trunks, Metrics::default(), &shutdown));
        let certificates = Arc::new(Certificates::load(&config.certificates).unwrap());
        let listen = Listen { tls, ..config.listen[0] };
        let server = Arc::new(certificates.server_config().unwrap());
        let listener = Listener::bind(listen, &server).await.unwrap();
        let address = listener.address();
        listener.serve(&front, &Arc::new(Gates::new(&front)));
        Self { front, shutdown, address, core }
    }

    /// What the core is asked next.
    pub(super) async fn asked(&mut self) -> Incoming {
        within(self.core.recv()).await.expect("the trunk is up")
    }

    pub(super) async fn client(&self) -> Client {
        Client::over(TcpStream::connect(self.address).await.unwrap())
    }

    /// Sends `bytes` on a socket of its own and returns all that comes back until it ends.
    pub(super) async fn tell(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut client = self.client().await;
        client.send(bytes).await;
        client.rest().await
    }

    /// Sends `request` on a socket of its own and returns the head of the answer.
    pub(super) async fn ask(&self, request: impl AsRef<[u8]>) -> String {
        let mut client = self.client().await;
        client.send(request).await;
        client.head().await
    }

    /// Waits until a session of `kind` has ended for `reason`.
    pub(super) async fn closed(&self, kind: &str, reason: &str) {
        let labels = format!("kind=\"{kind}\",reason=\"{reason}\"");
        self.counted(&format!("sessions_closed_total{{{labels}}} 1")).await;
    }

    /// Waits until the node's metrics have this line; the prefix is left out.
    pub(super) async fn counted(&self, line: &str) {
        let mut registry = Registry::default();
        self.front.metrics.register(&mut registry);
        let line = format!("antipode_node_{line}");
        within(async {
            loop {
                let mut text = String::new();
                prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
                if text.lines().any(|l| l == line) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }

    /// A WebSocket whose session can go on elsewhere.
    pub(super) async fn open_resumable(&mut self) -> (Client, SessionPort) {
        let mut client = self.client().await;
        client.send(offering("chat, antipode.resume.v1")).await;
        let incoming = self.asked().await;
        assert!(incoming.head.resumable);
        let agreed = head(101, &[("sec-websocket-protocol", "antipode.resume.v1")]);
        incoming.port.send(agreed).unwrap();
        let answer = client.head().await;
        assert!(has_line(&answer, "sec-websocket-protocol: antipode.resume.v1"), "{answer}");
        (client, incoming.port)
    }

    /// A WebSocket that both ends have opened.
    pub(super) async fn open(&mut self) -> (Client, SessionPort) {
        let mut client = self.client().await;
        client.send(UPGRADE).await;
        let incoming = self.asked().await;
        incoming.port.send(head(101, &[])).unwrap();
        let answer = client.head().await;
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        (client, incoming.port)
    }
}

/// [`UPGRADE`] with these subprotocols.
pub(super) fn offering(subprotocols: &str) -> String {
    UPGRADE.replace("\r\n\r\n", &format!("\r\nSec-WebSocket-Protocol: {subprotocols}\r\n\r\n"))
}

/// What a line of a head says, its name in any case.
pub(super) fn value_of<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// A client in clear text that reads and writes bytes.
pub(super) struct Client {
    pub(super) socket: TcpStream,
    unread: BytesMut,
    writer: Writer,
    reader: Reader,
}

impl Client {
    fn over(socket: TcpStream) -> Self {
        let policy = Policy { rsv1_allowed: true, frame_bytes_max: 1 << 40, ..Policy::default() };
        let reader = Reader::new(Side::Client, policy);
        Self { socket, unread: BytesMut::new(), writer: Writer::client([9; 32]), reader }
    }

    pub(super) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        within(self.socket.write_all(bytes.as_ref())).await.unwrap();
    }

    /// Sends what `write` writes.
    pub(super) async fn say(&mut self, write: impl FnOnce(&mut Writer, &mut BytesMut)) {
        let mut bytes = BytesMut::new();
        write(&mut self.writer, &mut bytes);
        self.send(bytes).await;
    }

    /// Sends one frame with the given first byte.
    pub(super) async fn frame(&mut self, first_byte: u8, payload: &[u8]) {
        let frame_len = u64::try_from(payload.len()).unwrap();
        let start = Some(FrameStart { first_byte, frame_len });
        self.say(|w, out| w.chunk(out, start, payload).unwrap()).await;
    }

    /// The next head, with its empty line.
    pub(super) async fn head(&mut self) -> String {
        loop {
            if let Some(at) = self.unread.windows(4).position(|w| w == b"\r\n\r\n") {
                let head = self.unread.split_to(at + 4);
                return String::from_utf8(head.to_vec()).unwrap();
            }
            assert_ne!(self.read().await, 0, "no head: {:?}", self.unread);
        }
    }

    /// The next WebSocket event; `None` when the socket ends.
    pub(super) async fn event(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.reader.read(&mut self.unread).unwrap() {
                return Some(event);
            }
            if self.read().await == 0 {
                return None;
            }
        }
    }

    /// Everything until the socket ends.
    pub(super) async fn rest(&mut self) -> String {
        while self.read().await > 0 {}
        String::from_utf8_lossy(&self.unread).into_owned()
    }

    /// Exactly `len` bytes.
    pub(super) async fn take(&mut self, len: usize) -> Bytes {
        while self.unread.len() < len {
            assert_ne!(self.read().await, 0, "ended early: {:?}", self.unread);
        }
        self.unread.split_to(len).freeze()
    }

    /// Reads what there is; a reset counts as an end.
    async fn read(&mut self) -> usize {
        self.unread.reserve(64 * 1024);
        within(self.socket.read_buf(&mut self.unread)).await.unwrap_or(0)
    }
}

pub(super) async fn within<T>(future: impl Future<Output = T>) -> T {
    timeout(HANGS, future).await.expect("it hangs")
}

/// The next body at the core's end; acknowledged.
pub(super) async fn next(port: &SessionPort) -> Body {
    let delivery = within(port.deliver()).await.unwrap();
    port.consumed(delivery.seq);
    delivery.body
}

pub(super) fn head(status: u32, headers: &[(&str, &str)]) -> Body {
    let headers = headers.iter().map(|(name, value)| Header {
        name: (*name).to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    });
    Body::from(ResponseHead { status, headers: headers.collect(), ..ResponseHead::default() })
}

pub(super) fn whole(first_byte: u8, payload: &[u8]) -> Body {
    let payload = Bytes::copy_from_slice(payload);
    Body::from(Chunk { frame: Some(u32::from(first_byte)), payload, ..Chunk::default() })
}

pub(super) fn piece(payload: &[u8]) -> Body {
    Body::from(Chunk { payload: Bytes::copy_from_slice(payload), ..Chunk::default() })
}

pub(super) fn end(cause: Cause, close_code: Option<u32>, reason: &str) -> Body {
    let reason = reason.to_owned();
    Body::from(End { cause: i32::from(cause), close_code, reason, ..End::default() })
}

pub(super) fn field<'a>(headers: &'a [Header], name: &str) -> Vec<&'a str> {
    let found = headers.iter().filter(|header| header.name == name);
    found.map(|header| std::str::from_utf8(&header.value).unwrap()).collect()
}

/// Whether a head has this line, its name in any case.
pub(super) fn has_line(head: &str, line: &str) -> bool {
    head.lines().any(|l| l.eq_ignore_ascii_case(line))
}
