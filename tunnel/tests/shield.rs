//! The shield end to end: two tunnels, real sockets, and between them a relay that loses datagrams.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::io::IoSliceMut;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::Duration;

use antipode_tunnel::metrics::DropReason;
use antipode_tunnel::shield::{QuicCounts, Refusal, ShieldConfig, ShieldState};
use antipode_tunnel::{
    Class, Metrics, PeerConfig, PeerState, PrivateKey, Tasks, Tunnel, TunnelConfig,
};
use quinn::AsyncUdpSocket;
use quinn::udp::{RecvMeta, Transmit};
use tokio::net::UdpSocket;
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};
use tokio::time::{Instant, sleep_until};

const PORT: u16 = 7;
/// From one end to the other.
const DELAY: Duration = Duration::from_millis(10);

struct Host {
    tunnel: Tunnel,
    tasks: Tasks,
    metrics: Metrics,
}

fn host(shield: ShieldConfig) -> Host {
    let (tasks, metrics) = (Tasks::default(), Metrics::default());
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    let config = TunnelConfig { shield, ..TunnelConfig::new(PrivateKey::generate(), any) };
    let tunnel = Tunnel::bind(config, &tasks, metrics.clone()).unwrap();
    Host { tunnel, tasks, metrics }
}

/// What stands between two hosts. Each datagram takes 10 ms, and of a thousand so many are lost.
#[derive(Default)]
struct Between {
    loss_permille: AtomicU32,
    /// First bytes over that are no WireGuard message: they are lost as well if set.
    drops_probes: AtomicU32,
    data_up: AtomicU64,
}

impl Between {
    fn passes(&self, datagram: &[u8]) -> bool {
        let is_probe = datagram.first().is_none_or(|kind| *kind > 4);
        if is_probe && self.drops_probes.load(Ordering::Relaxed) > 0 {
            return false;
        }
        rand::random_range(0..1000) >= self.loss_permille.load(Ordering::Relaxed)
    }
}

/// A relay before `far`, and its address.
async fn relay(far: SocketAddr, between: &Arc<Between>, tasks: &Tasks) -> SocketAddr {
    let outside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let inside = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let address = outside.local_addr().unwrap();
    let between = Arc::clone(between);
    let (to_far, to_near) = (line(&inside, tasks), line(&outside, tasks));
    tasks.tracker.spawn(async move {
        let (mut up, mut down) = (vec![0; 65_535], vec![0; 65_535]);
        let mut near = None;
        loop {
            let (datagram, line, to) = tokio::select! {
                got = outside.recv_from(&mut up) => {
                    let Ok((len, from)) = got else { continue };
                    near = Some(from);
                    between.data_up.fetch_add(u64::from(up[0] == 4), Ordering::Relaxed);
                    (up[..len].to_vec(), &to_far, far)
                }
                got = inside.recv_from(&mut down) => {
                    let (Ok((len, _)), Some(near)) = (got, near) else { continue };
                    (down[..len].to_vec(), &to_near, near)
                }
            };
            if between.passes(&datagram) {
                let _ = line.send((Instant::now() + DELAY, datagram, to));
            }
        }
    });
    address
}

/// When it goes on, what, and where to.
type Waiting = (Instant, Vec<u8>, SocketAddr);

/// One direction of the relay. Datagrams leave in the order in which they came: one that a probe
/// overtakes is taken for lost.
fn line(socket: &Arc<UdpSocket>, tasks: &Tasks) -> UnboundedSender<Waiting> {
    let (sender, mut waiting) = unbounded_channel::<Waiting>();
    let socket = Arc::clone(socket);
    tasks.tracker.spawn(async move {
        while let Some((due, datagram, to)) = waiting.recv().await {
            sleep_until(due).await;
            let _ = socket.send_to(&datagram, to).await;
        }
    });
    sender
}

struct Pair {
    node: Host,
    core: Host,
    between: Arc<Between>,
}

async fn pair(shield: ShieldConfig) -> Pair {
    let (node, core) = (host(shield), host(ShieldConfig::default()));
    let between = Arc::new(Between::default());
    let relay = relay(core.tunnel.local_addr(), &between, &node.tasks).await;
    node.tunnel.set_peers(vec![PeerConfig {
        endpoint: Some(relay),
        keepalive: Some(Duration::from_secs(25)),
        ..PeerConfig::new(core.tunnel.public_key())
    }]);
    core.tunnel.set_peers(vec![PeerConfig::new(node.tunnel.public_key())]);
    until(|| node.state().handshake_age.is_some()).await;
    Pair { node, core, between }
}

/// Two ends with a clean path between them. What a busy machine drops at their start keeps the
/// shield up for half a minute and more: then others are tried.
async fn clean_pair() -> Pair {
    for _ in 0..10 {
        let pair = pair(ShieldConfig::default()).await;
        if pair.reaches(Class::Chat, ShieldState::Clean, 0, 12).await {
            return pair;
        }
        pair.stop();
    }
    panic!("the path is never clean");
}

impl Host {
    fn state(&self) -> PeerState {
        self.tunnel.peers().remove(0)
    }
}

impl Pair {
    /// Sends `count` datagrams, one a millisecond. Returns how many of them arrived.
    async fn flow(&self, class: Class, count: u32) -> usize {
        let from = self.node.tunnel.udp_socket(0, class).unwrap();
        let to = self.core.tunnel.udp_socket(PORT, class).unwrap();
        let destination = SocketAddr::new(self.core.tunnel.address().into(), PORT);
        let mut tick = tokio::time::interval(Duration::from_millis(1));
        let mut seen = vec![false; count as usize];
        for number in 0..count {
            tick.tick().await;
            let mut contents = vec![0; 100];
            contents[..4].copy_from_slice(&number.to_be_bytes());
            let transmit = Transmit {
                destination,
                ecn: None,
                contents: &contents,
                segment_size: None,
                src_ip: None,
            };
            from.try_send(&transmit).unwrap();
            take(to.as_ref(), &mut seen).await;
        }
        for _ in 0..150 {
            tick.tick().await;
            take(to.as_ref(), &mut seen).await;
        }
        seen.into_iter().filter(|arrived| *arrived).count()
    }

