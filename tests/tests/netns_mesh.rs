//! The mesh over emulated links: a node whose own way to the core gets bad, or ends, goes through
//! its neighbour, and comes back when the way is good again. Clients notice the round trip alone.

use std::time::Duration;

use antipode_tests::client::Client;
use antipode_tests::far::Family::V4;
use antipode_tests::far::{Ground, Place, Span, Talk};
use antipode_tests::faults::crowd::{Crowd, Habit};
use antipode_tests::faults::ledger::Ledger;
use antipode_tests::metrics::value;
use antipode_tests::namespaces::{NEED_ROOT, has_root};
use antipode_tests::process::Process;
use antipode_tests::report::progress;
use antipode_tests::require::require;
use antipode_tests::settings::{self, WIREGUARD_PORT};
use antipode_tests::stories;
use anyhow::{Context, ensure};
use tokio::task::block_in_place;
use tokio::time::{Instant, sleep};
use tokio_tungstenite::tungstenite::Message;

const MS: Duration = Duration::from_millis(1);
const SECOND: Duration = Duration::from_secs(1);
/// Another way has to be better for ten seconds, and by then it was measured anew.
const PATIENCE: Duration = Duration::from_secs(60);
const CHAT: Habit = Habit { every: Duration::from_millis(100), bytes: 128 };

