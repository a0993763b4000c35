//! The JavaScript client through the whole path: in Node on npm `ws`, and in Chromium as a page has
//! it from a relay. What faults do to crowds of them is in `e2e_faults.rs`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use antipode_tests::foreign::{NEED_NPM, has_npm, node, node_server, run};
use antipode_tests::process::Process;
use antipode_tests::require::require;
use antipode_tests::settings;
use antipode_tests::world::{Plan, World};
use anyhow::Context;

/// A step of the browser's takes far less.
const PATIENCE: Duration = Duration::from_secs(120);

/// `ws-server.mjs`, and two relays in front of it.
fn start() -> anyhow::Result<(Process, SocketAddr, World)> {
    let (server, port) = node_server("ws-server.mjs")?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let world = World::start_blocking(&Plan { nodes: 2, ..Plan::with_backend(address) })?;
    Ok((server, address, world))
}

#[test]
fn it_passes_in_node() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) {
        return Ok(());
    }
    let (_server, address, world) = start()?;
    let mut direct = node("resume-client.mjs");
    direct.arg(format!("ws://{address}"));
    run(direct)?;
    let mut relayed = node("resume-client.mjs");
    relayed.args([world.client(0).ws_url(), world.client(1).ws_url()]);
    relayed.arg(format!("http://{}", settings::steering(world.sites.gateway)));
    relayed.env("NODE_EXTRA_CA_CERTS", &world.certificates.authority_file);
    run(relayed)?;
    Ok(())
}

#[test]
fn it_passes_in_chromium() -> anyhow::Result<()> {
    let chromium = Path::new("/usr/bin/chromium").exists();
    if !require(NEED_NPM, has_npm()) || !require("Chromium (apt-get install chromium)", chromium) {
        return Ok(());
    }
    let (_server, address, world) = start()?;
    let mut command = node("resume-browser.mjs");
    command.arg(format!("http://{address}"));
    command.args([world.client(0).ws_url(), world.client(1).ws_url()]);
    let browser = Process::start("resume-browser", command)?;
    browser.wait_for("now: kill the first relay", PATIENCE)?;
    let id = world.nodes[0].id().to_string();
    let killed = Command::new("kill").args(["-KILL", &id]).status().context("kill a relay")?;
    anyhow::ensure!(killed.success(), "there is a relay to kill");
    let status = browser.wait(PATIENCE)?;
    anyhow::ensure!(status.success(), "{status}\n{}", browser.printed());
    Ok(())
}
