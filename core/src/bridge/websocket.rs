//! A WebSocket session: the upgrade with a backend, then the relay of frames.
//!
//! The node keeps the client's key and answers it; the key here is our own. Extensions and
//! subprotocol pass from end to end.

use std::sync::Arc;

use antipode_proto::trunk::v1::{Cause, RequestHead, ResponseHead};
use antipode_runtime::clock;
use antipode_trunk::{Delivery, Ended, SessionPort};
use antipode_websocket::Policy;
use antipode_websocket::handshake::{check_response, deflate_agreed, request_key};
use bytes::{Bytes, BytesMut};
use http::header::{
    CONNECTION, CONTENT_LENGTH, HeaderMap, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::time::timeout;

mod down;
mod parts;
mod relay;
mod up;

use super::{Bridge, answer::Answer, headers, http as exchange};
use crate::backend::Assigned;
use crate::backend::stream::BackendStream;
pub(crate) use parts::{BadParts, Parts};
use relay::Relay;

/// Carries one WebSocket to its end.
pub(super) async fn carry(
    bridge: &Bridge,
    head: RequestHead,
    port: &Arc<SessionPort>,
) -> Result<Cause, Ended> {
    match Box::pin(ask(bridge, &head, port)).await? {
        Asked::Answered(cause) => Ok(cause),
        Asked::Open(mut open) => {
            port.send(open.response_head().into())?;
            open.relay(bridge, port).await
        }
    }
}

/// What came of asking a backend for a WebSocket.
pub(crate) enum Asked {
    /// It is open; the client has not been told yet.
    Open(Box<Open>),
    /// It is not: the client has its answer, and the session is at its end.
    Answered(Cause),
}

/// A backend's WebSocket.
pub(crate) struct Open {
    policy: Policy,
    response: HeaderMap,
    /// Counts the session at its backend for as long as it lasts.
    assigned: Assigned,
    stream: BackendStream,
    /// What came from the backend right behind its answer.
    read: BytesMut,
    /// What came from a client that was answered early.
    early: Vec<Delivery>,
}

impl Open {
    /// The answer for the client, once.
    pub(crate) fn response_head(&mut self) -> ResponseHead {
        let response = std::mem::take(&mut self.response);
        ResponseHead {
            status: StatusCode::SWITCHING_PROTOCOLS.as_u16().into(),
            headers: headers::for_client(response, self.assigned.set_cookie.as_ref()),
            ..ResponseHead::default()
        }
    }

    /// Carries frames between the socket and `port` until both directions have ended.
    async fn relay(self: Box<Self>, bridge: &Bridge, port: &SessionPort) -> Result<Cause, Ended> {
        let Self { policy, assigned, stream, read, early, .. } = *self;
        let parts = Parts::new(stream, assigned, policy, read);
        Relay::new(bridge, port, parts).run(early).await
    }

    /// What there is to carry on with, for a client that was not answered early.
    pub(crate) fn into_parts(self: Box<Self>) -> Parts {
        let Self { policy, assigned, stream, read, .. } = *self;
        Parts::new(stream, assigned, policy, read)
    }
}

/// Goes on with a WebSocket that another process has opened.
pub(crate) async fn go_on(
    bridge: &Bridge,
    port: &SessionPort,
    parts: Parts,
) -> Result<Cause, Ended> {
    Relay::new(bridge, port, parts).run(Vec::new()).await
}

/// Asks a backend for a WebSocket. Whatever else it answers goes to the client.
pub(crate) async fn ask(
    bridge: &Bridge,
    head: &RequestHead,
    port: &Arc<SessionPort>,
) -> Result<Asked, Ended> {
    let asked = bridge.unless_left(port, ask_and_answer(bridge, head, port)).await;
    asked.unwrap_or(Ok(Asked::Answered(Cause::CoreDraining)))
}

async fn ask_and_answer(
    bridge: &Bridge,
    head: &RequestHead,
    port: &Arc<SessionPort>,
) -> Result<Asked, Ended> {
    let began = clock::now();
    let mut early = Vec::new();
    let opened = tokio::select! {
        biased;
        opened = Box::pin(open(bridge, head)) => opened,
        // Frames before the answer come only from clients that were answered early: they wait.
        left = client_end(port, &mut early) => return left.map(Asked::Answered),
    };
    let answered = || {
        let seconds = clock::now().duration_since(began).as_secs_f64();
        bridge.metrics.response_head.0.observe(seconds);
    };
    let refused = match opened {
        Ok(Opened::Upgraded(upgraded)) => {
            answered();
            return Ok(Asked::Open(upgraded.into_open(bridge, early)));
        }
        Ok(Opened::Refused(refused)) => Ok(refused),
        Err(answer) => Err(answer),
    };
    // Nobody takes what came early: unacknowledged, it would keep the client's end from coming.
    if let Some(last) = early.last() {
        port.consumed(last.seq);
    }
    let refused = match refused {
        Ok(refused) => refused,
        Err(answer) => return bridge.answer(head, port, answer).await.map(Asked::Answered),
    };
    answered();
    if head.answered_early {
        drop(refused);
        let answer = Answer::BackendProtocol;
        return bridge.answer(head, port, answer).await.map(Asked::Answered);
    }
    let cause = Box::pin(refused.send(bridge, port)).await?;
    bridge.discard(port).await?;
    Ok(Asked::Answered(cause))
}

/// Resolves if the client's direction ends before the backend has answered; keeps what comes until
/// then, which is as much as the first credit allows.
async fn client_end(port: &SessionPort, early: &mut Vec<Delivery>) -> Result<Cause, Ended> {
    loop {
        let delivery = port.deliver().await?;
        if delivery.body.is_end() {
            port.consumed(delivery.seq);
            port.reset(Cause::ClientLost, "the client left before the backend answered");
            return Ok(Cause::ClientLost);
        }
        early.push(delivery);
    }
}

enum Opened {
    Upgraded(Box<Upgraded>),
    Refused(Box<Refused>),
}

struct Upgraded {
    assigned: Assigned,
    response: HeaderMap,
    stream: BackendStream,
    /// What came in the same read as the answer.
    read: BytesMut,
}

impl Upgraded {
    fn into_open(self, bridge: &Bridge, early: Vec<Delivery>) -> Box<Open> {
        let Self { assigned, response, stream, read } = self;
        let policy = Policy {
            frame_bytes_max: bridge.config.websocket.frame_bytes_max,
            chunk_bytes_max: antipode_trunk::CHUNK_BYTES_MAX,
            rsv1_allowed: deflate_agreed(&response),
        };
        Box::new(Open { policy, response, assigned, stream, read, early })
    }
}

/// The backend's answer is not 101: it goes down as that of an HTTP exchange.
struct Refused {
    assigned: Assigned,
    response: Response<Incoming>,
    connection: Connection,
}

type Connection = http1::Connection<TokioIo<BackendStream>, Empty<Bytes>>;

impl Refused {
    async fn send(self, bridge: &Bridge, port: &SessionPort) -> Result<Cause, Ended> {
        let Self { assigned, response, connection } = self;
        let sending = exchange::send_response(bridge, port, &assigned, response);
        tokio::pin!(sending);
        tokio::select! {
            outcome = &mut sending => return outcome,
            _ = connection => {}
        }
        sending.await
    }
}

/// Tries one backend after another until one takes a socket, then asks it to upgrade.
async fn open(bridge: &Bridge, head: &RequestHead) -> Result<Opened, Answer> {
    let mut tried = Vec::new();
    let mut unreachable = Answer::BackendUnreachable;
    while let Some(assigned) = bridge.backends.assign(head, &tried) {
        match assigned.backend.connect().await {
            Ok(stream) => {
                let asked = upgrade(bridge, head, assigned, stream);
                let answered = timeout(bridge.config.timeouts.response_head, asked).await;
                return answered.unwrap_or(Err(Answer::ResponseTimeout));
            }
            Err(error) => unreachable = Answer::from(&error),
        }
        tried.push(assigned.index);
    }
    Err(unreachable)
}

async fn upgrade(
    bridge: &Bridge,
    head: &RequestHead,
    assigned: Assigned,
    stream: BackendStream,
) -> Result<Opened, Answer> {
    let key = request_key(rand::random());
    let request = request(head, &assigned, &key).ok_or(Answer::BadRequest)?;
    let asked = request.headers().clone();
    let limits = &bridge.config.limits;
    let (mut sender, mut connection) = http1::Builder::new()
        .max_headers(limits.response_headers_max)
        .max_header_size(limits.response_head_bytes_max)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .map_err(|error| Answer::from(&error))?;
    let response = {
        let response = sender.send_request(request);
        tokio::pin!(response);
        tokio::select! {
            biased;
            outcome = &mut response => outcome,
            _ = std::future::poll_fn(|task| connection.poll_without_shutdown(task)) => {
                response.await
            }
        }
    };
    let response = response.map_err(|error| Answer::from(&error))?;
    if response.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Ok(Opened::Refused(Box::new(Refused { assigned, response, connection })));
    }
    if let Err(error) = check_response(response.status(), response.headers(), &key, &asked) {
        bridge.metrics.backend_broke(error.label());
        return Err(Answer::BackendProtocol);
    }
    // After a 101 hyper has given up its turn at the socket; only what it read too much is with it.
    let parts = connection.into_parts();
    Ok(Opened::Upgraded(Box::new(Upgraded {
        assigned,
        response: response.into_parts().0.headers,
        stream: parts.io.into_inner(),
        read: BytesMut::from(parts.read_buf),
    })))
}

fn request(head: &RequestHead, assigned: &Assigned, key: &str) -> Option<Request<Empty<Bytes>>> {
    let mut request = Request::new(Empty::new());
    *request.method_mut() = Method::GET;
    *request.uri_mut() = head.target.parse().ok()?;
    let mut headers = headers::for_backend(head, assigned.backend.host.as_ref())?;
    headers.remove(CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(SEC_WEBSOCKET_VERSION, HeaderValue::from_static("13"));
    headers.insert(SEC_WEBSOCKET_KEY, key.parse().expect("base64"));
    *request.headers_mut() = headers;
    Some(request)
}
