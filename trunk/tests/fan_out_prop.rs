//! Whatever the lanes do to one another, each session gets what was sent to it: lanes overtake each
//! other, break with batches under way, and come back, while backends tell many the same thing.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antipode_proto::trunk::v1::{Batch, Chunk, RequestHead, ResponseHead};
use antipode_runtime::clock;
use antipode_trunk::{Bare, Body, Metrics, NodeIdentity, SessionConfig, SessionPort};
use bytes::Bytes;
use proptest::prelude::*;

const LANES: u32 = 6;
const SESSIONS: usize = 18;
/// Below and above what is shared in a batch, named on other lanes, and copied out of a batch.
const SIZES: [usize; 5] = [40, 100, 300, 1_000, 6_000];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// The same to every session whose number is a multiple of `every`.
    Tell {
        payload: u8,
        every: usize,
    },
    /// To one.
    Say {
        payload: u8,
        session: usize,
    },
    /// A batch leaves the core, or the node.
    Leave {
        lane: u32,
    },
    /// The oldest batch under way on a lane arrives.
    Arrive {
        lane: u32,
    },
    Break {
        lane: u32,
    },
    /// Both ends' clocks go on by this many milliseconds, and both look at theirs.
    Wait {
        ms: u64,
    },
    Read {
        session: usize,
    },
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn what_is_delivered_is_what_was_sent(steps in prop::collection::vec(step(), 1..250)) {
        let mut lab = Lab::new();
        steps.into_iter().for_each(|step| lab.run(step));
        lab.settle();
        for session in 0..SESSIONS {
            let (sent, got) = (&lab.sent[session], &lab.got[session]);
            prop_assert_eq!(sent.len(), got.len(), "session {}", session);
            prop_assert!(sent == got, "session {} got something else", session);
        }
    }
}

/// One payload that is lost with its lane: those who were told its number ask, and get it.
#[test]
fn a_payload_that_is_lost_with_its_lane_is_sent_again() {
    let mut lab = Lab::new();
    lab.run(Step::Tell { payload: 3, every: 1 });
    let first = (0..LANES).find(|lane| lab.leave(*lane)).expect("something has to go");
    (0..LANES).for_each(|lane| while lab.leave(lane) {});
    for lane in (0..LANES).filter(|lane| *lane != first) {
        lab.run(Step::Arrive { lane });
    }
    assert!(lab.metrics.fan_out.waits.get() > 0, "the others wait for what the first lane brings");
    lab.run(Step::Break { lane: first });
    assert!(lab.metrics.fan_out.asked_again.get() > 0, "nobody waits for what is lost");
    lab.settle();
    assert!(lab.sent == lab.got);
}

/// A lane that is only late costs its followers the wait, and not a replay.
#[test]
fn a_payload_that_is_late_is_waited_for() {
    let mut lab = Lab::new();
    lab.run(Step::Tell { payload: 3, every: 1 });
    let first = (0..LANES).find(|lane| lab.leave(*lane)).expect("something has to go");
    (0..LANES).for_each(|lane| while lab.leave(lane) {});
    let (bytes, payload) = (lab.bytes_down, SIZES[3]);
    assert!(bytes < payload + SESSIONS * 60, "it crosses once: {bytes} bytes in all");
    for lane in (0..LANES).filter(|lane| *lane != first) {
        lab.run(Step::Arrive { lane });
    }
    lab.run(Step::Arrive { lane: first });
    (0..SESSIONS).for_each(|session| lab.run(Step::Read { session }));
    assert!(lab.sent == lab.got);
    assert_eq!(lab.metrics.fan_out.asked_again.get(), 0);
}

/// A payload that never comes, on a lane that stays up. A replay depends on no other lane.
#[test]
fn nobody_waits_for_ever() {
    let mut lab = Lab::new();
    lab.run(Step::Tell { payload: 3, every: 1 });
    let first = (0..LANES).find(|lane| lab.leave(*lane)).expect("something has to go");
    (0..LANES).for_each(|lane| while lab.leave(lane) {});
    let others = || (0..LANES).filter(|lane| *lane != first);
    others().for_each(|lane| lab.run(Step::Arrive { lane }));
    // Only at the node: the core would name the payload even now.
    lab.node.handle_timeout(lab.now + Duration::from_millis(1_500));
    let waits = lab.metrics.fan_out.waits.get();
    assert_eq!(lab.metrics.fan_out.asked_again.get(), waits, "each one asks");
    for lane in others().chain(others()) {
        while lab.leave(lane) {}
        (0..9).for_each(|_| lab.run(Step::Arrive { lane }));
    }
    (0..SESSIONS).for_each(|session| lab.run(Step::Read { session }));
    let served = (0..SESSIONS).filter(|session| lab.got[*session] == lab.sent[*session]).count();
    assert!(served >= SESSIONS - SESSIONS / 2, "{served} were served without the first lane");
    assert_eq!(lab.metrics.fan_out.waits.get(), waits, "a replay waits for nothing");
    lab.settle();
    assert!(lab.sent == lab.got);
}

