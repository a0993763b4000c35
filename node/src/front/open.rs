//! A session for a request, or the word why there is none.

use std::sync::Arc;

use antipode_proto::trunk::v1::{Cause, RequestHead, ResponseHead, SessionKind};
use antipode_runtime::clock;
use antipode_trunk::{Body, Ended, OpenError};
use antipode_websocket::handshake;
use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_EXTENSIONS,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use http::{HeaderMap, HeaderValue, Request, StatusCode, request};
use hyper::body::Incoming;

use super::answer::{self, Answer, Refusal, Retry};
use super::client::Guest;
use super::pacing::Turn;
use super::resume::{self, Offer};
use crate::config::Upgrade;
use crate::headers::forwarded::{self, Arrival};
use crate::headers::{drop_fields, from_wire, hop, to_wire};
use crate::metrics::Kind;
use crate::session::Session;
use crate::session::admission::Refused;
use crate::session::cause::telling;
use crate::session::http::{self as exchange_body, Exchange};
use crate::session::relay::Answered;
use crate::session::websocket::Opened;

const TOO_LARGE: Refusal = Refusal {
    status: StatusCode::PAYLOAD_TOO_LARGE,
    label: "body_bytes_max",
    words: "the request's body is larger than this relay lets through",
    retry: Retry::Fixed,
};

/// Which core gets a session.
enum Way {
    /// The trunks choose.
    AnyCore,
    /// The one that holds it.
    ToCore(String),
}

/// Carries a plain HTTP request to the backend and its answer back.
pub(super) async fn exchange(
    guest: &Guest,
    request: Request<Incoming>,
    authority: String,
) -> Answer {
    let (parts, body) = request.into_parts();
    let limit = guest.front.session.http_body_bytes_max;
    if limit > 0 && content_length(&parts.headers).is_some_and(|len| len > limit) {
        guest.front.metrics.refused("body_bytes_max");
        return answer::last_refusal(TOO_LARGE.status, TOO_LARGE.label, TOO_LARGE.words);
    }
    let is_head = parts.method == http::Method::HEAD;
    let head = head(guest, parts, authority, SessionKind::Http);
    let session = match open(guest, head, Kind::Http, Way::AnyCore) {
        Ok(session) => session,
        Err(refusal) => return guest.front.refusal(refusal),
    };
    let exchange = Arc::new(Exchange::new(session));
    exchange_body::upload(&exchange, body);
    answer_of(exchange, is_head).await
}

/// Opens a WebSocket: answered when the backend has answered, or early.
pub(super) async fn websocket(
    guest: &Guest,
    request: Request<Incoming>,
    authority: String,
    key: &str,
) -> Answer {
    let (parts, _) = request.into_parts();
    match upgrade(guest, parts, authority, key).await {
        Ok(answer) => answer,
        Err(refusal) => guest.front.refusal(refusal),
    }
}

async fn upgrade(
    guest: &Guest,
    parts: request::Parts,
    authority: String,
    key: &str,
) -> Result<Answer, Refusal> {
    let front = &guest.front;
    let offer = Offer::of(&parts.headers).inspect_err(|refusal| {
        front.metrics.refused(refusal.label);
    })?;
    let mut head = head(guest, parts, authority, SessionKind::Websocket);
    head.resumable = offer != Offer::Plain;
    let (known, turn, way) = match (offer, &front.upgrade) {
        // What the core answers is known: it goes on, or it says why not in the WebSocket.
        (Offer::Resume { core }, _) => {
            (Some(&[resume::AGREED][..]), Turn::Resume, Way::ToCore(core))
        }
        (Offer::Plain, Upgrade::Early { subprotocols }) => {
            (Some(&subprotocols[..]), Turn::Session, Way::AnyCore)
        }
        // Whether the core agrees to a session that can go on elsewhere is its own to say.
        (Offer::Resumable, Upgrade::Early { .. }) | (_, Upgrade::AfterBackend) => {
            (None, Turn::Session, Way::AnyCore)
        }
    };
    let chosen = known.map(|known| agree_early(&mut head, known));
    check_draining(guest)?;
    if front.pacing.turn(turn, &front.metrics).await.is_err() {
        front.metrics.refused(turn.limit());
        return Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            label: turn.limit(),
            words: "too many come at once: try again soon, or elsewhere",
            retry: Retry::Spread,
        });
    }
    let session = open(guest, head, Kind::WebSocket, way)?;
    if turn == Turn::Resume {
        front.metrics.resumes.inc();
    }
    if let Some(chosen) = chosen {
        let chosen = chosen.map(|chosen| (SEC_WEBSOCKET_PROTOCOL, chosen));
        let headers = chosen.into_iter().collect();
        return Ok(switch(guest, session, headers, key, Answered::Early));
    }
    let response = first_head(&session).await?;
    if response.status == 101 {
        let headers = from_wire(response.headers);
        return Ok(switch(guest, session, headers, key, Answered::AfterBackend));
    }
    let exchange = Arc::new(Exchange::new(session));
    exchange.end_up();
    Ok(exchange_body::download(exchange, response, false))
}

/// The request as the core gets it.
fn head(guest: &Guest, parts: request::Parts, authority: String, kind: SessionKind) -> RequestHead {
    let mut headers = parts.headers;
    hop::strip(&mut headers);
    let of_the_handshake = [SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, CONTENT_LENGTH];
    drop_fields(&mut headers, |name| {
        *name == HOST || (kind == SessionKind::Websocket && of_the_handshake.contains(name))
    });
    let arrival = Arrival { peer: guest.peer.ip(), scheme: guest.scheme, authority: &authority };
    let client = forwarded::rewrite(&mut headers, arrival, &guest.front.trusted);
    let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
    RequestHead {
        kind: i32::from(kind),
        method: parts.method.as_str().to_owned(),
        target: if target.starts_with('/') { target.to_owned() } else { format!("/{target}") },
        scheme: client.scheme.as_str().to_owned(),
        headers: to_wire(&headers),
        client_ip: client.ip.to_string(),
        authority,
        answered_early: false,
        resumable: false,
    }
}

