//! A backend that numbers what it sends and writes down what it gets.
//!
//! A session is `/ledger?session=S&every_ms=E&bytes=B`. Both ends send texts: `n 1 …`, `n 2 …`,
//! each padded to `B` bytes, the backend one every `E` ms. The client's `bye N` says that it has
//! sent `N`; the backend then stops and says `bye M`. What comes to any other target goes back.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tokio_tungstenite::{WebSocketStream, accept_hdr_async};

use super::history::History;
use super::unix_ms;

/// What the backend knows of one session.
#[derive(Clone, Debug, Default)]
pub struct Entry {
    /// Whose sockets they were: a core's address.
    pub from: Option<IpAddr>,
    /// Sockets opened for it.
    pub opened: u64,
    /// When and how each socket ended before a goodbye: the close code, 1006 without one.
    pub closed_early: Vec<(u64, u16)>,
    /// Numbers that came, with their times.
    pub arrived: Vec<(u64, u64)>,
    /// Numbers sent.
    pub sent: u64,
    /// What the client says that it has sent.
    pub bye: Option<u64>,
}

type Entries = Arc<Mutex<BTreeMap<u64, Entry>>>;

/// A running ledger; ends when dropped.
#[derive(Debug)]
pub struct Ledger {
    address: SocketAddr,
    entries: Entries,
    stop: Option<oneshot::Sender<()>>,
}

impl Ledger {
    /// Starts one on a free port of `host`, in a thread of its own.
    ///
    /// # Errors
    ///
    /// If no port can be bound.
    pub fn start(host: IpAddr) -> anyhow::Result<Self> {
        let listener = std::net::TcpListener::bind((host, 0)).context("bind a ledger")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let entries = Entries::default();
        let (stop, stopped) = oneshot::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let shared = Arc::clone(&entries);
        std::thread::Builder::new().name("ledger".into()).spawn(move || {
            runtime.block_on(async {
                let listener = TcpListener::from_std(listener).expect("a runtime is there");
                tokio::select! {
                    () = serve(listener, shared) => {}
                    _ = stopped => {}
                }
            });
        })?;
        Ok(Self { address, entries, stop: Some(stop) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it has written down of one session so far.
    #[must_use]
    pub fn entry(&self, session: u64) -> Entry {
        lock(&self.entries).get(&session).cloned().unwrap_or_default()
    }

    /// How many of the sessions have had something arrive at or after `since_ms`.
    #[must_use]
    pub fn heard_since(&self, since_ms: u64) -> usize {
        let entries = lock(&self.entries);
        let is_late = |entry: &&Entry| entry.arrived.last().is_some_and(|(_, at)| *at >= since_ms);
        entries.values().filter(is_late).count()
    }

    /// Adds what the backend knows to a history of what clients know.
    pub fn complete(&self, history: &mut History) {
        let entries = lock(&self.entries);
        for (id, session) in history {
            let Some(entry) = entries.get(id) else { continue };
            session.up.arrived.clone_from(&entry.arrived);
            session.down.sent = entry.sent;
            session.opened = entry.opened;
            session.closed_early = u64::try_from(entry.closed_early.len()).unwrap_or(u64::MAX);
            session.is_complete &= entry.bye.is_some();
        }
    }
}

impl Drop for Ledger {
    fn drop(&mut self) {
        drop(self.stop.take());
    }
}

/// What a session's target asks for.
#[derive(Clone, Copy, Debug)]
struct Asked {
    session: u64,
    every: Duration,
    bytes: usize,
}

impl Asked {
    fn of(query: &str) -> Option<Self> {
        let number = |name: &str| {
            let value =
                query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.parse::<u64>().ok())
        };
        let every = Duration::from_millis(number("every_ms")?.max(1));
        let bytes = usize::try_from(number("bytes")?).ok()?;
        Some(Self { session: number("session")?, every, bytes })
    }
}

/// A numbered text of so many bytes.
#[must_use]
pub fn numbered(number: u64, bytes: usize) -> String {
    let mut text = format!("n {number} ");
    text.extend(std::iter::repeat_n('.', bytes.saturating_sub(text.len())));
    text
}

/// The number behind a word such as `n` or `bye`.
#[must_use]
pub fn number_of(text: &str, word: &str) -> Option<u64> {
    let mut words = text.split(' ');
    words.next().filter(|first| *first == word)?;
    words.next()?.parse().ok()
}

async fn serve(listener: TcpListener, entries: Entries) {
    let mut tasks = JoinSet::new();
    loop {
        tokio::select! {
            Ok((socket, from)) = listener.accept() => {
                // A client may be gone before the option is set.
                drop(socket.set_nodelay(true));
                tasks.spawn(serve_one(socket, from.ip(), Arc::clone(&entries)));
            }
            Some(_) = tasks.join_next() => {}
        }
    }
}

async fn serve_one(socket: TcpStream, from: IpAddr, entries: Entries) {
    let mut asked = None;
    // The callback's error type is tungstenite's, and large.
    #[allow(clippy::result_large_err, reason = "tungstenite's own type")]
    let see = |request: &Request, response: Response| -> Result<Response, ErrorResponse> {
        asked = request.uri().query().and_then(Asked::of);
        Ok(response)
    };
    let Ok(socket) = accept_hdr_async(socket, see).await else { return };
    let Some(asked) = asked else { return echo(socket).await };
    {
        let mut entries = lock(&entries);
        let entry = entries.entry(asked.session).or_default();
        entry.opened += 1;
        entry.from = Some(from);
    }
    let code = converse(socket, asked, &entries).await;
    let mut entries = lock(&entries);
    let entry = entries.entry(asked.session).or_default();
    if entry.bye.is_none() {
        entry.closed_early.push((unix_ms(), code));
    }
}

async fn echo(mut socket: WebSocketStream<TcpStream>) {
    while let Some(Ok(message)) = socket.next().await {
        let is_message = message.is_text() || message.is_binary();
        if is_message && socket.send(message).await.is_err() {
            return;
        }
    }
}

/// Until the socket ends; the close code that came, 1006 without one.
async fn converse(mut socket: WebSocketStream<TcpStream>, asked: Asked, entries: &Entries) -> u16 {
    let mut tick = interval(asked.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut is_over = false;
    loop {
        let sent = tokio::select! {
            message = socket.next() => match message {
                Some(Ok(Message::Text(text))) => match note(text.as_str(), asked, entries) {
                    Some(bye) => {
                        is_over = true;
                        socket.send(Message::text(bye)).await
                    }
                    None => Ok(()),
                },
                Some(Ok(Message::Close(close))) => {
                    return close.map_or(1005, |close| close.code.into());
                }
                Some(Ok(_)) => Ok(()),
                Some(Err(_)) | None => return 1006,
            },
            _ = tick.tick(), if !is_over => {
                let number = {
                    let mut entries = lock(entries);
                    let entry = entries.entry(asked.session).or_default();
                    entry.sent += 1;
                    entry.sent
                };
                socket.send(Message::text(numbered(number, asked.bytes))).await
            }
        };
        if sent.is_err() {
            return 1006;
        }
    }
}

/// Writes down what came; the answer if it was a goodbye.
fn note(text: &str, asked: Asked, entries: &Entries) -> Option<String> {
    let mut entries = lock(entries);
    let entry = entries.entry(asked.session).or_default();
    if let Some(number) = number_of(text, "n") {
        entry.arrived.push((number, unix_ms()));
    }
    entry.bye = Some(number_of(text, "bye")?);
    Some(format!("bye {}", entry.sent))
}

fn lock(entries: &Entries) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
    entries.lock().expect("nobody panics with this lock")
}
