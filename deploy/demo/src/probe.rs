//! A client that measures: opens a WebSocket, says something, and tells how long each step took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};

use crate::chat::{self, FromPage, Said, ToPage};

/// No step takes longer than this, over any distance of the demo.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// Echoes asked for; the quickest counts, since only delays of the machine itself differ.
const ECHOES: u64 = 3;

/// A step that went wrong.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// Nothing came in time.
    #[error("{step} took longer than {} s", PATIENCE.as_secs())]
    Late {
        /// What was waited for.
        step: &'static str,
    },
    /// No TCP connection, or no TLS.
    #[error("{step} failed")]
    Io {
        /// What was tried.
        step: &'static str,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The upgrade was refused, or the socket broke.
    #[error("{step} failed")]
    WebSocket {
        /// What was tried.
        step: &'static str,
        /// What came instead.
        #[source]
        source: Box<tungstenite::Error>,
    },
    /// The socket closed too soon.
    #[error("the socket closed while waiting for {step}")]
    Closed {
        /// What was waited for.
        step: &'static str,
    },
}

/// How a probe reaches the other side.
#[derive(Clone, Debug)]
pub struct Way {
    /// Where the path begins.
    pub address: SocketAddr,
    /// What the client trusts; `None`: no TLS.
    pub tls: Option<Arc<ClientConfig>>,
    /// Path and query of the WebSocket.
    pub path: String,
}

/// Anything that bytes go through.
trait Bytes: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Bytes for T {}

/// An open WebSocket, and how long opening it took.
pub struct Probe {
    socket: WebSocketStream<Box<dyn Bytes>>,
    /// From the first SYN to the answered upgrade.
    pub connect: Duration,
}

impl std::fmt::Debug for Probe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Probe").field("connect", &self.connect).finish_non_exhaustive()
    }
}

impl Probe {
    /// Opens a WebSocket.
    ///
    /// # Errors
    /// Says which step failed.
    pub async fn open(way: &Way) -> Result<Self, ProbeError> {
        let began = Instant::now();
        let tcp = in_time("the TCP connection", TcpStream::connect(way.address)).await?;
        let tcp = tcp.map_err(|source| ProbeError::Io { step: "the TCP connection", source })?;
        let _ = tcp.set_nodelay(true);
        let (stream, scheme): (Box<dyn Bytes>, _) = match &way.tls {
            None => (Box::new(tcp), "ws"),
            Some(config) => {
                let step = "the TLS handshake";
                let name = ServerName::from(way.address.ip());
                let connector = TlsConnector::from(Arc::clone(config));
                let tls = in_time(step, connector.connect(name, tcp)).await?;
                let tls = tls.map_err(|source| ProbeError::Io { step, source })?;
                (Box::new(tls), "wss")
            }
        };
        let url = format!("{scheme}://{}{}", way.address, way.path);
        let step = "the WebSocket upgrade";
        let opened = in_time(step, tokio_tungstenite::client_async(url, stream)).await?;
        let (socket, _) = opened.map_err(|error| broken(step, error))?;
        Ok(Self { socket, connect: began.elapsed() })
    }

    /// Enters the chat.
    ///
    /// # Errors
    /// If no welcome comes.
    pub async fn hello(&mut self, name: &str, region: &str) -> Result<(), ProbeError> {
        let hello = FromPage::Hello { name: name.into(), region: region.into() };
        let step = "the chat's welcome";
        self.send(step, &hello).await?;
        self.wait(step, |message| matches!(message, ToPage::Welcome { .. }).then_some(())).await
    }

    /// Says something to everybody.
    ///
    /// # Errors
    /// If the socket is gone.
    pub async fn say(&mut self, text: &str) -> Result<(), ProbeError> {
        let say = FromPage::Say { text: text.into(), sent_at_ms: None };
        self.send("sending a message", &say).await
    }

    /// Waits until somebody says `text`.
    ///
    /// # Errors
    /// If nobody does.
    pub async fn hear(&mut self, text: &str) -> Result<Said, ProbeError> {
        self.wait("the message", |message| match message {
            ToPage::Said(said) if said.text == text => Some(said),
            ToPage::Said(_)
            | ToPage::Welcome { .. }
            | ToPage::People { .. }
            | ToPage::Echo { .. }
            | ToPage::Refused { .. } => None,
        })
        .await
    }

    /// The quickest of a few round trips to the backend.
    ///
    /// # Errors
    /// If an echo doesn't come back.
    pub async fn round_trip(&mut self) -> Result<Duration, ProbeError> {
        let step = "an echo";
        let mut quickest = PATIENCE;
        for asked in 1..=ECHOES {
            let sent = Instant::now();
            self.send(step, &FromPage::Echo { id: asked }).await?;
            self.wait(step, |message| (message == ToPage::Echo { id: asked }).then_some(()))
                .await?;
            quickest = quickest.min(sent.elapsed());
        }
        Ok(quickest)
    }

    /// Closes it in good order; what goes wrong now is of no interest.
    pub async fn close(mut self) {
        let _ = timeout(Duration::from_secs(1), self.socket.close(None)).await;
    }

    async fn send(&mut self, step: &'static str, message: &FromPage) -> Result<(), ProbeError> {
        let text = serde_json::to_string(message).expect("strings and numbers are always JSON");
        let sent = in_time(step, self.socket.send(Message::text(text))).await?;
        sent.map_err(|error| broken(step, error))
    }

    async fn wait<T>(
        &mut self,
        step: &'static str,
        wanted: impl Fn(ToPage) -> Option<T>,
    ) -> Result<T, ProbeError> {
        in_time(step, async {
            loop {
                let message = self.socket.next().await.ok_or(ProbeError::Closed { step })?;
                let message = message.map_err(|error| broken(step, error))?;
                let Message::Text(text) = message else { continue };
                if let Some(found) = serde_json::from_str(&text).ok().and_then(&wanted) {
                    return Ok(found);
                }
            }
        })
        .await?
    }
}

/// The chat's own path, for [`Way::path`].
#[must_use]
pub fn chat_path() -> String {
    chat::PATH.to_owned()
}

async fn in_time<F: Future>(step: &'static str, work: F) -> Result<F::Output, ProbeError> {
    timeout(PATIENCE, work).await.map_err(|_| ProbeError::Late { step })
}

fn broken(step: &'static str, error: tungstenite::Error) -> ProbeError {
    ProbeError::WebSocket { step, source: Box::new(error) }
}