/// Leaves one subprotocol and no extension in the request, and returns that subprotocol.
fn agree_early(head: &mut RequestHead, known: &[HeaderValue]) -> Option<HeaderValue> {
    let offered = from_wire(std::mem::take(&mut head.headers));
    let lines = offered.get_all(SEC_WEBSOCKET_PROTOCOL).into_iter();
    let names = lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(','));
    let chosen = names.map(str::trim).find_map(|name| known.iter().find(|k| *k == name)).cloned();
    let mut headers = offered;
    drop_fields(&mut headers, |name| {
        *name == SEC_WEBSOCKET_EXTENSIONS || *name == SEC_WEBSOCKET_PROTOCOL
    });
    if let Some(chosen) = &chosen {
        headers.insert(SEC_WEBSOCKET_PROTOCOL, chosen.clone());
    }
    head.headers = to_wire(&headers);
    head.answered_early = true;
    chosen
}

/// Nobody comes in any more once the drain has begun.
fn check_draining(guest: &Guest) -> Result<(), Refusal> {
    let front = &guest.front;
    if !front.shutdown.is_draining() {
        return Ok(());
    }
    front.metrics.refused("node_draining");
    Err(Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        label: "node_draining",
        words: "this relay goes away: ask for another",
        retry: Retry::Spread,
    })
}

/// A session within the limits, or the refusal.
fn open(guest: &Guest, head: RequestHead, kind: Kind, way: Way) -> Result<Session, Refusal> {
    check_draining(guest)?;
    let front = &guest.front;
    let refuse = |status, label: &'static str, words| {
        front.metrics.refused(label);
        Refusal { status, label, words, retry: Retry::Fixed }
    };
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    let ip = head.client_ip.parse().unwrap_or_else(|_| guest.peer.ip());
    let admitted = front.admission.admit(ip).map_err(|refused| match refused {
        Refused::Full => refuse(unavailable, "full", "this relay is full: try another"),
        Refused::PerIp => {
            let words = "too many sessions from your address";
            refuse(StatusCode::TOO_MANY_REQUESTS, "sessions_per_ip", words)
        }
    })?;
    let port = match way {
        Way::AnyCore => {
            let opened = front.trunks.open(head);
            front.note_core(opened.as_ref().map(|_| ()).map_err(|error| *error));
            opened.map_err(|error| {
                let label = match error {
                    OpenError::NoCore => "no_core",
                    OpenError::TrunkDown => "trunk_down",
                };
                refuse(unavailable, label, "this relay can't reach its core: try again soon")
            })?
        }
        // A client names the core: that it is not there says nothing of this node.
        Way::ToCore(core) => front.trunks.open_at(&core, head).map_err(|_| {
            let words = "this relay can't reach the core that holds the session: try another";
            Refusal { retry: Retry::Spread, ..refuse(unavailable, "core_away", words) }
        })?,
    };
    Ok(Session::new(Arc::clone(front), port, admitted, kind))
}

/// Waits for the far end's answer to a request.
async fn first_head(session: &Session) -> Result<ResponseHead, Refusal> {
    let asked = clock::now();
    let delivery = session.deliver().await.map_err(|ended| told(session, &ended))?;
    session.front().metrics.open_latency.observe((clock::now() - asked).as_secs_f64());
    session.consumed(delivery.seq);
    match delivery.body {
        Body::Response(head) => Ok(*head),
        Body::End(end) => Err(told(session, &Ended { cause: end.cause(), detail: end.reason })),
        Body::Request(_) | Body::Chunk(_) => {
            let (cause, detail) = (Cause::TrunkProtocol, "a response begins with its head");
            session.reset(cause, detail);
            let detail = detail.to_owned();
            Err(told(session, &Ended { cause, detail }))
        }
    }
}

/// The answer to a request whose session ended before a head came down.
fn told(session: &Session, ended: &Ended) -> Refusal {
    session.note(ended.cause);
    if session.is_body_too_large() {
        return TOO_LARGE;
    }
    let telling = telling(ended.cause);
    let retry = Retry::Fixed;
    Refusal { status: telling.status, label: telling.label, words: telling.text, retry }
}

async fn answer_of(exchange: Arc<Exchange>, is_head: bool) -> Answer {
    let waiting = exchange.guard();
    match first_head(exchange.session()).await {
        Ok(response) => {
            waiting.disarm();
            exchange_body::download(exchange, response, is_head)
        }
        Err(refusal) => exchange.session().front().refusal(refusal),
    }
}

/// Answers 101 and leaves the session for the task that gets the socket.
fn switch(
    guest: &Guest,
    session: Session,
    mut headers: HeaderMap,
    key: &str,
    answered: Answered,
) -> Answer {
    let deflate = handshake::deflate_agreed(&headers);
    let is_resumable = resume::is_agreed(&headers);
    hop::strip(&mut headers);
    drop_fields(&mut headers, |name| *name == CONTENT_LENGTH);
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    let accept = handshake::accept_key(key);
    let accept = HeaderValue::from_str(&accept).expect("base64 fits a header");
    headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    *guest.opened.lock() = Some(Box::new(Opened { session, answered, deflate, is_resumable }));
    answer::empty(StatusCode::SWITCHING_PROTOCOLS, headers)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.trim().parse().ok()
}
