//! A peer behind several ways, in virtual time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::super::Paths;
use crate::paths::{Candidate, Order, StreamEvent, StreamTarget};
use crate::way::{StreamId, ThroughId, Way};

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

pub(super) fn udp(port: u16) -> Candidate {
    Candidate::Udp(([192, 0, 2, 1], port).into())
}

pub(super) fn udp6(port: u16) -> Candidate {
    Candidate::Udp((std::net::Ipv6Addr::LOCALHOST, port).into())
}

pub(super) fn through(id: u64) -> Candidate {
    Candidate::Through(ThroughId(id))
}

pub(super) fn target() -> StreamTarget {
    StreamTarget { endpoint: "core.example:443".to_owned() }
}

/// How a way is.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    one_way: Option<Duration>,
    loss: f64,
    passes_full: bool,
    passes_wireguard: bool,
}

impl Path {
    pub(super) const fn delay(one_way_ms: u64) -> Self {
        let one_way = Some(ms(one_way_ms));
        Self { one_way, loss: 0.0, passes_full: true, passes_wireguard: true }
    }

    pub(super) const fn dead() -> Self {
        Self { one_way: None, ..Self::delay(0) }
    }

    pub(super) const fn lossy(self, loss: f64) -> Self {
        Self { loss, ..self }
    }

    pub(super) const fn narrow(self) -> Self {
        Self { passes_full: false, ..self }
    }

    pub(super) const fn without_wireguard(self) -> Self {
        Self { passes_wireguard: false, ..self }
    }
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Echo { way: Way, sent: Instant },
    Answered { way: Way },
    Opened { id: StreamId },
    OpenFailed,
}

pub(super) struct Lab {
    pub(super) paths: Paths,
    /// The peer answers no probes.
    pub(super) standard: bool,
    /// Nothing is heard of streams that were ordered.
    pub(super) streams_hang: bool,
    now: Instant,
    rng: StdRng,
    world: Vec<(Candidate, Path)>,
    stream: Option<Path>,
    is_cut: bool,
    events: BTreeMap<(Instant, u64), Event>,
    count: u64,
    open: Vec<StreamId>,
    orders: Vec<Order>,
    initiated: Option<Instant>,
    shaken: Option<Instant>,
}

impl Lab {
    pub(super) fn new(seed: u64) -> Self {
        let now = crate::tunnel::now();
        Self {
            paths: Paths::new(now),
            standard: false,
            streams_hang: false,
            now,
            rng: StdRng::seed_from_u64(seed),
            world: Vec::new(),
            stream: None,
            is_cut: false,
            events: BTreeMap::new(),
            count: 0,
            open: Vec::new(),
            orders: Vec::new(),
            initiated: None,
            shaken: None,
        }
    }

    pub(super) fn path(&mut self, candidate: Candidate, path: Path) -> &mut Self {
        self.world.push((candidate, path));
        self
    }

    pub(super) fn stream(&mut self, path: Path) -> &mut Self {
        self.stream = Some(path);
        self
    }

    pub(super) fn set(&mut self, candidate: Candidate, path: Path) -> &mut Self {
        match candidate {
            Candidate::Stream(_) => self.stream = Some(path),
            Candidate::Udp(_) | Candidate::Through(_) => {
                let found = self.world.iter_mut().find(|(other, _)| *other == candidate);
                found.expect("in this world").1 = path;
            }
        }
        self
    }

    pub(super) fn begin(&mut self) {
        let mut candidates: Vec<_> = self.world.iter().map(|(other, _)| other.clone()).collect();
        candidates.extend(self.stream.map(|_| Candidate::Stream(target())));
        self.paths.set_candidates(candidates, self.now);
        self.obey();
    }

    pub(super) fn cut(&mut self) {
        self.is_cut = true;
    }

    pub(super) fn heal(&mut self) {
        self.is_cut = false;
    }

    /// Somebody above says that nothing comes back.
    pub(super) fn complain(&mut self) {
        if let Some(way) = self.paths.using() {
            self.initiate(way);
        }
    }

    pub(super) const fn now(&self) -> Instant {
        self.now
    }

    pub(super) fn used(&self) -> Option<Candidate> {
        match self.paths.using()? {
            Way::Udp { remote, .. } => Some(Candidate::Udp(remote)),
            Way::Through(id) => Some(Candidate::Through(id)),
            Way::Stream(_) => Some(Candidate::Stream(target())),
        }
    }

    pub(super) fn streams_open(&self) -> usize {
        self.open.len()
    }

    pub(super) fn did(&self, what: impl Fn(&Order) -> bool) -> bool {
        self.count(what) > 0
    }

    pub(super) fn count(&self, what: impl Fn(&Order) -> bool) -> usize {
        self.orders.iter().filter(|order| what(order)).count()
    }

