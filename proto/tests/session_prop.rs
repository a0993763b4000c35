//! Two session machines, a lane between them that breaks, and frames of the broken lane that arrive
//! late or never: what is delivered is a prefix of what was sent, and in the end all of it.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antipode_proto::body::{Body, INITIAL_CREDIT_BYTES, SEGMENT_OVERHEAD_BYTES};
use antipode_proto::seq::Seq;
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Ack, Attach, Attached, Chunk, RequestHead, ResponseHead, Segment};
use bytes::Bytes;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn delivers_every_segment_once_in_order(steps in prop::collection::vec(step(), 1..300)) {
        let mut lab = Lab::new();
        for step in steps {
            lab.apply(step);
            lab.check();
        }
        lab.settle();
        for end in [&lab.node, &lab.core] {
            prop_assert_eq!(end.session.unacked_bytes(), 0);
        }
        prop_assert_eq!(&lab.core.delivered, &lab.node.sent);
        prop_assert_eq!(&lab.node.delivered, &lab.core.sent);
    }
}

#[derive(Clone, Copy, Debug)]
enum Way {
    Up,
    Down,
}

#[derive(Clone, Debug)]
enum Step {
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
    Wait(Duration),
}

fn step() -> impl Strategy<Value = Step> {
    let way = || prop_oneof![Just(Way::Up), Just(Way::Down)];
    prop_oneof![
        6 => (way(), 0..60_000_usize).prop_map(|(way, len)| Step::Send(way, len)),
        8 => way().prop_map(Step::Transmit),
        8 => way().prop_map(Step::Arrive),
        6 => (way(), 1..6_usize).prop_map(|(way, count)| Step::Consume(way, count)),
        1 => Just(Step::Break),
        3 => (way(), prop::bool::weighted(0.3)).prop_map(|(way, lost)| Step::Limbo { way, lost }),
        2 => Just(Step::LinkUp),
        2 => (1..400_u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
    ]
}

/// One end: its machine, what its application gave and got, and the frames under way to it.
#[derive(Debug)]
struct End {
    session: Session,
    sent: Vec<Bytes>,
    delivered: Vec<Bytes>,
    consumed: Seq,
    /// Taken out of the machine, not yet written to the far socket.
    pending: VecDeque<(Seq, u64)>,
    arriving: VecDeque<Kind>,
    limbo: VecDeque<Kind>,
}

impl End {
    fn new(side: Side, now: Instant) -> Self {
        Self {
            session: Session::new(side, config(), now),
            sent: Vec::new(),
            delivered: Vec::new(),
            consumed: Seq::ZERO,
            pending: VecDeque::new(),
            arriving: VecDeque::new(),
            limbo: VecDeque::new(),
        }
    }

    fn take(&mut self, kind: Kind) {
        self.session.handle_frame(kind).expect("both ends keep the protocol");
        while let Some((seq, body)) = self.session.poll_deliver() {
            self.pending.push_back((seq, body.cost()));
            if let Body::Chunk(chunk) = body {
                self.delivered.push(chunk.payload);
            }
        }
    }

    fn consume(&mut self, count: usize, now: Instant) {
        for (seq, _) in self.pending.drain(..count.min(self.pending.len())) {
            self.session.handle_consumed(seq, now);
            self.consumed = seq;
        }
    }
}

#[derive(Debug)]
struct Lab {
    now: Instant,
    up: bool,
    /// The core's driver makes a machine when the first segment of a session comes.
    core_knows: bool,
    node: End,
    core: End,
    count: u8,
}

impl Lab {
    fn new() -> Self {
        let now = start();
        let mut lab = Self {
            now,
            up: true,
            core_knows: false,
            node: End::new(Side::Node, now),
            core: End::new(Side::Core, now),
            count: 0,
        };
        lab.node.session.handle_link_up();
        lab.node.session.send(RequestHead::default().into());
        lab.core.session.send(ResponseHead::default().into());
        lab
    }

    fn apply(&mut self, step: Step) {
        match step {
            Step::Send(way, len) => {
                self.count = self.count.wrapping_add(1);
                let payload = Bytes::from(vec![self.count; len]);
                let end = self.from(way);
                if end.session.has_room() {
                    end.sent.push(payload.clone());
                    end.session.send(Chunk { payload, ..Chunk::default() }.into());
                }
            }
            Step::Transmit(way) => self.transmit(way),
            Step::Arrive(way) => {
                if let Some(kind) = self.to(way).arriving.pop_front() {
                    self.arrive(way, kind);
                }
            }
            Step::Consume(way, count) => {
                let now = self.now;
                self.to(way).consume(count, now);
            }
            Step::Break => self.break_lane(),
            Step::Limbo { way, lost } => {
                let kind = self.to(way).limbo.pop_front();
                if let Some(kind) = kind.filter(|_| !lost) {
                    self.arrive(way, kind);
                }
            }
            Step::LinkUp if self.up => {}
            Step::LinkUp => {
                self.up = true;
                self.node.session.handle_link_up();
            }
            Step::Wait(time) => self.wait(time),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        let now = self.now;
        for end in [&mut self.node, &mut self.core] {
            end.session.handle_timeout(now);
            let next = end.session.poll_timeout();
            assert!(next.is_none_or(|next| next > now), "the timeout has to move");
        }
    }

    fn break_lane(&mut self) {
        let now = self.now;
        self.up = false;
        for end in [&mut self.node, &mut self.core] {
            end.limbo.append(&mut end.arriving);
            end.session.handle_link_down(now);
        }
    }

    fn transmit(&mut self, way: Way) {
        if matches!(way, Way::Down) && !self.core_knows {
            return;
        }
        let up = self.up;
        let from = self.from(way);
        let Some(kind) = from.session.poll_transmit() else { return };
        assert!(up, "sent {kind:?} without a lane");
        if let Kind::Segment(Segment { ack, .. }) | Kind::Ack(Ack { ack, .. }) = kind {
            assert!(Seq::from(ack) <= from.consumed, "acknowledged what was not written");
        }
        self.to(way).arriving.push_back(kind);
    }

    fn arrive(&mut self, way: Way, kind: Kind) {
        let now = self.now;
        if let (Way::Up, false) = (way, self.core_knows) {
            if let Kind::Attach(Attach { epoch, .. }) = kind {
                let (received, credit) = (0, INITIAL_CREDIT_BYTES);
                let answer = Kind::Attached(Attached { epoch, received, credit });
                self.node.arriving.push_back(answer);
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

    fn check(&self) {
        assert!(self.node.sent.starts_with(&self.core.delivered), "{self:?}");
        assert!(self.core.sent.starts_with(&self.node.delivered), "{self:?}");
        for end in [&self.node, &self.core] {
            let held: u64 = end.pending.iter().map(|(_, cost)| cost).sum();
            let most = config().credit_bytes_max + 60_000 + SEGMENT_OVERHEAD_BYTES;
            assert!(held <= most, "holds {held} bytes against a credit of {most}");
            let most = config().unacked_bytes_max + 60_000 + 2 * SEGMENT_OVERHEAD_BYTES;
            assert!(end.session.unacked_bytes() <= most, "replay buffer over its limit");
        }
    }

    /// The lane comes back for good and both applications read everything.
    fn settle(&mut self) {
        self.node.limbo.clear();
        self.core.limbo.clear();
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
}

/// Small, so that the limits are met.
fn config() -> Config {
    Config {
        credit_bytes_max: 512 * 1024,
        unacked_bytes_max: 300 * 1024,
        ack_delay: Duration::from_millis(40),
        resume_window: Duration::from_secs(1_000_000),
    }
}

/// Any instant will do: the machine only compares.
#[allow(clippy::disallowed_methods, reason = "the one clock reading of these tests")]
fn start() -> Instant {
    Instant::now()
}
