//! The way up of an exchange: chunks from the trunk become hyper's request body, one at a time.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use antipode_proto::body::Body as Segment;
use antipode_proto::trunk::v1::{Cause, End, RequestHead};
use antipode_runtime::clock;
use antipode_trunk::{Delivery, Ended, Seq, SessionPort};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio::time::timeout;

use crate::bridge::{Bridge, headers};
use crate::metrics::{Metrics, UP};

/// How long to wait for the first of a body that may not be there. The end of a request without one
/// comes in the same batch as its head.
const EMPTY_BODY_PATIENCE: Duration = Duration::from_secs(1);

/// What hyper takes from the body at a time.
type Piece = Frame<Bytes>;

/// Feeds an [`UploadBody`] from the trunk, and acknowledges what hyper took.
#[derive(Debug)]
pub(super) struct Upload {
    port: Arc<SessionPort>,
    pieces: Mutex<Option<mpsc::Sender<Piece>>>,
    first: Mutex<Option<Delivery>>,
    last_taken: Mutex<Instant>,
    over: AtomicBool,
    is_whole: Arc<AtomicBool>,
    idle_max: Duration,
    metrics: Metrics,
}

/// Why the request must not go on.
#[derive(Debug)]
pub(super) enum Aborted {
    /// The session was reset.
    Ended(Ended),
    /// The client's direction ended before its body was complete.
    ClientEnd(Cause),
}

impl Upload {
    /// Finds out whether the request has a body, and makes it.
    pub(super) async fn begin(
        bridge: &Bridge,
        head: &RequestHead,
        port: &Arc<SessionPort>,
    ) -> Result<(Self, UploadBody), Ended> {
        let has_length =
            head.headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-length"));
        let mut first = None;
        if !has_length && let Ok(delivered) = timeout(EMPTY_BODY_PATIENCE, port.deliver()).await {
            first = Some(delivered?);
        }
        let is_empty = first.as_ref().is_some_and(|first| is_empty_body(&first.body));
        let (sender, receiver) = mpsc::channel(1);
        let upload = Self {
            port: Arc::clone(port),
            pieces: Mutex::new(Some(sender)),
            first: Mutex::new(first),
            last_taken: Mutex::new(clock::now()),
            over: AtomicBool::new(false),
            is_whole: Arc::new(AtomicBool::new(is_empty)),
            idle_max: bridge.config.timeouts.body_idle,
            metrics: bridge.metrics.clone(),
        };
        let is_whole = Arc::clone(&upload.is_whole);
        let body = UploadBody { pieces: Arc::new(Mutex::new(receiver)), is_empty, is_whole };
        Ok((upload, body))
    }

    /// Feeds the body; resolves only where the request can't go on.
    pub(super) async fn run(&self) -> Aborted {
        if let Err(aborted) = self.feed().await {
            return aborted;
        }
        // Nothing follows the end but, perhaps, a reset.
        match self.port.deliver().await {
            Err(ended) => Aborted::Ended(ended),
            Ok(_) => std::future::pending().await,
        }
    }

    /// Whether the client's direction has come to its end.
    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// When hyper last took a piece.
    pub(super) fn last_taken(&self) -> Instant {
        *self.last_taken.lock()
    }

    async fn feed(&self) -> Result<(), Aborted> {
        let pieces = self.pieces.lock().take().expect("fed once");
        loop {
            let Delivery { seq, body } = self.next().await?;
            let frame = match body {
                Segment::Chunk(chunk) => {
                    self.metrics.carried(UP, chunk.payload.len());
                    Frame::data(chunk.payload)
                }
                Segment::End(end) => return self.finish(*end, seq, &pieces).await,
                Segment::Request(_) | Segment::Response(_) => continue,
            };
            self.push(frame, seq, &pieces).await;
        }
    }

    async fn next(&self) -> Result<Delivery, Aborted> {
        let first = self.first.lock().take();
        if let Some(first) = first {
            return Ok(first);
        }
        match timeout(self.idle_max, self.port.deliver()).await {
            Ok(delivered) => delivered.map_err(Aborted::Ended),
            Err(_) => Err(Aborted::ClientEnd(Cause::ClientIdle)),
        }
    }

    /// Gives hyper one piece and waits until it has taken it. If it wants none, the piece is
    /// dropped: a backend may answer before it has read everything.
    async fn push(&self, frame: Frame<Bytes>, seq: Seq, pieces: &mpsc::Sender<Piece>) {
        if pieces.send(frame).await.is_ok() {
            let _ = pieces.reserve().await;
            *self.last_taken.lock() = clock::now();
        }
        self.port.consumed(seq);
    }

    async fn finish(
        &self,
        end: End,
        seq: Seq,
        pieces: &mpsc::Sender<Piece>,
    ) -> Result<(), Aborted> {
        // At once: a backend that has answered already may never take the trailers.
        self.port.consumed(seq);
        self.over.store(true, Ordering::Relaxed);
        let cause = end.cause();
        if cause != Cause::Complete {
            return Err(Aborted::ClientEnd(cause));
        }
        if !end.trailers.is_empty() {
            let trailers = headers::map(&end.trailers);
            self.push(Frame::trailers(trailers), seq, pieces).await;
        }
        self.is_whole.store(true, Ordering::Release);
        *self.last_taken.lock() = clock::now();
        Ok(())
    }
}

fn is_empty_body(first: &Segment) -> bool {
    match first {
        Segment::End(end) => end.cause() == Cause::Complete && end.trailers.is_empty(),
        Segment::Request(_) | Segment::Response(_) | Segment::Chunk(_) => false,
    }
}

/// A request's body for hyper. Clones share it, so that a request can be put together again for the
/// next backend where the first one took no socket, and so nothing of the body.
#[derive(Clone, Debug)]
pub(crate) struct UploadBody {
    pieces: Arc<Mutex<mpsc::Receiver<Piece>>>,
    is_empty: bool,
    /// Nothing follows the pieces; without it their end is a break, and hyper must not take the
    /// body for whole.
    is_whole: Arc<AtomicBool>,
}

impl Body for UploadBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        match self.pieces.lock().poll_recv(task) {
            Poll::Ready(Some(frame)) => Poll::Ready(Some(Ok(frame))),
            Poll::Ready(None) if self.is_whole.load(Ordering::Acquire) => Poll::Ready(None),
            Poll::Ready(None) => Poll::Ready(Some(Err(io::ErrorKind::UnexpectedEof.into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.is_empty
    }

    fn size_hint(&self) -> SizeHint {
        if self.is_empty { SizeHint::with_exact(0) } else { SizeHint::default() }
    }
}
