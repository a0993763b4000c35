//! A world whose node and core are far apart: on hosts of their own, with one or more emulated links
//! between them, and clients in conversation. All else (gateway, backend, clients) is near to all.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;

use crate::faults::crowd::{Crowd, Habit};
use crate::faults::history::{History, Verdict};
use crate::faults::ledger::Ledger;
use crate::faults::{unix_ms, until};
use crate::namespaces::{Host, Lab};
use crate::settings::{Site, WIREGUARD_PORT};
use crate::wan::{self, Change, End, Wan, Way};
use crate::world::{Plan, Sites, World};

/// How a link is numbered on its own.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// What there is.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The links between node and core, each a path of its own, and an endpoint of the core's.
    pub links: Vec<Family>,
    /// What each of them does to frames at first, as JSON.
    pub conditions: &'static str,
    /// Clients.
    pub sessions: u64,
    /// What each client does.
    pub habit: Habit,
    /// More for the table `[tunnel]` of node and core.
    pub tunnel_more: String,
}

impl Default for Setting {
    fn default() -> Self {
        Self {
            links: vec![Family::V4],
            conditions: r#"{"delay_ms": 50}"#,
            sessions: 10,
            habit: Habit { every: Duration::from_millis(100), bytes: 128 },
            tunnel_more: String::new(),
        }
    }
}

/// Everything running, with everybody in conversation. It ends in this order when dropped.
#[derive(Debug)]
pub struct Far {
    /// The clients.
    pub crowd: Crowd,
    /// The programs.
    pub world: World,
    /// The backend.
    pub ledger: Ledger,
    /// The links, as the setting has them; left is the node's side.
    pub links: Vec<Wan>,
    /// The hosts: east is the node's, west the core's.
    pub lab: Lab,
    sessions: usize,
}

/// An end of the link of a number.
#[must_use]
pub fn address(family: Family, link: u8, last: u8) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(10, 9, link, last).into(),
        Family::V6 => Ipv6Addr::new(0xfd09, link.into(), 0, 0, 0, 0, 0, last.into()).into(),
    }
}

impl Far {
    /// Starts everything, and waits until everybody has heard the other end.
    ///
    /// # Errors
    ///
    /// Whatever did not come up.
    pub async fn set(setting: Setting) -> anyhow::Result<Self> {
        let (lab, links) = join(&setting)?;
        let ledger = Ledger::start(lab.here)?;
        let plan =
            Plan { sites: Some(sites(&lab, &setting)), ..Plan::with_backend(ledger.address()) };
        let world = World::start(plan).await?;
        let crowd = Crowd::open(&world.client(0), 1..=setting.sessions, setting.habit).await?;
        let sessions = usize::try_from(setting.sessions)?;
        let far = Self { crowd, world, ledger, links, lab, sessions };
        far.flow_within(Duration::from_secs(20)).await?;
        Ok(far)
    }

    /// Changes a link, or all of them; `change` is JSON.
    ///
    /// # Errors
    ///
    /// If it is none, or no link can be so.
    pub fn change(&self, link: Option<usize>, way: Way, change: &str) -> anyhow::Result<()> {
        let change: Change = serde_json::from_str(change)?;
        let chosen =
            self.links.iter().enumerate().filter(|(at, _)| link.is_none_or(|one| one == *at));
        for (_, link) in chosen {
            link.set(way, &change)?;
        }
        Ok(())
    }

    /// Waits until every session has carried something both ways from now on, and says how long
    /// that took.
    ///
    /// # Errors
    ///
    /// If one does not within `limit`.
    pub async fn flow_within(&self, limit: Duration) -> anyhow::Result<Duration> {
        let start = unix_ms();
        until("everybody hears the other end", limit, || {
            self.crowd.heard_since(start) >= self.sessions
                && self.ledger.heard_since(start) >= self.sessions
        })
        .await?;
        Ok(Duration::from_millis(unix_ms() - start))
    }

    /// A figure of the node's, summed over its labels; 0 where there is none.
    ///
    /// # Errors
    ///
    /// If the node does not answer.
    pub async fn node_figure(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let text = self.world.metrics(2).await?;
        let lines = text.lines().filter(|line| line.starts_with(name) && line.contains(label));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Everybody leaves; nothing may have been lost, twice or out of order, and nobody told that it
    /// is over.
    ///
    /// # Errors
    ///
    /// If something was.
    pub async fn untouched(self) -> anyhow::Result<()> {
        let Self { crowd, world, ledger, links, lab, .. } = self;
        let mut history: History = crowd.leave().await;
        ledger.complete(&mut history);
        let verdict = Verdict::of(&history, unix_ms());
        let nodes: Vec<_> = world.nodes.iter().map(|node| node.printed()).collect();
        drop((world, links, lab));
        ensure!(verdict.is_untouched(), "{verdict:?}\n{}", nodes.join("\n"));
        Ok(())
    }
}

fn join(setting: &Setting) -> anyhow::Result<(Lab, Vec<Wan>)> {
    let lab = Lab::make()?;
    let change: Change = serde_json::from_str(setting.conditions)?;
    let mut links = Vec::new();
    for (family, link) in setting.links.iter().zip(0..) {
        let length = if *family == Family::V4 { 24 } else { 64 };
        let end = |host: &Host, last| End {
            namespace: Some(host.namespace.clone()),
            interface: format!("wan{link}"),
            addresses: vec![format!("{}/{length}", address(*family, link, last))],
        };
        let (left, right) = (end(&lab.east, 1), end(&lab.west, 2));
        let wan = Wan::start(&wan::Plan { left, right, seed: link.into() })?;
        wan.set(Way::Both, &change)?;
        links.push(wan);
    }
    Ok((lab, links))
}

fn sites(lab: &Lab, setting: &Setting) -> Sites {
    let site = |host: &Host| Site {
        host: Some(host.clone()),
        tunnel_address: Some(Ipv6Addr::UNSPECIFIED.into()),
        tunnel_more: setting.tunnel_more.clone(),
        ..Site::here(host.address)
    };
    let endpoint =
        |(family, link): (&Family, u8)| SocketAddr::new(address(*family, link, 2), WIREGUARD_PORT);
    let endpoints = setting.links.iter().zip(0..).map(endpoint).collect();
    Sites { gateway: lab.here, core: Site { endpoints, ..site(&lab.west) }, nodes: site(&lab.east) }
}
