//! A client's socket, in clear text or TLS, that gives up on a client which takes nothing.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::Sleep;
use tokio_rustls::server::TlsStream;

/// The socket of one client.
#[derive(Debug)]
pub struct Transport {
    socket: Socket,
    /// How long a write may wait; `None`: for ever.
    stall_timeout: Option<Duration>,
    stalled: Option<Pin<Box<Sleep>>>,
}

#[derive(Debug)]
enum Socket {
    Plain(TcpStream),
    /// Boxed: rustls keeps about a kilobyte inline.
    Tls(Box<TlsStream<TcpStream>>),
}

impl Transport {
    /// Clear text.
    #[must_use]
    pub fn plain(socket: TcpStream, stall_timeout: Duration) -> Self {
        let stall_timeout = Some(stall_timeout);
        Self { socket: Socket::Plain(socket), stall_timeout, stalled: None }
    }

    /// TLS, after its handshake.
    #[must_use]
    pub fn tls(socket: TlsStream<TcpStream>, stall_timeout: Duration) -> Self {
        let stall_timeout = Some(stall_timeout);
        Self { socket: Socket::Tls(Box::new(socket)), stall_timeout, stalled: None }
    }

    /// Leaves slow clients to whoever uses the socket from now on.
    pub fn watch_no_stall(&mut self) {
        self.stall_timeout = None;
        self.stalled = None;
    }

    /// Makes the kernel send a reset in place of an orderly end when the socket is dropped, so that
    /// what was sent can't pass for the whole.
    pub fn abort_on_drop(&self) {
        let tcp = match &self.socket {
            Socket::Plain(tcp) => tcp,
            Socket::Tls(tls) => tls.get_ref().0,
        };
        // A socket that is gone already needs no reset.
        tcp.set_zero_linger().ok();
    }

    fn socket(self: Pin<&mut Self>) -> Pin<&mut (dyn ReadWrite + 'static)> {
        match &mut self.get_mut().socket {
            Socket::Plain(tcp) => Pin::new(tcp),
            Socket::Tls(tls) => Pin::new(tls.as_mut()),
        }
    }

    /// Passes a write's result on; one that waits for too long becomes an error.
    fn watched<T>(
        &mut self,
        written: Poll<io::Result<T>>,
        task: &mut Context<'_>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = None;
            return written;
        }
        let Some(timeout) = self.stall_timeout else { return Poll::Pending };
        let stalled = self.stalled.get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        match stalled.as_mut().poll(task) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

trait ReadWrite: AsyncRead + AsyncWrite + Unpin {}

impl<T: AsyncRead + AsyncWrite + Unpin> ReadWrite for T {}

impl AsyncRead for Transport {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.socket().poll_read(task, buf)
    }
}

impl AsyncWrite for Transport {
    fn poll_write(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().socket().poll_write(task, bytes);
        self.watched(written, task)
    }

    fn poll_flush(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = self.as_mut().socket().poll_flush(task);
        self.watched(flushed, task)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = self.as_mut().socket().poll_shutdown(task);
        self.watched(shut, task)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = self.as_mut().socket().poll_write_vectored(task, slices);
        self.watched(written, task)
    }

    fn is_write_vectored(&self) -> bool {
        match &self.socket {
            Socket::Plain(tcp) => tcp.is_write_vectored(),
            Socket::Tls(tls) => tls.is_write_vectored(),
        }
    }
}
