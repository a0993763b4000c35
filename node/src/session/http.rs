//! An HTTP exchange: the request's body goes up, the response's comes down, each at the pace of
//! whoever takes it.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use antipode_proto::body::CHUNK_BYTES_MAX;
use antipode_proto::trunk::v1::{Cause, Chunk, End, ResponseHead};
use antipode_trunk::{Body, Seq};
use bytes::Bytes;
use http::header::CONTENT_LENGTH;
use http::{HeaderMap, StatusCode};
use http_body::{Body as _, Frame};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::timeout;

use super::Session;
use super::cause::telling;
use crate::front::answer::{self, Answer, AnswerBody};
use crate::headers::{from_wire, hop, to_wire};

/// How long the far end may take to end an exchange whose response is whole.
const FAREWELL: std::time::Duration = std::time::Duration::from_secs(30);

/// The response did not come to its end: the client's socket must be cut, so that it can't take
/// what it has for the whole.
#[derive(Debug, thiserror::Error)]
#[error("the response broke off: {reason}")]
pub struct Broken {
    reason: &'static str,
}

/// A session that carries one request and its response; shared by the two bodies.
#[derive(Debug)]
pub(crate) struct Exchange(Session);

impl Exchange {
    pub(crate) fn new(session: Session) -> Self {
        Self(session)
    }

    pub(crate) fn session(&self) -> &Session {
        &self.0
    }

    /// The request has no (more) body.
    pub(crate) fn end_up(&self) {
        self.send_end(Vec::new());
    }

    /// Ends the exchange should the client leave before its answer.
    pub(crate) fn guard(self: &Arc<Self>) -> Waiting {
        Waiting(Some(Arc::clone(self)))
    }

    fn send_end(&self, trailers: Vec<antipode_proto::trunk::v1::Header>) {
        let cause = i32::from(Cause::Complete);
        // A session that has ended needs no end.
        self.0.send(Body::from(End { cause, trailers, ..End::default() })).ok();
    }
}

/// A client that waits for its answer.
#[derive(Debug)]
pub(crate) struct Waiting(Option<Arc<Exchange>>);

impl Waiting {
    /// The answer is there.
    pub(crate) fn disarm(mut self) {
        self.0 = None;
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(exchange) = self.0.take() {
            exchange.0.reset(Cause::ClientLost, "the client left before its answer");
        }
    }
}

/// Sends the request's body up, in a task of its own if there is one.
pub(crate) fn upload(exchange: &Arc<Exchange>, body: Incoming) {
    if body.is_end_stream() {
        return exchange.end_up();
    }
    let exchange = Arc::clone(exchange);
    exchange.0.front().shutdown.clone().spawn(async move {
        if let Err(cause) = upload_all(&exchange, body).await {
            exchange.0.reset(cause, telling(cause).text);
        }
    });
}

async fn upload_all(exchange: &Exchange, mut body: Incoming) -> Result<(), Cause> {
    let session = &exchange.0;
    let limits = &session.front().session;
    let mut received: u64 = 0;
    let mut trailers = Vec::new();
    // A session that has ended needs no more of the body.
    while session.ready().await.is_ok() {
        let frame = timeout(limits.body_timeout, body.frame()).await;
        let frame = match frame.map_err(|_| Cause::ClientIdle)? {
            None => {
                exchange.send_end(trailers);
                return Ok(());
            }
            Some(Ok(frame)) => frame,
            Some(Err(_)) => return Err(Cause::ClientLost),
        };
        let mut payload = match frame.into_data() {
            Ok(payload) => payload,
            Err(frame) => {
                let fields = frame.into_trailers().unwrap_or_default();
                trailers = to_wire(&clean_trailers(fields));
                continue;
            }
        };
        received += u64::try_from(payload.len()).expect("a length fits 64 bits");
        if limits.http_body_bytes_max > 0 && received > limits.http_body_bytes_max {
            session.refuse_body();
            return Ok(());
        }
        session.front().up.payload(payload.len());
        while !payload.is_empty() && session.ready().await.is_ok() {
            let piece = payload.split_to(payload.len().min(CHUNK_BYTES_MAX));
            session.send(Body::from(Chunk { payload: piece, ..Chunk::default() })).ok();
        }
    }
    Ok(())
}

