//! What keeps a member a member, and what ends it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use antipode_proto::registry::v1::{
    Drain, Gone, Heartbeat, Introduction, Limits, Neighbour, Neighbours, Removed, directive, report,
};

use super::gateway::DAY;
use super::*;
use crate::member::Refusal;
use crate::shutdown::Finish;
use crate::telemetry::chain;

/// A member that attends `gateway`, and what a test needs of it.
struct Attending {
    member: Member,
    shutdown: Shutdown,
    _dir: tempfile::TempDir,
}

impl Attending {
    async fn start(gateway: &Gateway) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = config_with_token(dir.path(), gateway);
        let shutdown = Shutdown::default();
        let member = join(&config, &shutdown).await.unwrap();
        attend(&member);
        Self { member, shutdown, _dir: dir }
    }
}

fn attend(member: &Member) {
    let introduction = Introduction { region: "ap".into(), ..Introduction::default() };
    let beats = Arc::new(AtomicU32::new(0));
    member.attend(introduction, move || Heartbeat {
        accepting: true,
        sessions: beats.fetch_add(1, Ordering::Relaxed) + 1,
        ..Heartbeat::default()
    });
}

#[tokio::test]
async fn introduces_itself_and_reports_at_once() {
    let gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    let mut standing = attending.member.standing();
    assert_eq!(*standing.borrow(), Standing::Joining);
    let standing = until(&mut standing, is_attending).await;
    assert_eq!(standing, Standing::Attending { lease_epoch: 7 });

    let (introduction, _) = gateway.desk.attending.borrow().clone().unwrap();
    assert_eq!(introduction.region, "ap");
    assert_eq!(introduction.run.len(), 16);
    assert!(introduction.software.starts_with("antipode "), "{}", introduction.software);

    let mut reports = gateway.desk.reports.subscribe();
    let seen = until(&mut reports, |seen| !seen.is_empty()).await;
    let Some(report::Kind::Heartbeat(heartbeat)) = &seen[0].kind else { panic!("{seen:?}") };
    assert!(heartbeat.accepting && heartbeat.sessions == 1, "{heartbeat:?}");
}

#[tokio::test]
async fn a_drain_is_reported_at_once_and_the_reports_go_on() {
    let gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    let mut reports = gateway.desk.reports.subscribe();
    until(&mut reports, |seen| seen.len() == 1).await;
    attending.shutdown.begin_drain();
    let seen = until(&mut reports, |seen| seen.len() == 2).await;
    let Some(report::Kind::Heartbeat(heartbeat)) = &seen[1].kind else { panic!("{seen:?}") };
    assert!(!heartbeat.accepting, "a draining member accepts nothing, whatever its program says");
    assert!(is_attending(&attending.member.standing().borrow()));
    assert_eq!(attending.shutdown.finish(HANGS).await, Finish::Drained);
}

#[tokio::test]
async fn rosters_come_change_and_survive_a_restart_without_a_gateway() {
    let dir = tempfile::tempdir().unwrap();
    let mut gateway = Gateway::start().await;
    let config = config_with_token(dir.path(), &gateway);
    let shutdown = Shutdown::default();
    let member = join(&config, &shutdown).await.unwrap();
    attend(&member);
    let mut roster = member.roster();
    until(&mut roster, |roster| *roster == roster_of(&["c-1"])).await;
    let changed = roster_of(&["c-1", "c-2"]);
    gateway.desk.direct(directive::Kind::Roster(changed.clone()));
    until(&mut roster, |roster| *roster == changed).await;

    shutdown.finish(Duration::ZERO).await;
    gateway.stop().await;
    let shutdown = Shutdown::default();
    let member = join(&config, &shutdown).await.unwrap();
    assert_eq!(*member.roster().borrow(), changed);
    attend(&member);
    let standing = until(&mut member.standing(), is_away).await;
    let Standing::Away { reason } = standing else { unreachable!("waited for") };
    assert!(reason.contains("can't be reached"), "{reason}");
    assert_eq!(*member.roster().borrow(), changed);
}

#[tokio::test]
async fn comes_back_when_the_gateway_does_again_and_again() {
    let mut gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    let mut standing = attending.member.standing();
    for _ in 0..3 {
        until(&mut standing, is_attending).await;
        gateway.stop().await;
        until(&mut standing, is_away).await;
        gateway.restart().await;
    }
    until(&mut standing, is_attending).await;
    assert!(!attending.shutdown.is_draining());
}

