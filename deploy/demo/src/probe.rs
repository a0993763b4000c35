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

const TCP: &str = "the TCP connection";
const TLS: &str = "the TLS handshake";
const UPGRADE: &str = "the WebSocket upgrade";

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
    /// The other side answered, but not with a WebSocket.
    #[error("the WebSocket upgrade was answered with status {status}")]
    Refused {
        /// The status.
        status: u16,
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
    /// The name that the other side goes by, in its certificate and in `Host`; `None`: the address.
    pub name: Option<String>,
    /// Path and query of the WebSocket.
    pub path: String,
}

/// What an attempt to open a WebSocket came to.
#[derive(Debug)]
pub enum Opening {
    /// It is open.
    Open(Box<Probe>),
    /// The other side answered with something else than 101.
    Answered {
        /// The status.
        status: u16,
        /// From the first SYN to the answer.
        took: Duration,
    },
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

impl Way {
    /// TCP, and TLS where it is spoken.
    async fn connect(&self) -> Result<Box<dyn Bytes>, ProbeError> {
        let failed = |step| move |source| ProbeError::Io { step, source };
        let tcp = in_time(TCP, TcpStream::connect(self.address)).await?.map_err(failed(TCP))?;
        let _ = tcp.set_nodelay(true);
        let Some(config) = &self.tls else { return Ok(Box::new(tcp)) };
        let host = self.name.as_deref().map(|name| name.rsplit_once(':').map_or(name, |(h, _)| h));
        let name = match host.map(|host| ServerName::try_from(host.to_owned())) {
            Some(Ok(name)) => name,
            Some(Err(_)) | None => ServerName::from(self.address.ip()),
        };
        let handshake = TlsConnector::from(Arc::clone(config)).connect(name, tcp);
        Ok(Box::new(in_time(TLS, handshake).await?.map_err(failed(TLS))?))
    }
}

impl Probe {
    /// Opens a WebSocket.
    ///
    /// # Errors
    /// Says which step failed.
    pub async fn open(way: &Way) -> Result<Self, ProbeError> {
        match Self::try_open(way).await? {
            Opening::Open(probe) => Ok(*probe),
            Opening::Answered { status, .. } => Err(ProbeError::Refused { status }),
        }
    }

    /// Opens a WebSocket, if the other side has one there.
    ///
    /// # Errors
    /// Says which step failed.
    pub async fn try_open(way: &Way) -> Result<Opening, ProbeError> {
        let began = Instant::now();
        let stream = way.connect().await?;
        let scheme = if way.tls.is_some() { "wss" } else { "ws" };
        let host = way.name.clone().unwrap_or_else(|| way.address.to_string());
        let url = format!("{scheme}://{host}{}", way.path);
        let opened = in_time(UPGRADE, tokio_tungstenite::client_async(url, stream)).await?;
        match opened {
            Ok((socket, _)) => {
                Ok(Opening::Open(Box::new(Self { socket, connect: began.elapsed() })))
            }
            Err(tungstenite::Error::Http(answer)) => {
                let status = answer.status().as_u16();
                Ok(Opening::Answered { status, took: began.elapsed() })
            }
            Err(error) => Err(broken(UPGRADE, error)),
        }
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
        let say = FromPage::Say { text: text.into(), sent_at_us: None };
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
