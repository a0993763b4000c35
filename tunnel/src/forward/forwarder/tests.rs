//! The forwarder between neighbours, strangers and a core.

use super::super::codec::HEADER_BYTES;
use super::*;
use crate::key::PrivateKey;

const MESSAGE: &[u8] = &[4, 0, 0, 0, 1, 2, 3];
const BUDGET: u64 = 10_000_000;

/// A forwarder between neighbours and one core.
struct Lab {
    own: PrivateKey,
    core: KeyId,
    forwarder: Forwarder,
    now: Instant,
}

/// A neighbour, or somebody who would like to be one.
struct Someone {
    id: KeyId,
    key: PathKey,
    counter: u64,
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn from(port: u16) -> Way {
    address(port).into()
}

impl Lab {
    fn new(budget: u64) -> Self {
        let (own, core) = (PrivateKey::generate(), PrivateKey::generate());
        let core = KeyId::of(&core.public_key());
        let now = crate::tunnel::now();
        let mut forwarder = Forwarder::new(&own.public_key(), budget, now);
        forwarder.set_cores(&[(core, Some(address(51_820)))]);
        Self { own, core, forwarder, now }
    }

    fn someone(&self) -> Someone {
        let private = PrivateKey::generate();
        let key = PathKey::new(&private, &self.own.public_key()).unwrap();
        Someone { id: KeyId::of(&private.public_key()), key, counter: 1000 }
    }

    fn name(&mut self, neighbours: &[&Someone]) {
        let keys = neighbours.iter().map(|someone| (someone.id, someone.key.clone()));
        self.forwarder.set_neighbours(keys, 7_000_000, self.now);
    }

    fn neighbour(&mut self) -> Someone {
        let someone = self.someone();
        self.name(&[&someone]);
        someone
    }

    fn forward(&mut self, port: u16, datagram: &[u8]) -> Result<Leave, Refused> {
        let wrapped = Wrapped::read(datagram).unwrap();
        self.forwarder.forward(from(port), &wrapped, self.now)
    }

    fn returned(&mut self, flow: FlowId) -> Result<(Way, Vec<u8>), Refused> {
        let mut out = Vec::new();
        let way = self.forwarder.returned(flow, MESSAGE, self.now, &mut out)?;
        Ok((way, out))
    }
}

impl Someone {
    fn wrap(&mut self, core: KeyId, payload: &[u8]) -> Vec<u8> {
        let (sender, counter) = (self.id, self.counter);
        self.counter += 1;
        let mut out = Vec::new();
        wrap(Header { kind: Kind::Forward, sender, counter, core }, &self.key, payload, &mut out);
        out
    }
}

#[test]
fn a_neighbours_datagrams_go_to_the_core_and_its_answers_come_back() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    let leave = lab.forward(9, &sg.wrap(lab.core, MESSAGE)).unwrap();
    let flow = FlowId { neighbour: sg.id, core: lab.core };
    assert_eq!(leave, Leave { flow, to: address(51_820) });
    for counter in 7_000_000..7_000_003 {
        let (way, bytes) = lab.returned(flow).unwrap();
        assert_eq!(way, from(9));
        let read = Wrapped::read(&bytes).unwrap();
        assert!(read.is_authentic(&sg.key));
        let sender = KeyId::of(&lab.own.public_key());
        let expected = Header { kind: Kind::Returned, sender, counter, core: lab.core };
        assert_eq!((read.header, read.payload()), (expected, MESSAGE));
    }
}

#[test]
fn nobody_else_can_use_it() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    let mut stranger = lab.someone();
    let datagram = stranger.wrap(lab.core, MESSAGE);
    assert_eq!(lab.forward(9, &datagram), Err(Refused::UnknownNeighbour));

    stranger.id = sg.id;
    let datagram = stranger.wrap(lab.core, MESSAGE);
    assert_eq!(lab.forward(9, &datagram), Err(Refused::NotAuthentic));

    let datagram = sg.wrap(lab.core, MESSAGE);
    assert!(lab.forward(9, &datagram).is_ok());
    assert_eq!(lab.forward(66, &datagram), Err(Refused::Replayed));
    assert_eq!(lab.returned(FlowId { neighbour: sg.id, core: lab.core }).unwrap().0, from(9));

    let elsewhere = KeyId([3; 8]);
    assert_eq!(lab.forward(9, &sg.wrap(elsewhere, MESSAGE)), Err(Refused::UnknownCore));

    let inner = sg.wrap(lab.core, MESSAGE);
    let outer = sg.wrap(lab.core, &inner);
    assert_eq!(lab.forward(9, &outer), Err(Refused::NotWireGuard), "one forwarder at most");

    lab.name(&[]);
    assert_eq!(lab.forward(9, &sg.wrap(lab.core, MESSAGE)), Err(Refused::UnknownNeighbour));
    let flow = FlowId { neighbour: sg.id, core: lab.core };
    assert_eq!(lab.returned(flow), Err(Refused::UnknownNeighbour));
    lab.forwarder.tick(lab.now);
    assert_eq!(lab.returned(flow), Err(Refused::NoFlow));
}

#[test]
fn answers_go_where_the_newest_datagram_came_from() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    let (first, second) = (sg.wrap(lab.core, MESSAGE), sg.wrap(lab.core, MESSAGE));
    lab.forward(2, &second).unwrap();
    let flow = lab.forward(1, &first).unwrap().flow;
    assert_eq!(lab.returned(flow).unwrap().0, from(2), "an older one that came late moves nothing");
    lab.forward(3, &sg.wrap(lab.core, MESSAGE)).unwrap();
    assert_eq!(lab.returned(flow).unwrap().0, from(3));
}

