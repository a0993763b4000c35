//! One person's socket: the upgrade, and the talk until either side leaves.

use std::time::Duration;

use antipode_runtime::shutdown::Shutdown;
use axum::body::Body;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use futures_util::{SinkExt, StreamExt};
use http::{HeaderMap, Method, StatusCode, header};
use hyper_util::rt::TokioIo;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use tracing::debug;

use super::message::{FromPage, Refusal, ToPage};
use super::room::{Place, Room};
use super::{MESSAGE_BYTES_MAX, WAITING_MAX};

/// A silent person is asked for a sign of life this often, and let go after three times of it.
const PING_INTERVAL: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(60);

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// Why a person's talk ended.
enum Leave {
    /// The socket is gone, or its close has been answered.
    Gone,
    /// We end it, and say why.
    Close(CloseCode, &'static str),
}

/// Somebody in front of the room, or in it.
struct Person {
    room: Room,
    inside: Option<Inside>,
}

struct Inside {
    name: String,
    region: String,
    place: Place,
}

/// Answers a WebSocket upgrade (RFC 6455 section 4.2) and talks with whoever asked for it.
pub fn upgrade(mut request: Request, room: Room, shutdown: &Shutdown) -> Response {
    let key = match accept(request.method(), request.headers()) {
        Ok(key) => key,
        Err(refusal) => return *refusal,
    };
    let upgrading = hyper::upgrade::on(&mut request);
    let tasks = shutdown.clone();
    shutdown.spawn(async move {
        let Ok(upgraded) = upgrading.await else { return };
        let limits = WebSocketConfig::default()
            .read_buffer_size(4 << 10)
            .write_buffer_size(0)
            .max_write_buffer_size(WAITING_MAX * MESSAGE_BYTES_MAX)
            .max_message_size(Some(MESSAGE_BYTES_MAX))
            .max_frame_size(Some(MESSAGE_BYTES_MAX));
        let io = TokioIo::new(upgraded);
        let mut socket = WebSocketStream::from_raw_socket(io, Role::Server, Some(limits)).await;
        let mut person = Person { room, inside: None };
        let leave = tokio::select! {
            leave = talk(&mut socket, &mut person) => leave,
            () = tasks.draining() => Leave::Close(CloseCode::Away, "the demo stops"),
        };
        drop(person);
        if let Leave::Close(code, reason) = leave {
            let frame = CloseFrame { code, reason: reason.into() };
            let _ = tokio::time::timeout(Duration::from_secs(1), socket.close(Some(frame))).await;
        }
    });
    let switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(header::CONNECTION, "Upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_ACCEPT, key);
    switching.body(Body::empty()).expect("all headers are ours")
}

/// Checks what makes a request a WebSocket handshake, and returns the key's answer.
fn accept(method: &Method, headers: &HeaderMap) -> Result<String, Box<Response>> {
    let has = |name, token: &str| {
        let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
        values.flat_map(|list| list.split(',')).any(|one| one.trim().eq_ignore_ascii_case(token))
    };
    let refuse = |refusal: Response| Err(Box::new(refusal));
    if method != Method::GET {
        let allow = [(header::ALLOW, "GET")];
        return refuse((StatusCode::METHOD_NOT_ALLOWED, allow, "only GET\n").into_response());
    }
    if !has(header::UPGRADE, "websocket") || !has(header::SEC_WEBSOCKET_VERSION, "13") {
        let wanted = [(header::UPGRADE, "websocket"), (header::SEC_WEBSOCKET_VERSION, "13")];
        let word = "open a WebSocket here\n";
        return refuse((StatusCode::UPGRADE_REQUIRED, wanted, word).into_response());
    }
    let Some(key) = headers.get(header::SEC_WEBSOCKET_KEY) else {
        return refuse((StatusCode::BAD_REQUEST, "no Sec-WebSocket-Key\n").into_response());
    };
    Ok(derive_accept_key(key.as_bytes()))
}

async fn talk(socket: &mut Socket, person: &mut Person) -> Leave {
    let mut heard = Instant::now();
    let mut pings = interval_at(heard + PING_INTERVAL, PING_INTERVAL);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let answer = tokio::select! {
            read = socket.next() => {
                heard = Instant::now();
                match read {
                    Some(Ok(message)) => person.hear(message),
                    Some(Err(error)) => {
                        debug!(error = &error as &dyn std::error::Error, "socket failed");
                        return Leave::Gone;
                    }
                    None => return Leave::Gone,
                }
            }
            news = person.news() => match news {
                Ok(news) => Some(news),
                Err(_) => return Leave::Close(CloseCode::Policy, "you read too slowly"),
            },
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    return Leave::Close(CloseCode::Away, "no sign of life");
                }
                if socket.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                    return Leave::Gone;
                }
                None
            }
        };
        if let Some(answer) = answer {
            let sent = socket.send(Message::text(answer.to_json()));
            match tokio::time::timeout(SILENCE_MAX, sent).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) => return Leave::Gone,
                Err(_) => return Leave::Close(CloseCode::Policy, "you read too slowly"),
            }
        }
    }
}

impl Person {
    /// Takes a message, and returns what only this person gets for it.
    fn hear(&mut self, message: Message) -> Option<ToPage> {
        let outcome = match message {
            Message::Text(text) => FromPage::parse(&text).and_then(|message| self.take(message)),
            Message::Binary(_) => Err(Refusal::Binary),
            Message::Ping(_) | Message::Pong(_) | Message::Close(_) | Message::Frame(_) => Ok(None),
        };
        outcome.unwrap_or_else(|refusal| Some(ToPage::Refused { why: refusal.to_string() }))
    }

    fn take(&mut self, message: FromPage) -> Result<Option<ToPage>, Refusal> {
        match message {
            FromPage::Echo { id } => Ok(Some(ToPage::Echo { id })),
            FromPage::Hello { name, region } => {
                // A second hello is a new name: the old place is given back first.
                self.inside = None;
                let (place, welcome) = self.room.enter()?;
                self.inside = Some(Inside { name, region, place });
                Ok(Some(welcome))
            }
            FromPage::Say { text, sent_at_us } => {
                let inside = self.inside.as_ref().ok_or(Refusal::Unintroduced)?;
                self.room.say(&inside.name, &inside.region, text, sent_at_us);
                Ok(None)
            }
        }
    }

    /// What everybody hears; nothing before the hello.
    async fn news(&mut self) -> Result<ToPage, RecvError> {
        match &mut self.inside {
            Some(inside) => inside.place.news.recv().await,
            None => std::future::pending().await,
        }
    }
}
