//! A node, a core, a lane between them that breaks, and frames of the broken lane that arrive late
//! or never.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antipode_proto::body::INITIAL_CREDIT_BYTES;
use antipode_proto::session::Side;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Attach, Attached, RequestHead, ResponseHead, Segment};
use bytes::Bytes;
use proptest::prelude::*;

use crate::end::End;
use crate::{Way, start, way};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A chunk, if the machine has room for it.
    Send(Way, usize),
    /// The machine puts one frame on the lane.
    Transmit(Way),
    /// The next frame of the lane arrives.
    Arrive(Way),
    /// The far socket takes this many segments.
    Consume(Way, usize),
    /// The lane breaks. What it carried is in limbo.
    Break,
    /// The next frame in limbo arrives late, or is lost and leaves a gap.
    Limbo {
        way: Way,
        lost: bool,
    },
    /// A new lane is there.
    LinkUp,
    /// The core's process hands over to a new one, and the lane breaks.
    HandOver,
    /// The core's process hands over the lane too.
    HandOverLane,
    Pressure(Way, bool),
    Wait(Duration),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        12 => (way(), 0..60_000_usize).prop_map(|(way, len)| Step::Send(way, len)),
        16 => way().prop_map(Step::Transmit),
        16 => way().prop_map(Step::Arrive),
        12 => (way(), 1..6_usize).prop_map(|(way, count)| Step::Consume(way, count)),
        2 => Just(Step::Break),
        6 => (way(), prop::bool::weighted(0.3)).prop_map(|(way, lost)| Step::Limbo { way, lost }),
        4 => Just(Step::LinkUp),
        1 => Just(Step::HandOver),
        1 => Just(Step::HandOverLane),
        1 => (way(), any::<bool>()).prop_map(|(way, on)| Step::Pressure(way, on)),
        4 => (1..400_u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
    ]
}

#[derive(Debug)]
pub(crate) struct Lab {
    now: Instant,
    up: bool,
    /// The core's driver makes a machine when the first segment of a session comes.
    core_knows: bool,
    pub(crate) node: End,
    pub(crate) core: End,
    to_node: Arriving,
    to_core: Arriving,
    count: u8,
}

/// Frames under way.
#[derive(Debug, Default)]
struct Arriving {
    lane: VecDeque<Kind>,
    limbo: VecDeque<Kind>,
}

impl Lab {
    pub(crate) fn new() -> Self {
        let now = start();
        let mut lab = Self {
            now,
            up: true,
            core_knows: false,
            node: End::new(Side::Node, now),
            core: End::new(Side::Core, now),
            to_node: Arriving::default(),
            to_core: Arriving::default(),
            count: 0,
        };
        lab.node.session.handle_link_up();
        lab.node.session.send(RequestHead::default().into());
        lab.core.session.send(ResponseHead::default().into());
        lab
    }

    pub(crate) fn apply(&mut self, step: Step) {
        let now = self.now;
        match step {
            Step::Send(way, len) => {
                self.count = self.count.wrapping_add(1);
                let payload = Bytes::from(vec![self.count; len]);
                self.from(way).send(payload);
            }
            Step::Transmit(way) => self.transmit(way),
            Step::Arrive(way) => {
                if let Some(kind) = self.arriving(way).lane.pop_front() {
                    self.arrive(way, kind);
                }
            }
            Step::Consume(way, count) => self.to(way).consume(count, now),
            Step::Break => self.break_lane(),
            Step::Limbo { way, lost } => {
                let kind = self.arriving(way).limbo.pop_front();
                if let Some(kind) = kind.filter(|_| !lost) {
                    self.arrive(way, kind);
                }
            }
            Step::LinkUp if self.up => {}
            Step::LinkUp => {
                self.up = true;
                self.node.session.handle_link_up();
            }
            Step::HandOver if self.core_knows => {
                self.break_lane();
                self.core.hand_over(now);
            }
            Step::HandOver => {}
            Step::HandOverLane => self.core.hand_over_attached(now),
            Step::Pressure(way, on) => self.from(way).session.set_pressure(on),
            Step::Wait(time) => self.wait(time),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.node.handle_timeout(self.now);
        self.core.handle_timeout(self.now);
    }

    fn break_lane(&mut self) {
        let now = self.now;
        self.up = false;
        for arriving in [&mut self.to_node, &mut self.to_core] {
            arriving.limbo.append(&mut arriving.lane);
        }
        self.node.session.handle_link_down(now);
        self.core.session.handle_link_down(now);
    }

    fn transmit(&mut self, way: Way) {
        if matches!(way, Way::Down) && !self.core_knows {
            return;
        }
        if let Some(kind) = self.from(way).transmit() {
            assert!(self.up, "sent {kind:?} without a lane");
            self.arriving(way).lane.push_back(kind);
        }
    }

    fn arrive(&mut self, way: Way, kind: Kind) {
        let now = self.now;
        if let (Way::Up, false) = (way, self.core_knows) {
            if let Kind::Attach(Attach { epoch, .. }) = kind {
                let (received, credit) = (0, INITIAL_CREDIT_BYTES);
                let answer = Kind::Attached(Attached { epoch, received, credit });
                self.to_node.lane.push_back(answer);
                return;
            }
            self.core_knows = matches!(kind, Kind::Segment(Segment { seq: 1, .. }));
            if !self.core_knows {
                return;
            }
        }
        self.to(way).take(kind);
        if !self.up {
            // The core's driver sees the end of the lane that brought the late frame.
            self.core.session.handle_link_down(now);
        }
    }

    pub(crate) fn check(&self) {
        assert!(self.node.sent.starts_with(&self.core.delivered), "{self:?}");
        assert!(self.core.sent.starts_with(&self.node.delivered), "{self:?}");
        self.node.check();
        self.core.check();
    }

    /// The lane comes back for good and both applications read everything.
    pub(crate) fn settle(&mut self) {
        self.to_node.limbo.clear();
        self.to_core.limbo.clear();
        self.apply(Step::LinkUp);
        for _ in 0..2_000 {
            for way in [Way::Up, Way::Down] {
                self.transmit(way);
                self.apply(Step::Arrive(way));
                self.apply(Step::Consume(way, 8));
            }
            self.wait(Duration::from_millis(5));
            self.check();
        }
    }

    fn from(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.node,
            Way::Down => &mut self.core,
        }
    }

    fn to(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.core,
            Way::Down => &mut self.node,
        }
    }

    fn arriving(&mut self, way: Way) -> &mut Arriving {
        match way {
            Way::Up => &mut self.to_core,
            Way::Down => &mut self.to_node,
        }
    }
}
