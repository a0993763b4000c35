//! What a lane runs on: a QUIC stream inside the tunnel, or a TCP connection through an interface.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use quinn::crypto::rustls::NoInitialCipherSuite;
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::peer::NodeIdentity;

/// Time a carrier may take to open a lane, once it is there itself.
const OPEN_PATIENCE: Duration = Duration::from_secs(5);

/// The TLS settings or the socket don't suit QUIC.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// QUIC needs TLS 1.3 with AES-128-GCM-SHA256.
    #[error("the TLS settings do not suit QUIC")]
    Tls(#[source] NoInitialCipherSuite),
    /// The socket can't be used.
    #[error("cannot use the trunk's socket")]
    Socket(#[source] io::Error),
}

/// The bytes of one lane.
pub(crate) type LaneIo = Either<Join<quinn::RecvStream, quinn::SendStream>, TcpStream>;

/// The way to one core, from the node's end.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    /// Lanes are bidirectional streams of one QUIC connection.
    Quic(quinn::Connection),
    /// Each lane is a TCP connection of its own, so that each has a congestion window of its own.
    Tcp(SocketAddr),
}

impl Carrier {
    /// Opens one lane.
    pub(crate) async fn open(&self) -> io::Result<LaneIo> {
        let open = async {
            match self {
                Self::Quic(connection) => {
                    let (send, receive) = connection.open_bi().await?;
                    Ok(Either::Left(join(receive, send)))
                }
                Self::Tcp(address) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    Ok(Either::Right(stream))
                }
            }
        };
        timeout(OPEN_PATIENCE, open).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Why no lane can be opened any more; `None` while one can.
    pub(crate) fn close_reason(&self) -> Option<String> {
        match self {
            Self::Quic(connection) => connection.close_reason().map(|reason| reason.to_string()),
            Self::Tcp(_) => None,
        }
    }

    /// Round trip as QUIC sees it.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        match self {
            Self::Quic(connection) => Some(connection.rtt()),
            Self::Tcp(_) => None,
        }
    }

    /// Lost packets in a million since the carrier was opened.
    pub(crate) fn loss_ppm(&self) -> u32 {
        match self {
            Self::Quic(connection) => {
                let path = connection.stats().path;
                let ppm = path.lost_packets.saturating_mul(1_000_000) / path.sent_packets.max(1);
                u32::try_from(ppm).unwrap_or(u32::MAX)
            }
            Self::Tcp(_) => 0,
        }
    }
}

/// A lane that a node opened, with the node that stands behind it.
#[derive(Debug)]
pub(crate) struct AcceptedLane {
    pub(crate) io: LaneIo,
    pub(crate) node: NodeIdentity,
}

impl Connected for AcceptedLane {
    type ConnectInfo = NodeIdentity;

    fn connect_info(&self) -> NodeIdentity {
        self.node.clone()
    }
}

impl AsyncRead for AcceptedLane {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(task, buffer)
    }
}

impl AsyncWrite for AcceptedLane {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(task, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(task)
    }
}
