//! A resumable client, a core, and attachments: several live at a time, each end notices a loss for
//! itself, older ones bring frames late, and the core hands over to a new process.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antipode_proto::seq::Seq;
use antipode_proto::session::Side;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Attach, Attached, Segment};
use bytes::Bytes;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::end::End;
use crate::{Way, start, way};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// A chunk, if the machine has room for it.
    Send(Way, usize),
    /// The machine gives one frame to the attachment that it counts on.
    Transmit(Way),
    /// The next frame of some attachment arrives, however old that is.
    Arrive(Way, Index),
    /// The far side takes this many segments.
    Consume(Way, usize),
    /// This end notices that its attachment is gone.
    Close(Way),
    /// The client opens another attachment; if it has one, it leaves that, which still lives.
    Open,
    /// What some attachment that the client has left still carries is lost from this frame on.
    Lose(Way, Index, Index),
    /// The end's process hands over to a new one.
    HandOver(Way),
    /// The core's process hands over the attachment too.
    HandOverAttachment,
    Pressure(Way, bool),
    Wait(Duration),
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let which = any::<Index>;
    prop_oneof![
        24 => (way(), 0..60_000_usize).prop_map(|(way, len)| Step::Send(way, len)),
        40 => way().prop_map(Step::Transmit),
        40 => (way(), which()).prop_map(|(way, which)| Step::Arrive(way, which)),
        24 => (way(), 1..6_usize).prop_map(|(way, count)| Step::Consume(way, count)),
        4 => way().prop_map(Step::Close),
        6 => Just(Step::Open),
        6 => (way(), which(), which()).prop_map(|(way, at, from)| Step::Lose(way, at, from)),
        2 => way().prop_map(Step::HandOver),
        2 => Just(Step::HandOverAttachment),
        2 => (way(), any::<bool>()).prop_map(|(way, on)| Step::Pressure(way, on)),
        8 => (1..400_u64).prop_map(|ms| Step::Wait(Duration::from_millis(ms))),
    ]
}

/// One WebSocket between client and core.
#[derive(Debug, Default)]
struct Attachment {
    up: Stream,
    down: Stream,
}

#[derive(Debug, Default)]
struct Stream {
    frames: VecDeque<Kind>,
    /// What has to be the next segment on it, once the receiver has said where it stands.
    next: Option<Seq>,
}

#[derive(Debug)]
pub(crate) struct Lab {
    now: Instant,
    pub(crate) client: End,
    pub(crate) server: End,
    attachments: Vec<Attachment>,
    /// The attachment that each end counts on.
    client_on: Option<usize>,
    server_on: Option<usize>,
    count: u8,
}

impl Lab {
    /// The client has been welcomed, and the core has heard that.
    pub(crate) fn new() -> Self {
        let now = start();
        let first = Some(Seq::ZERO.next());
        let stream = || Stream { frames: VecDeque::new(), next: first };
        let mut lab = Self {
            now,
            client: End::new(Side::Client, now),
            server: End::new(Side::Server, now),
            attachments: vec![Attachment { up: stream(), down: stream() }],
            client_on: Some(0),
            server_on: Some(0),
            count: 0,
        };
        lab.server.session.handle_link_up();
        lab.client.session.handle_link_up();
        let word = lab.client.transmit().expect("a client answers its welcome");
        lab.server.take(word);
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
            Step::Arrive(way, which) => self.arrive(way, which.index(self.attachments.len())),
            Step::Consume(way, count) => self.to(way).consume(count, now),
            Step::Close(Way::Up) => {
                self.client_on = None;
                self.client.session.handle_link_down(now);
            }
            Step::Close(Way::Down) => {
                self.server_on = None;
                self.server.session.handle_link_down(now);
            }
            Step::Open => {
                self.client.session.handle_link_down(now);
                self.client.session.handle_link_up();
                self.client_on = Some(self.attachments.len());
                self.attachments.push(Attachment::default());
            }
            Step::Lose(way, which, from) => {
                let which = which.index(self.attachments.len());
                if self.client_on != Some(which) {
                    let stream = self.stream(way, which);
                    stream.frames.truncate(from.index(stream.frames.len() + 1));
                }
            }
            Step::HandOver(way) => {
                self.apply(Step::Close(way));
                self.from(way).hand_over(now);
            }
            Step::HandOverAttachment => self.server.hand_over_attached(now),
            Step::Pressure(way, on) => self.from(way).session.set_pressure(on),
            Step::Wait(time) => self.wait(time),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.client.handle_timeout(self.now);
        self.server.handle_timeout(self.now);
    }

    fn transmit(&mut self, way: Way) {
        let on = match way {
            Way::Up => self.client_on,
            Way::Down => self.server_on,
        };
        let Some(kind) = self.from(way).transmit() else { return };
        let on = on.unwrap_or_else(|| panic!("sent {kind:?} without an attachment"));
        let next = match &kind {
            Kind::Attach(Attach { received, .. }) => {
                self.stream(Way::Down, on).next = Some(Seq::from(*received).next());
                None
            }
            Kind::Attached(Attached { received, .. }) => {
                self.stream(Way::Up, on).next = Some(Seq::from(*received).next());
                None
            }
            Kind::Segment(Segment { seq, .. }) => Some(Seq::from(*seq)),
            Kind::Ack(_) | Kind::Reset(_) | Kind::GoAway(_) => None,
        };
        let acked = self.from(way).acked();
        let stream = self.stream(way, on);
        if let Some(seq) = next {
            // A late acknowledgement may have been faster than the replay.
            let expected = stream.next.map(|next| next.max(acked.next()));
            assert_eq!(Some(seq), expected, "a replay starts where the peer stopped");
            stream.next = Some(seq.next());
        }
        stream.frames.push_back(kind);
    }

    fn arrive(&mut self, way: Way, which: usize) {
        let Some(kind) = self.stream(way, which).frames.pop_front() else { return };
        if let (Way::Up, Kind::Attach(attach)) = (way, &kind) {
            if !self.server.session.attach_is_newer(attach) {
                return; // It would be refused: a newer attachment was faster.
            }
            self.server_on = Some(which);
        }
        self.to(way).take(kind);
    }

    pub(crate) fn check(&self) {
        assert!(self.client.sent.starts_with(&self.server.delivered), "{self:?}");
        assert!(self.server.sent.starts_with(&self.client.delivered), "{self:?}");
        assert!(self.server.session.epoch() <= self.client.session.epoch());
        self.client.check();
        self.server.check();
    }

    /// One attachment stays, both applications read everything and say their last word.
    pub(crate) fn settle(&mut self) {
        self.client.send_end();
        self.server.send_end();
        self.apply(Step::Open);
        let which = self.attachments.len() - 1;
        for _ in 0..2_000 {
            for way in [Way::Up, Way::Down] {
                self.transmit(way);
                self.arrive(way, which);
                self.apply(Step::Consume(way, 8));
            }
            self.wait(Duration::from_millis(5));
            self.check();
        }
    }

    fn from(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.client,
            Way::Down => &mut self.server,
        }
    }

    fn to(&mut self, way: Way) -> &mut End {
        match way {
            Way::Up => &mut self.server,
            Way::Down => &mut self.client,
        }
    }

    fn stream(&mut self, way: Way, which: usize) -> &mut Stream {
        let attachment = &mut self.attachments[which];
        match way {
            Way::Up => &mut attachment.up,
            Way::Down => &mut attachment.down,
        }
    }
}
