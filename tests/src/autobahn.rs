//! Autobahn's test suite against one server, and two of its runs compared case by case.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde_json::json;

use crate::foreign;

/// Which cases to run.
#[derive(Clone, Debug)]
pub struct Cases {
    /// Patterns as Autobahn takes them: `7.*`, `12.1.1`.
    pub run: Vec<String>,
    /// Patterns left out.
    pub skip: Vec<String>,
}

impl Cases {
    /// All 517 of them; groups 12 and 13 (compression) take most of the time.
    #[must_use]
    pub fn all() -> Self {
        Self { run: vec!["*".into()], skip: Vec::new() }
    }

    /// Every group; of the 18 sizes in groups 12 and 13 the seven smallest, and the first of those
    /// that come in fragments: a tenth of the time.
    #[must_use]
    pub fn reduced() -> Self {
        let large = (8..=18).filter(|size| *size != 11);
        let skip = large.flat_map(|size| [format!("12.*.{size}"), format!("13.*.{size}")]);
        Self { run: vec!["*".into()], skip: skip.collect() }
    }
}

/// How one case ended.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Outcome {
    /// `OK`, `NON-STRICT`, `INFORMATIONAL`, `UNIMPLEMENTED`, `FAILED`.
    pub behavior: String,
    /// The same of the closing handshake.
    pub behavior_close: String,
    /// The close code that came, if one did.
    pub remote_close_code: Option<u16>,
}

/// Outcomes by case, in the suite's order: `1.1.2` before `1.1.10`.
pub type Outcomes = BTreeMap<CaseId, Outcome>;

/// The numbers of a case.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct CaseId(Vec<u32>);

impl CaseId {
    /// The first number.
    #[must_use]
    pub fn group(&self) -> u32 {
        self.0.first().copied().unwrap_or(0)
    }
}

impl std::fmt::Display for CaseId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers: Vec<String> = self.0.iter().map(u32::to_string).collect();
        f.write_str(&numbers.join("."))
    }
}

/// Starts the suite against `url`, with its reports in `folder`.
///
/// # Errors
///
/// If the suite can't be started.
pub fn start(name: &str, url: &str, cases: &Cases, folder: &Path) -> anyhow::Result<Run> {
    std::fs::create_dir_all(folder)?;
    let specification = json!({
        "options": { "failByDrop": false },
        "outdir": folder.join(name),
        "servers": [{ "agent": name, "url": url }],
        "cases": cases.run,
        "exclude-cases": cases.skip,
        "exclude-agent-cases": {},
    });
    let file = folder.join(format!("{name}.json"));
    std::fs::write(&file, specification.to_string())?;
    let mut command = Command::new(foreign::wstest());
    command.args(["-m", "fuzzingclient", "-s"]).arg(&file).current_dir(folder);
    let process = crate::process::Process::start("wstest", command)?;
    Ok(Run { name: name.to_owned(), index: folder.join(name).join("index.json"), process })
}

/// A suite under way.
#[derive(Debug)]
pub struct Run {
    name: String,
    index: std::path::PathBuf,
    process: crate::process::Process,
}

impl Run {
    /// Waits for the end, and reads how each case ended.
    ///
    /// # Errors
    ///
    /// If it takes longer than `limit`, or left no report.
    pub fn finish(self, limit: std::time::Duration) -> anyhow::Result<Outcomes> {
        self.process.wait(limit)?;
        let index = std::fs::read(&self.index)
            .with_context(|| format!("no report:\n{}", self.process.printed()))?;
        let mut agents: BTreeMap<String, BTreeMap<String, Outcome>> =
            serde_json::from_slice(&index)?;
        let cases = agents.remove(&self.name).context("a report of the agent")?;
        ensure!(!cases.is_empty(), "no case ran");
        cases
            .into_iter()
            .map(|(id, outcome)| {
                let numbers: Result<Vec<u32>, _> = id.split('.').map(str::parse).collect();
                Ok((CaseId(numbers.with_context(|| format!("case {id}"))?), outcome))
            })
            .collect()
    }
}

/// Cases that ended differently, as lines to read.
#[derive(Clone, Debug, Default)]
pub struct Differences {
    /// The relay did worse, or closed with another code.
    pub worse: Vec<String>,
    /// The relay was stricter to the letter than the backend is.
    pub better: Vec<String>,
}

impl Differences {
    /// Compares two runs.
    #[must_use]
    pub fn between(direct: &Outcomes, relay: &Outcomes) -> Self {
        let ids: std::collections::BTreeSet<_> = direct.keys().chain(relay.keys()).collect();
        let mut differences = Self::default();
        for id in ids.into_iter().filter(|id| direct.get(*id) != relay.get(*id)) {
            let (direct, relay) = (direct.get(id), relay.get(id));
            let told = |outcome: Option<&Outcome>| {
                outcome.map_or_else(|| "not run".to_owned(), Outcome::told)
            };
            let line = format!("{id}: direct {}, relay {}", told(direct), told(relay));
            match (direct, relay) {
                (Some(direct), Some(relay)) if relay.only_stricter_than(direct) => {
                    differences.better.push(line);
                }
                _ => differences.worse.push(line),
            }
        }
        differences
    }
}

impl Outcome {
    /// `OK` where the other is `NON-STRICT`, and the same otherwise.
    fn only_stricter_than(&self, other: &Self) -> bool {
        let stricter = other.behavior == "NON-STRICT" && self.behavior == "OK";
        stricter && Self { behavior: other.behavior.clone(), ..self.clone() } == *other
    }

    /// On one line.
    #[must_use]
    pub fn told(&self) -> String {
        let Self { behavior, behavior_close, remote_close_code } = self;
        let code = remote_close_code.map_or("none".to_owned(), |code| code.to_string());
        format!("{behavior} (close {behavior_close}, code {code})")
    }
}

/// A Markdown table: per group how many cases ended how, direct and through the relay.
#[must_use]
pub fn table(direct: &Outcomes, relay: &Outcomes) -> String {
    let mut groups: BTreeMap<u32, [BTreeMap<&str, u32>; 2]> = BTreeMap::new();
    for (side, outcomes) in [direct, relay].into_iter().enumerate() {
        for (id, outcome) in outcomes {
            let counts = &mut groups.entry(id.group()).or_default()[side];
            *counts.entry(&outcome.behavior).or_default() += 1;
        }
    }
    let told = |counts: &BTreeMap<&str, u32>| {
        let parts: Vec<_> = counts.iter().map(|(name, count)| format!("{count} {name}")).collect();
        parts.join(", ")
    };
    let rows = groups.iter().map(|(group, [direct, relay])| {
        let cases: u32 = direct.values().sum();
        format!("| {group} | {cases} | {} | {} |\n", told(direct), told(relay))
    });
    let head = "| group | cases | direct | through the relay |\n|---|---|---|---|\n";
    head.to_owned() + &rows.collect::<String>()
}