#[test]
fn who_stays_keeps_its_counters_when_others_come() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    let datagram = sg.wrap(lab.core, MESSAGE);
    let flow = lab.forward(9, &datagram).unwrap().flow;
    let _ = lab.returned(flow).unwrap();
    let other = lab.someone();
    lab.name(&[&other, &sg]);
    assert_eq!(lab.forward(9, &datagram), Err(Refused::Replayed));
    let (_, bytes) = lab.returned(flow).unwrap();
    assert_eq!(Wrapped::read(&bytes).unwrap().header.counter, 7_000_001);
}

/// Counters begin with the clock; one that was set back by a restart is taken again in the end.
#[test]
fn a_neighbour_that_was_silent_may_count_anew() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    sg.counter = 1_000_000;
    lab.forward(9, &sg.wrap(lab.core, MESSAGE)).unwrap();
    sg.counter = 5;
    lab.now += COUNTER_IDLE - Duration::from_millis(1);
    assert_eq!(lab.forward(9, &sg.wrap(lab.core, MESSAGE)), Err(Refused::Replayed));
    lab.now += Duration::from_millis(1);
    assert!(lab.forward(9, &sg.wrap(lab.core, MESSAGE)).is_ok());
}

#[test]
fn flows_that_nobody_uses_end() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    let Leave { flow, to } = lab.forward(9, &sg.wrap(lab.core, MESSAGE)).unwrap();
    lab.now += FLOW_IDLE - Duration::from_millis(1);
    lab.forwarder.tick(lab.now);
    assert!(lab.forwarder.is_open(flow, to));
    lab.forward(9, &sg.wrap(lab.core, MESSAGE)).unwrap();
    lab.now += FLOW_IDLE;
    // What only the core sends keeps no flow open.
    let _ = lab.returned(flow).unwrap();
    lab.forwarder.tick(lab.now);
    assert!(!lab.forwarder.is_open(flow, to));
    assert_eq!(lab.returned(flow), Err(Refused::NoFlow));
}

#[test]
fn a_core_that_moves_takes_its_flows_along_and_one_that_is_gone_ends_them() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    let Leave { flow, to } = lab.forward(9, &sg.wrap(lab.core, MESSAGE)).unwrap();
    lab.forwarder.set_cores(&[(lab.core, None)]);
    assert!(lab.forwarder.is_open(flow, to), "its address is unknown for now");
    lab.forwarder.set_cores(&[(lab.core, Some(address(2)))]);
    assert!(!lab.forwarder.is_open(flow, to));
    assert_eq!(lab.forward(9, &sg.wrap(lab.core, MESSAGE)).unwrap().to, address(2));
    lab.forwarder.set_cores(&[]);
    lab.forwarder.tick(lab.now);
    assert!(!lab.forwarder.is_open(flow, address(2)));
    assert_eq!(lab.forward(9, &sg.wrap(lab.core, MESSAGE)), Err(Refused::UnknownCore));
}

#[test]
fn flows_are_limited() {
    let mut lab = Lab::new(BUDGET);
    let mut sg = lab.neighbour();
    let core = |n: usize| KeyId(u64::try_from(n).unwrap().to_le_bytes());
    let cores: Vec<_> = (0..=FLOWS_MAX).map(|n| (core(n), Some(address(1)))).collect();
    lab.forwarder.set_cores(&cores);
    for n in 0..FLOWS_MAX {
        lab.forward(9, &sg.wrap(core(n), MESSAGE)).unwrap();
    }
    assert_eq!(lab.forward(9, &sg.wrap(core(FLOWS_MAX), MESSAGE)), Err(Refused::FlowsFull));
    assert!(lab.forward(9, &sg.wrap(core(0), MESSAGE)).is_ok());
}

#[test]
fn neighbours_are_limited() {
    let mut lab = Lab::new(BUDGET);
    let all: Vec<Someone> = (0..=NEIGHBOURS_MAX).map(|_| lab.someone()).collect();
    lab.name(&all.iter().collect::<Vec<_>>());
    let mut all = all.into_iter().map(|mut someone| {
        let datagram = someone.wrap(lab.core, MESSAGE);
        lab.forward(9, &datagram)
    });
    assert!(all.by_ref().take(NEIGHBOURS_MAX).all(|outcome| outcome.is_ok()));
    assert_eq!(all.next(), Some(Err(Refused::UnknownNeighbour)));
}

#[test]
fn bytes_are_limited_both_ways() {
    let mut lab = Lab::new(100_000);
    let mut sg = lab.neighbour();
    let mut payload = vec![4; 1000];
    payload[0] = 4;
    let mut passed = 0;
    let refused = loop {
        match lab.forward(9, &sg.wrap(lab.core, &payload)) {
            Ok(_) => passed += 1,
            Err(refused) => break refused,
        }
    };
    assert_eq!(refused, Refused::OverBudget);
    assert!((30..=70).contains(&passed), "{passed}");
    let flow = FlowId { neighbour: sg.id, core: lab.core };
    let mut out = Vec::new();
    let now = lab.now;
    let returned = lab.forwarder.returned(flow, &payload, now, &mut out);
    assert_eq!((returned, out.len()), (Err(Refused::OverBudget), 0));
    lab.now += Duration::from_millis(20);
    let now = lab.now;
    assert!(lab.forwarder.returned(flow, &payload, now, &mut out).is_ok());
    assert_eq!(out.len(), payload.len() + HEADER_BYTES);
}

#[test]
fn labels_differ() {
    let labels: std::collections::BTreeSet<_> = Refused::ALL.map(Refused::label).into();
    assert_eq!(labels.len(), Refused::ALL.len());
}
