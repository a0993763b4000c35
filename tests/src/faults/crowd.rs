//! Plain clients of the [ledger](super::ledger): each sends numbers, pings, and writes down what it
//! gets.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use super::history::{History, Session};
use super::ledger::{number_of, numbered};
use super::unix_ms;
use crate::client::{Client, Socket};

/// Time for a goodbye to be answered.
const FAREWELL: Duration = Duration::from_secs(30);

/// What each client of a crowd does.
#[derive(Clone, Copy, Debug)]
pub struct Habit {
    /// Between two messages of one direction.
    pub every: Duration,
    /// In a message.
    pub bytes: usize,
}

impl Habit {
    /// The target that makes the ledger do the same.
    #[must_use]
    pub fn target(&self, session: u64) -> String {
        let Self { every, bytes } = self;
        format!("/ledger?session={session}&every_ms={}&bytes={bytes}", every.as_millis())
    }
}

/// Plain clients at work; they end when dropped.
#[derive(Debug, Default)]
pub struct Crowd {
    tasks: JoinSet<()>,
    history: Arc<Mutex<History>>,
    pongs: Arc<Mutex<Vec<u64>>>,
    leave: watch::Sender<bool>,
}

impl Crowd {
    /// Opens a session for each number.
    ///
    /// # Errors
    ///
    /// If one can't be opened.
    pub async fn open(
        client: &Client,
        sessions: impl IntoIterator<Item = u64>,
        habit: Habit,
    ) -> anyhow::Result<Self> {
        let mut crowd = Self::default();
        for session in sessions {
            crowd.add(client, session, habit).await?;
        }
        Ok(crowd)
    }

    /// Opens one more session.
    ///
    /// # Errors
    ///
    /// If it can't be opened.
    pub async fn add(&mut self, client: &Client, session: u64, habit: Habit) -> anyhow::Result<()> {
        let socket = client.open(&habit.target(session)).await?;
        lock(&self.history).insert(session, Session::default());
        let (history, pongs) = (Arc::clone(&self.history), Arc::clone(&self.pongs));
        let one = Person { session, habit, socket, history, pongs };
        self.tasks.spawn(one.live(self.leave.subscribe()));
        Ok(())
    }

    /// How many sessions were opened.
    #[must_use]
    pub fn size(&self) -> usize {
        lock(&self.history).len()
    }

    /// What they know so far.
    #[must_use]
    pub fn history(&self) -> History {
        lock(&self.history).clone()
    }

    /// Times at which the edge answered a client's ping.
    #[must_use]
    pub fn pongs(&self) -> Vec<u64> {
        self.pongs.lock().expect("nobody panics with this lock").clone()
    }

    /// How many have had something from the backend at or after `since_ms`.
    #[must_use]
    pub fn heard_since(&self, since_ms: u64) -> usize {
        let history = lock(&self.history);
        let last = |session: &Session| session.down.arrived.last().map(|(_, at)| *at);
        history.values().filter(|session| last(session) >= Some(since_ms)).count()
    }

    /// How many were told that their socket is closed.
    #[must_use]
    pub fn told(&self) -> usize {
        lock(&self.history).values().filter(|session| session.told.is_some()).count()
    }

    /// Everybody says goodbye; what they know.
    pub async fn leave(mut self) -> History {
        self.leave.send_replace(true);
        while self.tasks.join_next().await.is_some() {}
        lock(&self.history).clone()
    }
}

/// One client.
struct Person {
    session: u64,
    habit: Habit,
    socket: Socket,
    history: Arc<Mutex<History>>,
    pongs: Arc<Mutex<Vec<u64>>>,
}

impl Person {
    async fn live(mut self, mut leaving: watch::Receiver<bool>) {
        let mut tick = interval(self.habit.every);
        let mut ping = interval(Duration::from_secs(1));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let sent = tokio::select! {
                message = self.socket.next() => {
                    if !self.take(message) {
                        return;
                    }
                    Ok(())
                }
                _ = tick.tick() => {
                    let number = self.note(|session| {
                        session.up.sent += 1;
                        session.up.sent
                    });
                    let text = numbered(number, self.habit.bytes);
                    // A full socket must not keep this client from reading.
                    self.socket.feed(Message::text(text)).await
                }
                _ = ping.tick() => self.socket.feed(Message::Ping(Default::default())).await,
                () = async { drop(leaving.wait_for(|leaving| *leaving).await) } => break,
            };
            if sent.is_err() {
                return self.told(1006);
            }
            // What does not fit waits in the socket's buffer until it does.
            if let Ok(Err(_)) = timeout(Duration::from_millis(1), self.socket.flush()).await {
                return self.told(1006);
            }
        }
        let sent = self.note(|session| session.up.sent);
        if self.socket.send(Message::text(format!("bye {sent}"))).await.is_ok() {
            drop(timeout(FAREWELL, self.farewell()).await);
        }
        drop(timeout(Duration::from_secs(2), self.socket.close(None)).await);
    }

    async fn farewell(&mut self) {
        loop {
            let message = self.socket.next().await;
            if let Some(Ok(Message::Text(text))) = &message
                && let Some(sent) = number_of(text.as_str(), "bye")
            {
                return self.note(|session| {
                    session.down.sent = sent;
                    session.is_complete = true;
                });
            }
            if !self.take(message) {
                return;
            }
        }
    }

    /// Whether the socket goes on.
    fn take(
        &self,
        message: Option<Result<Message, tokio_tungstenite::tungstenite::Error>>,
    ) -> bool {
        match message {
            Some(Ok(Message::Text(text))) => {
                if let Some(number) = number_of(text.as_str(), "n") {
                    self.note(|session| session.down.arrived.push((number, unix_ms())));
                }
            }
            Some(Ok(Message::Pong(_))) => {
                self.pongs.lock().expect("nobody panics with this lock").push(unix_ms());
            }
            Some(Ok(Message::Close(close))) => {
                self.told(close.map_or(1005, |close| close.code.into()));
                return false;
            }
            Some(Ok(_)) => {}
            Some(Err(_)) | None => {
                self.told(1006);
                return false;
            }
        }
        true
    }

    fn told(&self, code: u16) {
        self.note(|session| session.told.get_or_insert(code).to_owned());
    }

    fn note<T>(&self, note: impl FnOnce(&mut Session) -> T) -> T {
        note(lock(&self.history).entry(self.session).or_default())
    }
}

fn lock(history: &Mutex<History>) -> MutexGuard<'_, History> {
    history.lock().expect("nobody panics with this lock")
}
