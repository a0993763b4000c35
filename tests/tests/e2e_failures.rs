//! What people do wrong, and what breaks: each is told in words that say what to do.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::process::Process;
use antipode_tests::programs::program;
use antipode_tests::require::require;
use antipode_tests::settings;
use antipode_tests::stories;
use antipode_tests::world::{Plan, World, ready};
use tokio_tungstenite::tungstenite::Error;

const LIMIT: Duration = Duration::from_secs(30);
const EXIT_SOFTWARE: i32 = 70;
const EXIT_CONFIG: i32 = 78;

/// Port 1 of loopback: nobody listens there.
const NOBODY: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 1);

fn gateway_only() -> anyhow::Result<World> {
    World::start_blocking(&Plan { with_core: false, nodes: 0, ..Plan::with_backend(NOBODY) })
}

#[track_caller]
fn tells(printed: &str, parts: &[&str]) {
    for part in parts {
        assert!(printed.contains(part), "nothing about {part:?} in:\n{printed}");
    }
}

#[test]
fn a_bad_file_names_file_line_and_key() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for name in ["gateway", "core", "node"] {
        let file = folder.path().join(format!("{name}.toml"));
        let example = antipode_tests::repository::root().join("deploy/examples");
        let text = std::fs::read_to_string(example.join(format!("{name}.toml")))?;
        let typo = text.replacen("drain_grace", "drain_grase", 1);
        assert_ne!(text, typo, "{name}.toml has a key drain_grace");
        std::fs::write(&file, typo)?;
        let mut command = Command::new(program(&format!("antipode-{name}")));
        command.arg("--config").arg(&file).arg("--check");
        let process = Process::start(name, command)?;
        assert_eq!(process.wait(LIMIT)?.code(), Some(EXIT_CONFIG), "{}", process.printed());
        tells(&process.printed(), &["drain_grase", &format!("{name}.toml:"), "--check"]);
    }
    Ok(())
}

#[test]
fn every_example_file_is_good() -> anyhow::Result<()> {
    for name in ["gateway", "core", "node"] {
        let file = antipode_tests::repository::root().join(format!("deploy/examples/{name}.toml"));
        is_good(name, &file)?;
    }
    Ok(())
}

/// What people paste from "On three hosts".
#[test]
fn the_readmes_files_are_good() -> anyhow::Result<()> {
    let readme = std::fs::read_to_string(antipode_tests::repository::root().join("README.md"))?;
    let folder = tempfile::tempdir()?;
    for name in ["gateway", "core", "node"] {
        let start = format!("cat >/etc/antipode/{name}.toml <<'END'\n");
        let (_, rest) = readme.split_once(&start).expect("the README has a file for each program");
        let (text, _) = rest.split_once("END\n").expect("it ends");
        let file = folder.path().join(name);
        std::fs::write(&file, text)?;
        is_good(name, &file)?;
    }
    Ok(())
}

#[test]
fn a_missing_file_is_named() -> anyhow::Result<()> {
    let mut command = Command::new(program("antipode-node"));
    command.args(["--config", "/nowhere/node.toml"]);
    let process = Process::start("node", command)?;
    assert_eq!(process.wait(LIMIT)?.code(), Some(EXIT_CONFIG));
    tells(&process.printed(), &["/nowhere/node.toml"]);
    Ok(())
}

#[test]
fn a_port_in_use_is_named() -> anyhow::Result<()> {
    let world = gateway_only()?;
    let front = settings::front(world.sites.nodes.address, 0);
    let _taken = TcpListener::bind(front)?;
    let node = world.node(0, "")?;
    assert_eq!(node.wait(LIMIT)?.code(), Some(EXIT_SOFTWARE), "{}", node.printed());
    tells(&node.printed(), &[&front.to_string(), "in use"]);
    Ok(())
}

#[test]
fn a_wrong_token_is_told_what_makes_a_good_one() -> anyhow::Result<()> {
    let world = gateway_only()?;
    let file = world.token("core", "node0")?;
    let node = world.run("node", "node0", &world.node_settings(0))?;
    assert_eq!(node.wait(LIMIT)?.code(), Some(EXIT_SOFTWARE), "{}", node.printed());
    tells(&node.printed(), &["antipode-gateway token create"]);

    std::fs::write(&file, "antipode-join-v1.nonsense")?;
    let node = world.run("node", "node0", &world.node_settings(0))?;
    assert_ne!(node.wait(LIMIT)?.code(), Some(0));
    tells(&node.printed(), &["token"]);
    Ok(())
}

