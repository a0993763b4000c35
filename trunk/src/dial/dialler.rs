//! The task that keeps a trunk up: it looks at the carrier, dials as [`Redial`] says, and gives the
//! lanes to the first attempt that is up.

use std::future::pending;
use std::io;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use antipode_proto::registry::v1::Carrier as CarrierKind;
use antipode_runtime::clock;
use antipode_runtime::member::names::member_name;
use antipode_tunnel::Class;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::CoreTarget;
use super::lanes::{Acquaintance, Carried, LaneDialler};
use super::redial::{Failure, Lost, Output, Redial};
use super::wires::Wire;
use crate::carrier::Carrier;
use crate::heard::Pulse;
use crate::quic_counts::{Counted, OnQuic};

/// Time for one attempt: five round trips of a bad path.
pub(super) const DIAL_PATIENCE: Duration = Duration::from_secs(3);

/// How often the carrier is asked whether the core is heard.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// Silence after which another carrier is dialled, on a short path. A dial that was not needed
/// costs one handshake, so this may be short: a core that crashed and is back is found within it.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Silence after which QUIC asks whether the core lives.
const ASKS_AFTER: Duration = Duration::from_millis(500);

/// On a longer path two and a half round trips follow on the question: one for the answer, and
/// another and a probe's delay if one of the two is lost.
const ROUND_TRIPS_HALVED: u32 = 5;

/// The same over TCP, whose round trip we don't know and which repeats what was lost later.
const SILENCE_MAX_TCP: Duration = Duration::from_secs(2);

/// Told which core's address is dialled, again and again while it is.
pub(super) type OnDial = Arc<OnceLock<Box<dyn Fn(Ipv6Addr) + Send + Sync>>>;

/// What others see of a trunk's carrier.
#[derive(Debug)]
pub(super) struct View {
    pub(super) carrier: Option<Carrier>,
    /// When the core was last heard.
    pub(super) heard: Instant,
    /// Nothing is heard for so long that others should be asked.
    pub(super) is_silent: bool,
}

/// What the dialling task needs.
pub(super) struct Dialler {
    pub(super) target: CoreTarget,
    pub(super) lanes: Arc<LaneDialler>,
    /// For QUIC.
    pub(super) wire: Option<Wire>,
    pub(super) on_dial: OnDial,
    pub(super) on_quic: OnQuic,
    pub(super) view: Arc<Mutex<View>>,
    /// For bulk: what is seen of chat's carrier.
    pub(super) chat: Option<Arc<Mutex<View>>>,
    /// Changes with the tunnel's way to the core.
    pub(super) way: watch::Receiver<()>,
}

/// What the dialling task has.
struct Standing {
    redial: Redial,
    carried: Option<Carried>,
    pulse: Pulse,
    counted: Counted,
    attempts: JoinSet<io::Result<Carrier>>,
    /// Carriers whose lanes a newer one takes.
    retiring: JoinSet<()>,
    /// That there is no trunk is said once a change, not once a try.
    told: bool,
    /// For bulk: nothing was heard of the core on chat's carrier when it was last looked.
    chat_is_silent: bool,
    /// There has been a carrier.
    was_up: bool,
    core: Acquaintance,
}

impl Dialler {
    /// Runs for as long as the core is on the roster. Lanes for bulk are dialled while the core
    /// says, on those for chat, that it takes them.
    pub(super) async fn keep_up(self) {
        let dialler = Arc::new(self);
        let mut takes_bulk = dialler.lanes.sessions.takes_bulk();
        match dialler.lanes.class {
            Class::Chat => dialler.stay_up().await,
            Class::Bulk => {
                while takes_bulk.wait_for(|takes| *takes).await.is_ok() {
                    let given_up = async {
                        let _ = takes_bulk.wait_for(|takes| !takes).await;
                    };
                    tokio::select! {
                        () = Arc::clone(&dialler).stay_up() => {}
                        () = given_up => dialler.give_up(),
                    }
                }
            }
        }
    }

