//! How members leave: told to, having ended, or out of reach; and what the others hear of it.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use antipode_gateway::member::Role;
use antipode_proto::registry::v1 as wire;
use antipode_runtime::clock;
use antipode_runtime::member::{Member, MemberConfig};
use antipode_runtime::shutdown::{Finish, Shutdown};
use wire::directive::Kind as Directive;
use wire::report::Kind as Report;

mod support;
use support::stream::Stream;
use support::{Gateway, Raw, eventually, heartbeat, introduction};

const SECOND: Duration = Duration::from_secs(1);

async fn node(gateway: &Gateway, name: &str, key: u8, run: u8) -> (Raw, Stream) {
    let raw = gateway.enrol(name, Role::Node, key).await.unwrap();
    let stream = back(gateway, &raw, name, run).await;
    stream.live().await;
    assert_eq!(gateway.health(name), "alive");
    (raw, stream)
}

async fn back(gateway: &Gateway, raw: &Raw, name: &str, run: u8) -> Stream {
    let url = format!("wss://{name}.example");
    let said = wire::Introduction { run: vec![run; 16].into(), ..introduction(1.3, 103.8, &url) };
    Stream::seated(gateway, raw, said).await.0
}

fn gone(kind: Directive) -> Option<wire::Gone> {
    let Directive::Gone(gone) = kind else { return None };
    Some(gone)
}

fn drain(kind: Directive) -> Option<wire::Drain> {
    let Directive::Drain(drain) = kind else { return None };
    Some(drain)
}

fn some_neighbours(kind: Directive) -> Option<Vec<wire::Neighbour>> {
    let Directive::Neighbours(said) = kind else { return None };
    Some(said.nodes).filter(|nodes| !nodes.is_empty())
}

