//! Who is at the other end of a trunk, how the trunk does, and what comes out of it.

use std::net::Ipv6Addr;
use std::time::Duration;

use antipode_proto::trunk::v1::RequestHead;

use crate::port::SessionPort;

/// A node on the roster.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NodeIdentity {
    /// The identity in its certificate.
    pub member_id: String,
    /// What the operator calls it.
    pub name: String,
    /// Where it stands.
    pub region: String,
    /// Its address inside the tunnel, which follows from its WireGuard key.
    pub address: Ipv6Addr,
}

impl NodeIdentity {
    pub(crate) fn for_tests(name: &str) -> Self {
        let (member_id, region) = (name.to_owned(), "test".to_owned());
        Self { member_id, name: name.to_owned(), region, address: Ipv6Addr::LOCALHOST }
    }
}

/// A session that a client opened at a node.
#[derive(Debug)]
pub struct Incoming {
    /// What the client asked for; acknowledged already.
    pub head: RequestHead,
    /// The core's end of the session.
    pub port: SessionPort,
    /// The node it came through.
    pub node: NodeIdentity,
}

/// How a trunk does.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TrunkState {
    /// Who is at the other end.
    pub member_id: String,
    /// Lanes that carry something.
    pub lanes_up: u32,
    /// Sessions held at this end.
    pub sessions: usize,
    /// Since anything came from the other end, or since something was not answered.
    pub silence: Duration,
    /// Round trip as the carrier measures it.
    pub rtt: Option<Duration>,
    /// Lost packets in a million.
    pub loss_ppm: u32,
}
