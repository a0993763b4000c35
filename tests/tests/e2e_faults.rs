//! What breaks, and what it costs: each fault with real programs and real sockets, short and small.
//! `just faults` plays the same ones long and large.

use std::time::Duration;

use antipode_tests::faults::scenes::{self, Death};
use antipode_tests::faults::stage::Setting;
use antipode_tests::foreign::{NEED_NPM, has_npm};
use antipode_tests::require::require;
use anyhow::ensure;

/// In which traffic must flow again, with a machine that does much else.
const FLOW_SECONDS_MAX: f64 = 3.0;

fn setting() -> Option<Setting> {
    require(NEED_NPM, has_npm()).then(Setting::default)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_link_costs_nothing() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    let outcome = scenes::cut(setting, Duration::from_secs(5)).await?;
    outcome.untouched()?;
    let flow = outcome.plain_verdict.flow_seconds(1000).unwrap_or(f64::INFINITY);
    ensure!(flow < FLOW_SECONDS_MAX, "{flow} s until all flowed again");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_cut_one_way_and_changed_addresses_cost_nothing() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    scenes::cut_one_way(setting.clone(), Duration::from_secs(4)).await?.untouched()?;
    scenes::rebind(setting).await?.untouched()
}

#[tokio::test(flavor = "multi_thread")]
async fn loss_costs_nothing_but_time() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    scenes::loss(setting, 20, Duration::from_secs(4)).await?.untouched()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_node_costs_resumable_clients_nothing() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    let setting = Setting { nodes: 2, ..setting };
    let outcome = scenes::node_dies(setting.clone(), Death::Killed).await?;
    let (plain, resumable) = (&outcome.plain_verdict, &outcome.resumable_verdict);
    ensure!(resumable.is_untouched(), "{resumable:?}");
    ensure!(resumable.resumed == setting.resumable, "{resumable:?}");
    ensure!(plain.is_exact() && plain.told == setting.plain, "{plain:?}");
    ensure!(plain.backend_closes == setting.plain, "{plain:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_power_costs_resumable_clients_nothing() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    let setting = Setting { nodes: 2, plain: 0, ..setting };
    let outcome = scenes::node_dies(setting.clone(), Death::PowerOff).await?;
    outcome.untouched()?;
    ensure!(outcome.resumable_verdict.resumed == setting.resumable);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_its_core_costs_nothing() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    scenes::partition(Setting { nodes: 2, ..setting }).await?.untouched()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_all_nodes_costs_resumable_clients_nothing() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    let head = "drain_grace = \"6s\"".to_owned();
    let setting = Setting { nodes: 2, plain: 0, head, ..setting };
    let outcome = scenes::rolling_restart(setting.clone()).await?;
    outcome.untouched()?;
    ensure!(outcome.resumable_verdict.resumed == setting.resumable);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_change_networks_go_on() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    let setting = Setting { plain: 0, ..setting };
    let outcome = scenes::roam(setting.clone()).await?;
    outcome.untouched()?;
    ensure!(outcome.resumable_verdict.resumed == setting.resumable);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upgraded_core_costs_nothing() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    scenes::core_upgrade(setting).await?.untouched()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_core_is_told_to_everybody() -> anyhow::Result<()> {
    let Some(setting) = setting() else { return Ok(()) };
    let outcome = scenes::core_crash(setting.clone()).await?;
    for (verdict, count) in
        [(&outcome.plain_verdict, setting.plain), (&outcome.resumable_verdict, setting.resumable)]
    {
        ensure!(verdict.duplicated + verdict.reordered + verdict.hanging == 0, "{verdict:?}");
        ensure!(verdict.told == count, "{verdict:?}");
    }
    Ok(())
}