#[test]
fn a_token_serves_once() -> anyhow::Result<()> {
    let world = gateway_only()?;
    let token = world.token("node", "node0")?;
    let first = world.run("node", "node0", &world.node_settings(0))?;
    first.wait_for("join", LIMIT)?;
    ready_or_waiting_for_a_core(&world, &first)?;
    std::fs::copy(token, settings::token_file(world.folder.path(), "node1"))?;
    let second = world.run("node", "node1", &world.node_settings(1))?;
    assert_eq!(second.wait(LIMIT)?.code(), Some(EXIT_SOFTWARE), "{}", second.printed());
    tells(&second.printed(), &["antipode-gateway token create"]);
    Ok(())
}

#[test]
fn without_a_gateway_a_new_node_says_whom_it_calls() -> anyhow::Result<()> {
    let world = gateway_only()?;
    world.token("node", "node0")?;
    world.gateway.kill();
    let node = world.run("node", "node0", &world.node_settings(0))?;
    node.wait_for(&format!("{}:7443", world.sites.gateway), LIMIT)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_core_clients_are_told_when_to_come_back() -> anyhow::Result<()> {
    let world = tokio::task::spawn_blocking(gateway_only).await??;
    let node = world.node(0, "")?;
    ready_or_waiting_for_a_core(&world, &node)?;
    let client = world.client(0);
    let (status, text) = client.get("/").await?;
    assert_eq!(status, 503, "{text}");
    assert!(text.contains("core"), "{text}");
    let refused = client.open("/").await.expect_err("there is no core");
    let Some(Error::Http(answer)) = refused.downcast_ref::<Error>() else {
        anyhow::bail!("refused otherwise: {refused:#}");
    };
    assert_eq!(answer.status(), 503);
    assert!(answer.headers().contains_key("retry-after"));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_backend_clients_and_operator_are_told() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let address = backend.address().to_string();
    let world = World::start(Plan::with_backend(backend.address())).await?;
    drop(backend);
    let (status, text) = world.client(0).get("/").await?;
    assert!([502, 503].contains(&status), "{status} {text}");
    assert!(text.contains("server behind the relay"), "{text}");
    let core = world.core.as_ref().expect("the plan has a core");
    let told = core.wait_for("backend is down", LIMIT)?;
    tells(&told, &["see that it runs and listens"]);
    tells(&core.printed(), &[&address]);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_is_cut_off_and_the_others_go_on() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let plan = Plan { nodes: 2, ..Plan::with_backend(backend.address()) };
    let world = World::start(plan).await?;
    for node in 0..2 {
        stories::messages_come_back(&world.client(node)).await?;
    }
    let listed = world.gateway_command(&["nodes", "--json"])?;
    tells(&listed, &["node0", "node1"]);
    world.gateway_command(&["remove", "node0"])?;
    let told = world.nodes[0].wait_for("removed", Duration::from_secs(2))?;
    tells(&told, &["join"]);
    assert!(stories::messages_come_back(&world.client(0)).await.is_err(), "node0 still relays");
    stories::messages_come_back(&world.client(1)).await?;
    assert!(!world.gateway_command(&["nodes", "--json"])?.contains("node0"));
    Ok(())
}

/// A node that believes that it is 2020 finds no certificate valid.
#[test]
fn a_clock_in_the_past_is_named() -> anyhow::Result<()> {
    let faketime = Command::new("faketime").arg("--version").output().is_ok();
    if !require("faketime (apt-get install faketime)", faketime) {
        return Ok(());
    }
    let world = gateway_only()?;
    world.token("node", "node0")?;
    let file = world.folder.path().join("node0.toml");
    std::fs::write(&file, world.node_settings(0))?;
    let mut command = Command::new("faketime");
    command.arg("2020-01-01 00:00:00").arg(program("antipode-node")).arg("--config").arg(&file);
    command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let node = Process::start("node0", command)?;
    node.wait_for("clock", LIMIT)?;
    Ok(())
}

fn is_good(name: &str, file: &std::path::Path) -> anyhow::Result<()> {
    let mut command = Command::new(program(&format!("antipode-{name}")));
    command.arg("--config").arg(file).arg("--check");
    let process = Process::start(name, command)?;
    assert_eq!(process.wait(LIMIT)?.code(), Some(0), "{}", process.printed());
    Ok(())
}

/// A node without a core has joined, serves, and says what it waits for.
fn ready_or_waiting_for_a_core(world: &World, node: &Process) -> anyhow::Result<()> {
    let admin = settings::admin(world.sites.nodes.address, 2);
    match ready(node, admin, Duration::from_secs(5)) {
        Ok(()) => Ok(()),
        Err(error) => {
            tells(&error.to_string(), &["core"]);
            Ok(())
        }
    }
}
