//! The driver of the choice among ways: one task has every peer's machine, brings it what was
//! heard, and does what it orders.

mod obey;

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::machine::Paths;
use super::{Candidate, StreamEvent, StreamTarget, WayState};
use crate::key::PublicKey;
use crate::link::Peer;
use crate::probe::Heard;
use crate::shared::Shared;
use crate::stream::StreamState;
use crate::tunnel::{Tasks, Tunnel, now};
use crate::way::{StreamId, Way};

/// What was heard and not looked at yet. Only echoes of our own probes and answers to our own
/// handshakes come here, so it does not fill; if it did, the newest would go.
const EVENTS_MAX: usize = 4096;

/// What the task shares with those who ask it for something.
#[derive(Debug)]
pub(crate) struct Courses {
    /// Where the real socket was asked for: a fresh one is bound there too.
    listen: SocketAddr,
    given: Mutex<BTreeMap<PublicKey, Vec<Candidate>>>,
    events: Mutex<Vec<Event>>,
    woken: Notify,
    views: RwLock<BTreeMap<PublicKey, View>>,
    changed: Wanted<Ipv6Addr>,
    unresolved: Wanted<PublicKey>,
}

/// What somebody waits to be told of, each once however often it was said.
#[derive(Debug)]
struct Wanted<T> {
    said: Mutex<BTreeSet<T>>,
    notify: Notify,
}

/// What was heard of a way.
#[derive(Debug)]
enum Event {
    Echo {
        peer: PublicKey,
        way: Way,
        sent: Instant,
        at: Instant,
    },
    Answered {
        peer: PublicKey,
        way: Way,
    },
    /// There is a fresh socket.
    Rebound,
}

/// What others may see of a peer's ways.
#[derive(Clone, Debug, Default)]
struct View {
    second: Option<Way>,
    ways: Vec<WayState>,
}

/// One peer's machine, and what belongs to it.
struct Course {
    peer: Arc<Peer>,
    candidates: Vec<Candidate>,
    paths: Paths,
    /// Streams that were ordered, and whether it was told that they opened.
    streams: BTreeMap<StreamId, (StreamTarget, StreamState)>,
}

/// What the task has to itself.
#[derive(Default)]
struct Bridge {
    courses: BTreeMap<PublicKey, Course>,
    rebound: Option<Instant>,
}

impl<T> Default for Wanted<T> {
    fn default() -> Self {
        Self { said: Mutex::default(), notify: Notify::new() }
    }
}

impl<T: Ord> Wanted<T> {
    fn say(&self, what: T) {
        self.said.lock().insert(what);
        self.notify.notify_one();
    }

    async fn next(&self) -> T {
        loop {
            if let Some(what) = self.said.lock().pop_first() {
                return what;
            }
            self.notify.notified().await;
        }
    }
}

impl Courses {
    pub(crate) fn new(listen: SocketAddr) -> Self {
        Self {
            listen,
            given: Mutex::default(),
            events: Mutex::default(),
            woken: Notify::new(),
            views: RwLock::default(),
            changed: Wanted::default(),
            unresolved: Wanted::default(),
        }
    }

    fn push(&self, event: Event) {
        let mut events = self.events.lock();
        if events.len() < EVENTS_MAX {
            events.push(event);
        }
        drop(events);
        self.woken.notify_one();
    }
}

impl Tunnel {
    /// Sets the ways to a peer, whole, besides those through neighbours, which are found by
    /// themselves; from the first call on they are raced, watched and chosen from. None: the peer
    /// is where it is configured to be and where it is heard from, as in WireGuard. For peers that
    /// are set already.
    pub fn set_candidates(&self, peer: &PublicKey, candidates: Vec<Candidate>) {
        let courses = &self.shared().courses;
        let mut given = courses.given.lock();
        if candidates.is_empty() {
            given.remove(peer);
        } else {
            given.insert(*peer, candidates);
        }
        drop(given);
        courses.woken.notify_one();
    }

    /// Waits until the way to some peer is another one, and tells its address inside the tunnel:
    /// what was learned of the path before (round trip, MTU, window) is not true of it any more.
    /// For one waiter.
    pub async fn way_changed(&self) -> Ipv6Addr {
        self.shared().courses.changed.next().await
    }

    /// Waits until no way to some peer answers and its names are to be looked up again. For one
    /// waiter.
    pub async fn unresolved(&self) -> PublicKey {
        self.shared().courses.unresolved.next().await
    }

    /// All ways to a peer that are chosen from, with what their probes say.
    #[must_use]
    pub fn ways(&self, peer: &PublicKey) -> Vec<WayState> {
        let views = self.shared().courses.views.read();
        views.get(peer).map(|view| view.ways.clone()).unwrap_or_default()
    }
}

impl Shared {
    /// What probes say of ways.
    pub(crate) fn take_heard(&self, peer: PublicKey, heard: Heard, now: Instant) {
        let link_of = || self.device.peer(&peer);
        match heard {
            Heard::Echo { way, rtt, full: _, in_use: _ } => {
                if self.courses.given.lock().contains_key(&peer) {
                    let sent = now.checked_sub(rtt).unwrap_or(now);
                    self.courses.push(Event::Echo { peer, way, sent, at: now });
                }
            }
            Heard::Used { way } => {
                if let Some(peer) = link_of() {
                    peer.link.lock().follow(way, now);
                }
            }
            Heard::Beside { way } => {
                if let Some(peer) = link_of() {
                    peer.link.lock().note_beside(way, now);
                }
            }
        }
    }

