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
use std::time::Duration;
use tempfile::TempDir;

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
    if !can_run() {
        return Ok(());
    }
    let lab = Lab::make()?;
    lab.east.block_udp(&lab.east.interface(), TRUNK_PORT + 1)?;
    let path = Path::start(&lab, End::Theirs, End::Ours, "quic").await?;
    path.carries_all().await?;
    let node = &path.world.nodes[0];
    let says = || node.printed().contains("no lanes for bulk");
    until("the node says that there are none", PATIENCE, says).await.context(node.printed())?;
    let metrics = path.world.metrics(2).await?;
    ensure!(metrics.contains("\nantipode_trunk_bulk_lanes_up 0\n"), "{metrics}");
    ensure!(!metrics.contains("\nantipode_trunk_lanes_up 0\n"), "{metrics}");
    Ok(())
}

async fn path(core: End, node: End, carrier: &'static str) -> anyhow::Result<()> {
    if !can_run() {
        return Ok(());
    }
    let lab = Lab::make()?;
    Path::start(&lab, core, node, carrier).await?.carries_all().await
}

fn can_run() -> bool {
    require(NEED_ROOT, has_root()) && require(NEED_WIREGUARD, has_wireguard())
}

/// The programs, on the hosts of a lab. They end in this order when dropped.
struct Path {
    world: World,
    _wireguards: [Option<Process>; 2],
    _backend: Backend,
    _folder: TempDir,
}

impl Path {
    async fn start(lab: &Lab, core: End, node: End, carrier: &'static str) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let backend = Backend::start(lab.here)?;
        let (core, core_wireguard) = site(&lab.east, core, carrier, folder.path())?;
        let (nodes, node_wireguard) = site(&lab.west, node, carrier, folder.path())?;
        let plan = Plan {
            sites: Some(Sites { gateway: lab.here, core, nodes }),
            ..Plan::with_backend(backend.address())
        };
        let world = World::start(plan).await?;
        let wireguards = [node_wireguard, core_wireguard];
        Ok(Self { world, _wireguards: wireguards, _backend: backend, _folder: folder })
    }

    /// Small and large, both ways, and to the end.
    async fn carries_all(&self) -> anyhow::Result<()> {
        let client = self.world.client(0);
        stories::messages_come_back(&client).await?;
        stories::large_message(&client, 8 << 20).await?;
        stories::backend_closes(&client).await?;
        stories::upload(&client, 5_000_000).await?;
        stories::download(&client, 5_000_000).await
    }
}

fn site(
    host: &Host,
    end: End,
    carrier: &'static str,
    folder: &std::path::Path,
) -> anyhow::Result<(Site, Option<Process>)> {
    let site =
        |tunnel| Site { host: Some(host.clone()), tunnel, carrier, ..Site::here(host.address) };
    if end == End::Ours {
        return Ok((site(Tunnel::InProcess), None));
    }
    let wireguard = host.wireguard(folder)?;
    Ok((site(Tunnel::Interface(host.interface())), Some(wireguard)))
}
