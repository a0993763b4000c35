//! A small client of `antipode.resume.v1`, and the backend's end of its session.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use antipode_proto::body::Body;
use antipode_proto::resume::{Frame, Welcome};
use antipode_proto::session::{Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Attach, Cause, Chunk, End};
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{SessionConfig, SessionPort, Solo, solo};
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::timeout;

use crate::bridge::tests::{Core, NodeEnd, PATIENCE, frames, upgrade, value};
use crate::resume::attachment::{Came, Socket};

/// A client past its welcome: the application's end of its session, and what it knows.
pub(super) struct Client {
    pub(super) app: SessionPort,
    solo: Arc<Solo>,
    pub(super) welcome: Welcome,
    /// Counts wires: only the newest takes frames from the session.
    newest: Arc<AtomicU64>,
}

/// What a wire carries.
struct Carried {
    solo: Arc<Solo>,
    token: Bytes,
    newest: Arc<AtomicU64>,
    own: u64,
}

impl Carried {
    /// For ever, once there is a newer wire.
    async fn ready(&self) {
        self.solo.ready().await;
        if !self.is_newest() {
            std::future::pending().await
        }
    }

    fn is_newest(&self) -> bool {
        self.newest.load(Ordering::Relaxed) == self.own
    }

    fn next_frame(&self) -> Option<Frame> {
        let kind = self.is_newest().then(|| self.solo.next_frame()).flatten()?;
        let frame = Frame::from_kind(kind).expect("no heads here");
        let Frame::Attach(attach) = frame else { return Some(frame) };
        Some(Frame::Attach(Attach { token: self.token.clone(), ..attach }))
    }
}

/// One WebSocket of a client, carried by a task.
pub(super) struct Wire {
    told: mpsc::UnboundedReceiver<Told>,
    task: AbortHandle,
    say: mpsc::UnboundedSender<Say>,
}

/// What a test makes a wire say.
enum Say {
    Frame(Frame),
    Chunk(Chunk),
    End(Cause),
    Reset(Cause),
}

/// What a client is told beside its session's own frames.
#[derive(Debug)]
pub(super) enum Told {
    Frame(Frame),
    Closed(End),
}

impl Client {
    /// Reads the answer and the welcome that `node` has for it, and answers.
    pub(super) async fn welcomed(node: NodeEnd) -> (Self, Wire) {
        let (client, socket) = Self::greeted(node).await;
        let wire = client.carry(socket);
        (client, wire)
    }

    /// As [`Client::welcomed`], but says nothing yet.
    pub(super) async fn greeted(node: NodeEnd) -> (Self, Socket) {
        let response = node.response().await;
        assert_eq!(response.status, 101);
        assert_eq!(value(&response, "sec-websocket-protocol"), "antipode.resume.v1");
        assert_eq!(value(&response, "sec-websocket-extensions"), "");
        let mut socket = Socket::new(node.port);
        let first = timeout(PATIENCE, socket.first_frame()).await.expect("a welcome").unwrap();
        let Some(Frame::Welcome(welcome)) = first else { panic!("no welcome: {first:?}") };
        let machine = Session::new(Side::Client, SessionConfig::default(), clock::now());
        let (app, solo) = solo(machine, 0);
        (Self { app, solo: Arc::new(solo), welcome, newest: Arc::default() }, socket)
    }

    /// Opens another WebSocket and goes on there.
    pub(super) async fn attach(&self, core: &Core) -> Wire {
        self.carry(open_early(core).await)
    }

    /// The socket is lost, as far as the client knows.
    pub(super) fn detach(&self) {
        self.solo.link_down(clock::now());
    }

    /// Starts to carry frames over a WebSocket.
    pub(super) fn carry(&self, socket: Socket) -> Wire {
        self.solo.link_down(clock::now());
        self.solo.link_up();
        let (solo, token) = (Arc::clone(&self.solo), self.welcome.token.clone());
        let newest = Arc::clone(&self.newest);
        let own = newest.fetch_add(1, Ordering::Relaxed) + 1;
        Wire::new(socket, Some(Carried { solo, token, newest, own }))
    }

