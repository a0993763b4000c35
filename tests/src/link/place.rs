//! Three hosts: the clients' (this one), the node's beside it, and the core's at the far end of the
//! emulated link.
//!
//! Clients and node meet on a bridge without delay; so do the gateway and everybody, whose words
//! are no part of what is measured. What a tunnel sends goes over the link.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::Context;

use crate::namespaces::Lab;
use crate::settings::{Site, WIREGUARD_PORT};
use crate::wan::{Change, End, Plan, Wan, Way};
use crate::world::Sites;

use super::condition::ONE_WAY_MS;

/// The node's end of the link.
pub const NODE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 1));
/// The core's end of the link.
pub const CORE: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 9, 0, 2));

/// The hosts and the link.
#[derive(Debug)]
pub struct Place {
    /// The link.
    pub wan: Wan,
    /// East is the node's, west the core's.
    pub lab: Lab,
}

impl Place {
    /// Makes the hosts and joins them.
    ///
    /// # Errors
    ///
    /// If the system refuses.
    pub fn make() -> anyhow::Result<Self> {
        let lab = Lab::make()?;
        let end = |host: &crate::namespaces::Host, address: IpAddr| End {
            namespace: Some(host.namespace.clone()),
            interface: "wan0".to_owned(),
            addresses: vec![format!("{address}/24")],
        };
        let plan = Plan { left: end(&lab.east, NODE), right: end(&lab.west, CORE), seed: 1 };
        let wan = Wan::start(&plan).context("start the emulated link")?;
        let place = Self { wan, lab };
        place.clean()?;
        Ok(place)
    }

    /// The link as it is when clients come: its delay, and nothing else.
    ///
    /// # Errors
    ///
    /// If the link's threads are gone.
    pub fn clean(&self) -> anyhow::Result<()> {
        let change = Change {
            delay_ms: Some(ONE_WAY_MS),
            jitter_ms: Some(0.0),
            loss: Some(0.0),
            burst: Some(crate::wan::Burst::default()),
            cut: Some(false),
            rate_mbit: Some(0.0),
            ..Change::default()
        };
        Ok(self.wan.set(Way::Both, &change)?)
    }

    /// Packets that the link has taken, both ways together.
    #[must_use]
    pub fn packets(&self) -> u64 {
        let figures = self.wan.stats();
        figures.up.counters.packets + figures.down.counters.packets
    }

    /// Where the product's programs run.
    #[must_use]
    pub fn sites(&self) -> Sites {
        let Lab { here, east, west, .. } = &self.lab;
        let site = |host: &crate::namespaces::Host, tunnel| Site {
            host: Some(host.clone()),
            tunnel_address: Some(tunnel),
            ..Site::here(host.address)
        };
        let endpoints = vec![SocketAddr::new(CORE, WIREGUARD_PORT).to_string()];
        Sites {
            gateway: *here,
            core: Site { endpoints, ..site(west, CORE) },
            nodes: site(east, NODE),
        }
    }
}
