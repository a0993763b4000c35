//! The far link with real programs on hosts of their own: what happens to it, and what that costs
//! those who talk over it.

use std::time::Duration;

use antipode_tests::far::Family::{V4, V6};
use antipode_tests::far::{Family, Talk};
use antipode_tests::faults::crowd::Habit;
use antipode_tests::namespaces::{NEED_ROOT, has_root};
use antipode_tests::report::progress;
use antipode_tests::require::require;
use antipode_tests::wan::link::Cause;
use anyhow::ensure;

const SECOND: Duration = Duration::from_secs(1);
/// What a busy machine adds to any promise.
const SLACK: Duration = SECOND;
/// Long enough to see how much too late something is.
const PATIENCE: Duration = Duration::from_secs(20);
/// 100 ms there and back.
const FAR: &str = r#"{"delay_ms": 50}"#;
const CHAT: Habit = Habit { every: Duration::from_millis(100), bytes: 128 };
/// Each message takes several full packets.
const LARGE: Habit = Habit { every: Duration::from_millis(200), bytes: 8000 };

/// A conversation over links, or none where there is no root.
async fn talk(links: &[(Family, &str)], habit: Habit) -> anyhow::Result<Option<Talk>> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(None);
    }
    Talk::start(links, 10, habit).await.map(Some)
}

/// That all flows again, and soon.
async fn flows(talk: &Talk, what: &str, limit: Duration) -> anyhow::Result<()> {
    let took = talk.flows_within(PATIENCE).await?;
    progress(&format!("{what}: {took:?}"));
    ensure!(took <= limit + SLACK, "{what}: flows after {took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_of_five_seconds() -> anyhow::Result<()> {
    let Some(talk) = talk(&[(V4, FAR)], CHAT).await? else { return Ok(()) };
    talk.ground.change(0, r#"{"cut": true}"#)?;
    tokio::time::sleep(5 * SECOND).await;
    talk.ground.change(0, r#"{"cut": false}"#)?;
    flows(&talk, "after a cut", SECOND + SECOND / 10).await?;
    talk.untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_translator_that_forgets() -> anyhow::Result<()> {
    let Some(talk) = talk(&[(V4, FAR)], CHAT).await? else { return Ok(()) };
    for _ in 0..3 {
        talk.ground.links[0].rebind();
        flows(&talk, "after other ports", SECOND).await?;
    }
    talk.untouched().await
}

/// A firewall that lost its state lets nothing of the old flow through: only another port helps.
#[tokio::test(flavor = "multi_thread")]
async fn a_flow_that_dies() -> anyhow::Result<()> {
    let Some(talk) = talk(&[(V4, FAR)], CHAT).await? else { return Ok(()) };
    talk.ground.links[0].sever();
    flows(&talk, "after the flow died", 3 * SECOND).await?;
    talk.untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_dies_beside_another() -> anyhow::Result<()> {
    let Some(talk) = talk(&[(V6, FAR), (V4, FAR)], CHAT).await? else { return Ok(()) };
    for _ in 0..2 {
        let before = [talk.ground.packets(0), talk.ground.packets(1)];
        tokio::time::sleep(SECOND).await;
        let passed = [0, 1].map(|link| talk.ground.packets(link) - before[link]);
        let taken = usize::from(passed[1] > passed[0]);
        talk.ground.change(taken, r#"{"cut": true}"#)?;
        flows(&talk, &format!("after path {taken} of {passed:?} died"), 3 * SECOND).await?;
        talk.ground.change(taken, r#"{"cut": false}"#)?;
        tokio::time::sleep(3 * SECOND).await;
    }
    talk.untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_path_that_never_worked() -> anyhow::Result<()> {
    let dead = r#"{"cut": true}"#;
    for links in [[(V6, dead), (V4, FAR)], [(V6, FAR), (V4, dead)]] {
        let Some(talk) = talk(&links, CHAT).await? else { return Ok(()) };
        talk.untouched().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_is_blocked_for_a_while() -> anyhow::Result<()> {
    let Some(talk) = talk(&[(V4, FAR)], CHAT).await? else { return Ok(()) };
    talk.ground.change(0, r#"{"block_udp": true}"#)?;
    flows(&talk, "without UDP", 5 * SECOND).await?;
    talk.takes("stream", SECOND).await?;
    talk.ground.change(0, r#"{"block_udp": false}"#)?;
    let took = talk.takes("udp", PATIENCE).await?;
    flows(&talk, &format!("back on UDP after {took:?}"), SECOND).await?;
    talk.untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn udp_is_blocked_from_the_start() -> anyhow::Result<()> {
    let blocked = r#"{"delay_ms": 50, "block_udp": true}"#;
    let Some(talk) = talk(&[(V4, blocked)], CHAT).await? else { return Ok(()) };
    talk.takes("stream", SECOND).await?;
    talk.untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mtu_falls_without_a_word() -> anyhow::Result<()> {
    mtu("false").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_mtu_falls_and_senders_are_told() -> anyhow::Result<()> {
    mtu("true").await
}

async fn mtu(icmp: &str) -> anyhow::Result<()> {
    let Some(talk) = talk(&[(V4, FAR)], LARGE).await? else { return Ok(()) };
    for mtu in [1400, 1320, 1500] {
        let before = talk.ground.lost(0, Cause::TooBig);
        talk.ground.change(0, &format!(r#"{{"mtu": {mtu}, "icmp": {icmp}}}"#))?;
        flows(&talk, &format!("MTU {mtu}, told: {icmp}"), 3 * SECOND).await?;
        tokio::time::sleep(SECOND).await;
        flows(&talk, &format!("MTU {mtu}, told: {icmp}, later"), SECOND).await?;
        let lost = talk.ground.lost(0, Cause::TooBig) - before;
        progress(&format!("{lost} packets were too big for {mtu}"));
        ensure!(lost > 0 || mtu == 1500, "no packet was too big for {mtu}");
    }
    talk.untouched().await
}
