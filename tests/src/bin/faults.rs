//! Breaks the whole system in each way it promises to outlive, and prints what that cost: a table,
//! and JSON with `--json`.
//!
//! Gateway, core, nodes and resumable clients are processes of their own on loopback; the link
//! between nodes and core is a forwarder that can be cut. Each fault is a world of its own.

use std::future::Future;
use std::time::Duration;

use antipode_tests::faults::crowd::Habit;
use antipode_tests::faults::history::Verdict;
use antipode_tests::faults::scenes::{self, Death};
use antipode_tests::faults::stage::{Outcome, Setting};
use antipode_tests::report::{progress, result};
use anyhow::ensure;
use clap::Parser;
use serde_json::{Value, json};

/// Measures what each fault costs.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Plain clients in each world.
    #[arg(long, default_value_t = 100)]
    plain: u64,
    /// Resumable clients in each world.
    #[arg(long, default_value_t = 100)]
    resumable: u64,
    /// Milliseconds between two messages of one direction of a session.
    #[arg(long, default_value_t = 100)]
    every_ms: u64,
    /// Bytes in a message.
    #[arg(long, default_value_t = 128)]
    bytes: usize,
    /// Longest cut of the link in seconds, of 5, 20, 60 and 120.
    #[arg(long, default_value_t = 120)]
    cut_max: u64,
    /// Only faults whose name has this in it.
    #[arg(long, default_value = "")]
    only: String,
    /// Print JSON in place of the table.
    #[arg(long)]
    json: bool,
}

/// A node that loses its power says nothing more, and nobody else has its clients' sockets.
const NO_WORD: &str = "node without power";
const NODE_KILLED: &str = "node killed";
const CORE_KILLED: &str = "core killed";

/// What a fault cost one kind of clients.
#[derive(Clone, Debug)]
struct Row {
    fault: String,
    clients: &'static str,
    verdict: Verdict,
}

impl Row {
    /// Whether nobody is left who could tell these clients that their session is over: without the
    /// resume subprotocol only their own timeouts can.
    fn cannot_be_told(&self) -> bool {
        self.fault == NO_WORD && self.clients == "plain"
    }

    /// Nothing lost, twice or out of order, nobody left without a word, and none told that it is
    /// over but those for whom it is.
    fn is_as_promised(&self) -> bool {
        let Self { fault, clients, verdict } = self;
        let is_over = fault == CORE_KILLED || (fault == NODE_KILLED && *clients == "plain");
        verdict.is_exact()
            && (verdict.hanging == 0 || self.cannot_be_told())
            && (verdict.told == 0 || is_over)
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let one = Setting {
        plain: args.plain,
        resumable: args.resumable,
        habit: Habit { every: Duration::from_millis(args.every_ms), bytes: args.bytes },
        ..Setting::default()
    };
    let two = Setting { nodes: 2, ..one.clone() };
    let leaving = Setting { plain: 0, head: "drain_grace = \"10s\"".to_owned(), ..two.clone() };
    let mut table = Table { only: args.only.clone(), rows: Vec::new(), failed: Vec::new() };
    for seconds in [5, 20, 60, 120].into_iter().filter(|seconds| *seconds <= args.cut_max) {
        let length = Duration::from_secs(seconds);
        table.play(&format!("link cut for {seconds} s"), scenes::cut(one.clone(), length)).await;
    }
    let five = Duration::from_secs(5);
    table.play("link cut one way for 5 s", scenes::cut_one_way(one.clone(), five)).await;
    table.play("5 % loss for 10 s", scenes::loss(one.clone(), 20, 2 * five)).await;
    table.play("nodes' addresses change", scenes::rebind(one.clone())).await;
    table.play(NODE_KILLED, scenes::node_dies(two.clone(), Death::Killed)).await;
    table.play(NO_WORD, scenes::node_dies(two.clone(), Death::PowerOff)).await;
    table.play("node cut from the core", scenes::partition(two)).await;
    table.play("rolling restart of nodes", scenes::rolling_restart(leaving)).await;
    table.play("clients change networks", scenes::roam(Setting { plain: 0, ..one.clone() })).await;
    table.play("core upgraded", scenes::core_upgrade(one.clone())).await;
    table.play(CORE_KILLED, scenes::core_crash(one)).await;
    result(&if args.json { table.json()? } else { table.text() });
    ensure!(table.failed.is_empty(), "not as promised: {}", table.failed.join(", "));
    Ok(())
}

/// The faults played so far.
struct Table {
    only: String,
    rows: Vec<Row>,
    failed: Vec<String>,
}

impl Table {
    /// Plays a scene, unless it was not asked for.
    async fn play(&mut self, fault: &str, scene: impl Future<Output = anyhow::Result<Outcome>>) {
        if !fault.contains(&self.only) {
            return;
        }
        progress(fault);
        match Box::pin(scene).await {
            Ok(outcome) => {
                let kinds =
                    [("plain", outcome.plain_verdict), ("resumable", outcome.resumable_verdict)];
                for (clients, verdict) in kinds.into_iter().filter(|(_, one)| one.sessions > 0) {
                    let row = Row { fault: fault.to_owned(), clients, verdict };
                    if !row.is_as_promised() {
                        self.failed.push(format!("{fault} ({clients})"));
                    }
                    self.rows.push(row);
                }
            }
            Err(error) => {
                progress(&format!("{fault} FAILED: {error:#}"));
                self.failed.push(fault.to_owned());
            }
        }
    }

