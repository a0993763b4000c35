//! Other people's clients and servers through the whole path: npm `ws` and `socket.io`, Python's
//! `websockets`, `websocat`. Each also runs direct, so that a failure tells whose it is.

use std::process::{Command, Stdio};

use antipode_tests::client::Client;
use antipode_tests::foreign::{
    NEED_NPM, NEED_PYTHON, folder, has_npm, has_python, node, node_server, python, run,
};
use antipode_tests::process::Process;
use antipode_tests::require::require;
use antipode_tests::world::{Plan, World};
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};

/// A server script, and clients of it direct and through the relay.
fn start(script: &str) -> anyhow::Result<(Process, Client, World)> {
    let (server, port) = node_server(script)?;
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let world = World::start_blocking(&Plan::with_backend(address))?;
    Ok((server, Client::direct(address), world))
}

#[test]
fn npm_ws_passes() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) {
        return Ok(());
    }
    let (_server, direct, world) = start("ws-server.mjs")?;
    for client in [direct, world.client(0)] {
        let mut command = node("ws-client.mjs");
        command.arg(client.ws_url());
        command.env("NODE_EXTRA_CA_CERTS", &world.certificates.authority_file);
        run(command)?;
    }
    Ok(())
}

#[test]
fn npm_socket_io_passes() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) {
        return Ok(());
    }
    let (_server, direct, world) = start("socketio-server.mjs")?;
    for client in [direct, world.client(0)] {
        let mut command = node("socketio-client.mjs");
        command.arg(client.http_url());
        command.env("NODE_EXTRA_CA_CERTS", &world.certificates.authority_file);
        run(command)?;
    }
    Ok(())
}

#[test]
fn python_websockets_passes() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) || !require(NEED_PYTHON, has_python()) {
        return Ok(());
    }
    let (_server, direct, world) = start("ws-server.mjs")?;
    for client in [direct, world.client(0)] {
        let mut command = Command::new(python("python"));
        command.arg(folder().join("websockets_client.py")).arg(client.ws_url());
        if client.tls.is_some() {
            command.arg(&world.certificates.authority_file);
        }
        run(command)?;
    }
    Ok(())
}

#[test]
fn websocat_passes() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) || !require(NEED_PYTHON, has_python()) {
        return Ok(());
    }
    let (_server, direct, world) = start("ws-server.mjs")?;
    for client in [direct, world.client(0)] {
        // -k: websocat has no option for an authority. -1: one message each way, then it ends.
        let mut child = Command::new(python("websocat"))
            .args(["-k", "-1", &client.ws_url()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut input = child.stdin.take().expect("piped");
        writeln!(input, "over the sea")?;
        let output = child.wait_with_output()?;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(String::from_utf8(output.stdout)?, "over the sea\n");
    }
    Ok(())
}