#[tokio::test]
async fn a_superseded_member_says_so_and_tries_again() {
    let gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    let mut standing = attending.member.standing();
    until(&mut standing, is_attending).await;
    gateway.desk.end_call(Refusal::Superseded.into());
    let away = until(&mut standing, is_away).await;
    let Standing::Away { reason } = away else { unreachable!("waited for") };
    assert_eq!(reason, Refusal::Superseded.to_string());
    until(&mut standing, is_attending).await;
}

#[tokio::test]
async fn limits_and_drains_are_taken() {
    let gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    until(&mut attending.member.standing(), is_attending).await;
    gateway.desk.direct(directive::Kind::Limits(Limits { sessions_max: 9 }));
    until(&mut attending.member.limits(), |limits| limits.sessions_max == 9).await;

    let mut gone = attending.member.gone();
    let dead = Gone { member_id: "n-9".into(), run: vec![9; 16].into() };
    gateway.desk.direct(directive::Kind::Gone(dead.clone()));
    assert_eq!(tokio::time::timeout(HANGS, gone.recv()).await.unwrap(), Ok(dead));
    let near = Neighbour { name: "syd".into(), weight: 20, ..Neighbour::default() };
    let near = Neighbours { nodes: vec![near] };
    gateway.desk.direct(directive::Kind::Neighbours(near.clone()));
    until(&mut attending.member.neighbours(), |neighbours| *neighbours == near).await;

    attending.shutdown.spawn(std::future::pending());
    gateway.desk.direct(directive::Kind::Drain(Drain { reason: "move".into(), grace_ms: 1 }));
    tokio::time::timeout(HANGS, attending.shutdown.draining()).await.unwrap();
    let finishing = attending.shutdown.finish(HANGS * 60);
    let finish = tokio::time::timeout(HANGS, finishing).await.expect("the gateway's grace counts");
    assert_eq!(finish, Finish::Cut { tasks: 1 });
}

#[tokio::test]
async fn a_removed_member_stops_and_keeps_its_files() {
    let gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    until(&mut attending.member.standing(), is_attending).await;
    gateway.desk.direct(directive::Kind::Removed(Removed { reason: "sold".into() }));
    removed_for(&attending, "\"sold\"").await;
}

#[tokio::test]
async fn a_member_removed_while_it_was_away_stops_too() {
    let mut gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    let mut standing = attending.member.standing();
    until(&mut standing, is_attending).await;
    gateway.stop().await;
    until(&mut standing, is_away).await;
    *gateway.desk.refuse.lock() = Some(Refusal::Removed);
    gateway.restart().await;
    removed_for(&attending, "removed earlier").await;
}

async fn removed_for(attending: &Attending, reason: &str) {
    let failing = attending.shutdown.failed();
    let failure = tokio::time::timeout(HANGS, failing).await.expect("it goes on");
    let told = chain(&failure);
    assert!(told.contains(reason) && told.contains("token create"), "{told}");
    assert!(attending.shutdown.is_draining());
    assert!(attending.member.identity().state_dir().join("member.crt").exists());
}

#[tokio::test]
async fn a_certificate_past_two_thirds_is_renewed_and_stored() {
    let dir = tempfile::tempdir().unwrap();
    let gateway = Gateway::start().await;
    *gateway.desk.member_validity.lock() = (-3 * DAY, DAY);
    let config = config_with_token(dir.path(), &gateway);
    let shutdown = Shutdown::default();
    let member = join(&config, &shutdown).await.unwrap();
    let before = member.identity().validity();
    *gateway.desk.member_validity.lock() = (-DAY, 90 * DAY);
    attend(&member);

    until(&mut gateway.desk.renewals.subscribe(), |count| *count == 1).await;
    let replaced = async {
        while member.identity().validity() == before {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(HANGS, replaced).await.expect("the renewal is used");
    shutdown.finish(Duration::ZERO).await;
    let after = member.identity().validity();
    assert!(after.ends_unix_seconds > before.ends_unix_seconds);
    let again = join(&config, &Shutdown::default()).await.unwrap();
    assert_eq!(again.identity().validity(), after);
}

#[tokio::test]
async fn a_fresh_certificate_is_left_alone() {
    let gateway = Gateway::start().await;
    let attending = Attending::start(&gateway).await;
    until(&mut attending.member.standing(), is_attending).await;
    until(&mut gateway.desk.reports.subscribe(), |seen| !seen.is_empty()).await;
    assert_eq!(*gateway.desk.renewals.borrow(), 0);
}
