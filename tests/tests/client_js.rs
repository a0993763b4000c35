//! The JavaScript client's own tests, which are Node's: vectors, a lab with virtual time, types,
//! and what npm would pack.

use std::process::Command;

use antipode_tests::foreign::{NEED_NPM, has_npm, run};
use antipode_tests::repository::root;
use antipode_tests::require::require;
use anyhow::Context;

#[test]
fn its_tests_pass() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) {
        return Ok(());
    }
    let folder = root().join("node/client-js");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder.join("test"))? {
        let path = entry?.path();
        if path.to_string_lossy().ends_with(".test.js") {
            files.push(path);
        }
    }
    files.sort();
    let mut command = Command::new("node");
    command.arg("--test").args(files).current_dir(folder);
    let printed = run(command)?;
    let passed = count(&printed, "# pass ").context("node counts what passed")?;
    anyhow::ensure!(passed > 100, "only {passed} tests ran:\n{printed}");
    Ok(())
}

#[test]
fn npm_packs_what_an_application_needs() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) {
        return Ok(());
    }
    let mut command = Command::new("npm");
    command.args(["pack", "--dry-run", "--json", "--ignore-scripts"]);
    command.current_dir(root().join("node/client-js"));
    let output = command.output().context("start npm")?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let packs: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let files = packs[0]["files"].as_array().context("a list of files")?;
    let packed: Vec<&str> = files.iter().filter_map(|file| file["path"].as_str()).collect();
    for needed in [
        "LICENSE-APACHE",
        "LICENSE-MIT",
        "README.md",
        "dist/antipode-client.js",
        "index.d.ts",
        "package.json",
        "src/index.js",
        "src/session.js",
    ] {
        assert!(packed.contains(&needed), "{needed} is missing: {packed:?}");
    }
    let ours = |path: &&str| path.starts_with("test/") || path.ends_with(".mjs");
    assert_eq!(packed.iter().find(|path| ours(path)), None, "{packed:?}");
    Ok(())
}

/// The number behind `label` at the beginning of a line.
fn count(printed: &str, label: &str) -> Option<u64> {
    printed.lines().find_map(|line| line.strip_prefix(label)?.trim().parse().ok())
}
