//! Resumable clients of the [ledger](super::ledger): the JavaScript client in a program of its own.

use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde_json::json;

use super::crowd::Habit;
use super::history::{History, Session};
use crate::foreign;
use crate::process::Process;

/// Time for a goodbye to be answered; the program itself gives up a little earlier.
const FAREWELL: Duration = Duration::from_secs(70);

/// Resumable clients at work; they end when dropped.
#[derive(Debug)]
pub struct Resumables {
    program: Process,
    first: u64,
    count: u64,
}

/// A line that the program prints.
#[derive(Clone, Debug, Deserialize)]
struct Line {
    session: u64,
    event: String,
    #[serde(default)]
    value: serde_json::Value,
    at: u64,
}

impl Resumables {
    /// Opens `count` sessions, numbered from `first`, at the relays with these addresses; waits
    /// until all are open.
    ///
    /// # Errors
    ///
    /// If the program can't be started, or does not open them in time.
    pub fn open(
        candidates: &[String],
        authority: &std::path::Path,
        first: u64,
        count: u64,
        habit: Habit,
    ) -> anyhow::Result<Self> {
        let wish = json!({
            "candidates": candidates,
            "first": first,
            "count": count,
            "everyMs": u64::try_from(habit.every.as_millis())?,
            "bytes": habit.bytes,
        });
        let mut command = foreign::node("fault-client.mjs");
        command.arg(wish.to_string()).env("NODE_EXTRA_CA_CERTS", authority);
        let program = Process::start("fault-client", command)?;
        program.wait_for("\"all\":\"open\"", Duration::from_secs(60))?;
        Ok(Self { program, first, count })
    }

    /// How many have had something from the backend at or after `since_ms`.
    #[must_use]
    pub fn heard_since(&self, since_ms: u64) -> usize {
        let history = self.history();
        let last = |session: &Session| session.down.arrived.last().map(|(_, at)| *at);
        history.values().filter(|session| last(session) >= Some(since_ms)).count()
    }

    /// How many have gone on elsewhere at least once.
    #[must_use]
    pub fn resumed(&self) -> usize {
        self.history().values().filter(|session| session.resumed > 0).count()
    }

    /// Everybody says goodbye; what they know.
    ///
    /// # Errors
    ///
    /// If the program does not end.
    pub fn leave(self) -> anyhow::Result<History> {
        let status = self.program.terminate(FAREWELL).context("the clients leave")?;
        if !status.success() {
            let printed = self.program.printed();
            let words: Vec<_> = printed.lines().filter(|line| !line.starts_with('{')).collect();
            anyhow::bail!("the clients' program ended with {status}: {}", words.join("\n"));
        }
        Ok(self.history())
    }

    /// All the program has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        self.program.printed()
    }

    fn history(&self) -> History {
        let numbers = self.first..self.first + self.count;
        let mut history: History = numbers.map(|session| (session, Session::default())).collect();
        let printed = self.program.printed();
        for line in printed.lines().filter_map(|line| serde_json::from_str::<Line>(line).ok()) {
            let session = history.entry(line.session).or_default();
            let number = line.value.as_u64().unwrap_or(0);
            match line.event.as_str() {
                "n" => session.down.arrived.push((number, line.at)),
                "sent" => session.up.sent = number,
                "bye" => {
                    session.down.sent = number;
                    session.is_complete = true;
                }
                "resumed" => session.resumed += 1,
                "lost" => session.told = Some(session.told.unwrap_or(4410)),
                "close" if !session.is_complete => {
                    session.told = Some(u16::try_from(number).unwrap_or(1006));
                }
                _ => {}
            }
        }
        history
    }
}
