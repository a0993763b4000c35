//! The one task of a WebSocket: carries bytes and time between the client's socket, the machine in
//! `relay`, and the trunk.
//!
//! An idle session holds no buffer: the socket is read into one buffer of the thread, and only what
//! came is copied out.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use antipode_proto::trunk::v1::{Cause, GoAway};
use antipode_runtime::clock;
use antipode_trunk::{Body, Delivery, Ended};
use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, timeout};
use tracing::debug;

use super::Session;
use super::relay::{Answered, CHUNK_BYTES_MAX, Relay};
use crate::front::Front;
use crate::front::listen::Place;
use crate::front::transport::Transport;

/// How long the far end may take to end its direction after the client has gone.
const FAREWELL: Duration = Duration::from_secs(30);
/// How long the last bytes, such as TLS's own goodbye, may take.
const SHUTDOWN: Duration = Duration::from_secs(2);

thread_local! {
    /// What a socket is read into. Never held over an await.
    static SCRATCH: RefCell<Box<[u8]>> = RefCell::new(vec![0; CHUNK_BYTES_MAX].into_boxed_slice());
}

/// A WebSocket whose 101 is on its way.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) session: Session,
    pub(crate) answered: Answered,
    /// permessage-deflate is agreed between client and backend.
    pub(crate) deflate: bool,
    /// The session can go on elsewhere: client and core have agreed on antipode.resume.v1.
    pub(crate) is_resumable: bool,
}

/// Serves the WebSocket to its end. `unread` came behind the request's head.
pub(crate) async fn run(
    front: Arc<Front>,
    opened: Box<Opened>,
    transport: Transport,
    unread: Bytes,
    place: Place,
) {
    let Opened { session, answered, deflate, is_resumable } = *opened;
    let counted = is_resumable.then(|| front.metrics.resumable());
    let now = clock::now();
    let mut relay = Box::new(Relay::new(Arc::clone(&front.session), answered, deflate, now));
    relay.socket_buffers().1.extend_from_slice(&unread);
    drop(unread);
    debug!(session.id = session.id(), "websocket open");

    let mut driver = Driver {
        front,
        session,
        relay,
        transport,
        is_resumable,
        ready: false,
        is_shut: false,
        close_at: None,
    };
    let ended = driver.drive().await;
    let Driver { session, relay, mut transport, is_shut, .. } = driver;
    session.note(relay.cause());
    if !is_shut && relay.wants_shutdown() {
        timeout(SHUTDOWN, poll_fn(|task| Pin::new(&mut transport).poll_shutdown(task))).await.ok();
    }
    drop((transport, place, relay, counted));
    if ended.is_ok() && timeout(FAREWELL, session.discard()).await.is_err() {
        session.reset(Cause::BackendTimeout, "the backend did not end its direction");
    }
}

struct Driver {
    front: Arc<Front>,
    session: Session,
    relay: Box<Relay>,
    transport: Transport,
    is_resumable: bool,
    /// The trunk has room for a chunk.
    ready: bool,
    /// Our side of the client's socket is shut.
    is_shut: bool,
    /// When the client is closed because the node drains.
    close_at: Option<Instant>,
}

/// What a wait ended with.
enum Woken {
    Delivery(Delivery),
    Ready,
    /// The trunk has given the session up.
    Ended(Ended),
    Read,
    Eof,
    Written(usize),
    Shut,
    Failed,
    Due,
    Draining,
}

impl Driver {
    /// Runs until nothing is left to do at the client's socket. An error means that the session is
    /// over at the far end too.
    async fn drive(&mut self) -> Result<(), Ended> {
        let front = Arc::clone(&self.front);
        let mut draining = pin!(front.shutdown.draining());
        let mut is_drain_seen = false;
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut ended = Ok(());
        loop {
            self.pump();
            let now = clock::now();
            let due = self.relay.poll_timeout();
            if due.is_some_and(|due| due <= now) {
                if self.waits_for_trunk() {
                    self.relay.handle_pause(now);
                }
                self.relay.handle_timeout(now);
                continue;
            }
            if self.relay.is_over() {
                return ended;
            }
            if let Some(due) = due
                && (sleep.is_elapsed() || due < sleep.deadline().into_std())
            {
                sleep.as_mut().reset(due.into());
            }
            tokio::task::consume_budget().await;
            let drain = (!is_drain_seen).then_some(draining.as_mut());
            let woken = self.wait(ended.is_ok(), sleep.as_mut(), drain).await;
            is_drain_seen |= matches!(woken, Woken::Draining);
            if let Err(over) = self.feed(woken) {
                ended = Err(over);
            }
        }
    }

    /// Hands on everything that the machine has for the trunk.
    fn pump(&mut self) {
        let now = clock::now();
        while self.relay.has_input() && (self.ready || self.relay.is_up_ended()) {
            let Some(body) = self.relay.poll_up(now) else { break };
            if let Body::Chunk(chunk) = &body {
                self.ready = false;
                self.front.up.payload(chunk.payload.len());
                if chunk.frame.is_some() {
                    self.front.up.frame();
                }
            }
            // A session that has ended says so at the next delivery.
            self.session.send(body).ok();
        }
        if let Some(end) = self.relay.poll_end() {
            self.session.send(end).ok();
        }
        if self.relay.poll_invite() {
            self.invite();
        }
        let mut last = None;
        while let Some(seq) = self.relay.poll_consumed() {
            last = Some(seq);
        }
        if let Some(seq) = last {
            self.session.consumed(seq);
        }
    }

