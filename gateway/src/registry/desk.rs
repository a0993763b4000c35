//! The desk: the register behind a lock, and what hangs on it: seats, rosters, the snapshot.
//!
//! Streams tell it what they hear, and wait on watches for what they have to pass on. A watch holds
//! the newest value only, so a slow member costs no memory.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use tokio::sync::{Notify, broadcast, watch};
use tracing::{error, info};

use crate::health::{Health, Lease};
use crate::member::{Profile, Role};
use crate::mesh::Mesh;
use crate::metrics::Metrics;
use crate::register::{Output, Register, Settings, StreamEnd};
use crate::steer::{Candidate, Neighbour, Policy, Snapshot, neighbours};
use crate::store::{MemberRecord, Store, StoreError};

/// How old the sessions that steering sees may be. Changes of health are seen at once.
const SNAPSHOT_AGE: Duration = Duration::from_millis(100);

/// How old the mesh may be. Members that lost their gateway are back within this of its return
/// (their attempts are at most 4 s apart).
const MESH_AGE: Duration = Duration::from_secs(5);

/// Processes that have gone and that a core has not been told of yet; the oldest give way.
const GONE_QUEUED_MAX: usize = 1024;

/// All the streams' common ground; clones share it.
#[derive(Clone, Debug)]
pub struct Desk {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    state: Mutex<State>,
    store: Arc<Store>,
    metrics: Metrics,
    snapshot: ArcSwap<Snapshot>,
    for_nodes: watch::Sender<Arc<wire::Roster>>,
    for_cores: watch::Sender<Arc<wire::Roster>>,
    gone: broadcast::Sender<wire::Gone>,
    mesh: Mutex<Drawn>,
    /// Something changed that the desk's own task has to look at.
    wake: Notify,
}

#[derive(Debug)]
struct State {
    register: Register,
    seats: BTreeMap<String, (Lease, watch::Sender<Word>)>,
    snapshot_is_old: bool,
}

/// The mesh, and when it was drawn.
#[derive(Debug)]
struct Drawn {
    at: std::time::Instant,
    mesh: Arc<Mesh>,
}

/// What a stream is told, beside rosters.
#[derive(Clone, Debug, PartialEq)]
pub enum Word {
    /// Stay.
    Stay,
    /// The operator wants the member to leave.
    Drain(wire::Drain),
    /// The same member opened a newer stream.
    Superseded,
    /// The member was removed.
    Removed,
}

/// What a stream gets for its introduction.
#[derive(Debug)]
pub struct Seat {
    /// Its lease.
    pub lease: Lease,
    /// Its peers, whole, each time they change.
    pub roster: watch::Receiver<Arc<wire::Roster>>,
    /// Whether it may stay.
    pub word: watch::Receiver<Word>,
    /// Processes of its peers that have gone; for cores.
    pub gone: broadcast::Receiver<wire::Gone>,
    /// What it is.
    pub role: Role,
}

impl Seat {
    /// What the stream is told now.
    pub fn newest_word(&mut self) -> Word {
        self.word.borrow_and_update().clone()
    }
}

/// A member was told to leave.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Leaving {
    /// Which one.
    pub member_id: String,
    /// Sessions it had by its last report.
    pub sessions: u32,
}

impl Desk {
    /// A desk over the members in `store`.
    ///
    /// # Errors
    ///
    /// If the store fails.
    pub fn open(
        store: Arc<Store>,
        settings: Settings,
        metrics: Metrics,
    ) -> Result<Self, StoreError> {
        let register =
            Register::new(settings, store.count_start()?, store.members()?, clock::now());
        let for_nodes = watch::Sender::new(Arc::new(register.roster_of(Role::Node)));
        let for_cores = watch::Sender::new(Arc::new(register.roster_of(Role::Core)));
        let snapshot = ArcSwap::from_pointee(register.snapshot());
        let seats = BTreeMap::new();
        let state = Mutex::new(State { register, seats, snapshot_is_old: false });
        let (wake, gone) = (Notify::new(), broadcast::Sender::new(GONE_QUEUED_MAX));
        let mesh = Mutex::new(Drawn { at: clock::now(), mesh: Arc::default() });
        let inner =
            Inner { state, store, metrics, snapshot, for_nodes, for_cores, gone, mesh, wake };
        let desk = Self { inner: Arc::new(inner) };
        desk.count();
        Ok(desk)
    }

