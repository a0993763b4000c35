//! An HTTP exchange: the request's body streams up while the answer streams down.

use std::sync::Arc;

use antipode_proto::trunk::v1::{Cause, Chunk, End, RequestHead, ResponseHead};
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_trunk::{CHUNK_BYTES_MAX, Ended, SessionPort};
use bytes::Buf;
use http::{Method, Request, Response, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::TokioTimer;
use tokio::time::{sleep_until, timeout};

mod upload;

use super::{Bridge, answer::Answer, headers};
use crate::backend::Assigned;
use crate::backend::connect::{ConnectError, Connector};
use crate::config::Config;
use crate::metrics::DOWN;
use upload::{Aborted, Upload, UploadBody};

/// Idle sockets of one backend, and what it takes to open more.
pub(crate) type HttpClient = Client<Connector, UploadBody>;

/// hyper's pool for one backend. A socket that was idle and turns out to be closed is replaced, as
/// long as nothing of the request has gone out.
pub(crate) fn http_client(
    connector: &Connector,
    config: &Config,
    shutdown: &Shutdown,
) -> HttpClient {
    Client::builder(Services(shutdown.clone()))
        .pool_timer(TokioTimer::new())
        .timer(TokioTimer::new())
        .pool_idle_timeout(config.timeouts.idle_socket)
        .pool_max_idle_per_host(config.limits.idle_sockets_max)
        .http1_max_buf_size(config.limits.response_head_bytes_max.max(8192))
        .http1_max_headers(config.limits.response_headers_max)
        .set_host(false)
        .build(connector.clone())
}

/// hyper's own tasks run as services: sessions need them until the drain is over.
#[derive(Clone, Debug)]
struct Services(Shutdown);

impl<F> hyper::rt::Executor<F> for Services
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, task: F) {
        self.0.spawn_service(task);
    }
}

/// Carries one exchange to its end.
pub(super) async fn carry(
    bridge: &Bridge,
    head: RequestHead,
    port: &Arc<SessionPort>,
) -> Result<Cause, Ended> {
    let (upload, body) = Upload::begin(bridge, &head, port).await?;
    let download = Download { bridge, head: &head, port, upload: &upload };
    let outcome = tokio::select! {
        biased;
        aborted = upload.run() => Err(aborted),
        outcome = download.run(body) => Ok(outcome?),
    };
    match outcome {
        Ok(Outcome::Sent(cause)) => {
            if !upload.is_over() {
                bridge.discard(port).await?;
            }
            Ok(cause)
        }
        Ok(Outcome::Failed(answer)) => {
            bridge.metrics.answer_made(answer.label());
            answer.send(&head, port)?;
            if !upload.is_over() {
                bridge.discard(port).await?;
            }
            Ok(answer.cause())
        }
        Err(Aborted::Ended(ended)) => Err(ended),
        Err(Aborted::ClientEnd(cause)) => {
            // The request is gone with its future: the backend sees its socket close.
            port.reset(cause, "the client left");
            Ok(cause)
        }
    }
}

enum Outcome {
    /// The backend's answer went down, up to its end.
    Sent(Cause),
    /// There is none.
    Failed(Answer),
}

/// The way down of one exchange.
struct Download<'a> {
    bridge: &'a Bridge,
    head: &'a RequestHead,
    port: &'a SessionPort,
    upload: &'a Upload,
}

