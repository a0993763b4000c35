//! The mesh with the programs: a node that no longer reaches the core goes through another, as the
//! gateway told both, and clients notice nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::Client;
use antipode_tests::metrics::value;
use antipode_tests::settings;
use antipode_tests::stories;
use antipode_tests::world::{Plan, World, ready};
use anyhow::ensure;
use tokio::task::block_in_place;
use tokio::time::sleep;

const LIMIT: Duration = Duration::from_secs(60);
/// Where the first node's tunnel is; the core's is WireGuard's customary port.
const TUNNEL_PORT: u16 = 51_830;

#[tokio::test(flavor = "multi_thread")]
async fn a_node_without_a_way_of_its_own_serves_through_another() -> anyhow::Result<()> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let plan = Plan { nodes: 0, ..Plan::with_backend(backend.address()) };
    let world = World::start(plan).await?;
    let address = world.sites.nodes.address;
    let tunnel = SocketAddr::new(address, TUNNEL_PORT);

    // Reachable, so it sends on.
    let text = world.node_settings(0).replace(
        &format!("listen = \"{address}:0\""),
        &format!("listen = \"{tunnel}\"\nendpoints = [\"{tunnel}\"]"),
    );
    ensure!(text.contains("endpoints"), "{text}");
    let _forwarder = start(&world, 0, &text)?;
    // Its own way to the core ends where nobody is.
    let nowhere = format!("[tunnel]\ncore_endpoints = {{ core = \"{address}:9\" }}\n");
    let text = world.node_settings(1).replace("[tunnel]\n", &nowhere);
    let _node = start(&world, 1, &text)?;

    let client = world.client(1);
    stories::messages_come_back(&client).await?;
    stories::client_closes(&client, &backend.closes()).await?;

    let metrics = world.metrics(2).await?;
    for to in ["core", "neighbour"] {
        let sent =
            value(&metrics, &format!("antipode_tunnel_forwarded_datagrams_total{{to=\"{to}\"}}"));
        ensure!(sent > 10, "{sent} to the {to}");
    }
    ensure!(value(&metrics, "antipode_tunnel_forward_flows") == 1, "{metrics}");
    // Figures are a look, a heartbeat and the mesh's age old.
    let mut tries = 0;
    while let Err(error) = shown(&world).await {
        tries += 1;
        ensure!(tries < 40, "{error:#}");
        sleep(Duration::from_millis(500)).await;
    }
    Ok(())
}

/// The route in use is shown by the commands and over HTTP.
async fn shown(world: &World) -> anyhow::Result<()> {
    let routes = block_in_place(|| world.gateway_command(&["routes"]))?;
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
    let lines: Vec<Vec<String>> = routes.lines().skip(1).map(words).collect();
    ensure!(lines[0] == ["node0", "nobody", "-", "yes", "node1"], "{routes}");
    ensure!(lines[1] == ["node1", "node0", "node0", "no", "-"], "{routes}");
    let links = block_in_place(|| world.gateway_command(&["links"]))?;
    ensure!(links.contains("through node0"), "{links}");
    let steering = Client::direct(settings::steering(world.sites.gateway));
    let (status, routes) = steering.get("/v1/routes").await?;
    ensure!(status == 200 && routes.contains(r#""via":["node0"]"#), "{status} {routes}");
    Ok(())
}

fn start(
    world: &World,
    index: usize,
    text: &str,
) -> anyhow::Result<antipode_tests::process::Process> {
    block_in_place(|| {
        let name = format!("node{index}");
        world.token("node", &name)?;
        let process = world.run("node", &name, text)?;
        ready(&process, settings::admin(world.sites.nodes.address, 2 + index), LIMIT)?;
        Ok(process)
    })
}
