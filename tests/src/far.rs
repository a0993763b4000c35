//! A world whose node and core are far apart: on hosts of their own, with emulated links between
//! them, and clients in conversation. All else (gateway, backend, clients) is near to all. A third
//! host takes another node or core.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, ensure};

use crate::client::Client;
use crate::faults::crowd::{Crowd, Habit};
use crate::faults::history::Verdict;
use crate::faults::ledger::Ledger;
use crate::faults::{unix_ms, until};
use crate::namespaces::{Host, Lab};
use crate::settings::{Site, WIREGUARD_PORT};
use crate::wan::link::Cause;
use crate::wan::{self, Change, End, Wan, Way};
use crate::world::{Plan, Sites, World};

/// 1 for the kind of way that is taken.
const WAY_METRIC: &str = "antipode_tunnel_link_way";

/// How a link is numbered.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// Who stands at an end of a link.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Place {
    /// The node.
    Node,
    /// The core.
    Core,
    /// Whoever has the third host.
    Third,
}

/// A link, with what it does to frames at first, as JSON.
#[derive(Clone, Copy, Debug)]
pub struct Span<'a> {
    /// Who it joins: left and right.
    pub ends: [Place; 2],
    /// How it is numbered.
    pub family: Family,
    /// A [`Change`].
    pub change: &'a str,
}

/// An end of the link of a number: the left one is 1, a node's, and the right one 2.
#[must_use]
pub fn address(family: Family, link: u8, end: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 9, link, end).into(),
        Family::V6 => Ipv6Addr::new(0xfd09, link.into(), 0, 0, 0, 0, 0, end.into()).into(),
    }
}

/// The hosts, and the links between them. It ends in this order when dropped.
#[derive(Debug)]
pub struct Ground {
    /// Each a path of its own, and an endpoint of whoever is at its right end.
    pub links: Vec<Wan>,
    /// East is the node's host, west the core's, south the third one.
    pub lab: Lab,
    /// By link: who is at its right end, and where.
    endpoints: Vec<(Place, SocketAddr)>,
}

impl Ground {
    /// Makes both hosts and a link between node and core for each of `links`.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn make(links: &[(Family, &str)]) -> anyhow::Result<Self> {
        let ends = [Place::Node, Place::Core];
        let span = |&(family, change)| Span { ends, family, change };
        Self::of(Lab::make()?, &links.iter().map(span).collect::<Vec<_>>())
    }

    /// Makes three hosts and links between them.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn with_third(spans: &[Span<'_>]) -> anyhow::Result<Self> {
        Self::of(Lab::with_south()?, spans)
    }

    fn of(lab: Lab, spans: &[Span<'_>]) -> anyhow::Result<Self> {
        let mut ground = Self { links: Vec::new(), lab, endpoints: Vec::new() };
        for (Span { ends, family, change }, link) in spans.iter().zip(0..) {
            let length = if *family == Family::V4 { 24 } else { 64 };
            let end = |place, last| {
                anyhow::Ok(End {
                    namespace: Some(ground.host(place)?.namespace.clone()),
                    interface: format!("wan{link}"),
                    addresses: vec![format!("{}/{length}", address(*family, link, last))],
                })
            };
            let (left, right) = (end(ends[0], 1)?, end(ends[1], 2)?);
            let wan = Wan::start(&wan::Plan { left, right, seed: link.into() })?;
            ground.links.push(wan);
            let endpoint = SocketAddr::new(address(*family, link, 2), WIREGUARD_PORT);
            ground.endpoints.push((ends[1], endpoint));
            ground.change(usize::from(link), change)?;
        }
        Ok(ground)
    }

    fn host(&self, place: Place) -> anyhow::Result<&Host> {
        match place {
            Place::Node => Ok(&self.lab.east),
            Place::Core => Ok(&self.lab.west),
            Place::Third => self.lab.south.as_ref().context("there are two hosts"),
        }
    }

    /// Changes both directions of a link; `change` is JSON.
    ///
    /// # Errors
    ///
    /// If it is none, or no link can be so.
    pub fn change(&self, link: usize, change: &str) -> anyhow::Result<()> {
        Ok(self.links[link].set(Way::Both, &serde_json::from_str::<Change>(change)?)?)
    }

    /// Packets that a link has taken, both ways together.
    #[must_use]
    pub fn packets(&self, link: usize) -> u64 {
        let figures = self.links[link].stats();
        figures.up.counters.packets + figures.down.counters.packets
    }

    /// Packets that a link has lost for a cause, both ways together.
    #[must_use]
    pub fn lost(&self, link: usize, cause: Cause) -> u64 {
        let figures = self.links[link].stats();
        let ways = [figures.up, figures.down];
        ways.iter().filter_map(|way| way.counters.lost.get(&cause)).sum()
    }

    /// Where a program stands, and where others reach it over the links.
    ///
    /// # Errors
    ///
    /// If there is no third host.
    pub fn site(&self, place: Place) -> anyhow::Result<Site> {
        let host = self.host(place)?;
        let own = self.endpoints.iter().filter(|(at, _)| *at == place);
        Ok(Site {
            host: Some(host.clone()),
            tunnel_address: Some(Ipv6Addr::UNSPECIFIED.into()),
            endpoints: own.map(|(_, endpoint)| endpoint.to_string()).collect(),
            ..Site::here(host.address)
        })
    }

    /// Starts gateway, core and a node, whose one way to each other are the links.
    ///
    /// # Errors
    ///
    /// Whatever did not come up.
    pub async fn world(&self, backend: SocketAddr) -> anyhow::Result<World> {
        self.world_with(self.site(Place::Core)?, backend).await
    }

    /// As [`Self::world`], with a core that is reached elsewhere.
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn world_with(&self, core: Site, backend: SocketAddr) -> anyhow::Result<World> {
        let nodes = self.site(Place::Node)?;
        let sites = Some(Sites { gateway: self.lab.here, core, nodes });
        World::start(Plan { sites, ..Plan::with_backend(backend) }).await
    }
}

