//! The far end over emulated links: two cores of which one is cut off, a core whose name comes to
//! mean another address, and a core that is upgraded while its node's UDP is blocked.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use antipode_tests::client::Client;
use antipode_tests::far::Family::V4;
use antipode_tests::far::{Ground, Place, Span, Talk, address};
use antipode_tests::faults::crowd::{Crowd, Habit};
use antipode_tests::faults::history::History;
use antipode_tests::faults::ledger::Ledger;
use antipode_tests::faults::unix_ms;
use antipode_tests::metrics::value;
use antipode_tests::namespaces::{NEED_ROOT, has_root};
use antipode_tests::report::progress;
use antipode_tests::require::require;
use antipode_tests::settings::{self, Site, WIREGUARD_PORT};
use anyhow::{Context, ensure};
use tokio::task::block_in_place;
use tokio::time::{sleep, timeout};

const SECOND: Duration = Duration::from_secs(1);
/// Long enough to see how much too late something is.
const PATIENCE: Duration = Duration::from_secs(30);
/// 100 ms there and back.
const FAR: &str = r#"{"delay_ms": 50}"#;
const CUT: &str = r#"{"cut": true}"#;
const CHAT: Habit = Habit { every: Duration::from_millis(100), bytes: 128 };
/// Of each trunk, as by default.
const LANES: u64 = 256;
/// Clients' addresses: that all of them have the same core happens once in four million times.
const GUESTS: u8 = 23;

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_is_cut_off_beside_another() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(());
    }
    let span = |right| Span { ends: [Place::Node, right], family: V4, change: FAR };
    let ground = Ground::with_third(&[span(Place::Core), span(Place::Third)])?;
    let ledger = Ledger::start(ground.lab.here)?;
    let world = ground.world(ledger.address()).await?;
    let [near, far] = [ground.site(Place::Core)?, ground.site(Place::Third)?];
    let backend = format!("http://{}", ledger.address());
    let text = settings::core(world.folder.path(), &far, "core1", &backend);
    let admin = settings::admin(far.address, 1);
    let _second = block_in_place(|| world.join("core", "core1", &text, &far, admin))?;
    has_two_trunks(settings::admin(world.sites.nodes.address, 2)).await?;

    let guests = ground.lab.guests(GUESTS)?;
    let from = |source: &IpAddr| Client { source: Some(*source), ..world.client(0) };
    let clients: Vec<_> = guests.iter().map(from).collect();
    let mut talk = Talk { crowd: Crowd::default(), world, ledger, ground };
    talk.begin(&clients, CHAT).await?;
    let core_of = |talk: &Talk, session| talk.ledger.entry(session).from;
    let of = |core: &Site| -> Vec<u64> {
        let is_there = |session: &u64| core_of(&talk, *session) == Some(core.address);
        (1..=u64::from(GUESTS)).filter(is_there).collect()
    };
    let [lost, well] = [of(&near), of(&far)];
    progress(&format!("{} sessions at one core, {} at the other", lost.len(), well.len()));
    ensure!(!lost.is_empty() && !well.is_empty(), "all sessions at one core");
    ensure!(lost.len() + well.len() == clients.len(), "a session at neither core");

    // Whose core is cut off comes to the other one.
    let cut_at = unix_ms();
    talk.ground.change(0, CUT)?;
    let client = &clients[usize::try_from(lost[0])? - 1];
    let mut next = u64::from(GUESTS);
    loop {
        next += 1;
        let opened = timeout(SECOND, talk.crowd.add(client, next, CHAT)).await;
        if opened.is_ok_and(|opened| opened.is_ok()) {
            break;
        }
        ensure!(unix_ms() - cut_at < 10_000, "no new session:\n{}", talk.world.nodes[0].printed());
    }
    let took = unix_ms() - cut_at;
    progress(&format!("a new session after {took} ms, the attempt {}", next - u64::from(GUESTS)));
    ensure!(took < 6000, "no new session for {took} ms");
    ensure!(core_of(&talk, next) == Some(far.address), "it went to the core that is cut off");
    sleep(Duration::from_millis((cut_at + 10_000).saturating_sub(unix_ms()))).await;
    ensure!(talk.crowd.told() == 0, "{} clients were told", talk.crowd.told());

    let healed_at = unix_ms();
    talk.ground.change(0, r#"{"cut": false}"#)?;
    let took = talk.flows_within(PATIENCE).await?;
    progress(&format!("all flow {took:?} after the link's return"));
    ensure!(took <= 3 * SECOND, "all flow after {took:?}");

    let history = talk.crowd.history();
    let gap = |sessions: &[u64]| sessions.iter().map(|id| gap_ms(&history, *id, cut_at)).max();
    let (waited, undisturbed) = (gap(&lost).unwrap_or(0), gap(&well).unwrap_or(u64::MAX));
    progress(&format!("silence of {waited} ms at one core, {undisturbed} ms at the other"));
    ensure!(waited >= healed_at - cut_at, "the cut core's sessions did not wait: {waited} ms");
    ensure!(undisturbed < 2000, "the other core's sessions waited {undisturbed} ms");
    talk.untouched().await
}