    /// Lets traffic flow until the shield is in a state, with so many copies.
    async fn flow_until(&self, class: Class, state: ShieldState, copies: u8) {
        let reached = self.reaches(class, state, copies, 120).await;
        assert!(reached, "still {:?}", self.node.state());
    }

    /// The same, for so many rounds of traffic; whether it came to that.
    async fn reaches(&self, class: Class, state: ShieldState, copies: u8, rounds: u32) -> bool {
        for _ in 0..rounds {
            let plan = self.node.state().shield.plan;
            if plan.state == state && plan.copies >= copies {
                return true;
            }
            self.flow(class, 500).await;
        }
        false
    }

    fn stop(&self) {
        self.node.tasks.stop.cancel();
        self.core.tasks.stop.cancel();
    }
}

/// Reads what is there.
async fn take(socket: &dyn AsyncUdpSocket, seen: &mut [bool]) {
    std::future::poll_fn(|cx| {
        loop {
            let mut storage = vec![0; 65_536];
            let mut bufs = [IoSliceMut::new(&mut storage)];
            let mut meta = [RecvMeta::default()];
            let std::task::Poll::Ready(got) = socket.poll_recv(cx, &mut bufs, &mut meta) else {
                return std::task::Poll::Ready(());
            };
            got.unwrap();
            for datagram in storage[..meta[0].len].chunks(meta[0].stride) {
                let number = u32::from_be_bytes(datagram[..4].try_into().unwrap());
                seen[number as usize] = true;
            }
        }
    })
    .await;
}

async fn until(condition: impl Fn() -> bool) {
    for _ in 0..500 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited 5 s");
}

/// Chat has copies as soon as loss is measured, bulk never, and a clean path has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_gets_lost_is_there_all_the_same() {
    let pair = clean_pair().await;
    let before = pair.node.metrics.shield.sent_count();
    pair.flow(Class::Chat, 500).await;
    assert_eq!(pair.node.metrics.shield.sent_count(), before, "a clean path");

    pair.between.loss_permille.store(100, Ordering::Relaxed);
    pair.flow_until(Class::Bulk, ShieldState::On, 2).await;
    assert_eq!(pair.node.metrics.shield.sent_count(), before, "bulk is left alone");
    let thrown = pair.core.metrics.dropped_count(DropReason::Duplicate);
    let arrived = pair.flow(Class::Chat, 2_000).await;
    assert!(arrived >= 1_985, "{arrived} of 2,000; without copies it were 1,800");

    let (copies, bytes) = pair.node.metrics.shield.sent_count();
    let (copies, bytes) = (copies - before.0, bytes - before.1);
    assert!((3_800..=4_000).contains(&copies), "{copies} copies of 2,000");
    assert_eq!(bytes, copies * 192, "100, with headers 148, padded 160, in WireGuard 192");
    let state = pair.node.state();
    assert!((1_700..=2_100).contains(&state.shield.copies_permille), "{state:?}");
    let up = pair.between.data_up.load(Ordering::Relaxed);
    assert!(state.sent.abs_diff(up) < 20, "sent {}, on the wire {up}", state.sent);
    let thrown = pair.core.metrics.dropped_count(DropReason::Duplicate) - thrown;
    assert!(thrown > 3_000, "{thrown} copies were not needed");
    pair.stop();
}

/// A standard peer answers no probes: then QUIC's figures count.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_answers_no_probes_is_shielded_by_what_quic_tells() {
    let pair = pair(ShieldConfig::default()).await;
    pair.between.drops_probes.store(1, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(pair.node.state().shield.plan.state, ShieldState::Unmeasured);
    let counts = QuicCounts { sent: 1_000, lost: 10, rtt: Duration::from_millis(20) };
    pair.node.tunnel.note_quic(pair.core.tunnel.address(), counts);
    pair.flow_until(Class::Chat, ShieldState::On, 1).await;
    pair.between.loss_permille.store(100, Ordering::Relaxed);
    let arrived = pair.flow(Class::Chat, 1_000).await;
    assert!(arrived > 970, "{arrived} of 1,000; without copies it were 900");
    pair.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_can_be_switched_off_and_costs_no_more_than_it_may() {
    let off = pair(ShieldConfig { enabled: false, ..ShieldConfig::default() }).await;
    let slight = ShieldConfig { enabled: true, kbit_per_second_max: 80 };
    let slight = pair(slight).await;
    for pair in [&off, &slight] {
        pair.between.loss_permille.store(50, Ordering::Relaxed);
    }
    slight.flow_until(Class::Chat, ShieldState::On, 1).await;
    let before = slight.node.metrics.shield.sent_count().1;
    tokio::join!(off.flow(Class::Chat, 3_000), slight.flow(Class::Chat, 3_000));
    assert_eq!(off.node.state().shield.plan.state, ShieldState::Off);
    assert_eq!(off.node.metrics.shield.sent_count(), (0, 0));
    let bytes = slight.node.metrics.shield.sent_count().1 - before;
    assert!((20_000..60_000).contains(&bytes), "{bytes} in 3 s of 10,000 a second");
    assert!(slight.node.metrics.shield.refused_count(Refusal::Budget) > 1_000);
    off.stop();
    slight.stop();
}
