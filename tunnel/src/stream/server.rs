//! Taking streams: TLS by members only, the upgrade, and how many there may be.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use antipode_websocket::Side;
use bytes::BytesMut;
use http::{HeaderMap, StatusCode};
use parking_lot::Mutex;
use rustls::pki_types::CertificateDer;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::{TlsAcceptor, TlsStream, server};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::carry::{Opened, tune};
use super::handshakes::{Handshakes, NoTurn};
use super::metrics::StreamOutcome;
use super::{STREAM_HANDSHAKE_TIME_MAX, upgrade};
use crate::shared::Shared;
use crate::way::StreamId;

/// Streams of one member; with more, its oldest is closed. A process needs one, and a second while
/// it opens a fresh one.
pub(super) const STREAMS_PER_MEMBER_MAX: usize = 4;

/// After an error of `accept`, such as a lack of files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How streams are taken.
#[derive(Clone)]
pub struct StreamListen {
    /// Takes members' certificates, and shows ours.
    pub tls: Arc<rustls::ServerConfig>,
    /// Streams at once; more are closed.
    pub streams_max: NonZeroUsize,
    /// Whose certificate it is, if it is a member's that may have a stream.
    pub admit: Admit,
}

/// Names the member whose certificate it is.
pub type Admit = Arc<dyn Fn(&CertificateDer<'static>) -> Option<String> + Send + Sync>;

impl fmt::Debug for StreamListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamListen")
            .field("streams_max", &self.streams_max)
            .finish_non_exhaustive()
    }
}

/// Streams that members have opened to us. It listens until the tunnel's tasks are stopped; clones
/// share it.
#[derive(Clone, Debug)]
pub struct StreamServer {
    address: SocketAddr,
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    listen: StreamListen,
    acceptor: Acceptor,
    open: Mutex<BTreeMap<StreamId, Taken>>,
    handshakes: Arc<Handshakes>,
}

struct Acceptor(TlsAcceptor);

impl fmt::Debug for Acceptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Acceptor")
    }
}

/// A stream that was taken.
#[derive(Debug)]
struct Taken {
    member: String,
    certificate: CertificateDer<'static>,
    closing: CancellationToken,
}

impl StreamServer {
    pub(super) fn start(
        shared: &Arc<Shared>,
        listener: TcpListener,
        listen: StreamListen,
    ) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let inner = Arc::new(Inner {
            acceptor: Acceptor(TlsAcceptor::from(Arc::clone(&listen.tls))),
            listen,
            open: Mutex::default(),
            handshakes: Arc::default(),
        });
        let (accepting, carrier) = (Arc::clone(&inner), Arc::clone(shared));
        shared.streams.spawn(async move { accepting.accept(listener, &carrier).await });
        Ok(Self { address, inner })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Closes all streams; who wants one opens another.
    pub fn close_all(&self) {
        self.inner.open.lock().values().for_each(|taken| taken.closing.cancel());
    }

    /// Closes the streams of those that are not admitted any more.
    pub fn recheck(&self) {
        for Taken { certificate, closing, .. } in self.inner.open.lock().values() {
            if (self.inner.listen.admit)(certificate).is_none() {
                closing.cancel();
            }
        }
    }
}

impl Inner {
    async fn accept(self: Arc<Self>, listener: TcpListener, shared: &Arc<Shared>) {
        let metrics = &shared.metrics.streams;
        loop {
            let (socket, from) = match listener.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    debug!(%error, "accept a stream");
                    sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let turn = match self.handshakes.take(from.ip()) {
                Ok(turn) => turn,
                Err(NoTurn::Full) => {
                    metrics.attempted(StreamOutcome::Full);
                    continue;
                }
                Err(NoTurn::SourceFull) => {
                    metrics.attempted(StreamOutcome::SourceFull);
                    continue;
                }
            };
            let (taking, carrier) = (Arc::clone(&self), Arc::clone(shared));
            shared.streams.spawn(async move {
                let opening = taking.open(socket, &carrier);
                let opening = timeout(STREAM_HANDSHAKE_TIME_MAX, opening).await;
                drop(turn);
                match opening.unwrap_or(Err(StreamOutcome::TimedOut)) {
                    Ok((opened, place)) => {
                        let Place { id, closing, member, .. } = &place;
                        carrier.carry_stream(*id, opened, closing, member).await;
                    }
                    Err(outcome) => {
                        debug!(%from, outcome = outcome.label(), "no stream");
                        carrier.metrics.streams.attempted(outcome);
                    }
                }
            });
        }
    }

