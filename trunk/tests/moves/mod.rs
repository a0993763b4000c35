//! A node's and a core's end of a trunk with lanes of both classes, moved by hand; each lane may
//! break at either end first.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Batch, Cause, Chunk, End, RequestHead, ResponseHead, Segment};
use antipode_runtime::clock;
use antipode_trunk::{Bare, Body, Lanes, Metrics, NodeIdentity, SessionConfig, SessionPort};
use antipode_tunnel::Class;
use bytes::Bytes;

pub(crate) const CHAT: u32 = 2;
pub(crate) const BULK: u32 = 2;
pub(crate) const LANES: u32 = CHAT + BULK;
pub(crate) const SESSIONS: usize = 5;
/// Of a whole frame; above 32 KiB one is bulk.
pub(crate) const LARGE: u64 = 40_000;

#[derive(Clone, Copy, Debug)]
pub(crate) enum Way {
    Up,
    Down,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum Step {
    /// A small frame.
    Say {
        way: Way,
        session: usize,
    },
    /// Pieces of a large one.
    Pour {
        way: Way,
        session: usize,
        pieces: usize,
    },
    Leave {
        way: Way,
        lane: u32,
    },
    Arrive {
        way: Way,
        lane: u32,
    },
    /// Both ends notice at once.
    Break {
        lane: u32,
    },
    /// A newer call carries the lane at the core; the node is still on the older one.
    CoreFirst {
        lane: u32,
    },
    /// The lane's carrier is gone, at both ends, until [`Step::Back`].
    Lose {
        lane: u32,
    },
    Back {
        lane: u32,
    },
    Wait {
        ms: u64,
    },
    Read {
        way: Way,
        session: usize,
    },
    End {
        way: Way,
        session: usize,
    },
}

/// One end of a session, and what its application saw and should see.
pub(crate) struct Side {
    port: SessionPort,
    pub(crate) got: Vec<Bytes>,
    pub(crate) far_sent: Vec<Bytes>,
    has_ended: bool,
    far_has_ended: bool,
}

impl Side {
    fn is_over(&self) -> bool {
        self.has_ended && self.far_has_ended
    }
}

pub(crate) struct Session {
    pub(crate) node: Side,
    pub(crate) core: Side,
}

pub(crate) struct Lab {
    node: Bare,
    core: Bare,
    pub(crate) sessions: Vec<Session>,
    down: Vec<VecDeque<Batch>>,
    up: Vec<VecDeque<Batch>>,
    /// Lanes whose node is on a call that the core has given up, or on none.
    is_severed: Vec<bool>,
    count: u32,
    now: Instant,
    pub(crate) bytes_on_bulk: usize,
    metrics: Metrics,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let metrics = Metrics::default();
        let resume_window = Duration::from_secs(1_000_000);
        let config = SessionConfig { resume_window, ..SessionConfig::default() };
        let identity = NodeIdentity {
            member_id: "node".into(),
            name: "node".into(),
            region: "here".into(),
            address: std::net::Ipv6Addr::LOCALHOST,
        };
        let lanes = Lanes { chat: CHAT, bulk: BULK };
        let node = Bare::node(lanes, config, metrics.clone());
        let core = Bare::core(lanes, config, Metrics::default(), identity, 1_000);
        let wires = || (0..LANES).map(|_| VecDeque::new()).collect();
        let mut lab = Self {
            node,
            core,
            sessions: Vec::new(),
            down: wires(),
            up: wires(),
            is_severed: (0..LANES).map(|_| false).collect(),
            count: 0,
            now: clock::now(),
            bytes_on_bulk: 0,
            metrics,
        };
        for lane in 0..LANES {
            lab.core.lane_up(lane);
            lab.node.lane_up(lane);
        }
        for _ in 0..SESSIONS {
            let node = lab.node.open(RequestHead::default()).expect("the lanes are up");
            lab.move_all();
            let core = lab.core.next_incoming().expect("it was opened").port;
            core.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
            let side = |port| Side {
                port,
                got: Vec::new(),
                far_sent: Vec::new(),
                has_ended: false,
                far_has_ended: false,
            };
            lab.sessions.push(Session { node: side(node), core: side(core) });
        }
        lab.settle();
        lab
    }

    pub(crate) fn run(&mut self, step: Step) {
        match step {
            Step::Say { way, session } => self.say(way, session, 100, None),
            Step::Pour { way, session, pieces } => {
                (0..pieces).for_each(|_| self.say(way, session, 10_000, Some(LARGE)));
            }
            Step::Leave { way, lane } => drop(self.leave(way, lane)),
            Step::Arrive { way, lane } => self.arrive(way, lane),
            Step::Break { lane } => {
                self.run(Step::Lose { lane });
                self.run(Step::Back { lane });
            }
            Step::CoreFirst { lane } => {
                self.core.lane_up(lane);
                self.sever(lane);
            }
            Step::Lose { lane } => {
                self.core.lane_down(lane);
                self.node.lane_down(lane);
                self.sever(lane);
            }
            Step::Back { lane } if self.is_severed[at(lane)] => {
                self.up[at(lane)].clear();
                self.core.lane_up(lane);
                self.down[at(lane)].clear();
                self.node.lane_up(lane);
                self.is_severed[at(lane)] = false;
            }
            Step::Back { .. } => {}
            Step::Wait { ms } => {
                self.now += Duration::from_millis(ms);
                self.core.handle_timeout(self.now);
                self.node.handle_timeout(self.now);
            }
            Step::Read { way, session } => self.read(way, session),
            Step::End { way, session } => self.end(way, session),
        }
    }