    fn text(&self) -> String {
        let head = [
            "fault",
            "clients",
            "sessions",
            "sent",
            "lost",
            "dup",
            "reord",
            "told",
            "hang",
            "resumed",
            "backend closes",
            "flow p50 s",
            "p99",
            "max",
        ];
        let mut lines = vec![format!("| {} |", head.join(" | "))];
        lines.push(format!("|{}", "---|".repeat(head.len())));
        for row in &self.rows {
            let Row { fault, clients, verdict } = row;
            let mark = if row.cannot_be_told() { " \\*" } else { "" };
            let seconds = |permille| {
                verdict.flow_seconds(permille).map_or_else(|| "-".to_owned(), |s| format!("{s:.2}"))
            };
            let cells = [
                fault.clone(),
                (*clients).to_owned(),
                verdict.sessions.to_string(),
                verdict.sent.to_string(),
                verdict.lost.to_string(),
                verdict.duplicated.to_string(),
                verdict.reordered.to_string(),
                verdict.told.to_string(),
                format!("{}{mark}", verdict.hanging),
                verdict.resumed.to_string(),
                verdict.backend_closes.to_string(),
                seconds(500),
                seconds(990),
                seconds(1000),
            ];
            lines.push(format!("| {} |", cells.join(" | ")));
        }
        if self.rows.iter().any(Row::cannot_be_told) {
            lines.push(String::new());
            lines.push("\\* Nobody is left who could tell them: their own timeouts do.".to_owned());
        }
        lines.join("\n")
    }

    fn json(&self) -> anyhow::Result<String> {
        let row = |row: &Row| -> Value {
            let Row { fault, clients, verdict } = row;
            json!({
                "fault": fault,
                "clients": clients,
                "sessions": verdict.sessions,
                "frames_sent": verdict.sent,
                "lost": verdict.lost,
                "duplicated": verdict.duplicated,
                "reordered": verdict.reordered,
                "told": verdict.told,
                "hanging": verdict.hanging,
                "cannot_be_told": row.cannot_be_told(),
                "resumed": verdict.resumed,
                "backend_closes": verdict.backend_closes,
                "flow_seconds": {
                    "p50": verdict.flow_seconds(500),
                    "p99": verdict.flow_seconds(990),
                    "max": verdict.flow_seconds(1000),
                },
            })
        };
        let rows: Vec<_> = self.rows.iter().map(row).collect();
        Ok(serde_json::to_string_pretty(&rows)?)
    }
}