impl Download<'_> {
    async fn run(&self, body: UploadBody) -> Result<Outcome, Ended> {
        let began = clock::now();
        let (assigned, response) = match self.ask(body).await {
            Ok(answered) => answered,
            Err(answer) => return Ok(Outcome::Failed(answer)),
        };
        let seconds = clock::now().duration_since(began).as_secs_f64();
        self.bridge.metrics.response_head.0.observe(seconds);
        if response.status().is_informational() {
            return Ok(Outcome::Failed(Answer::BackendProtocol));
        }
        // hyper measures a head only while it is not whole.
        let limit = self.bridge.config.limits.response_head_bytes_max;
        if headers::bytes(response.headers()) > limit {
            return Ok(Outcome::Failed(Answer::HeadTooLarge));
        }
        send_response(self.bridge, self.port, &assigned, response).await.map(Outcome::Sent)
    }

    /// Sends the request to one backend after another until one takes a socket.
    async fn ask(&self, body: UploadBody) -> Result<(Assigned, Response<Incoming>), Answer> {
        let mut tried = Vec::new();
        let mut unreachable = Answer::BackendUnreachable;
        while let Some(assigned) = self.bridge.backends.assign(self.head, &tried) {
            let request = request(self.head, &assigned, body.clone()).ok_or(Answer::BadRequest)?;
            let error = tokio::select! {
                outcome = assigned.backend.client.request(request) => match outcome {
                    Ok(response) => return Ok((assigned, response)),
                    Err(error) => error,
                },
                () = self.answer_overdue() => return Err(Answer::ResponseTimeout),
            };
            match connect_error(&error) {
                Some(error) => {
                    assigned.backend.saw_connect_error(error);
                    unreachable = Answer::from(error);
                }
                None => return Err(answer_to(&error)),
            }
            tried.push(assigned.index);
        }
        Err(unreachable)
    }

    /// Resolves once nothing has gone up for as long as an answer may take.
    async fn answer_overdue(&self) {
        let patience = self.bridge.config.timeouts.response_head;
        loop {
            let deadline = self.upload.last_taken() + patience;
            if deadline <= clock::now() {
                return;
            }
            sleep_until(deadline.into()).await;
        }
    }
}

/// Streams a backend's answer to the client.
pub(super) async fn send_response(
    bridge: &Bridge,
    port: &SessionPort,
    assigned: &Assigned,
    response: Response<Incoming>,
) -> Result<Cause, Ended> {
    let (parts, mut body) = response.into_parts();
    port.send(
        ResponseHead {
            status: parts.status.as_u16().into(),
            headers: headers::for_client(parts.headers, assigned.set_cookie.as_ref()),
            ..ResponseHead::default()
        }
        .into(),
    )?;
    let mut trailers = Vec::new();
    let cause = loop {
        port.ready().await?;
        let frame = match timeout(bridge.config.timeouts.body_idle, body.frame()).await {
            Ok(None) => break Cause::Complete,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) => break Cause::BackendLost,
            Err(_) => break Cause::BackendTimeout,
        };
        match frame.into_data() {
            Ok(mut data) => {
                while data.has_remaining() {
                    port.ready().await?;
                    let payload = data.split_to(data.len().min(CHUNK_BYTES_MAX));
                    bridge.metrics.carried(DOWN, payload.len());
                    port.send(Chunk { payload, ..Chunk::default() }.into())?;
                }
            }
            Err(frame) => {
                let map = frame.into_trailers().unwrap_or_default();
                trailers = headers::for_client(map, None);
            }
        }
    };
    port.send(End { cause: cause.into(), trailers, ..End::default() }.into())?;
    Ok(cause)
}

fn request(
    head: &RequestHead,
    assigned: &Assigned,
    body: UploadBody,
) -> Option<Request<UploadBody>> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(head.method.as_bytes()).ok()?;
    *request.uri_mut() = Uri::builder()
        .scheme("http")
        .authority("backend")
        .path_and_query(head.target.as_str())
        .build()
        .ok()?;
    *request.headers_mut() = headers::for_backend(head, assigned.backend.host.as_ref())?;
    Some(request)
}

/// The error of our own connector, if the request came no further.
fn connect_error(error: &Error) -> Option<&ConnectError> {
    if !error.is_connect() {
        return None;
    }
    std::error::Error::source(error)?.downcast_ref()
}

fn answer_to(error: &Error) -> Answer {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref());
    cause.map_or(Answer::BackendLost, |error: &hyper::Error| Answer::from(error))
}