    /// Keeps time for the register until the program stops.
    pub fn run(&self, shutdown: &Shutdown) {
        let desk = self.clone();
        shutdown.spawn_service(async move {
            loop {
                let (due, snapshot_is_old) = {
                    let state = desk.inner.state.lock();
                    (state.register.poll_timeout().map(|(at, _)| at), state.snapshot_is_old)
                };
                let refresh = snapshot_is_old.then(|| clock::now() + SNAPSHOT_AGE);
                tokio::select! {
                    () = sleep_until([due, refresh].into_iter().flatten().min()) => {}
                    () = desk.inner.wake.notified() => continue,
                }
                let mut state = desk.inner.state.lock();
                state.register.handle_timeout(clock::now());
                desk.settle(&mut state);
                desk.publish(&mut state);
            }
        });
    }

    /// What steering goes by.
    #[must_use]
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.snapshot.load_full()
    }

    /// Whether this identity belongs to a member.
    #[must_use]
    pub fn is_member(&self, member_id: &str) -> bool {
        self.inner.state.lock().register.is_member(member_id)
    }

    /// Whether there is a member of this name or identity.
    #[must_use]
    pub fn knows(&self, name_or_id: &str) -> bool {
        self.inner.state.lock().register.find(name_or_id).is_some()
    }

    /// A member's record.
    #[must_use]
    pub fn record(&self, member_id: &str) -> Option<MemberRecord> {
        self.inner.state.lock().register.record(member_id).cloned()
    }

    /// The nodes that can take this node's clients, as it is told.
    #[must_use]
    pub fn neighbours(&self, policy: Policy, member_id: &str) -> wire::Neighbours {
        let nodes = neighbours(policy, &self.snapshot(), member_id).into_iter();
        let nodes = nodes.map(|Neighbour { candidate: Candidate { place, .. }, weight }| {
            wire::Neighbour { name: place.name.clone(), public_urls: place.urls.clone(), weight }
        });
        wire::Neighbours { nodes: nodes.collect() }
    }

    /// Which nodes send whose datagrams on; drawn anew when it is `MESH_AGE` old. For as long
    /// after the start it is empty: members that are not back yet go on as they were told before.
    #[must_use]
    pub fn mesh(&self) -> Arc<Mesh> {
        let mut drawn = self.inner.mesh.lock();
        let now = clock::now();
        if now.saturating_duration_since(drawn.at) >= MESH_AGE {
            let stations = self.inner.state.lock().register.stations();
            *drawn = Drawn { at: now, mesh: Arc::new(Mesh::plan(&stations, &drawn.mesh)) };
        }
        Arc::clone(&drawn.mesh)
    }

    /// All members for the operator.
    #[must_use]
    pub fn list(&self) -> Vec<wire::Member> {
        let mesh = self.mesh();
        let mut members = self.inner.state.lock().register.list(clock::now(), clock::unix_now());
        for member in &mut members {
            mesh.describe(member);
        }
        members
    }

    /// The store says that somebody joined.
    pub fn enrolled(&self, record: MemberRecord) {
        let mut state = self.inner.state.lock();
        state.register.handle_enrolled(record, clock::now());
        self.settle(&mut state);
        self.publish(&mut state);
        self.count_locked(&state);
        self.inner.wake.notify_one();
    }

    /// Seats a member; a stream it has already is told to go. `None`: it is no member.
    pub async fn introduce(&self, member_id: &str, profile: Profile) -> Option<Seat> {
        let seat = self.sit(member_id, &profile)?;
        let (store, id) = (Arc::clone(&self.inner.store), member_id.to_owned());
        // A profile that can't be kept is pushed all the same: the next start will ask again.
        let kept = tokio::task::spawn_blocking(move || store.keep_profile(&id, &profile)).await;
        if let Ok(Err(error)) = kept {
            error!(error = &error as &dyn std::error::Error, "profile was not kept");
        }
        Some(seat)
    }

    fn sit(&self, member_id: &str, profile: &Profile) -> Option<Seat> {
        let mut state = self.inner.state.lock();
        let role = state.register.record(member_id)?.role;
        let lease = state.register.handle_introduction(member_id, profile.clone(), clock::now())?;
        let order = state.register.order(member_id);
        let first = order.map_or(Word::Stay, |order| Word::Drain(order.drain.clone()));
        let (sender, mut word) = watch::channel(first);
        word.mark_changed();
        let earlier = state.seats.insert(member_id.to_owned(), (lease, sender));
        if let Some((_, earlier)) = earlier {
            earlier.send_replace(Word::Superseded);
        }
        self.settle(&mut state);
        self.inner.wake.notify_one();
        let (roster, gone) = (self.rosters(role).subscribe(), self.inner.gone.subscribe());
        Some(Seat { lease, roster, word, gone, role })
    }

    /// A heartbeat came.
    pub fn heard(&self, member_id: &str, lease: Lease, heartbeat: wire::Heartbeat) {
        let mut state = self.inner.state.lock();
        state.register.handle_heartbeat(member_id, lease, heartbeat, clock::now());
        self.settle(&mut state);
        if !std::mem::replace(&mut state.snapshot_is_old, true) {
            self.inner.wake.notify_one();
        }
    }

    /// Asks a member to leave, by name or identity: steering passes it over from now on. `None`:
    /// there is no such member, or it does not attend.
    #[must_use]
    pub fn drain(&self, name_or_id: &str, drain: wire::Drain) -> Option<Leaving> {
        let mut state = self.inner.state.lock();
        let (member_id, order) = state.register.handle_drain(name_or_id, drain, clock::now())?;
        if let Some((_, seat)) = state.seats.get(&member_id) {
            seat.send_replace(Word::Drain(order.drain));
        }
        self.settle(&mut state);
        self.publish(&mut state);
        self.inner.wake.notify_one();
        let sessions = state.register.sessions(&member_id);
        info!(member = name_or_id, sessions, "told to leave");
        Some(Leaving { member_id, sessions })
    }

    /// A stream ended.
    pub fn lost(&self, member_id: &str, lease: Lease, end: StreamEnd) {
        let mut state = self.inner.state.lock();
        if state.seats.get(member_id).is_some_and(|(held, _)| *held == lease) {
            state.seats.remove(member_id);
        }
        state.register.handle_stream_lost(member_id, lease, end, clock::now());
        self.settle(&mut state);
        self.inner.wake.notify_one();
    }

    /// Takes a member off the register, by name or identity: on the disk first, then everywhere.
    /// `None`: there is no such member.
    ///
    /// # Errors
    ///
    /// If the store fails; the member stays.
    pub async fn remove(&self, name_or_id: &str) -> Result<Option<String>, StoreError> {
        let found = self.inner.state.lock().register.find(name_or_id).cloned();
        let Some(MemberRecord { member_id, name, .. }) = found else {
            return Ok(None);
        };
        let (store, id) = (Arc::clone(&self.inner.store), member_id.clone());
        let now = clock::unix_now().as_secs();
        tokio::task::spawn_blocking(move || store.remove(&id, now))
            .await
            .expect("removing does not panic")?;
        let mut state = self.inner.state.lock();
        state.register.handle_removed(&member_id);
        if let Some((_, seat)) = state.seats.remove(&member_id) {
            seat.send_replace(Word::Removed);
        }
        self.settle(&mut state);
        self.publish(&mut state);
        self.count_locked(&state);
        info!(member = name, "removed");
        Ok(Some(member_id))
    }

    /// Carries out what the register says.
    fn settle(&self, state: &mut State) {
        let mut health_changed = false;
        while let Some(output) = state.register.poll_output() {
            match output {
                Output::Health { name, role, changed, .. } => {
                    health_changed = true;
                    self.inner.metrics.health_changed(changed);
                    let (from, to) = (changed.from.label(), changed.to.label());
                    let reason = changed.reason.label();
                    info!(member = name, role = role.label(), from, to, reason, "health changed");
                }
                Output::RosterOf(role) => self.push_roster(state, role),
                Output::Gone(gone) => {
                    self.inner.metrics.processes_gone.inc();
                    info!(member_id = gone.member_id, "process gone: cores are told");
                    // Without a core there is nobody to tell.
                    let _ = self.inner.gone.send(gone);
                }
            }
        }
        if health_changed {
            self.publish(state);
            self.count_locked(state);
        }
    }

    fn push_roster(&self, state: &State, role: Role) {
        let roster = state.register.roster_of(role);
        self.rosters(role).send_if_modified(|current| {
            if **current == roster {
                return false;
            }
            *current = Arc::new(roster);
            true
        });
    }

    fn rosters(&self, role: Role) -> &watch::Sender<Arc<wire::Roster>> {
        match role {
            Role::Node => &self.inner.for_nodes,
            Role::Core => &self.inner.for_cores,
        }
    }

    fn publish(&self, state: &mut State) {
        state.snapshot_is_old = false;
        self.inner.metrics.ways(state.register.ways());
        self.inner.snapshot.store(Arc::new(state.register.snapshot()));
    }

    fn count(&self) {
        self.count_locked(&self.inner.state.lock());
    }

    fn count_locked(&self, state: &State) {
        for role in Role::ALL {
            let states: [(Health, usize); 5] = state.register.count(role);
            self.inner.metrics.count(role, states);
        }
    }
}

async fn sleep_until(deadline: Option<std::time::Instant>) {
    match deadline {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
