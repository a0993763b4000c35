//! Streams: WireGuard's datagrams as WebSocket messages in TLS over TCP, for where UDP is blocked.
//!
//! | module | idea it hides |
//! |---|---|
//! | `frame` | a datagram is a binary message |
//! | `upgrade` | the HTTP/1.1 that opens a stream |
//! | `outbox` | a queue that drops when TCP is stuck |
//! | `carry` | an open stream's two directions, and how it ends |
//! | `client` | opening one |
//! | `server` | taking them |
//! | [`bare`] | a stream's bytes without TCP, by hand |
//! | [`metrics`] | what is counted |
//!
//! TLS keeps outsiders out and hides what is inside; it proves no datagram: WireGuard does, as over
//! UDP. Who a peer is on a stream is therefore told by WireGuard's keys, not by the certificate,
//! and a peer's way becomes the stream on which its newest datagram came.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span, debug, info};

pub mod bare;
mod carry;
mod client;
mod frame;
mod handshakes;
pub mod metrics;
mod outbox;
mod server;
#[cfg(test)]
mod tests;
mod upgrade;

pub use client::StreamTls;
pub use server::{Admit, StreamListen, StreamServer};

use self::carry::Opened;
use self::metrics::StreamOutcome;
use self::outbox::Outbox;
use crate::paths::StreamTarget;
use crate::shared::Shared;
use crate::tunnel::{Tasks, Tunnel};
use crate::way::{StreamId, Way};

/// From the first packet to an open stream, at either end: TCP, TLS and the upgrade take three
/// round trips, and a lost SYN a second.
const STREAM_HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(5);

/// How far a stream is that we open.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum StreamState {
    /// Not open yet: what is sent on it is dropped.
    Opening,
    /// It carries datagrams.
    Open,
}

/// The streams of a tunnel.
#[derive(Debug)]
pub(crate) struct Streams {
    tasks: Tasks,
    last_id: AtomicU64,
    /// Those that we open; once closed they are gone from here.
    ours: Mutex<BTreeMap<StreamId, Ours>>,
    changed: Notify,
}

#[derive(Debug)]
struct Ours {
    state: StreamState,
    closing: CancellationToken,
}

impl Streams {
    pub(crate) fn new(tasks: Tasks) -> Self {
        let (last_id, ours, changed) = (AtomicU64::new(0), Mutex::default(), Notify::new());
        Self { tasks, last_id, ours, changed }
    }

    /// How far one of ours is; `None`: it has ended, or was never begun.
    pub(crate) fn state(&self, id: StreamId) -> Option<StreamState> {
        self.ours.lock().get(&id).map(|ours| ours.state)
    }

    /// Resolves when one of ours has opened or ended since the last time. For one waiter.
    pub(crate) async fn changed(&self) {
        self.changed.notified().await;
    }

    fn next_id(&self) -> StreamId {
        StreamId(self.last_id.fetch_add(1, Ordering::Relaxed) + 1)
    }

    /// Runs a task until it ends or the tunnel is stopped.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let stop = self.tasks.stop.clone();
        let task = async move {
            stop.run_until_cancelled(task).await;
        };
        self.tasks.tracker.spawn(task.instrument(Span::current()));
    }
}

impl Shared {
    /// Opens a stream: it can be sent on at once, and carries once [`Streams::state`] says so.
    pub(crate) fn open_stream(self: &Arc<Self>, target: StreamTarget, tls: StreamTls) -> StreamId {
        let (id, closing) = (self.streams.next_id(), CancellationToken::new());
        let ours = Ours { state: StreamState::Opening, closing: closing.clone() };
        self.streams.ours.lock().insert(id, ours);
        let shared = Arc::clone(self);
        self.streams.spawn(async move {
            let _gone = Gone { shared: &shared, id };
            let opening = timeout(STREAM_HANDSHAKE_TIME_MAX, client::open(&target, &tls));
            let Some(opened) = closing.run_until_cancelled(opening).await else { return };
            let outcome = match opened {
                Ok(Ok(opened)) => {
                    if let Some(ours) = shared.streams.ours.lock().get_mut(&id) {
                        ours.state = StreamState::Open;
                    }
                    return shared.carry_stream(id, opened, &closing, &target.endpoint).await;
                }
                Ok(Err(error)) => {
                    let source = std::error::Error::source(&error).map(ToString::to_string);
                    let source = source.unwrap_or_default();
                    info!(endpoint = target.endpoint, %error, source, "no stream");
                    error.outcome()
                }
                Err(_) => {
                    info!(endpoint = target.endpoint, "no stream within the time");
                    StreamOutcome::TimedOut
                }
            };
            shared.metrics.streams.attempted(outcome);
        });
        id
    }

    /// Closes a stream of ours.
    pub(crate) fn close_stream(&self, id: StreamId) {
        if let Some(ours) = self.streams.ours.lock().get(&id) {
            ours.closing.cancel();
        }
    }

    /// Carries a stream to its end; `far` is for the log.
    async fn carry_stream(
        &self,
        id: StreamId,
        opened: Opened,
        closing: &CancellationToken,
        far: &str,
    ) {
        let metrics = &self.metrics.streams;
        let outbox = Arc::new(Outbox::new(opened.side, self.metrics.clone()));
        self.exits.add_stream(id, Arc::clone(&outbox) as _);
        let _exit = Exit { shared: self, id };
        metrics.attempted(StreamOutcome::Opened);
        metrics.open.inc();
        self.streams.changed.notify_one();
        debug!(far, id = id.0, "stream open");
        let end = carry::carry(opened, Way::Stream(id), &outbox, self, closing).await;
        debug!(far, id = id.0, reason = end.label(), "stream ended");
        metrics.ended(end);
    }
}

/// Takes a stream off the exits, however its task ends.
struct Exit<'a> {
    shared: &'a Shared,
    id: StreamId,
}

impl Drop for Exit<'_> {
    fn drop(&mut self) {
        self.shared.exits.remove_stream(self.id);
        self.shared.metrics.streams.open.dec();
    }
}

/// Takes a stream of ours off the list, however its task ends.
struct Gone<'a> {
    shared: &'a Shared,
    id: StreamId,
}

impl Drop for Gone<'_> {
    fn drop(&mut self) {
        self.shared.streams.ours.lock().remove(&self.id);
        self.shared.streams.changed.notify_one();
    }
}

impl Tunnel {
    /// Takes streams on `listener`, for as long as the tunnel runs.
    ///
    /// # Errors
    /// If the listener has no address.
    pub fn listen_streams(
        &self,
        listener: TcpListener,
        listen: StreamListen,
    ) -> io::Result<StreamServer> {
        StreamServer::start(self.shared(), listener, listen)
    }
}
