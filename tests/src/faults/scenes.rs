//! Each fault, told once: the tests play it short and small, the table long and large.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::time::sleep;

use super::stage::{Outcome, Setting, Stage};
use super::{unix_ms, until};
use crate::settings;
use crate::world::ready;

/// In which traffic has to flow again; the table says how long it took.
const FLOW: Duration = Duration::from_secs(30);
/// In which a program has to end or to be ready.
const PROGRAM: Duration = Duration::from_secs(60);

/// The link loses everything, both ways, for `length`.
///
/// # Errors
///
/// If traffic does not flow again, or the edge did not answer pings meanwhile.
pub async fn cut(setting: Setting, length: Duration) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(setting).await?;
    let began = unix_ms();
    stage.wire.cut(true);
    sleep(length).await;
    stage.wire.cut(false);
    let healed = unix_ms();
    let (pongs, told) = (stage.crowd.pongs(), stage.crowd.told());
    let answered = pongs.iter().filter(|at| (began..healed).contains(*at)).count();
    ensure!(told == 0, "{told} clients lost their sockets in the cut");
    ensure!(
        u64::try_from(answered)? >= length.as_secs().saturating_sub(1),
        "the edge answered {answered} pings in {length:?}"
    );
    stage.flows_since(healed, FLOW).await?;
    stage.strike(healed).await
}

/// The link loses what nodes send, for `length`; the other way is whole.
///
/// # Errors
///
/// If traffic does not flow again.
pub async fn cut_one_way(setting: Setting, length: Duration) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(setting).await?;
    stage.wire.cut_up(true);
    sleep(length).await;
    stage.wire.cut_up(false);
    let healed = unix_ms();
    stage.flows_since(healed, FLOW).await?;
    stage.strike(healed).await
}

/// The link loses one datagram in `one_in`, for `length`.
///
/// # Errors
///
/// If traffic does not flow.
pub async fn loss(setting: Setting, one_in: u64, length: Duration) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(setting).await?;
    let began = unix_ms();
    stage.wire.lose_one_in(one_in);
    sleep(length).await;
    stage.wire.lose_one_in(0);
    stage.flows_since(unix_ms(), FLOW).await?;
    stage.strike(began).await
}

/// The nodes' addresses change under them, three times.
///
/// # Errors
///
/// If traffic does not flow again.
pub async fn rebind(setting: Setting) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(setting).await?;
    let mut healed = 0;
    for _ in 0..3 {
        healed = unix_ms();
        stage.wire.rebind();
        stage.flows_since(healed, FLOW).await?;
    }
    stage.strike(healed).await
}

/// How a node leaves without a word.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Death {
    /// SIGKILL: its kernel closes what it had open.
    Killed,
    /// Power off: nothing is said to anybody (here: SIGSTOP).
    PowerOff,
}

/// The first node dies.
///
/// # Errors
///
/// If resumable clients don't go on elsewhere, or the backend does not learn of a killed node's
/// plain clients.
pub async fn node_dies(setting: Setting, death: Death) -> anyhow::Result<Outcome> {
    let plain = setting.plain;
    let mut stage = Stage::set(setting).await?;
    let died = unix_ms();
    match death {
        Death::Killed => stage.world.nodes[0].kill(),
        Death::PowerOff => signal(stage.world.nodes[0].id(), "-STOP")?,
    }
    stage.resumables_flow_since(died + 1, FLOW).await?;
    if death == Death::Killed {
        let ledger = &stage.ledger;
        until("the backend learns that the clients are gone", Duration::from_secs(10), || {
            (1..=plain).all(|session| !ledger.entry(session).closed_early.is_empty())
        })
        .await?;
    }
    stage.strike(died).await
}

/// The first node loses the core and nothing else, until resumable clients have gone on elsewhere.
///
/// # Errors
///
/// If they don't, or if traffic does not flow again.
pub async fn partition(setting: Setting) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(setting).await?;
    let began = unix_ms();
    stage.wire.sever(0);
    stage.resumables_flow_since(began + 2000, FLOW).await?;
    stage.wire.mend();
    stage.flows_since(unix_ms(), FLOW).await?;
    stage.strike(began + 2000).await
}

/// Every node in turn is told to go (SIGTERM), and started again once it has gone.
///
/// # Errors
///
/// If one does not end or come back.
pub async fn rolling_restart(setting: Setting) -> anyhow::Result<Outcome> {
    let (nodes, more, head) = (setting.nodes, setting.node_more.clone(), setting.head.clone());
    let mut stage = Stage::set(setting).await?;
    let began = unix_ms();
    for index in 0..nodes {
        let name = format!("node{index}");
        let text = format!("{head}\n{}{more}", stage.world.node_settings(index));
        let fresh = tokio::task::block_in_place(|| {
            stage.world.nodes[index].terminate(PROGRAM)?;
            let fresh = stage.world.run("node", &name, &text)?;
            ready(&fresh, settings::admin(stage.world.sites.nodes.address, 2 + index), PROGRAM)?;
            anyhow::Ok(fresh)
        })?;
        stage.world.nodes[index] = fresh;
    }
    stage.resumables_flow_since(unix_ms(), FLOW).await?;
    stage.strike(began).await
}

/// A new process of the core is started beside the old one, and takes over.
///
/// # Errors
///
/// If the old one does not end, or traffic does not flow again.
pub async fn core_upgrade(setting: Setting) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(setting).await?;
    let began = unix_ms();
    tokio::task::block_in_place(|| stage.world.upgrade_core())?;
    stage.flows_since(unix_ms(), FLOW).await?;
    stage.strike(began).await
}

/// The core is killed and started again.
///
/// # Errors
///
/// If it does not come back, or a client is left hanging.
pub async fn core_crash(setting: Setting) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(setting).await?;
    let began = unix_ms();
    let text = std::fs::read_to_string(stage.world.folder.path().join("core.toml"))?;
    stage.world.core.as_ref().context("the stage has a core")?.kill();
    let fresh = stage.world.run("core", "core", &text)?;
    let admin = settings::admin(stage.world.sites.core.address, 1);
    tokio::task::block_in_place(|| ready(&fresh, admin, PROGRAM))?;
    stage.world.core = Some(fresh);
    let plain = stage.setting().plain;
    let crowd = &stage.crowd;
    until("every plain client is told", FLOW, || u64::try_from(crowd.told()) == Ok(plain)).await?;
    stage.strike(began).await
}

/// Resumable clients leave the network that their sockets were opened in.
///
/// # Errors
///
/// If they don't go on.
pub async fn roam(setting: Setting) -> anyhow::Result<Outcome> {
    let mut stage = Stage::set(Setting { by_road: true, ..setting }).await?;
    let began = unix_ms();
    stage.road.as_ref().context("the stage has a road")?.strand();
    stage.resumables_flow_since(began + 500, FLOW).await?;
    stage.strike(began + 500).await
}

/// Sends a signal to a program that the stage started.
fn signal(process: u32, signal: &str) -> anyhow::Result<()> {
    let status = Command::new("kill").args([signal, &process.to_string()]).status()?;
    ensure!(status.success(), "kill {signal} {process}: {status}");
    Ok(())
}