    /// The core takes no such lanes any more.
    fn give_up(&self) {
        let mut view = self.view.lock();
        view.is_silent = true;
        view.carrier.take().iter().for_each(Carrier::close);
    }

    async fn stay_up(self: Arc<Self>) {
        let dialler = self;
        let mut way = dialler.way.clone();
        let now = clock::now();
        let mut standing = Standing {
            redial: Redial::new(dialler.lanes.class, now),
            carried: None,
            pulse: Pulse::new(now),
            counted: Counted::default(),
            attempts: JoinSet::new(),
            retiring: JoinSet::new(),
            told: false,
            chat_is_silent: dialler.chat_is_silent(),
            was_up: false,
            core: Acquaintance::Unknown,
        };
        let mut look = interval(LOOK_INTERVAL);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            standing.redial.handle_timeout(clock::now());
            while let Some(output) = standing.redial.poll_output() {
                match output {
                    Output::Attempt => dialler.attempt(&mut standing),
                    Output::CallOff => standing.attempts.shutdown().await,
                }
            }
            let due = standing.redial.poll_timeout();
            tokio::select! {
                () = until(due) => {}
                _ = look.tick() => {
                    dialler.look(&mut standing);
                    if standing.redial.is_dialling() {
                        dialler.wake();
                    }
                }
                reason = lost(&mut standing.carried) => dialler.handle_lost(&mut standing, &reason),
                Some(ended) = standing.attempts.join_next() => match ended {
                    Ok(Ok(carrier)) => dialler.handle_up(&mut standing, carrier),
                    Ok(Err(error)) => standing.handle_failed(dialler.lanes.class, &error),
                    Err(_) => standing.redial.handle_failed(
                        Failure::Refused,
                        clock::now(),
                        &mut rand::rng(),
                    ),
                },
                Some(_) = standing.retiring.join_next() => {}
                Ok(()) = way.changed() => standing.redial.handle_way_changed(clock::now()),
            }
        }
    }

    fn attempt(self: &Arc<Self>, standing: &mut Standing) {
        if standing.was_up {
            self.lanes.sessions.metrics.redials.inc();
        }
        self.wake();
        standing.attempts.spawn(Arc::clone(self).dial());
    }

    /// WireGuard's own timers would wait: the core may have heard of us only now, or have lost its
    /// keys with a restart.
    fn wake(&self) {
        // The lanes for chat see to it.
        if let (Class::Chat, Some(on_dial)) = (self.lanes.class, self.on_dial.get()) {
            on_dial(self.target.address);
        }
    }

    async fn dial(self: Arc<Self>) -> io::Result<Carrier> {
        let address = SocketAddr::from((self.target.address, self.target.port));
        let dial = async {
            match (self.target.carrier, &self.wire) {
                (CarrierKind::Tcp, _) => {
                    drop(TcpStream::connect(address).await?);
                    Ok(Carrier::tcp(address, clock::now()))
                }
                (CarrierKind::Quic | CarrierKind::Unspecified, Some(wire)) => {
                    let (name, client) = (member_name(&self.target.member_id), wire.client());
                    let connecting = wire.endpoint.connect_with(client, address, &name);
                    let connecting = connecting.map_err(io::Error::other)?;
                    Ok(Carrier::Quic(connecting.await?))
                }
                (CarrierKind::Quic | CarrierKind::Unspecified, None) => {
                    Err(io::Error::other("the core wants QUIC, and this node has only TCP"))
                }
            }
        };
        timeout(DIAL_PATIENCE, dial).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    fn chat_is_silent(&self) -> bool {
        self.chat.as_ref().is_some_and(|chat| chat.lock().is_silent)
    }

    /// Looks whether the core is heard.
    fn look(&self, standing: &mut Standing) {
        let is_silent = self.chat_is_silent();
        if std::mem::replace(&mut standing.chat_is_silent, is_silent) && !is_silent {
            standing.redial.handle_reachable(clock::now());
        }
        let Some(carried) = &standing.carried else { return };
        carried.carrier.fit_send_window(self.lanes.config.tuning.send_window_bytes);
        let now = clock::now();
        if carried.is_proven() {
            standing.redial.handle_proven();
            standing.core = Acquaintance::Known;
        }
        standing.pulse.handle_sample(carried.carrier.sample(), now);
        // Bulk is never sent again: how it fares says nothing of chat.
        if let (Class::Chat, Some(on_quic)) = (self.lanes.class, self.on_quic.get())
            && let Some(counts) = carried.carrier.counts(&mut standing.counted)
        {
            on_quic(self.target.address, counts);
        }
        let silence = standing.pulse.silence(now);
        let is_silent = silence >= patience(&carried.carrier);
        let mut view = self.view.lock();
        view.heard = now.checked_sub(silence).unwrap_or(now);
        if view.is_silent != is_silent {
            debug!(is_silent, silence_ms = silence.as_millis(), "the core's voice");
        }
        view.is_silent = is_silent;
        drop(view);
        match is_silent {
            true => standing.redial.handle_silent(now),
            false => standing.redial.handle_heard(now),
        }
    }

    fn handle_up(&self, standing: &mut Standing, carrier: Carrier) {
        let now = clock::now();
        standing.redial.handle_up();
        standing.pulse = Pulse::new(now);
        (standing.told, standing.was_up) = (false, true);
        *self.view.lock() = View { carrier: Some(carrier.clone()), heard: now, is_silent: false };
        standing.carried.iter().for_each(Carried::yield_lanes);
        let newer = Carried::start(carrier, standing.core, &self.lanes);
        match standing.carried.replace(newer) {
            Some(silent) => {
                info!("trunk is up on a new carrier");
                self.lanes.sessions.metrics.carriers_replaced.inc();
                standing.retiring.spawn(silent.retire());
            }
            None => info!("trunk is up"),
        }
    }

    fn handle_lost(&self, standing: &mut Standing, reason: &str) {
        let Some(carried) = standing.carried.take() else { return };
        let (lost, core) = match carried.is_proven() {
            true => (Lost::Proven, Acquaintance::Known),
            false => (Lost::Unproven, Acquaintance::Unknown),
        };
        standing.core = core;
        standing.redial.handle_lost(lost, clock::now(), &mut rand::rng());
        let mut view = self.view.lock();
        (view.carrier, view.is_silent) = (None, true);
        drop(view);
        // Once a change, not once a try.
        match lost {
            Lost::Proven => warn!(reason, "trunk lost: dialling again"),
            Lost::Unproven if !standing.told => {
                standing.told = true;
                warn!(reason, "the core takes no lane: trying on");
            }
            Lost::Unproven => debug!(reason, "the core takes no lane"),
        }
    }
}

