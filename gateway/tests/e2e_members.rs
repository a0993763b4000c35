//! Nodes and cores as the programs run them, against a gateway in this process.
#![allow(clippy::unwrap_used, reason = "a test that fails may panic")]

use std::path::Path;
use std::time::Duration;

use antipode_gateway::member::Role;
use antipode_proto::registry::v1 as wire;
use antipode_runtime::member::{JoinError, Label, Member, MemberConfig};
use antipode_runtime::shutdown::Shutdown;

mod support;
use support::{Gateway, eventually, heartbeat, introduction};

const SECOND: Duration = Duration::from_secs(1);

struct Joined {
    member: Member,
    shutdown: Shutdown,
}

impl Joined {
    fn peers(&self) -> Vec<String> {
        let roster = self.member.roster().borrow().clone();
        roster.peers.iter().map(|peer| peer.name.clone()).collect()
    }
}

async fn join(dir: &Path, name: &str, role: Role, token: &str) -> Result<Joined, JoinError> {
    let shutdown = Shutdown::default();
    let state_dir = dir.join(name);
    let token_file = dir.join(format!("{name}.token"));
    std::fs::write(&token_file, token).unwrap();
    let mut config = MemberConfig::new(role.to_wire(), name.parse::<Label>().unwrap(), state_dir);
    config.join_token_file = Some(token_file);
    let member = Member::join(config, &shutdown).await?;
    Ok(Joined { member, shutdown })
}

async fn attend(gateway: &Gateway, dir: &Path, name: &str, role: Role, at: (f64, f64)) -> Joined {
    let token = gateway.token(role, 1).await;
    let joined = join(dir, name, role, &token).await.unwrap();
    let url = format!("wss://{name}.example");
    joined.member.attend(introduction(at.0, at.1, &url), heartbeat);
    joined
}

