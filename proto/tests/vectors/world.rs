//! A random life: the machine that is recorded, its peer, and attachments that come and go.

use std::collections::VecDeque;

use antipode_proto::resume::Frame;
use antipode_proto::seq::Seq;
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Cause, Chunk, End};
use serde_json::{Value, json};

use crate::json::{from_body, from_frame, to_frame};
use crate::profiles::Profile;
use crate::random::Random;
use crate::script::Runner;

/// What may happen next.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Act {
    Send,
    Transmit,
    /// The next frame of the peer arrives.
    Arrive,
    Deliver,
    Consume,
    /// The peer's application gives it something to say.
    PeerSend,
    /// The peer's far side takes what came.
    PeerConsume,
    Wait,
    /// Time moves to the very moment that the machine waits for, or to just before it.
    Due,
    Break,
    Up,
    /// The client moves while its attachment still lives.
    Move,
    /// A frame of a broken attachment arrives late.
    Limbo,
    Pressure,
    End,
    PeerEnd,
}

#[derive(Debug)]
pub(crate) struct World<'a> {
    profile: &'a Profile,
    pub(crate) random: Random,
    pub(crate) runner: Runner,
    pub(crate) now: u64,
    steps: Vec<Value>,
    up: bool,
    pressed: bool,
    ended: bool,
    /// Delivered and not yet consumed.
    pending: VecDeque<u64>,
    peer: Session,
    peer_ended: bool,
    peer_pending: VecDeque<Seq>,
    to_peer: VecDeque<Kind>,
    arriving: VecDeque<Kind>,
    limbo: VecDeque<Kind>,
}

impl<'a> World<'a> {
    pub(crate) fn new(profile: &'a Profile) -> Self {
        let runner = Runner::new(profile.side, &profile.config());
        let side = if profile.is_client() { Side::Server } else { Side::Client };
        let config = Config {
            credit_bytes_max: profile.credit_bytes_max,
            unacked_bytes_max: profile.unacked_bytes_max,
            ..Config::default()
        };
        Self {
            profile,
            random: Random::new(profile.seed),
            now: 0,
            steps: Vec::new(),
            up: false,
            pressed: false,
            ended: false,
            pending: VecDeque::new(),
            peer: Session::new(side, config, runner.at(0)),
            peer_ended: false,
            peer_pending: VecDeque::new(),
            to_peer: VecDeque::new(),
            arriving: VecDeque::new(),
            limbo: VecDeque::new(),
            runner,
        }
    }

    /// Lives the profile's life, and returns its steps.
    pub(crate) fn live(mut self) -> Vec<Value> {
        if self.profile.welcomed {
            self.up();
        }
        if self.profile.steps > 0 {
            self.greet();
        }
        while self.steps.len() < self.profile.steps {
            if self.runner.session.is_finished() && self.random.chance(10) {
                break;
            }
            let total = self.profile.weights.iter().map(|&(weight, _)| weight).sum();
            let mut chosen = self.random.below(total);
            let act = self.profile.weights.iter().find(|&&(weight, _)| {
                let here = chosen < weight;
                chosen = chosen.saturating_sub(weight);
                here
            });
            self.act(act.expect("within the total").1);
            self.let_peer_speak();
        }
        if let Some(then) = self.profile.then {
            then(&mut self);
        }
        self.steps
    }

    /// The client's first frame: from now on the session outlives its attachment.
    fn greet(&mut self) {
        if self.profile.is_client() {
            self.transmit();
            let kind = self.to_peer.pop_front().expect("a client answers its welcome");
            self.peer.handle_frame(kind).expect("an acknowledgement of nothing");
        } else {
            self.arriving.extend(self.peer.poll_transmit());
            self.arrive();
        }
    }

    fn act(&mut self, act: Act) {
        match act {
            Act::Send => {
                if !self.ended && (self.runner.session.has_room() || self.random.chance(10)) {
                    let chunk = self.chunk();
                    self.call(json!({ "do": "send", "body": from_body(&chunk.into()) }));
                }
            }
            Act::Transmit => {
                if self.runner.session.wants_transmit() || self.random.chance(10) {
                    self.transmit();
                }
            }
            Act::Arrive => self.arrive(),
            Act::Deliver => {
                if self.holds_news() || self.random.chance(10) {
                    self.deliver();
                }
            }
            Act::Consume => self.consume(),
            Act::PeerSend => {
                if !self.peer_ended && self.peer.has_room() {
                    let chunk = self.chunk();
                    self.peer.send(chunk.into());
                }
            }
            Act::PeerConsume => self.consume_at_peer(),
            Act::Wait => self.wait(),
            Act::Due => self.due(),
            Act::Break => self.break_link(),
            Act::Up => self.up(),
            Act::Move if self.profile.is_client() && self.up => {
                self.call(json!({ "do": "link_down" }));
                self.call(json!({ "do": "link_up" }));
            }
            Act::Move => {}
            Act::Limbo => {
                if let Some(kind) = self.limbo.pop_front() {
                    self.frame(Frame::from_kind(kind).expect("a frame of resumable clients"));
                }
            }
            Act::Pressure => {
                self.pressed = !self.pressed;
                self.call(json!({ "do": "pressure", "on": self.pressed }));
            }
            Act::End => self.end(),
            Act::PeerEnd => {
                if !std::mem::replace(&mut self.peer_ended, true) {
                    self.peer.send(end_of(Cause::BackendClosed, Some(1001), "away").into());
                }
            }
        }
    }

