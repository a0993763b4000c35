//! Autobahn against the npm `ws` echo server direct and through the relay, compared case by case.
//!
//! Exits 1 if a case ends worse.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use antipode_tests::autobahn::{Cases, Differences, start, table};
use antipode_tests::foreign::{NEED_AUTOBAHN, NEED_NPM, has_autobahn, has_npm, node_server};
use antipode_tests::report::{progress, result};
use antipode_tests::world::{Plan, World};
use anyhow::ensure;
use clap::Parser;

/// The whole suite, both runs at once, takes 12 minutes on two cores.
const LIMIT: Duration = Duration::from_secs(3600);

/// Runs Autobahn's test suite direct and through the relay.
#[derive(Debug, Parser)]
struct Args {
    /// `all`, `ci` (fewer of groups 12 and 13), or patterns as Autobahn takes them, with commas.
    #[arg(long, default_value = "ci")]
    cases: String,
    /// Where to write the table, as Markdown.
    #[arg(long, value_name = "FILE")]
    table: Option<PathBuf>,
    /// Where Autobahn leaves its reports [default: a temporary folder].
    #[arg(long, value_name = "FOLDER")]
    reports: Option<PathBuf>,
}

fn main() -> anyhow::Result<ExitCode> {
    let args = Args::parse();
    ensure!(has_npm(), "needs {NEED_NPM}");
    ensure!(has_autobahn(), "needs {NEED_AUTOBAHN}");
    let cases = match args.cases.as_str() {
        "all" => Cases::all(),
        "ci" => Cases::reduced(),
        patterns => {
            let run = patterns.split(',').map(str::to_owned).collect();
            Cases { run, skip: Vec::new() }
        }
    };
    let folder = tempfile::tempdir()?;
    let reports = args.reports.unwrap_or_else(|| folder.path().to_owned());

    let (_backend, port) = node_server("ws-server.mjs")?;
    let backend = ([127, 0, 0, 1], port).into();
    let world = World::start_blocking(&Plan::with_backend(backend))?;
    let relay = world.client(0).ws_url();
    progress(&format!("direct ws://{backend}, relay {relay}"));

    let direct = start("direct", &format!("ws://{backend}"), &cases, &reports)?;
    let relay = start("relay", &relay, &cases, &reports)?;
    let direct = direct.finish(LIMIT)?;
    let relay = relay.finish(LIMIT)?;

    let table = table(&direct, &relay);
    result(&table);
    if let Some(file) = args.table {
        std::fs::write(file, &table)?;
    }
    let Differences { worse, better } = Differences::between(&direct, &relay);
    let (cases, bad, good) = (direct.len(), worse.len(), better.len());
    result(&format!("{cases} cases: {bad} end worse through the relay, {good} stricter"));
    worse.iter().chain(&better).for_each(|line| result(line));
    Ok(if worse.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
