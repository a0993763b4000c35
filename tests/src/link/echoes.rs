//! Many clients, each with one small message at fixed times, and what became of every one.
//!
//! A round trip is counted from the time at which its message was due, so that a client that was
//! held up does not hide it.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context;
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use serde::Serialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep_until, timeout};
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use crate::client::{Client, Socket};

/// Sockets opened at the same time: 10,000 in twenty seconds at 200 ms.
const OPENING_AT_ONCE: usize = 128;
/// What a message begins with: the session, its number there, when it was due.
const HEAD_BYTES: usize = 24;
/// Talk goes on for as long after the last message that is counted.
const UNDER_WAY: Duration = Duration::from_secs(2);
/// Time for one socket to open, on a bad link too.
const OPEN_PATIENCE: Duration = Duration::from_secs(30);

/// How much is said.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Clients.
    pub sessions: usize,
    /// From one message of a client to its next.
    pub every: Duration,
    /// Payload of a message.
    pub bytes: usize,
}

/// What the clients saw.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Round trips counted.
    pub echoes: u64,
    /// Milliseconds.
    pub p50_ms: f64,
    /// Milliseconds.
    pub p99_ms: f64,
    /// Milliseconds.
    pub p999_ms: f64,
    /// Milliseconds.
    pub max_ms: f64,
    /// Messages of all time that had not come back when the clients left.
    pub missing: u64,
    /// Messages of all time that came twice.
    pub duplicated: u64,
    /// Messages of all time that came before an earlier one.
    pub reordered: u64,
    /// Sockets that ended by themselves.
    pub ended: u64,
}

/// Clients in conversation. They leave when dropped.
#[derive(Debug)]
pub struct Echoes {
    seen: Arc<Mutex<Seen>>,
    start: Instant,
    tasks: JoinSet<()>,
    quiet: CancellationToken,
}

#[derive(Debug)]
struct Seen {
    latency: Histogram<u64>,
    /// Messages due in here are counted.
    from: Option<Instant>,
    until: Option<Instant>,
    /// Sent and not come back.
    missing: u64,
    duplicated: u64,
    reordered: u64,
    ended: u64,
    marked: Option<Instant>,
    /// When each session first heard an echo after that.
    first: Vec<Option<Instant>>,
}

impl Echoes {
    /// Opens all sockets, then begins to talk on all of them.
    ///
    /// # Errors
    ///
    /// If a socket does not open.
    pub async fn begin(client: &Client, load: Load) -> anyhow::Result<Self> {
        let seen = Seen {
            latency: Histogram::new_with_bounds(1, 600_000_000, 3)?,
            from: None,
            until: None,
            missing: 0,
            duplicated: 0,
            reordered: 0,
            ended: 0,
            marked: None,
            first: vec![None; load.sessions],
        };
        let (seen, begun) = (Arc::new(Mutex::new(seen)), watch::Sender::new(None));
        let (mut tasks, mut open) = (JoinSet::new(), JoinSet::new());
        let quiet = CancellationToken::new();
        let places = Arc::new(Semaphore::new(OPENING_AT_ONCE));
        for index in 0..load.sessions {
            let part = u32::try_from(index)?;
            let phase = load.every * part / u32::try_from(load.sessions)?;
            let (client, places, begun) = (client.clone(), Arc::clone(&places), begun.subscribe());
            let (seen, quiet) = (Arc::clone(&seen), quiet.clone());
            open.spawn(async move {
                let _place = places.acquire_owned().await?;
                let opened = timeout(OPEN_PATIENCE, client.open("/echo")).await;
                let socket = opened.context("a socket takes too long to open")??;
                anyhow::Ok(Talker { index, socket, begun, phase, load, seen, quiet })
            });
        }
        // Who waits for the others reads already: the node asks now and then whether it is there.
        while let Some(talker) = open.join_next().await {
            tasks.spawn(talker??.talk());
        }
        let start = Instant::now() + Duration::from_millis(50);
        begun.send_replace(Some(start));
        Ok(Self { seen, start, tasks, quiet })
    }

    /// Counts messages due within `length` from now on; returns when that time is over, and a
    /// little later: thousands that leave at once would hold up what is still on its way.
    pub async fn count_for(&self, length: Duration) {
        let (from, until) = (Instant::now(), Instant::now() + length);
        {
            let mut seen = lock(&self.seen);
            (seen.from, seen.until) = (Some(from), Some(until));
            seen.latency.reset();
        }
        sleep_until(until + UNDER_WAY).await;
    }

    /// Marks now: from here on each session's first echo is noted.
    pub fn mark(&self) {
        let mut seen = lock(&self.seen);
        seen.marked = Some(Instant::now());
        seen.first.fill(None);
    }

