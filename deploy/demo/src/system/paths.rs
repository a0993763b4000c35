//! Every region's paths: the client's hop to its relay, the direct way, and the tunnel's.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use antipode_runtime::shutdown::Shutdown;

use crate::distance::NEAR_ONE_WAY;
use crate::region::REGIONS;
use crate::wan::{TcpRelay, UdpRelay};

/// Bound before the programs start, since they have to be told these ports.
#[derive(Debug)]
pub(super) struct Paths {
    regions: Vec<Region>,
}

#[derive(Debug)]
struct Region {
    relay: TcpRelay,
    relay_tls: TcpRelay,
    direct: TcpRelay,
    direct_tls: TcpRelay,
    tunnel: UdpRelay,
    /// From the region to Europe.
    one_way: Duration,
}

/// The near ends of one region's paths.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ports {
    pub(super) relay: SocketAddr,
    pub(super) relay_tls: SocketAddr,
    pub(super) direct: SocketAddr,
    pub(super) direct_tls: SocketAddr,
    pub(super) tunnel: SocketAddr,
}

/// The far ends of the direct ways.
#[derive(Clone, Copy, Debug)]
pub(super) struct Far {
    pub(super) plain: Option<SocketAddr>,
    pub(super) tls: Option<SocketAddr>,
}

/// Where the programs listen.
#[derive(Clone, Debug)]
pub(super) struct Ends {
    /// The core's WireGuard socket.
    pub(super) core_tunnel: SocketAddr,
    /// Each node's listeners, in the order of the regions.
    pub(super) nodes: Vec<NodeEnds>,
}

/// One node's listeners.
#[derive(Clone, Copy, Debug)]
pub(super) struct NodeEnds {
    pub(super) plain: SocketAddr,
    pub(super) tls: SocketAddr,
}

impl Paths {
    pub(super) async fn bind(host: IpAddr) -> io::Result<Self> {
        let mut regions = Vec::new();
        for region in &REGIONS {
            regions.push(Region {
                relay: TcpRelay::bind(host).await?,
                relay_tls: TcpRelay::bind(host).await?,
                direct: TcpRelay::bind(host).await?,
                direct_tls: TcpRelay::bind(host).await?,
                tunnel: UdpRelay::bind()?,
                one_way: region.route().one_way(),
            });
        }
        Ok(Self { regions })
    }

    pub(super) fn ports(&self) -> io::Result<Vec<Ports>> {
        let ports = |region: &Region| {
            Ok(Ports {
                relay: region.relay.local_addr()?,
                relay_tls: region.relay_tls.local_addr()?,
                direct: region.direct.local_addr()?,
                direct_tls: region.direct_tls.local_addr()?,
                tunnel: region.tunnel.local_addr()?,
            })
        };
        self.regions.iter().map(ports).collect()
    }

    /// Opens every path. The direct ways begin at the client too, so its own hop is part of them.
    pub(super) fn serve(self, ends: &Ends, far: Far, shutdown: &Shutdown) {
        for (region, node) in self.regions.into_iter().zip(&ends.nodes) {
            region.relay.serve(node.plain, NEAR_ONE_WAY, shutdown);
            region.relay_tls.serve(node.tls, NEAR_ONE_WAY, shutdown);
            region.tunnel.serve(ends.core_tunnel, region.one_way, shutdown);
            let all_the_way = NEAR_ONE_WAY + region.one_way;
            if let Some(target) = far.plain {
                region.direct.serve(target, all_the_way, shutdown);
            }
            if let Some(target) = far.tls {
                region.direct_tls.serve(target, all_the_way, shutdown);
            }
        }
    }
}
