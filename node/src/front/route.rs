//! What a request asks for: a WebSocket, an exchange, the node itself, or nothing that can be
//! given.

use antipode_websocket::handshake;
use http::header::CONNECTION;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use hyper::body::Incoming;

use super::answer::{self, Answer};
use super::client::Guest;
use super::{HEALTH_PATH, client_js, open};
use crate::headers::host;

/// Answers one request; while the node drains, as the last one on its socket.
pub(super) async fn respond(guest: &Guest, request: Request<Incoming>) -> Answer {
    let mut answer = answer_to(guest, request).await;
    let is_last = guest.front.shutdown.is_draining();
    if is_last && answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

async fn answer_to(guest: &Guest, request: Request<Incoming>) -> Answer {
    let refuse = |status, label: &'static str, words: &str| {
        guest.front.metrics.refused(label);
        answer::last_refusal(status, label, words)
    };
    if request.method() == Method::CONNECT {
        let mut answer =
            refuse(StatusCode::METHOD_NOT_ALLOWED, "method", "this is no forward proxy");
        answer::allow(&mut answer);
        return answer;
    }
    let authority = match host::authority(request.uri(), request.headers()) {
        Ok(authority) => authority,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, "host", &error.to_string()),
    };
    if request.uri().path() == "*" {
        return asterisk(request.method()).unwrap_or_else(|| {
            refuse(StatusCode::BAD_REQUEST, "target", "the target * is for OPTIONS only")
        });
    }
    if request.uri().path() == HEALTH_PATH {
        return health(guest, request.method());
    }
    if request.uri().path().starts_with(client_js::FOLDER) {
        return client_js::respond(request.method(), request.uri().path(), request.headers());
    }
    if !handshake::is_wanted(request.headers()) {
        return open::exchange(guest, request, authority).await;
    }
    let checked = handshake::check_request(request.method(), request.version(), request.headers());
    match checked.map(str::to_owned) {
        Ok(key) => open::websocket(guest, request, authority, &key).await,
        Err(error) => {
            let mut answer = refuse(error.status(), error.label(), &error.to_string());
            let mut owed = error.headers();
            if owed.contains_key(CONNECTION) {
                owed.insert(CONNECTION, HeaderValue::from_static("Upgrade, close"));
            }
            answer.headers_mut().extend(owed);
            answer
        }
    }
}

/// `OPTIONS *` asks the server itself what it can do (RFC 9110 section 9.3.7).
fn asterisk(method: &Method) -> Option<Answer> {
    (method == Method::OPTIONS).then(|| {
        let mut answer = answer::empty(StatusCode::NO_CONTENT, HeaderMap::new());
        answer::allow(&mut answer);
        answer
    })
}

/// Whether this node would take a session now, for load balancers and probes.
fn health(guest: &Guest, method: &Method) -> Answer {
    let front = &guest.front;
    if method != Method::GET && method != Method::HEAD {
        let words = "the health path is read with GET";
        let mut answer = answer::refusal(StatusCode::METHOD_NOT_ALLOWED, "method", words);
        answer::allow(&mut answer);
        return answer;
    }
    let unavailable = StatusCode::SERVICE_UNAVAILABLE;
    if front.shutdown.is_draining() {
        return answer::last_refusal(unavailable, "node_draining", "draining");
    }
    if front.admission.sessions() >= front.admission.sessions_max() {
        return answer::refusal(unavailable, "full", "full");
    }
    if !front.trunks.is_up() {
        return answer::refusal(unavailable, "no_core", "no trunk to a core is up");
    }
    answer::text(StatusCode::OK, "ok")
}