    /// Waits until every session has heard something since the mark, at most `limit`; returns the
    /// seconds that it took each, `limit` for one that heard nothing.
    pub async fn flow_since_mark(&self, limit: Duration) -> Vec<f64> {
        let until = Instant::now() + limit;
        loop {
            {
                let seen = lock(&self.seen);
                let is_whole = seen.first.iter().all(Option::is_some);
                if is_whole || Instant::now() >= until {
                    let marked = seen.marked.unwrap_or(until);
                    let since = |first: &Option<Instant>| {
                        first.map_or(limit, |first| first - marked).as_secs_f64()
                    };
                    return seen.first.iter().map(since).collect();
                }
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops talking, waits at most `patience` for what is still to come, and tells.
    pub async fn end(mut self, patience: Duration) -> Figures {
        self.quiet.cancel();
        let leave = async { while self.tasks.join_next().await.is_some() {} };
        drop(timeout(patience, leave).await);
        self.tasks.shutdown().await;
        let seen = lock(&self.seen);
        let ms = |quantile| to_ms(seen.latency.value_at_quantile(quantile));
        Figures {
            echoes: seen.latency.len(),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            p999_ms: ms(0.999),
            max_ms: to_ms(seen.latency.max()),
            missing: seen.missing,
            duplicated: seen.duplicated,
            reordered: seen.reordered,
            ended: seen.ended,
        }
    }

    /// When they began to talk.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }
}

/// One client at work.
struct Talker {
    index: usize,
    socket: Socket,
    /// When all begin, once all are there.
    begun: watch::Receiver<Option<Instant>>,
    phase: Duration,
    load: Load,
    seen: Arc<Mutex<Seen>>,
    quiet: CancellationToken,
}

impl Talker {
    async fn talk(mut self) {
        let Some(start) = self.wait().await else { return };
        let mut tick = interval_at(start + self.phase, self.load.every);
        tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let (mut sent, mut expected) = (0_u64, 0_u64);
        while sent != expected || !self.quiet.is_cancelled() {
            let outcome = tokio::select! {
                due = tick.tick(), if !self.quiet.is_cancelled() => {
                    lock(&self.seen).missing += 1;
                    sent += 1;
                    let message = self.message(sent - 1, due - start);
                    self.socket.send(message).await.context("send")
                }
                message = self.socket.next() => match message {
                    Some(Ok(message)) if message.is_binary() => {
                        self.take(&message.into_data(), start, &mut expected);
                        Ok(())
                    }
                    Some(Ok(_)) => Ok(()),
                    Some(Err(error)) => Err(error).context("read"),
                    None => Err(anyhow::anyhow!("closed")),
                },
                () = self.quiet.cancelled(), if !self.quiet.is_cancelled() => Ok(()),
            };
            if outcome.is_err() {
                lock(&self.seen).ended += 1;
                return;
            }
        }
    }

    /// Reads until all are there; `None` if the socket ended, or is not to talk at all.
    async fn wait(&mut self) -> Option<Instant> {
        loop {
            if let Some(start) = *self.begun.borrow_and_update() {
                return Some(start);
            }
            let is_over = tokio::select! {
                changed = self.begun.changed() => changed.is_err(),
                message = self.socket.next() => !matches!(message, Some(Ok(_))),
            };
            if is_over {
                lock(&self.seen).ended += 1;
                return None;
            }
        }
    }

    /// The message of this number, due so long after the start.
    fn message(&self, number: u64, due: Duration) -> Message {
        let mut bytes = vec![7; self.load.bytes.max(HEAD_BYTES)];
        let due = u64::try_from(due.as_micros()).unwrap_or(u64::MAX);
        let index = u64::try_from(self.index).unwrap_or(u64::MAX);
        for (at, value) in [index, number, due].into_iter().enumerate() {
            bytes[at * 8..][..8].copy_from_slice(&value.to_le_bytes());
        }
        Message::binary(bytes)
    }

    fn take(&self, bytes: &[u8], start: Instant, expected: &mut u64) {
        let now = Instant::now();
        let mut seen = lock(&self.seen);
        let (Some(number), Some(due)) = (field(bytes, 1), field(bytes, 2)) else {
            seen.duplicated += 1;
            return;
        };
        if number < *expected {
            seen.duplicated += 1;
            return;
        }
        // What was passed over is missing, or comes later and is counted then.
        seen.reordered += u64::from(number > *expected);
        seen.missing = seen.missing.saturating_sub(1);
        *expected = number + 1;
        let due = start + Duration::from_micros(due);
        if seen.counts(due) {
            let micros = u64::try_from((now - due).as_micros()).unwrap_or(u64::MAX);
            seen.latency.saturating_record(micros.max(1));
        }
        if seen.marked.is_some() {
            seen.first[self.index].get_or_insert(now);
        }
    }
}

impl Seen {
    fn counts(&self, due: Instant) -> bool {
        self.from.is_some_and(|from| due >= from) && self.until.is_some_and(|until| due < until)
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at * 8..at * 8 + 8)?.try_into().ok()?))
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().expect("nobody panics with this lock")
}

/// Microseconds as milliseconds.
fn to_ms(micros: u64) -> f64 {
    Duration::from_micros(micros).as_secs_f64() * 1000.0
}
