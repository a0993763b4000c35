//! A UDP path between two tunnels: it has a length, and can be cut, lose packets and be rebound as
//! by a NAT.
#![allow(clippy::unwrap_used, reason = "a test stops where its world cannot be made")]
#![allow(dead_code, reason = "each test binary uses its share of this module")]

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// What a limited path holds before it drops: a common size of such queues.
const QUEUE: Duration = Duration::from_millis(200);

/// IPv4 and UDP.
const HEADERS_BYTES: u64 = 28;

/// Which ways nothing passes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Cut {
    /// From the node to the core.
    pub(crate) up: bool,
    /// From the core to the node.
    pub(crate) down: bool,
}

#[derive(Debug)]
struct Rules {
    cut: Cut,
    one_way: Duration,
    /// Bytes a second each way; 0: as many as come.
    rate: u64,
    /// Until when each way is busy.
    busy: [Option<Instant>; 2],
    /// One packet in so many is lost; 0: none is.
    loses_one_in: u64,
    passed: u64,
    core: SocketAddr,
    node: Option<SocketAddr>,
}

/// The path. Dropping it ends it.
pub(crate) struct Path {
    /// Where the node finds the core.
    pub(crate) address: SocketAddr,
    rules: Arc<Mutex<Rules>>,
    rebind: watch::Sender<()>,
    _tasks: JoinSet<()>,
}

impl Path {
    pub(crate) async fn start(core: SocketAddr, one_way: Duration) -> Self {
        let front = Arc::new(bind(core).await);
        let address = front.local_addr().unwrap();
        let rules = Rules {
            cut: Cut::default(),
            one_way,
            rate: 0,
            busy: [None; 2],
            loses_one_in: 0,
            passed: 0,
            core,
            node: None,
        };
        let rules = Arc::new(Mutex::new(rules));
        let (rebind, rebound) = watch::channel(());
        let mut tasks = JoinSet::new();
        tasks.spawn(carry(front, Arc::clone(&rules), rebound));
        Self { address, rules, rebind, _tasks: tasks }
    }

    pub(crate) fn cut(&self, cut: Cut) {
        self.rules.lock().cut = cut;
    }

    pub(crate) fn cut_both(&self) {
        self.cut(Cut { up: true, down: true });
    }

    pub(crate) fn mend(&self) {
        self.cut(Cut::default());
    }

    pub(crate) fn lose_one_in(&self, packets: u64) {
        self.rules.lock().loses_one_in = packets;
    }

    /// A bottleneck each way, with a queue of [`QUEUE`] before it.
    pub(crate) fn limit(&self, bits_per_second: u64) {
        self.rules.lock().rate = bits_per_second / 8;
    }

    /// The core sees the node at another port; what is sent to the old one is lost.
    pub(crate) fn rebind(&self) {
        self.rebind.send_replace(());
    }

    /// The core is at another address now.
    pub(crate) fn redirect(&self, core: SocketAddr) {
        self.rules.lock().core = core;
    }
}

impl Rules {
    /// When and whether a packet arrives.
    fn judge(&mut self, way: usize, len: usize, is_cut: bool) -> Option<Instant> {
        self.passed += 1;
        let is_lost = self.loses_one_in > 0 && self.passed.is_multiple_of(self.loses_one_in);
        if is_cut || is_lost {
            return None;
        }
        let now = Instant::now();
        if self.rate == 0 {
            return Some(now + self.one_way);
        }
        let begins = self.busy[way].map_or(now, |busy| busy.max(now));
        if begins - now > QUEUE {
            return None;
        }
        let bytes = u64::try_from(len).unwrap() + HEADERS_BYTES;
        let ends = begins + Duration::from_nanos(bytes * 1_000_000_000 / self.rate);
        self.busy[way] = Some(ends);
        Some(ends + self.one_way)
    }
}

async fn carry(front: Arc<UdpSocket>, rules: Arc<Mutex<Rules>>, mut rebound: watch::Receiver<()>) {
    let core = rules.lock().core;
    let mut back = Arc::new(bind(core).await);
    let (mut up, mut up_end) = conveyor(Arc::clone(&back));
    let (down, _down_end) = conveyor(Arc::clone(&front));
    let (mut from_node, mut from_core) = (vec![0; 2048], vec![0; 2048]);
    loop {
        tokio::select! {
            received = front.recv_from(&mut from_node) => {
                let Ok((len, node)) = received else { continue };
                let mut rules = rules.lock();
                rules.node = Some(node);
                let is_cut = rules.cut.up;
                if let Some(due) = rules.judge(0, len, is_cut) {
                    let _ = up.send((due, from_node[..len].to_vec(), rules.core));
                }
            }
            received = back.recv_from(&mut from_core) => {
                let Ok((len, _)) = received else { continue };
                let mut rules = rules.lock();
                let Some(node) = rules.node else { continue };
                let is_cut = rules.cut.down;
                if let Some(due) = rules.judge(1, len, is_cut) {
                    let _ = down.send((due, from_core[..len].to_vec(), node));
                }
            }
            changed = rebound.changed() => {
                if changed.is_err() { return; }
                back = Arc::new(bind(core).await);
                (up, up_end) = conveyor(Arc::clone(&back));
            }
        }
        let _ = &up_end;
    }
}

type Packet = (Instant, Vec<u8>, SocketAddr);

fn conveyor(socket: Arc<UdpSocket>) -> (mpsc::UnboundedSender<Packet>, JoinSet<()>) {
    let (sender, mut receiver) = mpsc::unbounded_channel::<Packet>();
    let mut task = JoinSet::new();
    task.spawn(async move {
        while let Some((due, bytes, to)) = receiver.recv().await {
            sleep_until(due).await;
            let _ = socket.send_to(&bytes, to).await;
        }
    });
    (sender, task)
}

/// A socket of the family of whom it speaks with.
async fn bind(core: SocketAddr) -> UdpSocket {
    let loopback: IpAddr =
        if core.is_ipv6() { Ipv6Addr::LOCALHOST.into() } else { Ipv4Addr::LOCALHOST.into() };
    UdpSocket::bind((loopback, 0)).await.unwrap()
}
