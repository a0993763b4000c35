//! A backend for floods and for fan-out.
//!
//! | WebSocket | what it does |
//! |---|---|
//! | `/drizzle?count=N` | sends `N` messages of one byte, 0 to 250 in turn, then only reads |
//! | `/count` | counts messages of one byte in that order; answers a text with the count |
//! | `/singer` | gets everything that any conductor sends |
//! | `/conductor` | sends each message to every singer, and answers with how many they were |
//! | any other | echoes |

use std::net::{Ipv4Addr, SocketAddr};

use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::broadcast;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

/// Messages of a conductor that a singer may be behind.
const BEHIND_MAX: usize = 64;

/// A running backend; ends when dropped.
#[derive(Debug)]
pub struct Choir {
    address: SocketAddr,
    _tasks: JoinSet<()>,
}

type Socket = WebSocketStream<TcpStream>;
type Part = broadcast::Sender<Message>;

impl Choir {
    /// Starts one on a free port of loopback, in the caller's runtime.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub async fn start() -> anyhow::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let (part, mut sockets) = (broadcast::channel(BEHIND_MAX).0, JoinSet::new());
            while let Ok((socket, _)) = listener.accept().await {
                // A client may be gone before the option is set.
                drop(socket.set_nodelay(true));
                sockets.spawn(serve(socket, part.clone()));
            }
        });
        Ok(Self { address, _tasks: tasks })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// The one byte of message `number` of a flood.
///
/// # Panics
///
/// Never: the rest of a division by 251 fits.
#[must_use]
pub fn drop_of(number: u32) -> u8 {
    u8::try_from(number % 251).expect("less than 251")
}

async fn serve(socket: TcpStream, part: Part) {
    let mut target = String::new();
    // The callback's error type is tungstenite's, and large.
    #[allow(clippy::result_large_err, reason = "tungstenite's own type")]
    let see = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        target = request.uri().to_string();
        Ok(response)
    };
    let Ok(mut socket) = accept_hdr_async(socket, see).await else { return };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    match path {
        "/drizzle" => {
            let count = query.strip_prefix("count=").and_then(|count| count.parse().ok());
            drizzle(&mut socket, count.unwrap_or(0)).await;
        }
        "/count" => count(&mut socket).await,
        "/singer" => sing(&mut socket, part.subscribe()).await,
        "/conductor" => conduct(&mut socket, &part).await,
        _ => echo(&mut socket).await,
    }
}

async fn drizzle(socket: &mut Socket, count: u32) {
    for number in 0..count {
        if socket.feed(Message::binary(vec![drop_of(number)])).await.is_err() {
            return;
        }
    }
    drop(socket.flush().await);
    while let Some(Ok(_)) = socket.next().await {}
}

async fn count(socket: &mut Socket) {
    let mut seen = 0;
    while let Some(Ok(read)) = socket.next().await {
        if read.is_text() {
            drop(socket.send(Message::text(seen.to_string())).await);
        } else if read.is_binary() && *read.into_data() == [drop_of(seen)] {
            seen += 1;
        }
    }
}

async fn sing(socket: &mut Socket, mut part: broadcast::Receiver<Message>) {
    loop {
        let sent = tokio::select! {
            Ok(message) = part.recv() => socket.send(message).await,
            Some(Ok(_)) = socket.next() => Ok(()),
            else => return,
        };
        if sent.is_err() {
            return;
        }
    }
}

async fn conduct(socket: &mut Socket, part: &Part) {
    while let Some(Ok(message)) = socket.next().await {
        if message.is_binary() {
            let singers = part.send(message).unwrap_or(0);
            drop(socket.send(Message::text(singers.to_string())).await);
        }
    }
}

async fn echo(socket: &mut Socket) {
    while let Some(Ok(message)) = socket.next().await {
        if (message.is_text() || message.is_binary()) && socket.send(message).await.is_err() {
            return;
        }
    }
}