/// A conversation over far links. It ends in this order when dropped.
#[derive(Debug)]
pub struct Talk {
    /// The clients.
    pub crowd: Crowd,
    /// The programs.
    pub world: World,
    /// The backend.
    pub ledger: Ledger,
    /// Hosts and links.
    pub ground: Ground,
}

impl Talk {
    /// Starts everything, and waits until everybody has heard the other end.
    ///
    /// # Errors
    ///
    /// Whatever did not come up.
    pub async fn start(
        links: &[(Family, &str)],
        sessions: u64,
        habit: Habit,
    ) -> anyhow::Result<Self> {
        let ground = Ground::make(links)?;
        let ledger = Ledger::start(ground.lab.here)?;
        let world = ground.world(ledger.address()).await?;
        let mut talk = Self { crowd: Crowd::default(), world, ledger, ground };
        let clients: Vec<_> = (0..sessions).map(|_| talk.world.client(0)).collect();
        talk.begin(&clients, habit).await?;
        Ok(talk)
    }

    /// Opens a session for each of these clients, and waits until all have heard the other end.
    ///
    /// # Errors
    ///
    /// If one does not.
    pub async fn begin(&mut self, clients: &[Client], habit: Habit) -> anyhow::Result<()> {
        for (client, session) in clients.iter().zip(1..) {
            self.crowd.add(client, session, habit).await?;
        }
        self.flows_within(Duration::from_secs(20)).await?;
        Ok(())
    }

    /// Waits until every session has carried something both ways from now on, and says how long
    /// that took.
    ///
    /// # Errors
    ///
    /// If one does not within `limit`, with the node's own words.
    pub async fn flows_within(&self, limit: Duration) -> anyhow::Result<Duration> {
        let start = unix_ms();
        let heard = || {
            self.crowd.heard_since(start) >= self.crowd.size()
                && self.ledger.heard_since(start) >= self.crowd.size()
        };
        let flows = until("everybody hears the other end", limit, heard).await;
        flows.with_context(|| self.world.nodes[0].printed())?;
        Ok(Duration::from_millis(unix_ms() - start))
    }

    /// Waits until the node's datagrams take a way of this kind.
    ///
    /// # Errors
    ///
    /// If they do not within `limit`, with the node's own words.
    pub async fn takes(&self, way: &str, limit: Duration) -> anyhow::Result<Duration> {
        let start = unix_ms();
        let label = format!("way=\"{way}\"}} 1");
        loop {
            let text = self.world.metrics(2).await?;
            let took = Duration::from_millis(unix_ms() - start);
            let mut ways = text.lines().filter(|line| line.starts_with(WAY_METRIC));
            if ways.any(|line| line.ends_with(&label)) {
                return Ok(took);
            }
            ensure!(took < limit, "never took {way}:\n{}", self.world.nodes[0].printed());
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Everybody leaves; nothing may have been lost, twice or out of order, and nobody told that it
    /// is over.
    ///
    /// # Errors
    ///
    /// If something was.
    pub async fn untouched(self) -> anyhow::Result<()> {
        let Self { crowd, world, ledger, ground, .. } = self;
        let mut history = crowd.leave().await;
        ledger.complete(&mut history);
        let verdict = Verdict::of(&history, unix_ms());
        let told = world.nodes[0].printed();
        drop((world, ground));
        ensure!(verdict.is_untouched(), "{verdict:?}\n{told}");
        Ok(())
    }
}
