//! Accepting sockets, plain or TLS, with a bound on their number and on the time of a handshake.
//!
//! Both kinds of server take what comes out: tonic as a stream, the HTTP face one by one.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use antipode_runtime::clock::now;
use antipode_runtime::shutdown::Shutdown;
use parking_lot::Mutex;
use rustls::{CertificateError, ServerConfig};
use rustls_pki_types::CertificateDer;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tracing::{debug, warn};

use crate::metrics::Metrics;
use crate::registry::rate::Bucket;

/// A handshake costs two round trips; one that takes longer than this is no member's.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait when the process is out of descriptors: accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long the log says no more of clocks: strangers may show what they like.
const CLOCK_PAUSE: Duration = Duration::from_secs(60);

/// How a listener treats sockets.
#[derive(Clone, Debug)]
pub struct Admittance {
    /// `None`: plain.
    pub tls: Option<Arc<ServerConfig>>,
    /// Most sockets open at once; the next ones are closed and counted.
    pub sockets_max: usize,
}

/// An accepted socket, its handshake done.
#[derive(Debug)]
pub struct Socket {
    stream: Stream,
    caller: Caller,
    _place: OwnedSemaphorePermit,
}

/// Who is at the other end.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Its address.
    pub address: SocketAddr,
    /// Its certificate, which the authority signed; `None`: it showed none.
    pub certificate: Option<CertificateDer<'static>>,
    /// How it left, once it has.
    pub departure: Departure,
}

/// How the other end of a socket left; clones share it.
///
/// A program that closes a TLS socket says so in TLS first. One that ends without having closed it
/// leaves that to its kernel, which sends TCP's FIN or RST alone. A machine or a path that dies
/// sends nothing: then the socket ends by time, which is no word about the program.
#[derive(Clone, Debug, Default)]
pub struct Departure(Arc<AtomicBool>);

impl Departure {
    /// Whether the kernel closed it, and the program said nothing.
    #[must_use]
    pub fn is_abrupt(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    fn note(&self, error: &io::Error) {
        use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
        let kinds = [UnexpectedEof, ConnectionReset, ConnectionAborted, BrokenPipe];
        if kinds.contains(&error.kind()) {
            self.0.store(true, Ordering::Release);
        }
    }
}

#[derive(Debug)]
enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Sockets as they come, until the drain begins.
pub type Incoming = ReceiverStream<io::Result<Socket>>;

/// Accepts on `listener` until the drain begins.
#[must_use]
pub fn accept(
    listener: TcpListener,
    admittance: Admittance,
    metrics: Metrics,
    shutdown: &Shutdown,
) -> Incoming {
    let (sender, receiver) = mpsc::channel(16);
    let inner = shutdown.clone();
    shutdown.spawn(async move {
        let places = Arc::new(Semaphore::new(admittance.sockets_max));
        let brake = Arc::new(Mutex::new(Bucket::new(now())));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = inner.draining() => return,
                () = sender.closed() => return,
            };
            let (stream, address) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    warn!(%error, "no socket could be accepted");
                    metrics.socket_refused("accept");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                metrics.socket_refused("full");
                continue;
            };
            let task = welcome(stream, address, admittance.tls.clone(), place);
            let (sender, metrics) = (sender.clone(), metrics.clone());
            let brake = Arc::clone(&brake);
            let stop = inner.clone();
            inner.spawn(async move {
                let done = tokio::select! {
                    done = tokio::time::timeout(HANDSHAKE_TIMEOUT, task) => done,
                    () = stop.draining() => return,
                };
                match done {
                    Ok(Ok(socket)) => drop(sender.send(Ok(socket)).await),
                    Ok(Err(error)) => {
                        debug!(net.peer = %address, %error, "handshake failed");
                        if is_about_time(&error) && brake.lock().take(1, CLOCK_PAUSE, now()) {
                            warn!(
                                net.peer = %address, %error,
                                "a member's certificate isn't valid at this machine's time: set \
                                 the clock here (see `timedatectl`, and that NTP runs), or there"
                            );
                        }
                        metrics.socket_refused("handshake");
                    }
                    Err(_) => metrics.socket_refused("handshake_timeout"),
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

async fn welcome(
    stream: TcpStream,
    address: SocketAddr,
    tls: Option<Arc<ServerConfig>>,
    place: OwnedSemaphorePermit,
) -> io::Result<Socket> {
    stream.set_nodelay(true)?;
    let Some(tls) = tls else {
        let caller = Caller { address, certificate: None, departure: Departure::default() };
        return Ok(Socket { stream: Stream::Plain(stream), caller, _place: place });
    };
    let stream = Box::new(TlsAcceptor::from(tls).accept(stream).await?);
    let certificates = stream.get_ref().1.peer_certificates();
    let certificate = certificates.and_then(|chain| chain.first()).map(|c| c.clone().into_owned());
    let caller = Caller { address, certificate, departure: Departure::default() };
    Ok(Socket { stream: Stream::Tls(stream), caller, _place: place })
}

/// Whether a certificate was refused for the time: then a clock is wrong, and members stay away.
fn is_about_time(error: &io::Error) -> bool {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(rustls::Error::InvalidCertificate(bad)) = tls else { return false };
    matches!(
        bad,
        CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. }
    )
}

impl Socket {
    /// The other end's address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.caller.address
    }
}

impl Connected for Socket {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for Socket {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        };
        if let Poll::Ready(Err(error)) = &read {
            self.caller.departure.note(error);
        }
        read
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        };
        if let Poll::Ready(Err(error)) = &written {
            self.caller.departure.note(error);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_certificates_out_of_their_time_are_about_time() {
        let refused =
            |bad| is_about_time(&io::Error::other(rustls::Error::InvalidCertificate(bad)));
        assert!(refused(CertificateError::NotValidYet) && refused(CertificateError::Expired));
        assert!(!refused(CertificateError::UnknownIssuer));
        assert!(!is_about_time(&io::ErrorKind::UnexpectedEof.into()));
    }
}
