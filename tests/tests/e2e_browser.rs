//! The demo as a newcomer meets it: one command, a page, a browser.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use antipode_tests::foreign::{NEED_NPM, has_npm, node, run};
use antipode_tests::process::Process;
use antipode_tests::programs::program;
use antipode_tests::require::require;
use anyhow::Context;

const READY: Duration = Duration::from_secs(60);

#[test]
fn two_people_chat_across_the_world() -> anyhow::Result<()> {
    let chromium = Path::new("/usr/bin/chromium").exists();
    if !require(NEED_NPM, has_npm()) || !require("Chromium (apt-get install chromium)", chromium) {
        return Ok(());
    }
    let mut command = Command::new(program("antipode-demo"));
    command.args(["--port", "0"]);
    let demo = Process::start("antipode-demo", command)?;
    let line = demo.wait_for("http://127.0.0.1:", READY)?;
    let url = line.split_whitespace().find(|word| word.starts_with("http://127.0.0.1:"));
    let mut browser = node("browser.mjs");
    browser.arg(url.context("the page's address")?);
    run(browser).with_context(|| format!("the demo said:\n{}", demo.printed()))?;
    Ok(())
}