/// The answer whose head came down, with its body behind it.
pub(crate) fn download(exchange: Arc<Exchange>, head: ResponseHead, is_head: bool) -> Answer {
    let status = u16::try_from(head.status).ok().and_then(|code| StatusCode::from_u16(code).ok());
    let Some(status) = status.filter(|status| status.as_u16() >= 200) else {
        exchange.0.reset(Cause::BackendProtocol, "no final status");
        let telling = telling(Cause::BackendProtocol);
        return answer::refusal(telling.status, telling.label, telling.text);
    };
    let mut headers = from_wire(head.headers);
    hop::strip(&mut headers);
    let has_no_body = is_head
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
        || status == StatusCode::RESET_CONTENT;
    if has_no_body {
        farewell(exchange);
        return answer::empty(status, headers);
    }
    let len = headers.get(CONTENT_LENGTH).and_then(|len| len.to_str().ok()?.parse().ok());
    let download = Download { exchange: Some(exchange), written: None, remaining: len };
    let mut answer = Answer::new(AnswerBody::Streamed(Box::new(download)));
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    answer
}

/// Waits, apart from the client, for the end of an exchange of which the client has everything.
fn farewell(exchange: Arc<Exchange>) {
    exchange.0.front().shutdown.clone().spawn(async move {
        if timeout(FAREWELL, exchange.0.discard()).await.is_ok() {
            exchange.0.note(Cause::Complete);
        }
    });
}

/// A response's body on its way to the client. A chunk is acknowledged when hyper asks for the next
/// one.
#[derive(Debug)]
pub struct Download {
    /// Until the end.
    exchange: Option<Arc<Exchange>>,
    written: Option<Seq>,
    /// What `Content-Length` leaves to come.
    remaining: Option<u64>,
}

impl Download {
    /// The next piece of the body.
    pub(crate) fn poll_frame(
        &mut self,
        task: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        let Some(exchange) = self.exchange.clone() else { return Poll::Ready(None) };
        let session = &exchange.0;
        if let Some(seq) = self.written.take() {
            session.consumed(seq);
        }
        // `deliver` keeps no state of its own: the wake-up stays with the session.
        let delivery = match ready!(pin!(session.deliver()).poll(task)) {
            Ok(delivery) => delivery,
            Err(ended) => return self.broken(ended.cause),
        };
        match delivery.body {
            Body::Chunk(chunk) => {
                self.written = Some(delivery.seq);
                let len = u64::try_from(chunk.payload.len()).expect("a length fits 64 bits");
                self.remaining = self.remaining.map(|remaining| remaining.saturating_sub(len));
                session.front().down.payload(chunk.payload.len());
                Poll::Ready(Some(Ok(Frame::data(chunk.payload))))
            }
            Body::End(end) => {
                session.consumed(delivery.seq);
                if end.cause() != Cause::Complete || self.remaining.is_some_and(|left| left > 0) {
                    return self.broken(end.cause());
                }
                session.note(Cause::Complete);
                self.exchange = None;
                let trailers = clean_trailers(from_wire(end.trailers));
                let last = (!trailers.is_empty()).then(|| Ok(Frame::trailers(trailers)));
                Poll::Ready(last)
            }
            Body::Request(_) | Body::Response(_) => {
                session.reset(Cause::TrunkProtocol, "a second head");
                self.broken(Cause::TrunkProtocol)
            }
        }
    }

    fn broken(&mut self, cause: Cause) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(exchange) = self.exchange.take() {
            exchange.0.note(cause);
        }
        Poll::Ready(Some(Err(Broken { reason: telling(cause).label })))
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        let Some(exchange) = self.exchange.take() else { return };
        if let Some(seq) = self.written {
            exchange.0.consumed(seq);
        }
        // hyper asks no more once it has written what Content-Length said.
        if self.remaining == Some(0) {
            return farewell(exchange);
        }
        exchange.0.reset(Cause::ClientLost, "the client left in the middle of its answer");
    }
}

/// Trailers without what may not stand there (RFC 9110 section 6.5.1).
fn clean_trailers(mut trailers: HeaderMap) -> HeaderMap {
    hop::strip(&mut trailers);
    for name in ["content-length", "host", "trailer", "authorization", "set-cookie", "content-type"]
    {
        trailers.remove(name);
    }
    trailers
}
