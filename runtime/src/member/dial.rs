//! One TLS link to the gateway, and why there is none.
//!
//! TCP and TLS are done here rather than by tonic, so that each way to fail keeps its type.

use std::future::{Ready, ready};
use std::io;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{CertificateError, ClientConfig};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower_service::Service;

use super::error::local_time;
use super::names::GATEWAY_NAME;
use super::pinned::PinMismatch;

/// gRPC speaks HTTP/2.
pub(super) const ALPN: &[u8] = b"h2";

/// A gateway that has died, or a path that has, is noticed within the two together.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(5);
const KEEP_ALIVE_TIMEOUT: Duration = Duration::from_secs(5);

/// The gateway can't be reached, or what answers isn't our gateway.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// No TCP connection.
    #[error(
        "the gateway at {gateway} can't be reached: check that antipode-gateway runs there, that \
         the address is right, and that no firewall stands between"
    )]
    Unreachable {
        /// Its address.
        gateway: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Nothing answered in time.
    #[error(
        "the gateway at {gateway} didn't answer within {} s: check the address, and that no \
         firewall drops what goes there", patience.as_secs()
    )]
    Silent {
        /// Its address.
        gateway: String,
        /// How long was waited.
        patience: Duration,
    },
    /// Its authority isn't the one in the join token.
    #[error(
        "what answers at {gateway} isn't the gateway that made the join token: either the address \
         leads elsewhere, or the gateway has a new authority and new tokens are needed \
         (`antipode-gateway token create`)"
    )]
    WrongPin {
        /// Its address.
        gateway: String,
    },
    /// Its certificate isn't by the authority that this member knows.
    #[error(
        "what answers at {gateway} isn't this member's gateway: either the address leads \
         elsewhere, or the gateway has a new authority; then move the state directory away and \
         join again with a new token"
    )]
    Stranger {
        /// Its address.
        gateway: String,
        /// What TLS said.
        #[source]
        source: io::Error,
    },
    /// Its certificate isn't valid at this machine's time.
    #[error(
        "the certificate of the gateway at {gateway} isn't valid at this machine's time, {}: set \
         the clock here (see `timedatectl`, and that NTP runs), or there",
        local_time()
    )]
    Clock {
        /// Its address.
        gateway: String,
        /// What TLS said.
        #[source]
        source: io::Error,
    },
    /// TLS failed in another way.
    #[error("no TLS with the gateway at {gateway}: check that the port is the gateway's gRPC port")]
    Tls {
        /// Its address.
        gateway: String,
        /// What TLS said.
        #[source]
        source: io::Error,
    },
    /// HTTP/2 failed.
    #[error("no HTTP/2 with the gateway at {gateway}: check that the port is its gRPC port")]
    Http {
        /// Its address.
        gateway: String,
        /// What tonic said.
        #[source]
        source: tonic::transport::Error,
    },
}

impl DialError {
    /// Whether trying again may help, with nobody doing anything about it here.
    pub const fn is_retryable(&self) -> bool {
        match self {
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Tls { .. }
            | Self::Http { .. } => true,
            Self::WrongPin { .. } | Self::Stranger { .. } | Self::Clock { .. } => false,
        }
    }
}

/// Opens a link to the gateway at `gateway` (`host:port`).
pub(super) async fn dial(
    gateway: &str,
    tls: Arc<ClientConfig>,
    patience: Duration,
) -> Result<Channel, DialError> {
    let silent = || DialError::Silent { gateway: gateway.to_owned(), patience };
    let stream = timeout(patience, open(gateway, tls)).await.map_err(|_| silent())??;
    // The URI is of no use to the connector; it is what requests name as their authority.
    let endpoint = Endpoint::from_static("http://gateway.antipode")
        .http2_keep_alive_interval(KEEP_ALIVE_INTERVAL)
        .keep_alive_timeout(KEEP_ALIVE_TIMEOUT)
        .keep_alive_while_idle(true);
    let connecting = endpoint.connect_with_connector(Once(Some(TokioIo::new(stream))));
    timeout(patience, connecting)
        .await
        .map_err(|_| silent())?
        .map_err(|source| DialError::Http { gateway: gateway.to_owned(), source })
}

async fn open(gateway: &str, tls: Arc<ClientConfig>) -> Result<TlsStream<TcpStream>, DialError> {
    let unreachable = |source| DialError::Unreachable { gateway: gateway.to_owned(), source };
    let socket = TcpStream::connect(gateway).await.map_err(unreachable)?;
    socket.set_nodelay(true).map_err(unreachable)?;
    let name = ServerName::try_from(GATEWAY_NAME).expect("a constant DNS name");
    TlsConnector::from(tls).connect(name, socket).await.map_err(|source| classify(gateway, source))
}

fn classify(gateway: &str, source: io::Error) -> DialError {
    let gateway = gateway.to_owned();
    let tls = source.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(bad)) = tls else {
        return DialError::Tls { gateway, source };
    };
    if let CertificateError::Other(other) = bad
        && other.0.is::<PinMismatch>()
    {
        return DialError::WrongPin { gateway };
    }
    if matches!(
        bad,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    ) {
        return DialError::Clock { gateway, source };
    }
    DialError::Stranger { gateway, source }
}

/// Gives tonic the one stream that is open; when that is lost, the caller dials again.
struct Once(Option<TokioIo<TlsStream<TcpStream>>>);

impl Service<Uri> for Once {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Ready<Result<Self::Response, io::Error>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _uri: Uri) -> Self::Future {
        ready(self.0.take().ok_or_else(|| io::ErrorKind::NotConnected.into()))
    }
}
