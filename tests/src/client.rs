//! Clients of a node, or of a backend direct: WebSocket, HTTP or raw bytes, over TLS or without.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, client_async_with_config};

use crate::sockets::unlimited;

/// A WebSocket as a client holds it.
pub type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// Reaches one server.
#[derive(Clone, Debug)]
pub struct Client {
    /// Where it listens.
    pub address: SocketAddr,
    /// What goes into Host, and a name that its certificate has.
    pub name: String,
    /// Trusts the test's authority; none: speak clear text.
    pub tls: Option<Arc<ClientConfig>>,
    /// Where it comes from; none: what the system chooses.
    pub source: Option<IpAddr>,
}

impl Client {
    /// Reaches a server of clear text.
    #[must_use]
    pub fn direct(address: SocketAddr) -> Self {
        Self { address, name: address.ip().to_string(), tls: None, source: None }
    }

    /// The server's root, with the scheme for WebSockets.
    #[must_use]
    pub fn ws_url(&self) -> String {
        let scheme = if self.tls.is_some() { "wss" } else { "ws" };
        format!("{scheme}://{}:{}", self.name, self.address.port())
    }

    /// The server's root, with the scheme for HTTP.
    #[must_use]
    pub fn http_url(&self) -> String {
        self.ws_url().replacen("ws", "http", 1)
    }

    /// A stream with nothing sent on it.
    ///
    /// # Errors
    ///
    /// If the server can't be reached or shows another certificate.
    pub async fn stream(&self) -> anyhow::Result<MaybeTlsStream<TcpStream>> {
        let socket = match self.address {
            SocketAddr::V4(_) => TcpSocket::new_v4()?,
            SocketAddr::V6(_) => TcpSocket::new_v6()?,
        };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0)).context("take the source address")?;
        }
        let tcp = socket.connect(self.address).await.context("connect")?;
        tcp.set_nodelay(true)?;
        let Some(tls) = &self.tls else { return Ok(MaybeTlsStream::Plain(tcp)) };
        let name = ServerName::try_from(self.name.clone())?;
        let stream = TlsConnector::from(Arc::clone(tls)).connect(name, tcp).await.context("TLS")?;
        Ok(MaybeTlsStream::Rustls(stream))
    }

    /// A WebSocket at `target`, and the answer that opened it.
    ///
    /// # Errors
    ///
    /// If the upgrade is refused; tungstenite's error has the answer.
    pub async fn open(&self, target: &str) -> anyhow::Result<Socket> {
        Ok(self.open_with(target, &[]).await?.0)
    }

    /// As [`Self::open`], with more request headers; and the answer.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub async fn open_with(
        &self,
        target: &str,
        headers: &[(&'static str, &str)],
    ) -> anyhow::Result<(Socket, Response<Option<Vec<u8>>>)> {
        let mut request = format!("{}{target}", self.ws_url()).into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().append(*name, value.parse()?);
        }
        let stream = self.stream().await?;
        Ok(client_async_with_config(request, stream, Some(unlimited())).await?)
    }

    /// One HTTP request on a connection of its own.
    ///
    /// # Errors
    ///
    /// If there is no answer.
    pub async fn request<B>(&self, mut request: Request<B>) -> anyhow::Result<Exchange>
    where
        B: hyper::body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        let io = TokioIo::new(self.stream().await?);
        let (mut sender, connection) = http1::handshake(io).await?;
        let mut driver = JoinSet::new();
        driver.spawn(async move { drop(connection.await) });
        if !request.headers().contains_key(http::header::HOST) {
            let host = format!("{}:{}", self.name, self.address.port());
            request.headers_mut().insert(http::header::HOST, host.parse()?);
        }
        let response = sender.send_request(request).await?;
        Ok(Exchange { response, driver })
    }

    /// `GET target` as text, with the status.
    ///
    /// # Errors
    ///
    /// If there is no whole answer.
    pub async fn get(&self, target: &str) -> anyhow::Result<(u16, String)> {
        let request = Request::get(target).body(Empty::<Bytes>::new())?;
        self.request(request).await?.text().await
    }

    /// Sends `bytes` and reads until the server closes or `limit` has passed.
    ///
    /// # Errors
    ///
    /// If the server can't be reached.
    pub async fn raw(&self, bytes: &[u8], limit: Duration) -> anyhow::Result<Vec<u8>> {
        let mut stream = self.stream().await?;
        stream.write_all(bytes).await?;
        let mut read = Vec::new();
        // A socket that is cut, or that stays open: what was read is the answer.
        drop(timeout(limit, stream.read_to_end(&mut read)).await);
        Ok(read)
    }
}

/// An answer, and the task that carries it: dropped together.
#[derive(Debug)]
pub struct Exchange {
    /// The head, and the body as it comes.
    pub response: Response<Incoming>,
    driver: JoinSet<()>,
}

impl Exchange {
    /// The status and the whole body, as text.
    ///
    /// # Errors
    ///
    /// If the body is cut, or is not UTF-8.
    pub async fn text(self) -> anyhow::Result<(u16, String)> {
        let Self { response, driver } = self;
        let status = response.status().as_u16();
        let body = response.into_body().collect().await?.to_bytes();
        drop(driver);
        Ok((status, String::from_utf8(body.to_vec())?))
    }
}
