//! What a lane runs on: a QUIC stream inside the tunnel, or a TCP connection through an interface.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use antipode_runtime::clock;
use antipode_tunnel::shield::QuicCounts;
use quinn::crypto::rustls::NoInitialCipherSuite;
use tokio::io::{AsyncRead, AsyncWrite, Join, ReadBuf, join};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_util::either::Either;
use tonic::transport::server::Connected;

use crate::heard::{Heard, Sample};
use crate::peer::NodeIdentity;
use crate::quic_counts::Counted;

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

/// A quarter of a second at 10 Mbit/s.
const SEND_WINDOW_BYTES_MIN: u64 = 256 * 1024;

/// The bytes of one lane.
type LaneIo = Either<Join<quinn::RecvStream, quinn::SendStream>, TcpStream>;

/// QUIC's application error for a carrier whose lanes a newer one has taken.
const REPLACED: u32 = 4;

/// The way to one core, from the node's end.
#[derive(Clone, Debug)]
pub(crate) enum Carrier {
    /// Lanes are bidirectional streams of one QUIC connection.
    Quic(quinn::Connection),
    /// Each lane is a TCP connection of its own, so that each has a congestion window of its own.
    Tcp(SocketAddr, Arc<Heard>),
}

impl Carrier {
    /// TCP lanes to `address`. Whether it can be reached, the first one shows.
    pub(crate) fn tcp(address: SocketAddr, now: Instant) -> Self {
        Self::Tcp(address, Arc::new(Heard::new(now)))
    }

    /// Opens one lane.
    pub(crate) async fn open(&self) -> io::Result<Lane<()>> {
        let open = async {
            match self {
                Self::Quic(connection) => {
                    let (send, receive) = connection.open_bi().await?;
                    // Its own counters say when it was heard.
                    let heard = Arc::new(Heard::new(clock::now()));
                    Ok(Lane { io: Either::Left(join(receive, send)), heard, peer: () })
                }
                Self::Tcp(address, heard) => {
                    let stream = TcpStream::connect(address).await?;
                    stream.set_nodelay(true)?;
                    let heard = Arc::clone(heard);
                    Ok(Lane { io: Either::Right(stream), heard, peer: () })
                }
            }
        };
        timeout(OPEN_PATIENCE, open).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    /// Why no lane can be opened any more; `None` while one can.
    pub(crate) fn close_reason(&self) -> Option<String> {
        match self {
            Self::Quic(connection) => connection.close_reason().map(|reason| reason.to_string()),
            Self::Tcp(..) => None,
        }
    }

    /// A newer carrier has the lanes.
    pub(crate) fn close(&self) {
        match self {
            Self::Quic(connection) => connection.close(REPLACED.into(), b"replaced"),
            // Its lanes end with their sockets.
            Self::Tcp(..) => {}
        }
    }

    /// Keeps what waits to be sent short.
    pub(crate) fn fit_send_window(&self, max_bytes: u64) {
        match self {
            Self::Quic(connection) => fit_send_window(connection, max_bytes),
            Self::Tcp(..) => {}
        }
    }

    /// What says whether the core is heard.
    pub(crate) fn sample(&self) -> Sample {
        match self {
            Self::Quic(connection) => {
                let stats = connection.stats();
                let sent = stats.frame_tx;
                Sample {
                    received: stats.udp_rx.datagrams,
                    asked: sent.ping + sent.stream + sent.max_data + sent.max_stream_data,
                    answered: stats.frame_rx.acks,
                }
            }
            Self::Tcp(_, heard) => Sample { received: heard.count(), asked: 0, answered: 0 },
        }
    }

    /// What QUIC has counted since the last call; TCP counts nothing.
    pub(crate) fn counts(&self, counted: &mut Counted) -> Option<QuicCounts> {
        match self {
            Self::Quic(connection) => Some(counted.since(connection)),
            Self::Tcp(..) => None,
        }
    }

    /// Round trip as QUIC sees it.
    pub(crate) fn rtt(&self) -> Option<Duration> {
        match self {
            Self::Quic(connection) => Some(connection.rtt()),
            Self::Tcp(..) => None,
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
            Self::Tcp(..) => 0,
        }
    }
}

/// What a connection holds of what it has not sent yet is as much again as what it may have on its
/// way: whatever comes next waits for a round trip at most, and turns are taken before it comes.
pub(crate) fn fit_send_window(connection: &quinn::Connection, max_bytes: u64) {
    let fitting = connection.stats().path.cwnd.saturating_mul(2);
    connection.set_send_window(fitting.max(SEND_WINDOW_BYTES_MIN).min(max_bytes));
}

/// A lane's bytes, who hears of them, and who is at the other end.
#[derive(Debug)]
pub(crate) struct Lane<P> {
    io: LaneIo,
    heard: Arc<Heard>,
    peer: P,
}

/// The far end of a lane that a node opened.
#[derive(Clone, Debug)]
pub(crate) struct LanePeer {
    /// The node that stands behind it.
    pub(crate) node: NodeIdentity,
    /// When something last came over its carrier.
    pub(crate) heard: Arc<Heard>,
}

/// A lane that a node opened.
pub(crate) type AcceptedLane = Lane<LanePeer>;

impl AcceptedLane {
    pub(crate) fn quic(
        (send, receive): (quinn::SendStream, quinn::RecvStream),
        peer: LanePeer,
    ) -> Self {
        Self { io: Either::Left(join(receive, send)), heard: Arc::clone(&peer.heard), peer }
    }

    pub(crate) fn tcp(stream: TcpStream, node: NodeIdentity, now: Instant) -> Self {
        let heard = Arc::new(Heard::new(now));
        let peer = LanePeer { node, heard: Arc::clone(&heard) };
        Self { io: Either::Right(stream), heard, peer }
    }
}

impl Connected for AcceptedLane {
    type ConnectInfo = LanePeer;

    fn connect_info(&self) -> LanePeer {
        self.peer.clone()
    }
}

impl<P: Unpin> AsyncRead for Lane<P> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.io).poll_read(task, buffer);
        if buffer.filled().len() > before {
            self.heard.note(clock::now());
        }
        outcome
    }
}

impl<P: Unpin> AsyncWrite for Lane<P> {
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