    /// An answer to a handshake came: if it was genuine, its peer's machine hears of it.
    pub(crate) fn heed_response(&self, response: &[u8]) {
        let Some(peer) = self.device.answered(response) else { return };
        let Some(way) = peer.link.lock().take_answered() else { return };
        let key = peer.public_key;
        if self.courses.given.lock().contains_key(&key) {
            self.courses.push(Event::Answered { peer: key, way });
        }
    }

    /// A way to a peer besides the one in use, over which copies of its datagrams may go.
    pub(crate) fn second_way(&self, peer: &Peer, now: Instant) -> Option<Way> {
        if let Some(view) = self.courses.views.read().get(&peer.public_key) {
            return view.second;
        }
        peer.link.lock().second_followed(now)
    }

    /// Chooses among ways until the tunnel stops.
    pub(crate) async fn run_courses(self: Arc<Self>, tasks: Tasks) {
        let mut bridge = Bridge::default();
        let stop = tasks.stop.clone();
        loop {
            let due = bridge.courses.values().filter_map(|course| course.paths.poll_timeout());
            let sleep = due.min().map(|at| tokio::time::sleep_until(at.into()));
            let due = async {
                match sleep {
                    Some(sleep) => sleep.await,
                    None => pending().await,
                }
            };
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.courses.woken.notified() => {}
                () = self.streams.changed() => {}
                () = due => {}
            }
            self.steer(&mut bridge, &tasks, now());
        }
    }

    fn steer(self: &Arc<Self>, bridge: &mut Bridge, tasks: &Tasks, now: Instant) {
        self.keep_courses(bridge, now);
        let events = std::mem::take(&mut *self.courses.events.lock());
        for event in events {
            match event {
                Event::Echo { peer, way, sent, at } => {
                    if let Some(course) = bridge.courses.get_mut(&peer) {
                        course.paths.handle_echo(way, sent, at, now);
                    }
                }
                Event::Answered { peer, way } => {
                    if let Some(course) = bridge.courses.get_mut(&peer) {
                        course.paths.handle_answered(way, now);
                    }
                }
                Event::Rebound => {
                    let courses = bridge.courses.values_mut();
                    courses.for_each(|course| course.paths.handle_rebound(now));
                }
            }
        }
        for course in bridge.courses.values_mut() {
            self.hear_streams(course, now);
            let pulse = course.peer.link.lock().pulse();
            if let Some((way, at)) = pulse.heard {
                course.paths.handle_heard(way, at);
            }
            course.paths.set_unanswered(pulse.unanswered);
            if course.paths.poll_timeout().is_some_and(|due| due <= now) {
                course.paths.handle_timeout(now);
            }
        }
        self.obey_all(bridge, tasks, now);
        self.show(bridge, now);
    }

    /// One machine for each peer that has candidates.
    fn keep_courses(&self, bridge: &mut Bridge, now: Instant) {
        let given = self.courses.given.lock().clone();
        let mut gone = Vec::new();
        bridge.courses.retain(|key, course| {
            let stays = given.contains_key(key)
                && self.device.peer(key).is_some_and(|peer| Arc::ptr_eq(&peer, &course.peer));
            if !stays {
                course.peer.link.lock().release_way();
                gone.extend(course.streams.keys().copied());
            }
            stays
        });
        gone.into_iter().for_each(|stream| self.close_stream(stream));
        for (key, mut candidates) in given {
            let Some(peer) = self.device.peer(&key) else { continue };
            let can_stream = peer.link.lock().stream_tls().is_some();
            candidates.retain(|candidate| match candidate {
                Candidate::Stream(_) => can_stream,
                Candidate::Udp(_) | Candidate::Through(_) => true,
            });
            candidates.extend(self.mesh.ways_to(&key).into_iter().map(Candidate::Through));
            let course = bridge.courses.entry(key).or_insert_with(|| Course {
                peer,
                candidates: Vec::new(),
                paths: Paths::new(now),
                streams: BTreeMap::new(),
            });
            if course.candidates != candidates {
                course.candidates.clone_from(&candidates);
                course.paths.set_candidates(candidates, now);
            }
        }
    }

    /// Tells a machine what became of its streams.
    fn hear_streams(&self, course: &mut Course, now: Instant) {
        let Course { streams, paths, .. } = course;
        streams.retain(|id, (target, told)| match (self.streams.state(*id), *told) {
            (Some(StreamState::Open), StreamState::Opening) => {
                *told = StreamState::Open;
                paths.handle_stream(target, StreamEvent::Opened(*id), now);
                true
            }
            (Some(StreamState::Open), StreamState::Open) | (Some(StreamState::Opening), _) => true,
            (None, _) => {
                paths.handle_stream(target, StreamEvent::Gone, now);
                false
            }
        });
    }

    fn show(&self, bridge: &Bridge, now: Instant) {
        let mut views = self.courses.views.write();
        views.retain(|key, _| bridge.courses.contains_key(key));
        for (key, course) in &bridge.courses {
            let (second, ways) = (course.paths.second(now), course.paths.ways(now));
            views.insert(*key, View { second, ways });
        }
    }
}
