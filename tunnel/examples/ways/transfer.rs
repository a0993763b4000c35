//! One transfer by one way, each end on a thread of its own: what it carried, and what it cost.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use antipode_tunnel::{ForwarderConfig, Metrics, PrivateKey};
use tokio_util::sync::CancellationToken;

use crate::Failure;
use crate::certified::Certified;
use crate::ends::{self, Route, Shared};
use crate::worker::Worker;

/// A transfer's beginning does not count.
const WARM: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Carrier {
    Udp,
    Stream,
    Through,
}

impl Carrier {
    /// As the tunnel calls it.
    pub(crate) const fn kind(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Stream => "stream",
            Self::Through => "through",
        }
    }
}

/// Where the ends are.
pub(crate) struct Place {
    pub(crate) says: String,
    /// The node's namespace and the core's.
    pub(crate) namespaces: [Option<String>; 2],
    pub(crate) node: IpAddr,
    pub(crate) core: IpAddr,
    pub(crate) echoes: usize,
}

impl Place {
    pub(crate) fn loopback() -> Self {
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (says, namespaces) = ("loopback".to_owned(), [None, None]);
        Self { says, namespaces, node: here, core: here, echoes: 2000 }
    }
}

pub(crate) fn measure(place: &Place, carrier: Carrier, length: Duration) -> Result<(), Failure> {
    let [node, core, neighbour] = [(); 3].map(|()| PrivateKey::generate());
    let names = ["core".to_owned(), place.core.to_string()];
    let shared = Shared {
        certified: Arc::new(Certified::named(&[&names[0], &names[1]])),
        node: node.public_key(),
        core: core.public_key(),
        stop: CancellationToken::new(),
    };
    let arrived = Arc::new(AtomicU64::new(0));
    let (at, count, known) = (place.core, Arc::clone(&arrived), shared.clone());
    let (tell, told) = channel();
    let work = move || ends::core(core, at, known, tell, count);
    let mut workers = vec![("core", Worker::start(place.namespaces[1].as_deref(), work)?)];
    let core_at = told.recv()?;

    let metrics = Metrics::default();
    let mut forwarder = None;
    if carrier == Carrier::Through {
        let (tell, told) = channel();
        let (public_key, known, counts) = (neighbour.public_key(), shared.clone(), metrics.clone());
        let work = move || ends::neighbour(neighbour, known, core_at.0, counts, tell);
        workers.push(("neighbour", Worker::start(None, work)?));
        forwarder = Some(ForwarderConfig { public_key, addresses: vec![told.recv()?] });
    }
    let route = Route { carrier, core: core_at, forwarder };
    let (at, echoes, known) = (place.node, place.echoes, shared.clone());
    let (tell, told) = channel();
    let work = move || ends::node(node, at, known, route, echoes, tell);
    workers.push(("node", Worker::start(place.namespaces[0].as_deref(), work)?));
    let round_trips = told.recv()?;

    std::thread::sleep(WARM);
    let carried = || (arrived.load(Ordering::Relaxed), metrics.forwarding.forwarded_count());
    let used = || workers.iter().map(|(_, worker)| worker.used()).collect::<Result<Vec<_>, _>>();
    let (before, used_before) = (carried(), used()?);
    std::thread::sleep(length);
    let (after, used_after) = (carried(), used()?);
    shared.stop.cancel();

    let seconds = length.as_secs_f64();
    let bytes = after.0 - before.0;
    let mut line = beginning(place, carrier, bytes as f64 / 1e6 / seconds, &round_trips);
    for (at, (name, _)) in workers.iter().enumerate() {
        let used = (used_after[at] - used_before[at]).as_secs_f64();
        line += &format!(",\"{name}_cpu_share\":{:.2}", used / seconds);
        line += &format!(",\"{name}_cpu_ns_per_byte\":{:.2}", used * 1e9 / bytes.max(1) as f64);
        let [to_core, back] = [0, 1].map(|leg| after.1[leg] - before.1[leg]);
        if *name == "neighbour" {
            let all = (to_core + back) as f64;
            line += &format!(
                ",\"datagrams_to_core_per_second\":{:.0},\"datagrams_back_per_second\":{:.0},\
                 \"neighbour_cpu_ns_per_datagram\":{:.0}",
                to_core as f64 / seconds,
                back as f64 / seconds,
                used * 1e9 / all.max(1.0)
            );
        }
    }
    println!("{line}}}");
    workers.into_iter().try_for_each(|(_, worker)| worker.join())
}

fn beginning(place: &Place, carrier: Carrier, speed: f64, round_trips: &[Duration]) -> String {
    let at =
        |percent: usize| round_trips[(round_trips.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    format!(
        "{{\"place\":\"{}\",\"way\":\"{}\",\"megabytes_per_second\":{speed:.2},\
         \"echo_p50_ms\":{:.3},\"echo_p99_ms\":{:.3}",
        place.says,
        carrier.kind(),
        at(50),
        at(99),
    )
}