    /// Tells the core where the client can go on, which tells the client.
    fn invite(&self) {
        let url = self.front.elsewhere.pick(&mut rand::rng()).unwrap_or_default();
        let left = self.close_at.map(|at| at.saturating_duration_since(clock::now()));
        let grace_ms = u64::try_from(left.unwrap_or_default().as_millis()).unwrap_or(u64::MAX);
        debug!(session.id = self.session.id(), url, grace_ms, "client invited elsewhere");
        self.session.invite(GoAway { url, grace_ms, ..GoAway::default() });
        self.front.metrics.sessions_invited.inc();
    }

    fn waits_for_trunk(&self) -> bool {
        self.relay.has_input() && !self.ready && !self.relay.is_up_ended()
    }

    async fn wait(
        &mut self,
        is_alive: bool,
        sleep: Pin<&mut Sleep>,
        draining: Option<Pin<&mut impl Future<Output = ()>>>,
    ) -> Woken {
        let wants_ready = self.waits_for_trunk() && is_alive;
        let wants_delivery =
            is_alive && !self.session.is_down_ended() && self.relay.wants_delivery();
        let Self { session, relay, transport, is_shut, .. } = self;
        let has_drain = draining.is_some();
        let drained = async {
            if let Some(draining) = draining {
                draining.await;
            }
        };
        tokio::select! {
            biased;
            delivery = session.deliver(), if wants_delivery => match delivery {
                Ok(delivery) => Woken::Delivery(delivery),
                Err(ended) => Woken::Ended(ended),
            },
            ready = session.ready(), if wants_ready => match ready {
                Ok(()) => Woken::Ready,
                Err(ended) => Woken::Ended(ended),
            },
            moved = poll_fn(|task| poll_socket(transport, relay, *is_shut, task)) => moved,
            () = sleep => Woken::Due,
            () = drained, if has_drain => Woken::Draining,
        }
    }

    /// Tells the machine what happened. An error: the session is over at the far end.
    fn feed(&mut self, woken: Woken) -> Result<(), Ended> {
        let now = clock::now();
        match woken {
            Woken::Delivery(delivery) => return self.feed_delivery(delivery),
            Woken::Ended(ended) => {
                self.relay.handle_reset(ended.cause, now);
                return Err(ended);
            }
            Woken::Ready => self.ready = true,
            Woken::Read => self.relay.handle_read(now),
            Woken::Written(n) => self.relay.handle_written(n, now),
            Woken::Eof => self.relay.handle_eof(),
            Woken::Failed => self.relay.handle_write_failed(),
            Woken::Shut => self.is_shut = true,
            Woken::Due => {}
            Woken::Draining => {
                let leave = self.front.leave(self.is_resumable);
                self.front.metrics.sessions_drained.inc();
                self.close_at = Some(leave.close_at);
                self.relay.handle_drain(leave.close_at);
                if let Some(at) = leave.invite_at {
                    self.relay.handle_invitation(at);
                }
            }
        }
        Ok(())
    }

    fn feed_delivery(&mut self, delivery: Delivery) -> Result<(), Ended> {
        let now = clock::now();
        let Delivery { seq, body } = delivery;
        if let Body::Chunk(chunk) = &body {
            self.front.down.payload(chunk.payload.len());
            if chunk.frame.is_some() {
                self.front.down.frame();
            }
        }
        let Err(error) = self.relay.handle_delivery(seq, body, now) else { return Ok(()) };
        debug!(session.id = self.session.id(), %error, "the far end makes no WebSocket");
        let (cause, detail) = (Cause::TrunkProtocol, error.to_string());
        self.session.reset(cause, &detail);
        self.relay.handle_reset(cause, now);
        Err(Ended { cause, detail })
    }
}

/// Writes what waits, then reads if the machine wants more; ready when anything moved.
fn poll_socket(
    transport: &mut Transport,
    relay: &mut Relay,
    is_shut: bool,
    task: &mut Context<'_>,
) -> Poll<Woken> {
    let wants_input = relay.wants_input();
    let wants_shutdown = relay.wants_shutdown() && !is_shut;
    let (out, input) = relay.socket_buffers();
    let mut transport = Pin::new(transport);
    if !out.is_empty() {
        match transport.as_mut().poll_write(task, out) {
            Poll::Ready(Ok(n)) if n > 0 => return Poll::Ready(Woken::Written(n)),
            Poll::Ready(_) => return Poll::Ready(Woken::Failed),
            Poll::Pending => {}
        }
    } else if wants_shutdown {
        if transport.as_mut().poll_shutdown(task).is_ready() {
            return Poll::Ready(Woken::Shut);
        }
    } else if let Poll::Ready(Err(_)) = transport.as_mut().poll_flush(task) {
        return Poll::Ready(Woken::Failed);
    }
    if !wants_input {
        return Poll::Pending;
    }
    let read = SCRATCH.with_borrow_mut(|scratch| {
        let mut buf = ReadBuf::new(scratch);
        let read = transport.poll_read(task, &mut buf);
        read.map_ok(|()| {
            input.extend_from_slice(buf.filled());
            buf.filled().len()
        })
    });
    read.map(read_result)
}

fn read_result(read: io::Result<usize>) -> Woken {
    match read {
        Ok(0) | Err(_) => Woken::Eof,
        Ok(_) => Woken::Read,
    }
}