    pub(crate) fn sever(&mut self, lane: u32) {
        self.is_severed[at(lane)] = true;
        self.up[at(lane)].clear();
        self.down[at(lane)].clear();
    }

    pub(crate) fn say(&mut self, way: Way, session: usize, len: usize, frame_len: Option<u64>) {
        let Session { node, core } = &mut self.sessions[session];
        let (from, to) = match way {
            Way::Up => (node, core),
            Way::Down => (core, node),
        };
        if from.has_ended || from.port.try_ready() != Ok(true) {
            return;
        }
        self.count += 1;
        let mut payload = self.count.to_be_bytes().to_vec();
        payload.resize(len, 7);
        let payload = Bytes::from(payload);
        let chunk =
            Chunk { frame: Some(0x82), frame_len, payload: payload.clone(), ..Chunk::default() };
        from.port.send(chunk.into()).expect("alive");
        to.far_sent.push(payload);
    }

    pub(crate) fn end(&mut self, way: Way, session: usize) {
        let Session { node, core } = &mut self.sessions[session];
        let side = match way {
            Way::Up => node,
            Way::Down => core,
        };
        if !std::mem::replace(&mut side.has_ended, true) {
            let end = End { cause: Cause::Complete.into(), ..End::default() };
            side.port.send(end.into()).expect("alive");
        }
    }

    pub(crate) fn wires(&self, way: Way) -> &[VecDeque<Batch>] {
        match way {
            Way::Up => &self.up,
            Way::Down => &self.down,
        }
    }

    pub(crate) fn leave(&mut self, way: Way, lane: u32) -> bool {
        let (from, wires) = match way {
            Way::Up => (&mut self.node, &mut self.up),
            Way::Down => (&mut self.core, &mut self.down),
        };
        let Some(batch) = from.collect_batch(lane, self.now) else { return false };
        if lane >= CHAT {
            self.bytes_on_bulk += prost::Message::encoded_len(&batch);
        }
        // Whoever is still on an older call speaks to nobody.
        if !self.is_severed[at(lane)] {
            wires[at(lane)].push_back(batch);
        }
        true
    }

    pub(crate) fn arrive(&mut self, way: Way, lane: u32) {
        let wires = match way {
            Way::Up => &mut self.up,
            Way::Down => &mut self.down,
        };
        let Some(batch) = wires[at(lane)].pop_front() else { return };
        for frame in &batch.frames {
            if let Some(Kind::Reset(reset)) = &frame.kind {
                // One that is over may be forgotten before its last acknowledgement has come.
                let index = usize::try_from(frame.session - 1).unwrap();
                let Session { node, core } = &self.sessions[index];
                let is_over = node.is_over() && core.is_over();
                assert!(is_over, "session {index} was reset: {reset:?}");
            }
            let is_bare = matches!(&frame.kind, Some(Kind::Segment(Segment { body: None, .. })));
            assert!(!is_bare, "a segment without a body");
        }
        let to = match way {
            Way::Up => &self.core,
            Way::Down => &self.node,
        };
        to.handle_batch(lane, batch).expect("both ends keep the protocol");
    }

    pub(crate) fn read(&mut self, way: Way, session: usize) {
        let Session { node, core } = &mut self.sessions[session];
        let side = match way {
            Way::Up => core,
            Way::Down => node,
        };
        loop {
            let delivery = match side.port.try_deliver() {
                Ok(Some(delivery)) => delivery,
                Ok(None) => return,
                Err(ended) => {
                    assert!(side.is_over(), "session {session} ended: {ended:?}");
                    return;
                }
            };
            side.port.consumed(delivery.seq);
            match delivery.body {
                Body::Chunk(chunk) => side.got.push(chunk.payload),
                Body::End(_) => side.far_has_ended = true,
                Body::Request(_) | Body::Response(_) => {}
            }
        }
    }

    pub(crate) fn moves(&self, to: Class) -> u64 {
        let labels = antipode_trunk::metrics::MoveLabels { to };
        self.metrics.moves.get_or_create(&labels).get()
    }

    pub(crate) fn move_all(&mut self) -> bool {
        let mut any = false;
        for lane in 0..LANES {
            for way in [Way::Up, Way::Down] {
                while self.leave(way, lane) {
                    any = true;
                }
                while !self.wires(way)[at(lane)].is_empty() {
                    any = true;
                    self.arrive(way, lane);
                }
            }
        }
        any
    }

    pub(crate) fn settle(&mut self) {
        (0..LANES).for_each(|lane| self.run(Step::Back { lane }));
        for round in 0.. {
            assert!(round < 100, "it never comes to rest");
            self.run(Step::Wait { ms: 100 });
            let moved = self.move_all();
            for session in 0..self.sessions.len() {
                self.read(Way::Up, session);
                self.read(Way::Down, session);
            }
            if !moved && round > 3 {
                return;
            }
        }
    }
}

fn at(lane: u32) -> usize {
    usize::try_from(lane).unwrap()
}