    pub(super) async fn send(&self, payload: &[u8]) {
        let mut start = true;
        let frame_len = u64::try_from(payload.len()).ok().filter(|len| *len > 16 * 1024);
        for piece in payload.chunks(16 * 1024) {
            timeout(PATIENCE, self.app.ready()).await.expect("there is room").unwrap();
            let frame = start.then_some(0x82);
            let frame_len = frame_len.filter(|_| start);
            let payload = Bytes::copy_from_slice(piece);
            self.app.send(Chunk { frame, frame_len, payload, shared: 0 }.into()).unwrap();
            start = false;
        }
    }

    pub(super) fn end(&self, code: u32, reason: &str) {
        let (cause, reason) = (Cause::ClientClosed.into(), reason.to_owned());
        let end = End { cause, close_code: Some(code), reason, trailers: Vec::new() };
        self.app.send(end.into()).unwrap();
    }

    pub(super) async fn next(&self) -> Body {
        let next = timeout(PATIENCE, self.app.deliver()).await.expect("something comes");
        let delivery = next.expect("the session lives");
        self.app.consumed(delivery.seq);
        delivery.body
    }

    pub(super) async fn chunk(&self) -> Chunk {
        let next = self.next().await;
        let Body::Chunk(chunk) = next else { panic!("no chunk: {next:?}") };
        chunk
    }

    pub(super) async fn ended(&self) -> End {
        let next = self.next().await;
        let Body::End(end) = next else { panic!("no end: {next:?}") };
        *end
    }

    /// `len` bytes of payload, however cut up.
    pub(super) async fn read(&self, len: usize) -> Vec<u8> {
        let mut payload = Vec::new();
        while payload.len() < len {
            payload.extend_from_slice(&self.chunk().await.payload);
        }
        payload
    }

    /// Resolves with the cause once the session is reset.
    pub(super) async fn reset(&self) -> Cause {
        let lost = async {
            loop {
                match self.app.deliver().await {
                    Ok(delivery) => self.app.consumed(delivery.seq),
                    Err(ended) => return ended.cause,
                }
            }
        };
        timeout(PATIENCE, lost).await.expect("the session is reset")
    }
}

/// A WebSocket that a node has answered for a client with a token.
pub(super) async fn open_early(core: &Core) -> Socket {
    let protocols = "antipode.resume.v1, antipode.core.core-1";
    let mut head = upgrade(&[("sec-websocket-protocol", protocols)]);
    head.answered_early = true;
    head.resumable = true;
    let node = core.open(head).await;
    let response = node.response().await;
    assert_eq!(response.status, 101);
    assert_eq!(value(&response, "sec-websocket-protocol"), "antipode.resume.v1");
    Socket::new(node.port)
}

/// A WebSocket whose first frame is `first`.
pub(super) async fn open_with(core: &Core, first: Frame) -> Wire {
    let socket = open_early(core).await;
    socket.send(first).unwrap();
    Wire::new(socket, None)
}

impl Wire {
    fn new(mut socket: Socket, session: Option<Carried>) -> Self {
        let (tell, told) = mpsc::unbounded_channel();
        let (say, mut said) = mpsc::unbounded_channel();
        let task = async move {
            loop {
                while let Some(frame) = session.as_ref().and_then(Carried::next_frame) {
                    if socket.send(frame).is_err() {
                        return;
                    }
                }
                tokio::task::yield_now().await;
                let outgoing = async {
                    match &session {
                        Some(carried) => carried.ready().await,
                        None => std::future::pending().await,
                    }
                };
                let came = tokio::select! {
                    delivery = socket.port().deliver() => match delivery {
                        Ok(delivery) => Some(delivery),
                        Err(_) => return,
                    },
                    Some(say) = said.recv() => {
                        match say {
                            Say::Frame(frame) => drop(socket.send(frame)),
                            Say::Chunk(chunk) => socket.port().send(chunk.into()).unwrap(),
                            Say::End(cause) => socket.close(cause, None, ""),
                            Say::Reset(cause) => socket.port().reset(cause, "as the test says"),
                        }
                        None
                    }
                    () = outgoing => None,
                };
                if let Some(delivery) = came {
                    if let Body::End(end) = &delivery.body {
                        let _ = tell.send(Told::Closed((**end).clone()));
                        socket.port().consumed(delivery.seq);
                        socket.close(Cause::ClientClosed, None, "");
                        return socket.port().finished().await;
                    }
                    if let Came::Frame(frame) = socket.take(delivery).unwrap() {
                        match (frame.clone().into_kind(), &session) {
                            (Ok(Kind::GoAway(_)) | Err(_), _) | (_, None) => {
                                let _ = tell.send(Told::Frame(frame));
                            }
                            (Ok(kind), Some(carried)) if carried.is_newest() => {
                                carried.solo.handle_frame(kind);
                            }
                            (Ok(_), Some(_)) => {}
                        }
                    }
                }
            }
        };
        let task = Shutdown::default().spawn(task);
        Self { told, task, say }
    }