/// The longest time since then in which a client heard nothing.
fn gap_ms(history: &History, session: u64, since_ms: u64) -> u64 {
    let arrived = history[&session].down.arrived.iter().map(|(_, at)| *at);
    let later = arrived.filter(|at| *at >= since_ms);
    let times: Vec<u64> = [since_ms].into_iter().chain(later).chain([unix_ms()]).collect();
    times.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or(u64::MAX)
}

/// Waits until a node has all lanes of two trunks.
async fn has_two_trunks(admin: SocketAddr) -> anyhow::Result<()> {
    let (admin, start) = (Client::direct(admin), unix_ms());
    loop {
        let (_, metrics) = admin.get("/metrics").await?;
        if value(&metrics, "antipode_trunk_lanes_up") == 2 * LANES {
            return Ok(());
        }
        ensure!(unix_ms() - start < 30_000, "{metrics}");
        sleep(Duration::from_millis(100)).await;
    }
}

const NAME: &str = "core.example";

/// Two addresses of one core, and its name means the first one.
async fn named() -> anyhow::Result<Option<Talk>> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(None);
    }
    let ground = Ground::make(&[(V4, FAR), (V4, FAR)])?;
    ground.lab.east.name(&[(NAME, address(V4, 0, 2))])?;
    let ledger = Ledger::start(ground.lab.here)?;
    let endpoints = vec![format!("{NAME}:{WIREGUARD_PORT}")];
    let core = Site { endpoints, ..ground.site(Place::Core)? };
    let world = ground.world_with(core, ledger.address()).await?;
    let mut talk = Talk { crowd: Crowd::default(), world, ledger, ground };
    let clients: Vec<_> = (0..10).map(|_| talk.world.client(0)).collect();
    talk.begin(&clients, CHAT).await?;
    ensure!(talk.ground.packets(1) < 10, "the second address was used before its time");
    Ok(Some(talk))
}

/// Waits until the node's datagrams go to the core's address on that link.
async fn goes_to(talk: &Talk, link: u8, limit: Duration) -> anyhow::Result<Duration> {
    let to = SocketAddr::new(address(V4, link, 2), WIREGUARD_PORT).to_string();
    let start = unix_ms();
    loop {
        let printed = talk.world.nodes[0].printed();
        let took = Duration::from_millis(unix_ms() - start);
        let last = printed.lines().rfind(|line| line.contains("way taken"));
        if last.is_some_and(|line| line.contains(&to)) {
            return Ok(took);
        }
        ensure!(took < limit, "never went to {to}:\n{printed}");
        sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_that_has_moved_is_looked_up_again() -> anyhow::Result<()> {
    let Some(talk) = named().await? else { return Ok(()) };
    for (before, now) in [(0, 1), (1, 0)] {
        talk.ground.lab.east.name(&[(NAME, address(V4, now, 2))])?;
        talk.ground.change(usize::from(now), r#"{"cut": false}"#)?;
        talk.ground.change(before, CUT)?;
        let took = talk.flows_within(PATIENCE).await?;
        progress(&format!("flows at another address after {took:?}"));
        ensure!(took <= 5 * SECOND, "flows after {took:?}");
        goes_to(&talk, now, 5 * SECOND).await?;
    }
    talk.untouched().await
}

/// The name is changed only when the path has been dead for a while: whoever looked at once saw
/// nothing new, and a stream, which looks for itself, is there before the next look.
#[tokio::test(flavor = "multi_thread")]
async fn a_core_whose_name_follows_later() -> anyhow::Result<()> {
    let Some(talk) = named().await? else { return Ok(()) };
    talk.ground.change(0, CUT)?;
    sleep(18 * SECOND).await;
    talk.ground.lab.east.name(&[(NAME, address(V4, 1, 2))])?;
    let took = talk.flows_within(PATIENCE).await?;
    progress(&format!("flows {took:?} after the name was changed"));
    ensure!(took <= 16 * SECOND, "flows after {took:?}");
    let took = goes_to(&talk, 1, 60 * SECOND).await?;
    progress(&format!("on UDP {took:?} later"));
    talk.flows_within(PATIENCE).await?;
    talk.untouched().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_core_is_upgraded_while_udp_is_blocked() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(());
    }
    let blocked = r#"{"delay_ms": 50, "block_udp": true}"#;
    let mut talk = Talk::start(&[(V4, blocked)], 10, CHAT).await?;
    for _ in 0..2 {
        talk.takes("stream", SECOND).await?;
        block_in_place(|| talk.world.upgrade_core())?;
        let took = talk.flows_within(PATIENCE).await;
        let core = talk.world.core.as_ref().context("it was upgraded")?;
        let took = took.with_context(|| core.printed())?;
        progress(&format!("flows {took:?} after the handover"));
        ensure!(took <= 6 * SECOND, "flows after {took:?}");
    }
    talk.takes("stream", SECOND).await?;
    talk.untouched().await
}