impl Standing {
    fn handle_failed(&mut self, class: Class, error: &io::Error) {
        let is_unanswered = error.kind() == io::ErrorKind::TimedOut;
        let failure = if is_unanswered { Failure::Unanswered } else { Failure::Refused };
        self.redial.handle_failed(failure, clock::now(), &mut rand::rng());
        if self.told || self.carried.is_some() {
            return debug!(%error, "no trunk");
        }
        self.told = true;
        let hint = "check the core's port, and clocks; trying on";
        match class {
            Class::Chat => {
                warn!(%error, hint, "no trunk: the core can't be reached through the tunnel");
            }
            Class::Bulk => {
                let hint = "check the port after the core's; trying on, less and less often";
                warn!(%error, hint, "no lanes for bulk: it goes on those for chat");
            }
        }
    }
}

/// Silence that a carrier may keep: longer where an answer takes longer.
fn patience(carrier: &Carrier) -> Duration {
    match carrier.rtt() {
        Some(rtt) => SILENCE_MAX.max(ASKS_AFTER + rtt * ROUND_TRIPS_HALVED / 2),
        None => SILENCE_MAX_TCP,
    }
}

async fn lost(carried: &mut Option<Carried>) -> String {
    match carried {
        Some(carried) => carried.lost().await,
        None => pending().await,
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => pending().await,
    }
}

#[cfg(test)]
mod tests;