    /// TLS, the upgrade and a place.
    async fn open(
        &self,
        socket: TcpStream,
        shared: &Shared,
    ) -> Result<(Opened, Place<'_>), StreamOutcome> {
        tune(&socket);
        let accepted = self.acceptor.0.accept(socket).await;
        let mut socket = accepted.map_err(|_| StreamOutcome::Tls)?;
        let shown = socket.get_ref().1.peer_certificates().and_then(<[_]>::first).cloned();
        let certificate = shown.ok_or(StreamOutcome::NotAMember)?;
        let mut read = BytesMut::with_capacity(upgrade::UPGRADE_HEAD_BYTES_MAX);
        let asked = read_request(&mut socket, &mut read).await;
        let outcome = asked.and_then(|answer| Ok((answer, self.reserve(certificate, shared)?)));
        match outcome {
            Ok((answer, place)) => {
                socket.write_all(&answer).await.map_err(|_| StreamOutcome::Upgrade)?;
                socket.flush().await.map_err(|_| StreamOutcome::Upgrade)?;
                let socket = TlsStream::Server(socket);
                Ok((Opened { socket, read, side: Side::Server }, place))
            }
            Err(refusal) => {
                let _ = socket.write_all(&refusal.answer).await;
                let _ = socket.shutdown().await;
                Err(refusal.outcome)
            }
        }
    }

    /// A place for a member, whose oldest stream goes if it has too many.
    fn reserve(
        &self,
        certificate: CertificateDer<'static>,
        shared: &Shared,
    ) -> Result<Place<'_>, Refusal> {
        let not_a_member = || Refusal::new(StreamOutcome::NotAMember, StatusCode::FORBIDDEN);
        let member = (self.listen.admit)(&certificate).ok_or_else(not_a_member)?;
        let (id, closing) = (shared.streams.next_id(), CancellationToken::new());
        let mut open = self.open.lock();
        let is_own = |taken: &&Taken| taken.member == member && !taken.closing.is_cancelled();
        if open.values().filter(is_own).count() >= STREAMS_PER_MEMBER_MAX
            && let Some(oldest) = open.values().find(is_own)
        {
            shared.metrics.streams.attempted(StreamOutcome::Replaced);
            oldest.closing.cancel();
        } else if open.len() >= self.listen.streams_max.get() {
            return Err(Refusal::new(StreamOutcome::Full, StatusCode::SERVICE_UNAVAILABLE));
        }
        let (known, of) = (certificate.clone(), member.clone());
        open.insert(id, Taken { member: of, certificate, closing: closing.clone() });
        drop(open);
        let place = Place { open: &self.open, id, closing, member };
        // Off the list in the meantime: a recheck may not have seen this one.
        if (self.listen.admit)(&known).is_none() {
            return Err(not_a_member());
        }
        Ok(place)
    }
}

/// Reads the request for a stream, and tells how to grant it.
async fn read_request(
    socket: &mut server::TlsStream<TcpStream>,
    read: &mut BytesMut,
) -> Result<Vec<u8>, Refusal> {
    loop {
        match upgrade::read_request(read) {
            Ok(Some((len, answer))) => {
                let _ = read.split_to(len);
                return Ok(answer);
            }
            Ok(None) => {}
            Err(error) => {
                let answer = upgrade::refusal(&error);
                return Err(Refusal { outcome: StreamOutcome::Upgrade, answer });
            }
        }
        if !matches!(socket.read_buf(read).await, Ok(len) if len > 0) {
            return Err(Refusal { outcome: StreamOutcome::Upgrade, answer: Vec::new() });
        }
    }
}

/// Why there is no stream, and what its client is told.
struct Refusal {
    outcome: StreamOutcome,
    answer: Vec<u8>,
}

impl Refusal {
    fn new(outcome: StreamOutcome, status: StatusCode) -> Self {
        Self { outcome, answer: upgrade::turn_away(status, &HeaderMap::new()) }
    }
}

/// A stream's place on the list; it is free again however its task ends.
struct Place<'a> {
    open: &'a Mutex<BTreeMap<StreamId, Taken>>,
    id: StreamId,
    closing: CancellationToken,
    member: String,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.open.lock().remove(&self.id);
    }
}
