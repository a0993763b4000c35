//! A socket to a backend, of whichever kind.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use antipode_proto::handover::v1::SocketKind;
use hyper_util::client::legacy::connect::{Connected, Connection};
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::client::TlsStream;

/// Bytes to and from a backend.
#[derive(Debug)]
pub(crate) enum BackendStream {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl BackendStream {
    /// A socket that another process opened. Call it inside a tokio runtime.
    pub(crate) fn import(kind: SocketKind, descriptor: OwnedFd) -> io::Result<Self> {
        match kind {
            SocketKind::Tcp => {
                let stream = std::net::TcpStream::from(descriptor);
                stream.set_nonblocking(true)?;
                TcpStream::from_std(stream).map(Self::Tcp)
            }
            SocketKind::Unix => {
                let stream = std::os::unix::net::UnixStream::from(descriptor);
                stream.set_nonblocking(true)?;
                UnixStream::from_std(stream).map(Self::Unix)
            }
            SocketKind::Unspecified => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    /// Whether all of its state is the system's, so that another process can go on with it.
    pub(crate) fn is_portable(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }
}

/// One socket, read by one future and written by another, as by `tokio::io::split`; but it still
/// shows its descriptor.
#[derive(Clone, Debug)]
pub(crate) struct SharedStream(Arc<Mutex<BackendStream>>);

impl SharedStream {
    pub(crate) fn new(stream: BackendStream) -> Self {
        Self(Arc::new(Mutex::new(stream)))
    }

    pub(crate) fn is_portable(&self) -> bool {
        self.0.lock().is_portable()
    }

    /// A second descriptor of the socket, for another process.
    pub(crate) fn export(&self) -> io::Result<(SocketKind, OwnedFd)> {
        match &*self.0.lock() {
            BackendStream::Tcp(stream) => {
                Ok((SocketKind::Tcp, stream.as_fd().try_clone_to_owned()?))
            }
            BackendStream::Unix(stream) => {
                Ok((SocketKind::Unix, stream.as_fd().try_clone_to_owned()?))
            }
            BackendStream::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }
}

impl AsyncRead for SharedStream {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_read(task, buffer)
    }
}

impl AsyncWrite for SharedStream {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut *self.0.lock()).poll_write(task, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_flush(task)
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut *self.0.lock()).poll_shutdown(task)
    }
}

/// Hands one call to the socket within.
macro_rules! each {
    ($stream:expr, $inner:ident => $call:expr) => {
        match $stream.get_mut() {
            BackendStream::Tcp(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            BackendStream::Unix(inner) => {
                let $inner = Pin::new(inner);
                $call
            }
            BackendStream::Tls(inner) => {
                let $inner = Pin::new(inner.as_mut());
                $call
            }
        }
    };
}

impl AsyncRead for BackendStream {
    fn poll_read(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_read(task, buffer))
    }
}

impl AsyncWrite for BackendStream {
    fn poll_write(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => inner.poll_write(task, bytes))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, inner => inner.poll_write_vectored(task, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Self::Tcp(inner) => inner.is_write_vectored(),
            Self::Unix(inner) => inner.is_write_vectored(),
            Self::Tls(inner) => inner.is_write_vectored(),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_flush(task))
    }

    fn poll_shutdown(self: Pin<&mut Self>, task: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, inner => inner.poll_shutdown(task))
    }
}

impl Connection for BackendStream {
    fn connected(&self) -> Connected {
        Connected::new()
    }
}