    /// Makes a call on the recorded machine, and keeps it with its outputs.
    pub(crate) fn call(&mut self, mut step: Value) -> &Value {
        step["at"] = self.now.into();
        self.steps.push(self.runner.run(&step));
        self.steps.last().expect("just made")
    }

    pub(crate) fn frame(&mut self, frame: Frame) {
        let step = self.call(json!({ "do": "frame", "frame": from_frame(&frame) }));
        if step.get("error").is_some() {
            let cause = i32::from(Cause::TrunkProtocol);
            self.call(json!({ "do": "reset", "cause": cause, "detail": "broke the protocol" }));
        }
    }

    pub(crate) fn transmit(&mut self) {
        let gives = self.call(json!({ "do": "transmit" }))["gives"].clone();
        if !gives.is_null() {
            let kind = to_frame(&gives).into_kind().expect("a machine's frame");
            self.to_peer.push_back(kind);
        }
    }

    pub(crate) fn deliver(&mut self) {
        let gives = self.call(json!({ "do": "deliver" }))["gives"].clone();
        self.pending.extend(gives["seq"].as_u64());
    }

    fn holds_news(&self) -> bool {
        let receiver = self.runner.session.export().receiver;
        receiver.is_some_and(|receiver| !receiver.inbox.is_empty())
    }

    fn consume(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let count = 1 + self.random.below(self.pending.len());
        let seq = self.pending.drain(..count).next_back().expect("at least one");
        self.call(json!({ "do": "consumed", "seq": seq }));
        if self.random.chance(5) {
            self.call(json!({ "do": "consumed", "seq": seq })); // No news.
        }
    }

    fn arrive(&mut self) {
        if let Some(kind) = self.arriving.pop_front() {
            self.frame(Frame::from_kind(kind).expect("a frame of resumable clients"));
        }
    }

    pub(crate) fn end(&mut self) {
        if !std::mem::replace(&mut self.ended, true) {
            let end = end_of(Cause::ClientClosed, None, "");
            self.call(json!({ "do": "send", "body": from_body(&end.into()) }));
        }
    }

    pub(crate) fn wait(&mut self) {
        self.now += self.random.pick(&[0, 1, 5, 39, 40, 41, 250, 500, 999, 1_000]);
        if self.random.chance(60) {
            self.call(json!({ "do": "timeout" }));
        }
    }

    pub(crate) fn due(&mut self) {
        let Some(due) = self.runner.session.poll_timeout() else { return };
        let due = (due - self.runner.at(0)).as_millis().try_into().expect("short");
        if due > self.now + 100 && self.profile.then.is_none() {
            return; // It would expire, and that is for the directed lives.
        }
        if due > self.now {
            self.now = due - 1;
            self.call(json!({ "do": "timeout" }));
        }
        self.now = self.now.max(due);
        self.call(json!({ "do": "timeout" }));
    }

    pub(crate) fn break_link(&mut self) {
        if !std::mem::replace(&mut self.up, false) {
            return;
        }
        let noticed = self.random.chance(70);
        let now = self.runner.at(self.now);
        if self.profile.is_client() || noticed {
            self.call(json!({ "do": "link_down" }));
        }
        if !self.profile.is_client() || noticed {
            self.peer.handle_link_down(now);
        }
        let late: Vec<Kind> = self.arriving.drain(..).collect();
        let late = late.into_iter().filter(|_| self.random.chance(50));
        self.limbo.extend(late.collect::<Vec<_>>());
        let arrives = self.random.below(self.to_peer.len() + 1);
        self.to_peer.truncate(arrives);
    }

    pub(crate) fn up(&mut self) {
        if std::mem::replace(&mut self.up, true) {
            return;
        }
        let first = self.runner.session.epoch() == 0;
        if first || self.profile.is_client() || self.random.chance(30) {
            self.call(json!({ "do": "link_up" }));
        }
        if first || !self.profile.is_client() {
            self.peer.handle_link_up();
        }
    }

    fn chunk(&mut self) -> Chunk {
        let len = self.random.pick(self.profile.sizes);
        let fill = u8::try_from(self.random.below(256)).expect("a byte");
        let frame = self.random.pick(&[Some(0x81), Some(0x82), Some(0x82), None]);
        let in_pieces = frame.is_some() && self.random.chance(10);
        let frame_len = in_pieces.then_some(70_000);
        Chunk { frame, frame_len, payload: vec![fill; len].into(), shared: 0 }
    }

    fn let_peer_speak(&mut self) {
        let now = self.runner.at(self.now);
        self.peer.handle_timeout(now);
        if self.random.chance(25)
            && let Some(kind) = self.to_peer.pop_front()
        {
            let _ = self.peer.handle_frame(kind);
        }
        while let Some((seq, _)) = self.peer.poll_deliver() {
            self.peer_pending.push_back(seq);
        }
        if self.up
            && self.random.chance(50)
            && let Some(kind) = self.peer.poll_transmit()
        {
            self.arriving.push_back(kind);
        }
    }

    fn consume_at_peer(&mut self) {
        let now = self.runner.at(self.now);
        if let Some(seq) = self.peer_pending.pop_back() {
            self.peer_pending.clear();
            self.peer.handle_consumed(seq, now);
        }
    }
}

pub(crate) fn end_of(cause: Cause, close_code: Option<u32>, reason: &str) -> End {
    End { cause: cause.into(), close_code, reason: reason.into(), trailers: Vec::new() }
}
