//! Session machines: any calls in any order between two ends, and states that are handed over.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use antipode_proto::body::{Body, INITIAL_CREDIT_BYTES};
use antipode_proto::handover::v1::SessionState;
use antipode_proto::seq::Seq;
use antipode_proto::session::{Config, Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{
    Attach, Attached, Cause, Chunk, End, RequestHead, ResponseHead, Segment,
};
use antipode_runtime::clock;
use bytes::Bytes;
use prost::Message;

/// A state that another process tells: what is taken over says the same again, and runs.
///
/// # Panics
///
/// On a bug.
pub fn session_state(data: &[u8]) {
    let Ok(state) = SessionState::decode(data) else { return };
    let now = clock::now();
    let Ok(mut session) = Session::import(state, config(), now) else { return };
    let again = session.export();
    let back = Session::import(again.clone(), config(), now).expect("its own words are good");
    assert_eq!(back.export(), again, "a state changed on its way");
    session.handle_link_up();
    for _ in 0..1_000 {
        if session.poll_transmit().is_none() {
            break;
        }
    }
    let mut last = Seq::ZERO;
    while let Some((seq, _)) = session.poll_deliver() {
        assert!(seq > last, "deliveries go up");
        last = seq;
        session.handle_consumed(seq, now);
    }
    session.handle_timeout(now + Duration::from_secs(100));
    session.handle_link_down(now + Duration::from_secs(100));
    session.handle_timeout(now + Duration::from_secs(1_000));
}

/// Two ends and what is under way between them; each byte is a call.
///
/// # Panics
///
/// If what is delivered is no prefix of what was sent, or a machine complains of an honest peer.
pub fn session_calls(data: &[u8]) {
    let Some((&mode, calls)) = data.split_first() else { return };
    let mut lab = Lab::new(mode);
    for pair in calls.chunks(2).take(4_096) {
        lab.call(pair[0], pair.get(1).copied().unwrap_or(0));
    }
}

struct Lab {
    now: Instant,
    ends: [Endpoint; 2],
    up: bool,
    /// Frames may be lost, doubled and late, as those of older lanes are.
    has_limbo: bool,
    /// The far end has a machine: a core makes one of a session's first segment.
    is_known: bool,
}

struct Endpoint {
    session: Session,
    sent: Vec<Bytes>,
    heard: Vec<Bytes>,
    unconsumed: VecDeque<Seq>,
    arriving: VecDeque<Kind>,
    limbo: VecDeque<Kind>,
    has_ended: bool,
}

impl Lab {
    fn new(mode: u8) -> Self {
        let now = clock::now();
        let sides = match mode & 1 {
            0 => [Side::Node, Side::Core],
            _ => [Side::Client, Side::Server],
        };
        let mut ends = sides.map(|side| Endpoint::new(side, now));
        ends[0].session.handle_link_up();
        if mode & 1 == 0 {
            ends[0].session.send(RequestHead::default().into());
            ends[1].session.send(ResponseHead::default().into());
        } else {
            ends[1].session.handle_link_up();
        }
        Self { now, ends, up: true, has_limbo: mode & 2 != 0, is_known: mode & 1 != 0 }
    }

    fn call(&mut self, what: u8, how: u8) {
        let which = usize::from(what & 1);
        match (what >> 1) % 11 {
            0 | 1 => self.ends[which].say(usize::from(how) * 97),
            2 | 3 => self.transmit(which),
            4 | 5 => self.arrive(which),
            6 => self.ends[which].consume(usize::from(how % 7), self.now),
            7 => self.break_link(),
            8 => self.link_up(),
            9 => self.late(which, how),
            _ => self.other(which, how),
        }
    }

    fn other(&mut self, which: usize, how: u8) {
        let end = &mut self.ends[which];
        match how % 8 {
            0 if !end.has_ended => {
                end.has_ended = true;
                let cause = Cause::BackendClosed.into();
                end.session.send(End { cause, ..End::default() }.into());
            }
            1 => end.session.set_pressure(how & 64 != 0),
            2 => self.hand_over(which),
            3 if how > 250 => end.session.reset(Cause::Policy, "enough"),
            4 if how > 250 => self.wait(Duration::from_secs(3_600)),
            _ => self.wait(Duration::from_millis(u64::from(how))),
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        for end in &mut self.ends {
            end.session.handle_timeout(self.now);
            let next = end.session.poll_timeout();
            assert!(next.is_none_or(|next| next > self.now), "a timeout that does not move spins");
        }
    }

    fn transmit(&mut self, from: usize) {
        if from == 1 && !self.is_known {
            return;
        }
        let Some(kind) = self.ends[from].session.poll_transmit() else { return };
        assert!(self.up, "sent without a link");
        self.ends[1 - from].arriving.push_back(kind);
    }

    fn arrive(&mut self, to: usize) {
        if let Some(kind) = self.ends[to].arriving.pop_front() {
            self.take(to, kind);
        }
    }

    fn take(&mut self, to: usize, kind: Kind) {
        if to == 1 && !self.is_known {
            self.is_known = matches!(kind, Kind::Segment(Segment { seq: 1, .. }));
            if let Kind::Attach(Attach { epoch, .. }) = kind {
                let (received, credit) = (0, INITIAL_CREDIT_BYTES);
                let answer = Attached { epoch, received, credit };
                self.ends[0].arriving.push_back(Kind::Attached(answer));
            }
            if !self.is_known {
                return;
            }
        }
        let outcome = self.ends[to].session.handle_frame(kind);
        assert!(outcome.is_ok() || self.has_limbo, "an honest peer: {outcome:?}");
        if let Err(error) = outcome {
            self.ends[to].session.reset(error.cause(), "");
        }
        if !self.up {
            self.ends[to].session.handle_link_down(self.now);
        }
        self.ends[to].deliver();
        self.check();
    }

    fn break_link(&mut self) {
        self.up = false;
        for end in &mut self.ends {
            end.session.handle_link_down(self.now);
            let Endpoint { arriving, limbo, .. } = end;
            limbo.append(arriving);
        }
    }

    fn link_up(&mut self) {
        if self.up {
            return;
        }
        self.up = true;
        if !self.has_limbo {
            self.ends.iter_mut().for_each(|end| end.limbo.clear());
        }
        self.ends[0].session.handle_link_up();
    }

    fn late(&mut self, to: usize, how: u8) {
        let Some(kind) = self.ends[to].limbo.pop_front() else { return };
        if self.has_limbo && !how.is_multiple_of(3) {
            self.take(to, kind);
        }
    }

    /// The process at one end is replaced by another, with its link down.
    fn hand_over(&mut self, which: usize) {
        let end = &mut self.ends[which];
        if end.session.ended().is_some() || self.up {
            return;
        }
        let state = end.session.export().encode_to_vec();
        let state = SessionState::decode(&*state).expect("what was encoded decodes");
        end.session = Session::import(state, config(), self.now).expect("its own words are good");
        end.deliver();
    }

    fn check(&self) {
        let [a, b] = &self.ends;
        assert!(a.sent.starts_with(&b.heard), "the way up is no prefix");
        assert!(b.sent.starts_with(&a.heard), "the way down is no prefix");
        for end in &self.ends {
            let most = config().unacked_bytes_max + config().credit_bytes_max + 200_000;
            assert!(end.session.held_bytes() <= most, "a machine holds too much");
        }
    }
}

impl Endpoint {
    fn new(side: Side, now: Instant) -> Self {
        Self {
            session: Session::new(side, config(), now),
            sent: Vec::new(),
            heard: Vec::new(),
            unconsumed: VecDeque::new(),
            arriving: VecDeque::new(),
            limbo: VecDeque::new(),
            has_ended: false,
        }
    }

    fn say(&mut self, len: usize) {
        if !self.has_ended && self.session.ended().is_none() && self.session.has_room() {
            let [.., low] = self.sent.len().to_be_bytes();
            let payload = Bytes::from(vec![low; len]);
            self.sent.push(payload.clone());
            self.session.send(Chunk { payload, ..Chunk::default() }.into());
        }
    }

    fn deliver(&mut self) {
        while let Some((seq, body)) = self.session.poll_deliver() {
            self.unconsumed.push_back(seq);
            if let Body::Chunk(chunk) = body {
                self.heard.push(chunk.payload);
            }
        }
    }

    fn consume(&mut self, count: usize, now: Instant) {
        for seq in self.unconsumed.drain(..count.min(self.unconsumed.len())) {
            self.session.handle_consumed(seq, now);
        }
    }
}

fn config() -> Config {
    Config { credit_bytes_max: 512 * 1024, unacked_bytes_max: 300 * 1024, ..Config::default() }
}
