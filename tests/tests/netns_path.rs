//! The whole path on hosts of their own, with other people's WireGuard at either end.
//!
//! Gateway, backend and client are here; core and node each have a network namespace. Debian's
//! wireguard-go stands for any standard WireGuard; ours is in the process.

use antipode_tests::backend::Backend;
use antipode_tests::faults::until;
use antipode_tests::namespaces::{Host, Lab, NEED_ROOT, NEED_WIREGUARD, has_root, has_wireguard};
use antipode_tests::process::Process;
use antipode_tests::require::require;
use antipode_tests::settings::{Site, Tunnel};
use antipode_tests::stories;
use antipode_tests::world::{Plan, Sites, World};
use anyhow::{Context, ensure};
use std::path::Path;
use std::time::Duration;

/// `trunk.port` by default; bulk has the next.
const TRUNK_PORT: u16 = 4433;
/// A dial that nobody answers is given up after seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whose WireGuard each end has.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    Ours,
    Theirs,
}

#[tokio::test(flavor = "multi_thread")]
async fn ours_on_both_ends() -> anyhow::Result<()> {
    path(End::Ours, End::Ours, "quic").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_core_behind_wireguard_go() -> anyhow::Result<()> {
    path(End::Theirs, End::Ours, "quic").await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_behind_wireguard_go() -> anyhow::Result<()> {
    path(End::Ours, End::Theirs, "quic").await
}

#[tokio::test(flavor = "multi_thread")]
async fn both_behind_wireguard_go_over_tcp() -> anyhow::Result<()> {
    path(End::Theirs, End::Theirs, "tcp").await
}

/// The core's firewall lets chat's port through, and not the one after it.
#[tokio::test(flavor = "multi_thread")]
async fn bulk_goes_with_chat_where_its_port_is_blocked() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) || !require(NEED_WIREGUARD, has_wireguard()) {
        return Ok(());
    }
    let lab = Lab::make()?;
    let folder = tempfile::tempdir()?;
    let backend = Backend::start(lab.here)?;
    let (core, _core_wireguard) = site(&lab.west, End::Theirs, "quic", folder.path())?;
    lab.west.block_udp(&lab.west.interface(), TRUNK_PORT + 1)?;
    let (nodes, _node_wireguard) = site(&lab.east, End::Ours, "quic", folder.path())?;
    let plan = Plan {
        sites: Some(Sites { gateway: lab.here, core, nodes }),
        ..Plan::with_backend(backend.address())
    };
    let world = World::start(plan).await?;
    let client = world.client(0);
    stories::messages_come_back(&client).await?;
    stories::large_message(&client, 8 << 20).await?;
    stories::upload(&client, 5_000_000).await?;
    stories::download(&client, 5_000_000).await?;
    let node = &world.nodes[0];
    let says = || node.printed().contains("no lanes for bulk");
    until("the node says that there are none", PATIENCE, says).await.context(node.printed())?;
    let metrics = world.metrics(2).await?;
    ensure!(metrics.contains("\nantipode_trunk_bulk_lanes_up 0\n"), "{metrics}");
    ensure!(!metrics.contains("\nantipode_trunk_lanes_up 0\n"), "{metrics}");
    Ok(())
}

async fn path(core: End, node: End, carrier: &'static str) -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) || !require(NEED_WIREGUARD, has_wireguard()) {
        return Ok(());
    }
    let lab = Lab::make()?;
    let folder = tempfile::tempdir()?;
    let backend = Backend::start(lab.here)?;
    let (core, _core_wireguard) = site(&lab.east, core, carrier, folder.path())?;
    let (nodes, _node_wireguard) = site(&lab.west, node, carrier, folder.path())?;
    let plan = Plan {
        sites: Some(Sites { gateway: lab.here, core, nodes }),
        ..Plan::with_backend(backend.address())
    };
    let world = World::start(plan).await?;
    let client = world.client(0);
    stories::messages_come_back(&client).await?;
    stories::large_message(&client, 8 << 20).await?;
    stories::backend_closes(&client).await?;
    stories::upload(&client, 5_000_000).await?;
    stories::download(&client, 5_000_000).await
}

fn site(
    host: &Host,
    end: End,
    carrier: &'static str,
    folder: &Path,
) -> anyhow::Result<(Site, Option<Process>)> {
    let site =
        |tunnel| Site { host: Some(host.clone()), tunnel, carrier, ..Site::here(host.address) };
    if end == End::Ours {
        return Ok((site(Tunnel::InProcess), None));
    }
    let wireguard = host.wireguard(folder)?;
    Ok((site(Tunnel::Interface(host.interface())), Some(wireguard)))
}