#[tokio::test(flavor = "multi_thread")]
async fn members_join_find_each_other_are_steered_to_and_removed() {
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let core = attend(&gateway, dir.path(), "eu", Role::Core, (52.4, 4.9)).await;
    let sg = attend(&gateway, dir.path(), "sg", Role::Node, (1.3, 103.8)).await;
    let syd = attend(&gateway, dir.path(), "syd", Role::Node, (-33.9, 151.2)).await;

    eventually("nodes know the core", 3 * SECOND, || sg.peers() == ["eu"]).await;
    eventually("the core knows the nodes", 3 * SECOND, || {
        let mut peers = core.peers();
        peers.sort();
        peers == ["sg", "syd"]
    })
    .await;
    for name in ["eu", "sg", "syd"] {
        eventually("alive", 3 * SECOND, || gateway.health(name) == "alive").await;
    }
    let (status, _, body) = gateway.get("/v1/steer?tz=Asia/Jakarta").await;
    assert_eq!((status, &body["reason"]), (200, &"nearest".into()), "{body}");
    assert_eq!(body["candidates"][0]["name"], "sg", "{body}");

    gateway.app.remove("sg").await.unwrap().unwrap();
    eventually("the core drops it", SECOND, || core.peers() == ["syd"]).await;
    let removed = tokio::time::timeout(SECOND, sg.shutdown.failed()).await;
    assert!(removed.is_ok(), "the removed is told");
    let (_, _, body) = gateway.get("/v1/steer?tz=Asia/Jakarta").await;
    assert_eq!(body["candidates"][0]["name"], "syd", "{body}");
    assert_eq!(gateway.app.remove("sg").await.unwrap(), None, "nobody has the name now");

    syd.shutdown.stop_now();
    core.shutdown.stop_now();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_lets_in_whom_it_was_made_for() {
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = gateway.token(Role::Node, 1).await;
    let for_core = join(dir.path(), "eu", Role::Core, &token).await.map(|_| ()).unwrap_err();
    assert!(format!("{for_core:?}").contains("TokenRole"), "{for_core:?}");
    join(dir.path(), "sg", Role::Node, &token).await.unwrap();
    let twice = join(dir.path(), "syd", Role::Node, &token).await.map(|_| ()).unwrap_err();
    assert!(format!("{twice:?}").contains("TokenUsed"), "{twice:?}");

    let other = Gateway::start().await;
    let foreign = other.token(Role::Node, 1).await;
    let pinned = antipode_runtime::member::JoinToken::new(
        gateway.app.addresses().registry.to_string(),
        foreign.parse::<antipode_runtime::member::JoinToken>().unwrap().pin(),
        "s".to_owned().into(),
    );
    let pinned = pinned.unwrap().expose();
    let pinned = secrecy::ExposeSecret::expose_secret(&pinned).to_owned();
    let wrong = join(dir.path(), "gru", Role::Node, &pinned).await.map(|_| ());
    assert!(wrong.is_err(), "another gateway's pin");
    assert_eq!(gateway.app.members().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_is_taken_until_its_member_is_removed() {
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let token = gateway.token(Role::Node, 3).await;
    join(dir.path(), "sg", Role::Node, &token).await.unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let taken = join(elsewhere.path(), "sg", Role::Node, &token).await.map(|_| ()).unwrap_err();
    assert!(format!("{taken:?}").contains("NameTaken"), "{taken:?}");
    eventually("dead", 4 * SECOND, || gateway.health("sg") == "dead").await;
    let taken = join(elsewhere.path(), "sg", Role::Node, &token).await.map(|_| ()).unwrap_err();
    assert!(format!("{taken:?}").contains("NameTaken"), "dead or not: {taken:?}");
    gateway.app.remove("sg").await.unwrap().unwrap();
    join(elsewhere.path(), "sg", Role::Node, &token).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_member_is_found_in_under_three_seconds() {
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let sg = attend(&gateway, dir.path(), "sg", Role::Node, (1.3, 103.8)).await;
    eventually("alive", 3 * SECOND, || gateway.health("sg") == "alive").await;
    sg.shutdown.stop_now();
    drop(sg);
    let took = eventually("dead", 3 * SECOND, || gateway.health("sg") == "dead").await;
    assert!(took < 3 * SECOND, "{took:?}");
    let (status, head, body) = gateway.get("/v1/steer?lat=1&lon=103").await;
    assert_eq!(status, 503);
    assert!(head.contains("\r\nretry-after: 2"), "{head}");
    assert_eq!(
        (&body["reason"], &body["retry_after_ms"]),
        (&"none".into(), &2000.into()),
        "{body}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_drains_gets_no_more_clients() {
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let sg = attend(&gateway, dir.path(), "sg", Role::Node, (1.3, 103.8)).await;
    eventually("alive", 3 * SECOND, || gateway.health("sg") == "alive").await;
    sg.shutdown.begin_drain();
    eventually("draining", 2 * SECOND, || gateway.health("sg") == "draining").await;
    assert_eq!(gateway.get("/v1/steer").await.0, 503);
    sg.shutdown.stop_now();
}

#[tokio::test(flavor = "multi_thread")]
async fn members_outlive_a_restart_of_the_gateway() {
    let gateway = Gateway::start().await;
    let dir = tempfile::tempdir().unwrap();
    let core = attend(&gateway, dir.path(), "eu", Role::Core, (52.4, 4.9)).await;
    let sg = attend(&gateway, dir.path(), "sg", Role::Node, (1.3, 103.8)).await;
    eventually("peers", 3 * SECOND, || sg.peers() == ["eu"] && core.peers() == ["sg"]).await;

    let mut seen = sg.member.roster();
    seen.mark_unchanged();
    let gateway = gateway.restart().await;
    for name in ["eu", "sg"] {
        eventually("back", 20 * SECOND, || gateway.health(name) == "alive").await;
    }
    assert_eq!(sg.peers(), ["eu"], "the roster never shrank");
    let roster: wire::Roster = seen.borrow_and_update().clone();
    assert_eq!(roster.peers.len(), 1);
    sg.shutdown.stop_now();
    core.shutdown.stop_now();
}
