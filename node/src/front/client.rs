//! One client: HTTP on its socket, until it leaves or becomes a WebSocket.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tracing::debug;

use super::answer::Answer;
use super::listen::Place;
use super::transport::Transport;
use super::{Front, route};
use crate::headers::forwarded::Scheme;
use crate::session::websocket::{self, Opened};

/// A client at the door.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) peer: SocketAddr,
    pub(super) scheme: Scheme,
    pub(super) place: Place,
}

/// What one client's requests have in common.
#[derive(Clone, Debug)]
pub(super) struct Guest {
    pub(super) front: Arc<Front>,
    pub(super) peer: SocketAddr,
    pub(super) scheme: Scheme,
    /// Set by the request that was answered with 101.
    pub(super) opened: Arc<Mutex<Option<Box<Opened>>>>,
}

impl Service<Request<Incoming>> for Guest {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let guest = self.clone();
        Box::pin(async move { Ok(route::respond(&guest, request).await) })
    }
}

/// Serves one client to its end, or hands its socket to a WebSocket's own task.
pub(super) async fn serve(front: Arc<Front>, transport: Transport, arrived: Arrived) {
    let Arrived { peer, scheme, place } = arrived;
    let guest = Guest { front: Arc::clone(&front), peer, scheme, opened: Arc::default() };
    let opened = Arc::clone(&guest.opened);
    let mut http = builder(&front).serve_connection(TokioIo::new(transport), guest);
    let mut draining = pin!(front.shutdown.draining());
    // One that comes while the node drains is told where else to go, rather than left at once.
    let mut is_draining = front.shutdown.is_draining();
    let served = loop {
        tokio::select! {
            served = poll_fn(|task| http.poll_without_shutdown(task)) => break served,
            () = &mut draining, if !is_draining => {
                is_draining = true;
                Pin::new(&mut http).graceful_shutdown();
            }
        }
    };
    let parts = http.into_parts();
    let mut transport = parts.io.into_inner();
    let opened = opened.lock().take();
    match (served, opened) {
        (Ok(()), Some(opened)) => {
            transport.watch_no_stall();
            let task = websocket::run(Arc::clone(&front), opened, transport, parts.read_buf, place);
            front.shutdown.spawn(task);
        }
        (Ok(()), None) => {
            transport.shutdown().await.ok();
        }
        (Err(error), _) => {
            count(&front, &error, &parts.read_buf);
            part(transport, &error, &parts.read_buf).await;
        }
    }
}

/// hyper parses HTTP and answers what it can't parse with 400, 414 or 431.
fn builder(front: &Front) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(TokioTimer::new())
        .header_read_timeout(front.limits.head_timeout)
        .max_buf_size(front.limits.head_bytes_max)
        .max_header_size(front.limits.head_bytes_max)
        .max_headers(front.limits.headers_max);
    builder
}

/// Counts a request that hyper refused. A client that has said nothing is no request.
fn count(front: &Front, error: &hyper::Error, unread: &Bytes) {
    if error.is_timeout() && !unread.is_empty() {
        front.metrics.refused("head_timeout");
    } else if error.is_parse_too_large() {
        front.metrics.refused("head_too_large");
    } else if error.is_parse() {
        front.metrics.refused("bad_request");
    }
}

/// The last word to a client whose HTTP went wrong: hyper leaves these cases without one.
async fn part(mut transport: Transport, error: &hyper::Error, unread: &Bytes) {
    debug!(%error, "a client's HTTP ended");
    let last_word: &[u8] = if error.is_user() {
        transport.abort_on_drop();
        return;
    } else if error.is_timeout() && !unread.is_empty() {
        b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    } else if error.is_parse() && unread.starts_with(b"PRI * HTTP/2.0") {
        b"HTTP/1.1 505 HTTP Version Not Supported\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    } else {
        b""
    };
    transport.write_all(last_word).await.ok();
    transport.shutdown().await.ok();
}