    pub(super) fn changes(&self) -> usize {
        self.count(|order| matches!(order, Order::Use(_)))
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        self.run_while(end, |_| true);
        self.now = end;
    }

    /// Time passes and nobody runs: what comes meanwhile is looked at afterwards, timers first.
    pub(super) fn sleep(&mut self, time: Duration) {
        self.now += time;
        self.paths.handle_timeout(self.now);
        self.obey();
    }

    #[track_caller]
    pub(super) fn run_until(&mut self, done: impl Fn(&Self) -> bool) {
        let end = self.now + Duration::from_secs(60);
        self.run_while(end, |lab| !done(lab));
        assert!(done(self), "within a minute");
    }

    fn run_while(&mut self, end: Instant, more: impl Fn(&Self) -> bool) {
        while more(self) {
            let event = self.events.first_key_value().map(|(at, _)| at.0);
            let timeout = self.paths.poll_timeout();
            let Some(next) = event.into_iter().chain(timeout).min() else { break };
            if next > end {
                break;
            }
            self.now = self.now.max(next);
            if event == Some(next) {
                let (_, event) = self.events.pop_first().expect("seen just now");
                self.happen(event);
            } else {
                self.paths.set_unanswered(self.unanswered());
                self.paths.handle_timeout(self.now);
                let next = self.paths.poll_timeout();
                assert!(next.is_none_or(|next| next > self.now), "the timeout moves on");
            }
            self.obey();
        }
    }

    fn unanswered(&self) -> Option<Instant> {
        let newer = |at: &Instant| self.shaken.is_none_or(|shaken| *at > shaken);
        self.initiated.filter(newer)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Echo { way, sent } => self.paths.handle_echo(way, sent, self.now, self.now),
            Event::Answered { way } => {
                self.paths.set_unanswered(self.unanswered());
                self.shaken = Some(self.now);
                self.initiated = None;
                self.paths.handle_answered(way, self.now);
            }
            Event::Opened { id } => {
                self.open.push(id);
                self.paths.handle_stream(&target(), StreamEvent::Opened(id), self.now);
            }
            Event::OpenFailed => {
                self.paths.handle_stream(&target(), StreamEvent::Gone, self.now);
            }
        }
    }

    pub(super) fn obey(&mut self) {
        while let Some(order) = self.paths.poll_output() {
            self.orders.push(order.clone());
            match order {
                Order::Probe { way, full, in_use } => {
                    assert_eq!(in_use, self.paths.using() == Some(way), "{way:?}");
                    let path = self.path_of(way).filter(|path| path.passes_full || !full);
                    if !self.standard {
                        self.answer(path, Event::Echo { way, sent: self.now });
                    }
                }
                Order::Initiate { way } => self.initiate(way),
                Order::Use(way) => assert_eq!(self.paths.using(), Some(way)),
                Order::OpenStream(_) => {
                    self.count += 1;
                    let id = StreamId(self.count);
                    if self.streams_hang {
                        continue;
                    }
                    match self.stream.filter(|_| !self.is_cut).and_then(|path| path.one_way) {
                        Some(one_way) => self.later(one_way * 8, Event::Opened { id }),
                        None => self.later(ms(5000), Event::OpenFailed),
                    }
                }
                Order::CloseStream(id) => self.open.retain(|open| *open != id),
                Order::Resolve | Order::Rebind => {}
            }
        }
    }

    /// As WireGuard's: not more often than every 400 ms, and not soon after the last answer.
    fn initiate(&mut self, way: Way) {
        let fresh = |at: Option<Instant>, time| at.is_some_and(|at| self.now - at < time);
        if fresh(self.shaken, ms(1000)) {
            return;
        }
        self.initiated.get_or_insert(self.now);
        let path = self.path_of(way).filter(|path| path.passes_wireguard);
        self.answer(path, Event::Answered { way });
    }

    fn path_of(&self, way: Way) -> Option<Path> {
        let candidate = match way {
            Way::Udp { remote, .. } => Candidate::Udp(remote),
            Way::Through(id) => Candidate::Through(id),
            Way::Stream(id) => return self.stream.filter(|_| self.open.contains(&id)),
        };
        self.world.iter().find(|(other, _)| *other == candidate).map(|(_, path)| *path)
    }

    fn answer(&mut self, path: Option<Path>, event: Event) {
        let Some(path) = path.filter(|_| !self.is_cut) else { return };
        let Some(one_way) = path.one_way else { return };
        let survives = |rng: &mut StdRng| rng.random::<f64>() >= path.loss;
        if survives(&mut self.rng) && survives(&mut self.rng) {
            self.later(one_way * 2, event);
        }
    }

    fn later(&mut self, after: Duration, event: Event) {
        self.count += 1;
        self.events.insert((self.now + after, self.count), event);
    }
}