    /// The node, or the client's end of the socket, is gone: the core hears of it.
    pub(super) fn cut(self) {
        self.task.abort();
    }

    /// Says a frame that the session would not.
    pub(super) fn say(&self, frame: Frame) {
        self.say.send(Say::Frame(frame)).ok().unwrap();
    }

    /// Says what may be no frame at all.
    pub(super) fn send_chunk(&self, chunk: Chunk) {
        self.say.send(Say::Chunk(chunk)).ok().unwrap();
    }

    /// The node ends the trunk's session.
    pub(super) fn end_with(&self, cause: Cause, by_reset: bool) {
        let say = if by_reset { Say::Reset(cause) } else { Say::End(cause) };
        self.say.send(say).ok().unwrap();
    }

    /// A WebSocket without a session: it only listens.
    pub(super) fn listening(socket: Socket) -> Self {
        Self::new(socket, None)
    }

    /// What the client is told next.
    pub(super) async fn told(&mut self) -> Told {
        timeout(PATIENCE, self.told.recv()).await.expect("something is told").expect("a wire")
    }

    /// The WebSocket's own close.
    pub(super) async fn closed(&mut self) -> (Cause, Option<u32>) {
        loop {
            if let Told::Closed(end) = self.told().await {
                return (end.cause(), end.close_code);
            }
        }
    }
}

/// The backend's end of a session.
pub(super) struct Backend {
    socket: TcpStream,
    read: Vec<u8>,
}

impl Backend {
    pub(super) fn new(socket: TcpStream) -> Self {
        Self { socket, read: Vec::new() }
    }

    /// Sends one unmasked frame.
    pub(super) async fn send(&mut self, first_byte: u8, payload: &[u8]) {
        let mut bytes = vec![first_byte];
        match payload.len() {
            len @ 0..=125 => bytes.push(u8::try_from(len).unwrap()),
            len => {
                bytes.push(127);
                bytes.extend_from_slice(&u64::try_from(len).unwrap().to_be_bytes());
            }
        }
        bytes.extend_from_slice(payload);
        timeout(PATIENCE, self.socket.write_all(&bytes)).await.expect("it is read").unwrap();
    }

    /// The next frame of at most 65,535 bytes.
    pub(super) async fn next(&mut self) -> (u8, Vec<u8>) {
        loop {
            if let Some(len) = frame_len(&self.read).filter(|len| *len <= self.read.len()) {
                let frame: Vec<u8> = self.read.drain(..len).collect();
                return frames(&frame).remove(0);
            }
            let read = timeout(PATIENCE, self.socket.read_buf(&mut self.read)).await;
            assert_ne!(read.expect("a frame comes").unwrap(), 0, "the socket ended");
        }
    }

    /// What comes until the core ends the socket, as frames.
    pub(super) async fn rest(mut self) -> Vec<(u8, Vec<u8>)> {
        let read = timeout(PATIENCE, self.socket.read_to_end(&mut self.read));
        let _ = read.await.expect("the core ends the socket");
        frames(&self.read)
    }

    /// Whether nothing, not even an end, comes for a while.
    pub(super) async fn sees_nothing(&mut self) -> bool {
        assert!(self.read.is_empty());
        let read = self.socket.read_buf(&mut self.read);
        timeout(std::time::Duration::from_millis(100), read).await.is_err()
    }
}

/// Bytes of the first frame in `bytes`, masked, if its head is there.
fn frame_len(bytes: &[u8]) -> Option<usize> {
    let [_, second, rest @ ..] = bytes else { return None };
    match (second & 0x7f, rest) {
        (126, [high, low, ..]) => Some(8 + usize::from(u16::from_be_bytes([*high, *low]))),
        (126, _) => None,
        (127, _) => panic!("a frame too large for these tests"),
        (len, _) => Some(6 + usize::from(len)),
    }
}
