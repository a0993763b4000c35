//! An ordinary backend, as a user would have one: WebSocket echo and HTTP, written with no code of
//! ours.
//!
//! | request | answer |
//! |---|---|
//! | WebSocket, any path | echoes; chooses the last subprotocol; sets the cookie `backend=yes` |
//! | WebSocket `/close?code=C&reason=R` | closes at once |
//! | WebSocket `/drop` | ends the socket without a close frame at the first message |
//! | WebSocket `/flood` | sends 16 KiB messages for ever and reads nothing |
//! | WebSocket `/deaf` | neither sends nor reads |
//! | WebSocket `/headers` | sends the request's headers as JSON, then echoes |
//! | WebSocket `/refuse?status=S` | refuses the upgrade with that status and a body |
//! | `GET /download?bytes=N` | a body of [`crate::body::blocks`] |
//! | `POST /upload` | `{"bytes", "sha256"}` of the body |
//! | `POST /echo` | the body, as it comes |
//! | `GET /stream?ticks=N&every_ms=M` | a line each so often |
//! | `/headers` | method, target and headers as JSON |

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

use crate::body::{blocks, hex};
use crate::sockets::{Closes, serve_socket};

/// What handlers answer with.
type Answer = Response<BoxBody<Bytes, hyper::Error>>;

/// A running backend; ends when dropped.
#[derive(Debug)]
pub struct Backend {
    address: SocketAddr,
    closes: Closes,
    stop: Option<oneshot::Sender<()>>,
}

impl Backend {
    /// Starts one on a free port of `host`, in a thread and runtime of its own.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub fn start(host: std::net::IpAddr) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((host, 0)).context("bind a backend")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let closes = Closes::default();
        let (stop, stopped) = oneshot::channel();
        let seen = closes.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("backend".into()).spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a runtime is there");
                tokio::select! {
                    () = serve(listener, seen) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, closes, stop: Some(stop) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How clients' sockets ended, by the path they had asked for.
    #[must_use]
    pub fn closes(&self) -> Closes {
        self.closes.clone()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

async fn serve(listener: TcpListener, closes: Closes) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Ok((socket, _)) = listener.accept() => {
                // A client may be gone before the option is set.
                drop(socket.set_nodelay(true));
                tasks.spawn(serve_one(socket, closes.clone()));
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn serve_one(socket: TcpStream, closes: Closes) {
    let sockets = Arc::new(Mutex::new(JoinSet::new()));
    let service = service_fn(|request| answer(request, closes.clone(), Arc::clone(&sockets)));
    let ended =
        http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await;
    // Clients that go away in the middle are part of the tests.
    drop(ended);
    let mut sockets = std::mem::take(&mut *sockets.lock().expect("no answer panics"));
    while sockets.join_next().await.is_some() {}
}

type Sockets = Arc<Mutex<JoinSet<()>>>;

async fn answer(
    request: Request<Incoming>,
    closes: Closes,
    sockets: Sockets,
) -> Result<Answer, Infallible> {
    let query = Query::of(&request);
    if request.headers().contains_key(header::UPGRADE) {
        return Ok(upgrade(request, &query, closes, &sockets));
    }
    let response = match request.uri().path() {
        "/download" => {
            let total = query.number("bytes");
            let body = stream::iter(blocks(total)).map(|block| Ok(Frame::data(block)));
            let mut response = Response::new(BoxBody::new(StreamBody::new(body)));
            response.headers_mut().insert(header::CONTENT_LENGTH, total.into());
            response
        }
        "/upload" => upload(request.into_body()).await,
        "/echo" => Response::new(request.into_body().boxed()),
        "/stream" => {
            let every = Duration::from_millis(query.number("every_ms"));
            let lines = stream::iter(0..query.number("ticks")).then(move |tick| async move {
                tokio::time::sleep(every).await;
                Ok(Frame::data(Bytes::from(format!("tick {tick}\n"))))
            });
            Response::new(BoxBody::new(StreamBody::new(lines)))
        }
        "/headers" => text(StatusCode::OK, described(&request)),
        path => text(StatusCode::OK, format!("{} {path}\n", request.method())),
    };
    Ok(response)
}

fn upgrade(
    mut request: Request<Incoming>,
    query: &Query,
    closes: Closes,
    sockets: &Sockets,
) -> Answer {
    if request.uri().path() == "/refuse" {
        let status = u16::try_from(query.number("status")).unwrap_or(400);
        let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
        let mut response = text(status, "the backend says no\n".into());
        response.headers_mut().insert("x-refused-by", HeaderValue::from_static("backend"));
        return response;
    }
    let Some(key) = request.headers().get(header::SEC_WEBSOCKET_KEY) else {
        return text(StatusCode::BAD_REQUEST, "no key\n".into());
    };
    let accept = derive_accept_key(key.as_bytes());
    let offered = request.headers().get(header::SEC_WEBSOCKET_PROTOCOL).cloned();
    let described = described(&request);
    let (target, query) = (request.uri().to_string(), query.clone());
    let upgrade = hyper::upgrade::on(&mut request);
    let mut response = text(StatusCode::SWITCHING_PROTOCOLS, String::new());
    let headers = response.headers_mut();
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept.parse().expect("base64 is a value"));
    headers.insert(header::SET_COOKIE, HeaderValue::from_static("backend=yes; Path=/"));
    let chosen = offered.as_ref().and_then(|list| list.to_str().ok()?.rsplit(',').next());
    if let Some(chosen) = chosen {
        let chosen = chosen.trim().parse().expect("a part of a value is a value");
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, chosen);
    }
    sockets.lock().expect("no answer panics").spawn(async move {
        if let Ok(upgraded) = upgrade.await {
            serve_socket(TokioIo::new(upgraded), &target, &query, described, &closes).await;
        }
    });
    response
}

async fn upload(mut body: Incoming) -> Answer {
    let (mut hash, mut total) = (Sha256::new(), 0);
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return text(StatusCode::BAD_REQUEST, "cut\n".into()) };
        if let Some(part) = frame.data_ref() {
            hash.update(part);
            total += part.len();
        }
    }
    let told = json!({ "bytes": total, "sha256": hex(&hash.finalize()) });
    text(StatusCode::OK, told.to_string())
}

fn described(request: &Request<Incoming>) -> String {
    let headers: Vec<_> = request
        .headers()
        .iter()
        .map(|(name, value)| json!([name.as_str(), String::from_utf8_lossy(value.as_bytes())]))
        .collect();
    let (method, target) = (request.method().as_str(), request.uri().to_string());
    json!({ "method": method, "target": target, "headers": headers }).to_string()
}

fn text(status: StatusCode, body: String) -> Answer {
    let body = Full::from(body).map_err(|never| match never {}).boxed();
    Response::builder().status(status).body(body).expect("a status and a body make a response")
}

/// A request's query, decoded as far as the tests need: `%20` is a space.
#[derive(Clone, Debug)]
pub(crate) struct Query(BTreeMap<String, String>);

impl Query {
    fn of(request: &Request<Incoming>) -> Self {
        let pairs = request.uri().query().unwrap_or_default().split('&');
        let pair = |pair: &str| {
            let (name, value) = pair.split_once('=')?;
            Some((name.to_owned(), value.replace("%20", " ")))
        };
        Self(pairs.filter_map(pair).collect())
    }

    pub(crate) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    pub(crate) fn number(&self, name: &str) -> u64 {
        self.text(name).parse().unwrap_or(0)
    }
}