fn no_neighbours(kind: Directive) -> Option<()> {
    let Directive::Neighbours(said) = kind else { return None };
    said.nodes.is_empty().then_some(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_ends_is_told_from_one_that_is_cut_off() {
    let gateway = Gateway::start().await;
    let eu = gateway.enrol("eu", Role::Core, 9).await.unwrap();
    let (mut core, _) = Stream::seated(&gateway, &eu, introduction(50., 8., "wss://x.y")).await;
    let (sg, stream) = node(&gateway, "sg", 1, 41).await;
    let (_syd, mut neighbour) = node(&gateway, "syd", 2, 42).await;
    let beat = Report::Heartbeat(heartbeat());
    assert_eq!(neighbour.wait_for(some_neighbours).await[0].name, "sg");

    let died = clock::now();
    stream.die();
    let took = eventually("dead", SECOND, || gateway.health("sg") == "dead").await;
    assert!(took < SECOND / 2, "{took:?}");
    let list = gateway.app.members();
    let reason = list.iter().find(|m| m.name == "sg").map(|m| m.health_reason.clone());
    assert_eq!(reason.as_deref(), Some("process_gone"));
    neighbour.report(beat.clone()).await;
    neighbour.wait_for(no_neighbours).await;
    core.report(beat.clone()).await;
    let gone = core.wait_for(gone).await;
    assert!(died.elapsed() > 2 * SECOND && died.elapsed() < 3 * SECOND, "{:?}", died.elapsed());
    assert_eq!((gone.member_id.as_str(), &gone.run[..]), (sg.member_id.as_str(), &[41; 16][..]));
    drop(stream);

    // Started again within the two seconds: the new process tells of the old one.
    let second = back(&gateway, &sg, "sg", 43).await;
    second.live().await;
    second.die();
    let _third = back(&gateway, &sg, "sg", 44).await;
    core.report(beat.clone()).await;
    assert_eq!(core.wait_for(self::gone).await.run[0], 43);
    assert_eq!(gateway.health("sg"), "joining");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_is_no_death() {
    let gateway = Gateway::start().await;
    let (_sg, stream) = node(&gateway, "sg", 1, 41).await;
    drop(stream);
    eventually("suspect", SECOND, || gateway.health("sg") == "suspect").await;
    let list = gateway.app.members();
    assert_eq!(list[0].health_reason, "stream_lost", "it may be on its way back");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_is_told_to_the_member_and_its_clients_have_where_to_go() {
    let gateway = Gateway::start().await;
    let (sg, mut leaving) = node(&gateway, "sg", 1, 41).await;
    let (_syd, mut staying) = node(&gateway, "syd", 2, 42).await;
    let near = leaving.wait_for(some_neighbours).await;
    assert_eq!((near.len(), near[0].name.as_str(), near[0].weight), (1, "syd", 20));
    assert_eq!(near[0].public_urls, ["wss://syd.example"]);
    staying.wait_for(some_neighbours).await;

    assert_eq!(gateway.app.drain("nobody", String::new(), SECOND), None);
    let begun = gateway.app.drain("sg", "upgrade".into(), 600 * SECOND).unwrap();
    assert_eq!((begun.member_id.as_str(), begun.neighbours), (sg.member_id.as_str(), 1));
    assert_eq!(gateway.health("sg"), "draining", "before it has heard of it");
    let drain = leaving.wait_for(drain).await;
    assert_eq!((drain.reason.as_str(), drain.grace_ms), ("upgrade", 600_000));
    staying.report(Report::Heartbeat(heartbeat())).await;
    staying.wait_for(no_neighbours).await;
    let answer = gateway.get("/v1/steer?lat=1&lon=1").await;
    let names: Vec<_> = answer.2["candidates"].as_array().unwrap().iter().collect();
    assert!(names.iter().all(|candidate| candidate["name"] == "syd"), "{names:?}");

    drop(leaving);
    let mut again = back(&gateway, &sg, "sg", 41).await;
    assert_eq!(again.wait_for(self::drain).await, drain, "a stream that broke loses no order");
    drop(again);
    let anew = back(&gateway, &sg, "sg", 50).await;
    anew.live().await;
    assert_eq!(gateway.health("sg"), "alive", "it was started again");
}

/// The operator's command, from its first line to the last.
#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_a_node_leave() {
    let gateway = Gateway::start().await;
    let (_syd, _neighbour) = node(&gateway, "syd", 2, 42).await;
    let dir = tempfile::tempdir().unwrap();
    let token = dir.path().join("token");
    std::fs::write(&token, gateway.token(Role::Node, 1).await).unwrap();
    let (role, name) = (Role::Node.to_wire(), "sg".parse().unwrap());
    let mut config = MemberConfig::new(role, name, dir.path().join("state"));
    config.join_token_file = Some(token);
    let shutdown = Shutdown::default();
    let member = Member::join(config, &shutdown).await.unwrap();
    let sessions = Arc::new(AtomicU32::new(7));
    let reported = Arc::clone(&sessions);
    member.attend(introduction(1.3, 103.8, "wss://sg.example"), move || wire::Heartbeat {
        sessions: reported.load(Ordering::Relaxed),
        ..heartbeat()
    });
    eventually("alive", 3 * SECOND, || gateway.health("sg") == "alive").await;

    let socket = gateway.app.addresses().socket.clone();
    let command = tokio::task::spawn_blocking(move || {
        let program = env!("CARGO_BIN_EXE_antipode-gateway");
        let mut command = Command::new(program);
        command.args(["drain", "sg", "--grace", "20s", "--reason", "upgrade", "--socket"]);
        command.arg(socket).output().unwrap()
    });
    tokio::time::timeout(5 * SECOND, shutdown.draining()).await.unwrap();
    assert_eq!(shutdown.ordered_grace(), Some(20 * SECOND));
    tokio::time::sleep(SECOND).await;
    sessions.store(3, Ordering::Relaxed);
    tokio::time::sleep(3 * SECOND).await;
    assert!(!command.is_finished(), "it waits for the member's end");
    assert_eq!(shutdown.finish(SECOND).await, Finish::Drained);
    drop(member);
    let output = tokio::time::timeout(10 * SECOND, command).await.unwrap().unwrap();
    let (told, last) = (output.stderr, output.stdout);
    let (told, last) = (String::from_utf8(told).unwrap(), String::from_utf8(last).unwrap());
    assert!(output.status.success(), "{told}");
    let first =
        "sg takes no new session; 7 sessions have 20s. One other node can take its clients.";
    assert!(told.starts_with(first), "{told}");
    assert!(
        told.contains("sg: 7 sessions left, ") && told.contains("sg: 3 sessions left"),
        "{told}"
    );
    assert!(last.starts_with("sg has left."), "{last}");
}