/// The link that gets worse; the others stay as they are.
const DIRECT: usize = 0;
/// 20 ms there and back; 100 ms through the neighbour.
const SPANS: [Span<'_>; 3] = [
    span([Place::Node, Place::Core], r#"{"delay_ms": 10}"#),
    span([Place::Third, Place::Core], r#"{"delay_ms": 40}"#),
    span([Place::Node, Place::Third], r#"{"delay_ms": 10}"#),
];

const fn span(ends: [Place; 2], change: &str) -> Span<'_> {
    Span { ends, family: V4, change }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_gets_bad_is_left_for_a_neighbours() -> anyhow::Result<()> {
    let Some(mesh) = Mesh::start().await? else { return Ok(()) };
    let client = mesh.talk.world.client(0);
    let good = round_trip(&client).await?;

    mesh.talk.ground.change(DIRECT, r#"{"delay_ms": 120, "loss": 0.05}"#)?;
    let bad = round_trip(&client).await?;
    let took = mesh.talk.takes("through", PATIENCE).await?;
    mesh.is_shown("node1").await?;
    let around = round_trip(&client).await?;
    progress(&format!("{good:?}, then {bad:?}; {around:?} by the neighbour after {took:?}"));
    ensure!(bad > 200 * MS && around < 180 * MS, "{bad:?}, and {around:?} by the neighbour");

    mesh.talk.ground.change(DIRECT, r#"{"delay_ms": 10, "loss": 0}"#)?;
    let took = mesh.talk.takes("udp", PATIENCE).await?;
    mesh.is_shown("nobody").await?;
    let back = round_trip(&client).await?;
    progress(&format!("{back:?} by the healed way after {took:?}"));
    ensure!(back < around, "{back:?}, and {around:?} by the neighbour");
    mesh.end().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_way_that_ends_is_left_for_a_neighbours() -> anyhow::Result<()> {
    let Some(mesh) = Mesh::start().await? else { return Ok(()) };
    mesh.talk.ground.change(DIRECT, r#"{"cut": true}"#)?;
    let took = mesh.talk.flows_within(PATIENCE).await?;
    progress(&format!("flows by the neighbour after {took:?}"));
    ensure!(took <= 4 * SECOND, "flows after {took:?}");
    mesh.talk.takes("through", 5 * SECOND).await?;
    mesh.is_shown("node1").await?;

    mesh.talk.ground.change(DIRECT, r#"{"cut": false}"#)?;
    let took = mesh.talk.takes("udp", PATIENCE).await?;
    mesh.is_shown("nobody").await?;
    let flows = mesh.talk.flows_within(PATIENCE).await?;
    progress(&format!("back on its own way after {took:?}, flows after {flows:?}"));
    ensure!(flows <= 2 * SECOND, "flows after {flows:?}");
    mesh.end().await
}

/// A node in conversation with a core, and a neighbour that reaches both.
struct Mesh {
    talk: Talk,
    neighbour: Process,
    /// Where the neighbour tells of itself.
    admin: Client,
}

impl Mesh {
    /// Starts everything and waits until the way through the neighbour is known, or is none where
    /// there is no root.
    async fn start() -> anyhow::Result<Option<Self>> {
        if !require(NEED_ROOT, has_root()) {
            return Ok(None);
        }
        let ground = Ground::with_third(&SPANS)?;
        let ledger = Ledger::start(ground.lab.here)?;
        let world = ground.world(ledger.address()).await?;
        let site = ground.site(Place::Third)?;
        let text = settings::node(world.folder.path(), &site, 1, &world.certificates);
        // Reachable, so it sends on.
        let free = "listen = \"[::]:0\"";
        let own = format!("listen = \"[::]:{WIREGUARD_PORT}\"\nendpoints = {:?}", site.endpoints);
        ensure!(text.contains(free), "{text}");
        let text = text.replace(free, &own);
        let admin = settings::admin(site.address, 3);
        let neighbour = block_in_place(|| world.join("node", "node1", &text, &site, admin))?;
        let mut talk = Talk { crowd: Crowd::default(), world, ledger, ground };
        let clients: Vec<_> = (0..10).map(|_| talk.world.client(0)).collect();
        talk.begin(&clients, CHAT).await?;
        let mesh = Self { talk, neighbour, admin: Client::direct(admin) };
        mesh.is_probed().await?;
        Ok(Some(mesh))
    }

    /// Waits until the node measures the way through the neighbour.
    async fn is_probed(&self) -> anyhow::Result<()> {
        let start = Instant::now();
        while self.forwarded("neighbour").await? < 3 {
            ensure!(start.elapsed() < PATIENCE, "no probes:\n{}", self.neighbour.printed());
            sleep(100 * MS).await;
        }
        Ok(())
    }

    /// Datagrams that the neighbour has sent on.
    async fn forwarded(&self, to: &str) -> anyhow::Result<u64> {
        let (_, metrics) = self.admin.get("/metrics").await?;
        let series = format!("antipode_tunnel_forwarded_datagrams_total{{to=\"{to}\"}}");
        Ok(value(&metrics, &series))
    }

    /// Waits until command and HTTP show through whom the node's datagrams go: figures are a look,
    /// a heartbeat and the mesh's age old.
    async fn is_shown(&self, through: &str) -> anyhow::Result<()> {
        let world = &self.talk.world;
        let steering = Client::direct(settings::steering(world.sites.gateway));
        let via = if through == "nobody" {
            r#""via":[]"#.into()
        } else {
            format!(r#""via":["{through}"]"#)
        };
        let start = Instant::now();
        loop {
            let routes = block_in_place(|| world.gateway_command(&["routes"]))?;
            let line = routes.lines().find(|line| line.starts_with("node0 "));
            let words: Vec<_> = line.context("node0 has a route")?.split_whitespace().collect();
            let (_, served) = steering.get("/v1/routes").await?;
            let node = served.split("\"node\":\"node0\"").nth(1).unwrap_or_default();
            let node = node.split('}').next().unwrap_or_default();
            if words.get(1) == Some(&through) && node.contains(&via) {
                return Ok(());
            }
            ensure!(start.elapsed() < PATIENCE, "not through {through}:\n{routes}\n{served}");
            sleep(300 * MS).await;
        }
    }

    /// Nothing was lost, twice or out of order, and the neighbour carried what went that way.
    async fn end(self) -> anyhow::Result<()> {
        for to in ["core", "neighbour"] {
            let sent = self.forwarded(to).await?;
            ensure!(sent > 100, "{sent} datagrams to the {to}");
        }
        self.talk.untouched().await
    }
}

/// The median of some echoes.
async fn round_trip(client: &Client) -> anyhow::Result<Duration> {
    let (mut socket, mut times) = (client.open("/").await?, Vec::new());
    for _ in 0..9 {
        let sent = Instant::now();
        stories::echo(&mut socket, Message::text("how far?")).await?;
        times.push(sent.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
