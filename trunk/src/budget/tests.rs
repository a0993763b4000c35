//! Who gets room, who has to go, and who may stay.

use antipode_proto::body::Body;
use antipode_proto::session::Config;
use antipode_proto::trunk::v1::{Cause, Chunk, RequestHead, ResponseHead};
use antipode_runtime::clock;
use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::bare::Bare;
use crate::metrics::Metrics;
use crate::peer::NodeIdentity;
use crate::port::SessionPort;

const CHUNK: usize = 16 * 1024;
/// Of the core, where what clients don't read piles up.
const CORE_MAX: u64 = 4 << 20;

#[test]
fn strain_follows_what_is_used() {
    let budget = Budget::new(1000);
    let mut used = 0;
    for (to, strain, room) in [
        (749, Strain::Easy, true),
        (750, Strain::Pressed, true),
        (850, Strain::Tight, true),
        (950, Strain::Full, true),
        (1000, Strain::Over, false),
        (849, Strain::Pressed, true),
    ] {
        budget.charge(used, to);
        used = to;
        assert_eq!((budget.used(), budget.strain()), (to, strain));
        assert_eq!(budget.has_room(0), room, "at {to}");
    }
    budget.charge(849, 949);
    assert!(!budget.has_room(MODEST_BYTES), "what there is left is for those that hold little");
    budget.charge(949, 999);
    assert!(!budget.has_room(1), "and then for those that hold nothing");
    assert_eq!(Budget::unlimited().strain(), Strain::Easy);
}

#[test]
fn what_is_held_is_counted_and_given_back() {
    let mut lab = Lab::new(10);
    lab.send(0, 5);
    let cost = 5 * (64 + u64::try_from(CHUNK).unwrap());
    assert_eq!(lab.budget.used(), cost + 64, "the answer's head, and five chunks");
    lab.carry();
    lab.read(0);
    lab.carry();
    assert_eq!(lab.budget.used(), 0, "acknowledged");
    lab.send(1, 5);
    assert_eq!(lab.budget.used(), cost);
    lab.backends.clear();
    assert_eq!(lab.budget.used(), 0, "reset");
}

/// Guarantee: memory stays within the budget, the stalled ones go with a cause and a count, and who
/// reads is served all along.
#[test]
fn stalled_sessions_go_and_the_others_stay() {
    let mut lab = Lab::new(46);
    let mut now = clock::now();
    for _ in 0..8 {
        for stalled in 1..46 {
            lab.send(stalled, 5);
        }
        lab.carry();
        for _ in 0..10 {
            lab.send(0, 1);
            lab.carry();
            assert_eq!(lab.read(0), 1, "who reads is served all along");
            lab.carry();
        }
        assert!(lab.budget.used() <= CORE_MAX, "{} bytes are held", lab.budget.used());
        now += Duration::from_secs(1);
        lab.core.handle_timeout(now);
    }
    lab.carry();
    let ended = lab.metrics.budget.sessions_shed.get_or_create(&labels(Cause::ClientSlow)).get();
    assert!(ended > 0 && ended < 45, "{ended} had to go: enough, and not all");
    let told = (1..46).filter(|client| lab.cause(*client) == Some(Cause::ClientSlow)).count();
    assert_eq!(u64::try_from(told).unwrap(), ended, "each one was told why");
    assert_eq!(lab.cause(0), None);
    assert!(lab.budget.strain() < Strain::Tight);
}

/// The promise to those whose trunk is broken comes first.
#[test]
fn who_waits_for_a_lane_stays() {
    let mut lab = Lab::new(60);
    lab.cut();
    let mut now = clock::now();
    for _ in 0..8 {
        (0..60).for_each(|client| lab.send(client, 5));
        assert!(lab.budget.used() <= CORE_MAX + u64::try_from(CHUNK + 64).unwrap());
        now += Duration::from_secs(1);
        lab.core.handle_timeout(now);
    }
    assert!(lab.budget.strain() >= Strain::Tight, "it is full");
    lab.mend();
    lab.carry();
    assert!((0..60).all(|client| lab.cause(client).is_none()), "nobody had to go");
    assert!((0..60).all(|client| lab.read(client) > 0), "and all goes on");
}

/// What comes in against our will: a peer may use the credit that it has.
#[test]
fn unread_bytes_are_bounded_whatever_the_peer_sends() {
    let node_max = 2 << 20;
    let mut lab = Lab::with(60, CORE_MAX * 100, node_max);
    for _ in 0..20 {
        (0..60).for_each(|client| lab.send(client, 1));
        lab.carry();
    }
    (0..60).for_each(|client| lab.send(client, 1));
    lab.carry();
    let bound = node_max + u64::try_from(CHUNK + 64).unwrap();
    assert!(lab.node_budget.used() <= bound, "{} bytes are held", lab.node_budget.used());
    assert!((0..60).any(|client| lab.cause(client) == Some(Cause::ClientSlow)));
}

