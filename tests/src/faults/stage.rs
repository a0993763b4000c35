//! A world with a wire between nodes and core, and a ledger behind it; and clients on it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;

use super::crowd::{Crowd, Habit};
use super::history::{History, Verdict};
use super::ledger::Ledger;
use super::resumable::Resumables;
use super::road::Road;
use super::wire::Wire;
use super::{unix_ms, until};
use crate::settings::WIREGUARD_PORT;
use crate::world::{Plan, Sites, World};

/// Where a stage's wire listens.
const WIRE_PORT: u16 = WIREGUARD_PORT + 1;

/// What a stage has.
#[derive(Clone, Debug)]
pub struct Setting {
    /// Relays.
    pub nodes: usize,
    /// Clients without the resume subprotocol, all at the first node.
    pub plain: u64,
    /// Clients with it.
    pub resumable: u64,
    /// What each client does.
    pub habit: Habit,
    /// More for each node's file.
    pub node_more: String,
    /// More for the core's file.
    pub core_more: String,
    /// Before the first table of nodes' and core's files.
    pub head: String,
    /// Resumable clients go by a road that can strand them.
    pub by_road: bool,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            nodes: 1,
            plain: 10,
            resumable: 10,
            habit: Habit { every: Duration::from_millis(50), bytes: 128 },
            node_more: String::new(),
            core_more: String::new(),
            head: String::new(),
            by_road: false,
        }
    }
}

/// Everything running, with everybody in conversation.
#[derive(Debug)]
pub struct Stage {
    /// The programs.
    pub world: World,
    /// The link between them.
    pub wire: Wire,
    /// The way of resumable clients, if the setting has one.
    pub road: Option<Road>,
    /// The backend.
    pub ledger: Ledger,
    /// The plain clients.
    pub crowd: Crowd,
    /// The resumable ones; none where the setting has none.
    pub resumables: Option<Resumables>,
    setting: Setting,
}

impl Stage {
    /// Starts everything, and waits until everybody has heard the other end.
    ///
    /// # Errors
    ///
    /// Whatever did not come up.
    pub async fn set(setting: Setting) -> anyhow::Result<Self> {
        let ledger = Ledger::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
        let mut sites = Sites::on_loopback();
        let core = sites.core.address;
        let wire_address = SocketAddr::new(core, WIRE_PORT);
        let wire = Wire::start(wire_address, SocketAddr::new(core, WIREGUARD_PORT))?;
        sites.core.endpoints = vec![wire_address.to_string()];
        let plan = Plan {
            nodes: setting.nodes,
            node_more: setting.node_more.clone(),
            core_more: setting.core_more.clone(),
            head: setting.head.clone(),
            sites: Some(sites),
            ..Plan::with_backend(ledger.address())
        };
        let world = World::start(plan).await?;
        let crowd = Crowd::open(&world.client(0), 1..=setting.plain, setting.habit).await?;
        let road = setting.by_road.then(|| Road::start(world.client(0).address)).transpose()?;
        let on_road = road.as_ref().map(|road| format!("wss://{}", road.address()));
        let nodes = (0..setting.nodes).map(|node| world.client(node).ws_url());
        let bases: Vec<_> = on_road.into_iter().chain(nodes).collect();
        let resumables = Self::resumables(&world, &bases, &setting)?;
        let mut stage = Self { world, wire, road, ledger, crowd, resumables, setting };
        stage.flows_since(unix_ms(), Duration::from_secs(20)).await?;
        Ok(stage)
    }

    /// What it was set with.
    #[must_use]
    pub fn setting(&self) -> &Setting {
        &self.setting
    }

    fn resumables(
        world: &World,
        bases: &[String],
        setting: &Setting,
    ) -> anyhow::Result<Option<Resumables>> {
        let Setting { plain, resumable, habit, .. } = *setting;
        let authority = &world.certificates.authority_file;
        let open = || Resumables::open(bases, authority, plain + 1, resumable, habit);
        (resumable > 0).then(open).transpose()
    }

    /// Waits until every session has carried something both ways at or after `since_ms`.
    ///
    /// # Errors
    ///
    /// If one does not within `limit`.
    pub async fn flows_since(&mut self, since_ms: u64, limit: Duration) -> anyhow::Result<()> {
        let Self { crowd, resumables, ledger, setting, .. } = self;
        let all = usize::try_from(setting.plain + setting.resumable)?;
        until("everybody hears the other end", limit, || {
            let resumable = resumables.as_ref().map_or(0, |one| one.heard_since(since_ms));
            let down = crowd.heard_since(since_ms) + resumable;
            down >= all && ledger.heard_since(since_ms) >= all
        })
        .await
    }

    /// As [`Self::flows_since`], for resumable clients alone.
    ///
    /// # Errors
    ///
    /// If one does not within `limit`.
    pub async fn resumables_flow_since(
        &mut self,
        since_ms: u64,
        limit: Duration,
    ) -> anyhow::Result<()> {
        let count = usize::try_from(self.setting.resumable)?;
        let Some(resumables) = &self.resumables else { return Ok(()) };
        until("every resumable client hears the backend", limit, || {
            resumables.heard_since(since_ms) >= count
        })
        .await
    }

    /// Everybody leaves; what both ends know, judged. `healed_ms` is when the fault was over.
    ///
    /// # Errors
    ///
    /// If the clients can't be asked.
    pub async fn strike(self, healed_ms: u64) -> anyhow::Result<Outcome> {
        let Self { world, wire, road, ledger, crowd, resumables, .. } = self;
        let leaving =
            tokio::task::spawn_blocking(move || resumables.map(Resumables::leave).transpose());
        let (plain, resumable) = tokio::join!(crowd.leave(), leaving);
        let (mut plain, mut resumable) = (plain, resumable??.unwrap_or_default());
        ledger.complete(&mut plain);
        ledger.complete(&mut resumable);
        let verdicts = [Verdict::of(&plain, healed_ms), Verdict::of(&resumable, healed_ms)];
        let [plain_verdict, resumable_verdict] = verdicts;
        drop((wire, road));
        Ok(Outcome { plain, resumable, plain_verdict, resumable_verdict, world })
    }
}

/// How a scene went.
#[derive(Debug)]
pub struct Outcome {
    /// What happened to each plain client.
    pub plain: History,
    /// What happened to each resumable client.
    pub resumable: History,
    /// On the plain clients.
    pub plain_verdict: Verdict,
    /// On the resumable ones.
    pub resumable_verdict: Verdict,
    /// The programs, still there to be asked.
    pub world: World,
}

impl Outcome {
    /// That the fault cost no client anything.
    ///
    /// # Errors
    ///
    /// If it did, with both verdicts.
    pub fn untouched(&self) -> anyhow::Result<()> {
        let Self { plain_verdict: plain, resumable_verdict: resumable, .. } = self;
        ensure!(plain.is_untouched() && resumable.is_untouched(), "{plain:?}\n{resumable:?}");
        Ok(())
    }
}