fn step() -> impl Strategy<Value = Step> {
    let payload = 0..u8::try_from(SIZES.len() * 3).unwrap();
    let session = 0..SESSIONS;
    prop_oneof![
        3 => (payload.clone(), 1..4_usize)
            .prop_map(|(payload, every)| Step::Tell { payload, every }),
        3 => (payload, session.clone())
            .prop_map(|(payload, session)| Step::Say { payload, session }),
        9 => (0..LANES).prop_map(|lane| Step::Leave { lane }),
        6 => (0..LANES).prop_map(|lane| Step::Arrive { lane }),
        1 => (0..LANES).prop_map(|lane| Step::Break { lane }),
        1 => (0..1_500_u64).prop_map(|ms| Step::Wait { ms }),
        3 => session.prop_map(|session| Step::Read { session }),
    ]
}

struct Lab {
    node: Bare,
    core: Bare,
    clients: Vec<SessionPort>,
    backends: Vec<SessionPort>,
    down: Vec<VecDeque<Batch>>,
    up: Vec<VecDeque<Batch>>,
    sent: Vec<Vec<Bytes>>,
    got: Vec<Vec<Bytes>>,
    now: Instant,
    bytes_down: usize,
    /// The node's.
    metrics: Metrics,
}

impl Lab {
    fn new() -> Self {
        let (metrics, config) = (Metrics::default(), SessionConfig::default());
        let identity = NodeIdentity {
            member_id: "node".into(),
            name: "node".into(),
            region: "here".into(),
            address: std::net::Ipv6Addr::LOCALHOST,
        };
        let node = Bare::node(LANES, config, metrics.clone());
        let core = Bare::core(LANES, config, Metrics::default(), identity, 1_000);
        let wires = || (0..LANES).map(|_| VecDeque::new()).collect();
        let lists = || (0..SESSIONS).map(|_| Vec::new()).collect();
        let mut lab = Self {
            node,
            core,
            clients: Vec::new(),
            backends: Vec::new(),
            down: wires(),
            up: wires(),
            sent: lists(),
            got: lists(),
            now: clock::now(),
            bytes_down: 0,
            metrics,
        };
        for lane in 0..LANES {
            lab.core.lane_up(lane);
            lab.node.lane_up(lane);
        }
        for _ in 0..SESSIONS {
            lab.clients.push(lab.node.open(RequestHead::default()).expect("the lanes are up"));
            lab.move_all();
            let port = lab.core.next_incoming().expect("it was opened").port;
            port.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
            lab.backends.push(port);
        }
        lab.settle();
        lab.bytes_down = 0;
        lab
    }

    fn run(&mut self, step: Step) {
        match step {
            Step::Tell { payload, every } => {
                (0..SESSIONS).step_by(every).for_each(|session| self.say(payload, session));
            }
            Step::Say { payload, session } => self.say(payload, session),
            Step::Leave { lane } => drop(self.leave(lane)),
            Step::Arrive { lane } => self.arrive(lane),
            Step::Break { lane } => {
                self.core.lane_down(lane);
                self.node.lane_down(lane);
                let index = usize::try_from(lane).unwrap();
                self.down[index].clear();
                self.up[index].clear();
                self.core.lane_up(lane);
                self.node.lane_up(lane);
            }
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms);
                self.core.handle_timeout(self.now);
                self.node.handle_timeout(self.now);
            }
            Step::Read { session } => self.read(session),
        }
    }

    fn say(&mut self, payload: u8, session: usize) {
        if self.backends[session].try_ready() != Ok(true) {
            return;
        }
        let size = SIZES[usize::from(payload) % SIZES.len()];
        let payload = Bytes::from(vec![payload; size]);
        let chunk = Chunk { frame: Some(0x82), payload: payload.clone(), ..Chunk::default() };
        self.backends[session].send(chunk.into()).expect("alive");
        self.sent[session].push(payload);
    }

    fn leave(&mut self, lane: u32) -> bool {
        let index = usize::try_from(lane).unwrap();
        let (down, up) =
            (self.core.collect_batch(lane, self.now), self.node.collect_batch(lane, self.now));
        let any = down.is_some() || up.is_some();
        self.bytes_down += down.as_ref().map_or(0, prost::Message::encoded_len);
        self.down[index].extend(down);
        self.up[index].extend(up);
        any
    }

    fn arrive(&mut self, lane: u32) {
        let index = usize::try_from(lane).unwrap();
        if let Some(batch) = self.down[index].pop_front() {
            self.node.handle_batch(lane, batch).expect("the core keeps the protocol");
        }
        if let Some(batch) = self.up[index].pop_front() {
            self.core.handle_batch(lane, batch).expect("the node keeps the protocol");
        }
    }

    fn read(&mut self, session: usize) {
        let client = &self.clients[session];
        while let Some(delivery) = client.try_deliver().expect("alive") {
            client.consumed(delivery.seq);
            if let Body::Chunk(chunk) = delivery.body {
                assert_eq!((chunk.frame, chunk.shared), (Some(0x82), 0));
                self.got[session].push(chunk.payload);
            }
        }
    }

    fn move_all(&mut self) -> bool {
        let mut any = false;
        for lane in 0..LANES {
            while self.leave(lane) {
                any = true;
            }
            let index = usize::try_from(lane).unwrap();
            while !self.down[index].is_empty() || !self.up[index].is_empty() {
                any = true;
                self.arrive(lane);
            }
        }
        any
    }

    /// Everything that is under way arrives, and whoever waits for something lost asks again.
    fn settle(&mut self) {
        for round in 0.. {
            assert!(round < 50, "it never comes to rest");
            self.run(Step::Wait { ms: 1_500 });
            let moved = self.move_all();
            (0..SESSIONS).for_each(|session| self.read(session));
            if !moved && round > 3 {
                return;
            }
        }
    }
}