#[tokio::test]
async fn who_waits_for_room_hears_of_it() {
    let lab = Lab::new(2);
    lab.budget.charge(0, CORE_MAX);
    let waits = timeout(Duration::from_millis(50), lab.backends[0].ready()).await;
    assert!(waits.is_err(), "there is none");
    let (woken, ()) =
        tokio::join!(timeout(Duration::from_secs(5), lab.backends[0].ready()), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            lab.budget.charge(CORE_MAX, 0);
        });
    woken.expect("in time").expect("alive");
}

#[tokio::test]
async fn who_waits_for_room_hears_of_the_end() {
    let lab = Lab::new(2);
    lab.budget.charge(0, CORE_MAX);
    let (woken, ()) =
        tokio::join!(timeout(Duration::from_secs(5), lab.backends[0].ready()), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            lab.backends[0].reset(Cause::BackendLost, "gone");
        });
    assert_eq!(woken.expect("in time").expect_err("over").cause, Cause::BackendLost);
}

/// A node and a core, moved by hand; backends write at the core, clients read at the node.
struct Lab {
    node: Bare,
    core: Bare,
    clients: Vec<SessionPort>,
    backends: Vec<SessionPort>,
    budget: Budget,
    node_budget: Budget,
    metrics: Metrics,
}

impl Lab {
    fn new(sessions: usize) -> Self {
        Self::with(sessions, CORE_MAX, u64::MAX)
    }

    fn with(sessions: usize, core_max: u64, node_max: u64) -> Self {
        let (budget, node_budget) = (Budget::new(core_max), Budget::new(node_max));
        let (metrics, config) = (Metrics::default(), Config::default());
        let identity = NodeIdentity::for_tests("node");
        let (at_node, at_core) = (node_budget.clone(), budget.clone());
        let node = Bare::node_within(1, config, Metrics::default(), at_node);
        let core = Bare::core_within(1, config, metrics.clone(), identity, 1000, at_core);
        let (clients, backends) = (Vec::new(), Vec::new());
        let mut lab = Self { node, core, clients, backends, budget, node_budget, metrics };
        lab.mend();
        for _ in 0..sessions {
            lab.clients.push(lab.node.open(RequestHead::default()).expect("the lane is up"));
            lab.carry();
            lab.backends.push(lab.core.next_incoming().expect("it was opened").port);
        }
        lab.carry();
        for backend in &lab.backends {
            backend.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
        }
        for client in 1..sessions {
            lab.carry();
            lab.read(client);
        }
        lab.carry();
        lab
    }

    fn cut(&mut self) {
        self.core.lane_down(0);
        self.node.lane_down(0);
    }

    fn mend(&mut self) {
        self.core.lane_up(0);
        self.node.lane_up(0);
    }

    /// As much of `chunks` as there is room for, each with bytes of its own.
    fn send(&self, session: usize, chunks: usize) {
        let backend = &self.backends[session];
        for chunk in 0..chunks {
            if backend.try_ready() != Ok(true) {
                return;
            }
            let byte = u8::try_from((session * 7 + chunk) % 251).unwrap();
            let payload = Bytes::from(vec![byte; CHUNK]);
            backend.send(Chunk { payload, ..Chunk::default() }.into()).unwrap();
        }
    }

    fn carry(&mut self) {
        let later = clock::now() + Duration::from_secs(1);
        loop {
            let (down, up) = (self.core.collect_batch(0, later), self.node.collect_batch(0, later));
            if down.is_none() && up.is_none() {
                return;
            }
            down.into_iter().for_each(|batch| self.node.handle_batch(0, batch).unwrap());
            up.into_iter().for_each(|batch| self.core.handle_batch(0, batch).unwrap());
        }
    }

    /// Reads everything there is; says how many chunks that was.
    fn read(&self, client: usize) -> usize {
        let mut chunks = 0;
        while let Ok(Some(delivery)) = self.clients[client].try_deliver() {
            chunks += usize::from(matches!(delivery.body, Body::Chunk(_)));
            self.clients[client].consumed(delivery.seq);
        }
        chunks
    }

    fn cause(&self, client: usize) -> Option<Cause> {
        self.clients[client].look(|machine| machine.ended().map(|ended| ended.cause))
    }
}

fn labels(cause: Cause) -> crate::metrics::EndLabels {
    crate::metrics::EndLabels::of(cause)
}
