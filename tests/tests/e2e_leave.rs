//! `antipode-gateway drain`: a node leaves, and its clients are told where to go.

use std::time::Duration;

use antipode_tests::client::Client;
use antipode_tests::faults::stage::{Setting, Stage};
use antipode_tests::faults::unix_ms;
use antipode_tests::foreign::{NEED_NPM, has_npm};
use antipode_tests::metrics::value;
use antipode_tests::require::require;
use antipode_tests::settings;
use anyhow::{Context, ensure};
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Error;

const LIMIT: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_secs(10);
/// For what precedes and follows the grace: words of the gateway's, and tasks that are cut.
const SLACK: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_tells_everybody_where_to_go_and_ends_by_its_grace() -> anyhow::Result<()> {
    if !require(NEED_NPM, has_npm()) {
        return Ok(());
    }
    let setting = Setting { nodes: 2, plain: 5, ..Setting::default() };
    let mut stage = Stage::set(setting.clone()).await?;
    // Never answers a close: the grace is for such.
    let _deaf = stage.world.client(0).open("/ledger?session=1000&every_ms=50&bytes=1").await?;
    let steer = Client::direct(settings::steering(stage.world.sites.gateway));
    let (leaving, other) = (stage.world.client(0), stage.world.client(1));
    steered_to(&steer, &other).await?;
    steered_to(&steer, &leaving).await?;

    let (began, began_ms) = (Instant::now(), unix_ms());
    let command = ["drain", "node0", "--grace", "10s", "--no-wait"];
    tokio::task::block_in_place(|| stage.world.gateway_command(&command))?;
    newcomers_go_elsewhere(&leaving, &other).await?;
    stage.resumables_flow_since(unix_ms(), LIMIT).await?;
    while began.elapsed() < GRACE / 2 {
        let (status, steered) = steer.get("/v1/steer").await?;
        ensure!(status == 200 && steered.contains(&other.ws_url()), "{status} {steered}");
        ensure!(!steered.contains(&leaving.ws_url()), "it is steered to again: {steered}");
        sleep(Duration::from_millis(100)).await;
    }
    let metrics = stage.world.metrics(2).await?;
    let told = value(&metrics, "antipode_node_sessions_drained_total");
    ensure!(told > setting.plain + setting.resumable, "{told} told:\n{metrics}");
    let node = &stage.world.nodes[0];
    let status =
        tokio::task::block_in_place(|| node.wait((GRACE + SLACK).saturating_sub(began.elapsed())))?;
    ensure!(status.success(), "{status}:\n{}", node.printed());

    let outcome = stage.strike(began_ms).await?;
    let (plain, resumable) = (&outcome.plain_verdict, &outcome.resumable_verdict);
    ensure!(resumable.is_untouched(), "{resumable:?}");
    ensure!(resumable.resumed == setting.resumable, "{resumable:?}");
    ensure!(plain.is_exact() && plain.told == setting.plain, "{plain:?}");
    ensure!(outcome.plain.values().all(|session| session.told == Some(1001)), "{plain:?}");
    Ok(())
}

/// Waits until clients are steered to the node: it has been heard of often enough.
async fn steered_to(steer: &Client, node: &Client) -> anyhow::Result<()> {
    let mut steered = String::new();
    for _ in 0..100 {
        steered = steer.get("/v1/steer").await?.1;
        if steered.contains(&node.ws_url()) {
            return Ok(());
        }
        sleep(Duration::from_millis(200)).await;
    }
    anyhow::bail!("nobody is steered to it: {steered}")
}

/// The draining node takes nobody in, and says who would.
async fn newcomers_go_elsewhere(leaving: &Client, other: &Client) -> anyhow::Result<()> {
    let mut told = String::new();
    for _ in 0..100 {
        // One that is under way when the drain begins may still come in, or be cut.
        if let Err(refusal) = leaving.open("/ledger?session=1001&every_ms=50&bytes=1").await
            && let Some(Error::Http(response)) = refusal.downcast_ref()
        {
            let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
            let after = header("retry-after").context("when to come back")?.parse::<u32>()?;
            let others = header("antipode-candidates").unwrap_or_default();
            if others == other.ws_url() && (1..=10).contains(&after) {
                ensure!(response.status() == 503, "{response:?}");
                ensure!(header("antipode-error") == Some("node_draining"), "{response:?}");
                return Ok(());
            }
            told = format!("{response:?}");
        }
        sleep(Duration::from_millis(50)).await;
    }
    anyhow::bail!("newcomers are not told where to go: {told}")
}
