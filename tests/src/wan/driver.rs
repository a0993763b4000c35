//! The threads that carry frames: one a direction, from one device through its machine to the other
//! device.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use tun_rs::SyncDevice;

use super::conditions::{Change, Impossible, Way};
use super::figures::{Figures, Lateness, WayFigures};
use super::flight::Flight;
use super::frame::{Kind, Shape, Udp};
use super::icmp;
use super::link::{Cause, Fate, Link};
use super::nat::Nat;
use super::prompt::be_prompt;
use super::tap::End;

/// Frames taken before those that are due are given on: less than 100 µs of work.
const BATCH: usize = 32;
/// Longest sleep, so that a stop is noticed.
const NAP: Duration = Duration::from_millis(50);
/// A frame of the devices' own MTU fits many times.
const FRAME_BYTES_MAX: usize = 65_536;
/// Frames must not wait for the programs that they are for, be they real-time ones.
const PRIORITY: u8 = 60;

/// What a link joins.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The side that a translator may stand before.
    pub left: End,
    /// The other side.
    pub right: End,
    /// All chance comes from it.
    pub seed: u64,
}

/// A link between two namespaces; gone when dropped.
#[derive(Debug)]
pub struct Wan {
    up: Arc<Direction>,
    down: Arc<Direction>,
    nat: Arc<Mutex<Nat>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// One direction, as its thread and its owner share it.
struct Direction {
    way: Way,
    from: Arc<SyncDevice>,
    to: Arc<SyncDevice>,
    nat: Arc<Mutex<Nat>>,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    link: Link,
    flight: Flight,
    lateness: Lateness,
    arrived: u64,
}

impl std::fmt::Debug for Direction {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Direction").field("way", &self.way).finish_non_exhaustive()
    }
}

impl Wan {
    /// Joins two namespaces by a link that does nothing to frames.
    ///
    /// # Errors
    ///
    /// If the devices can't be made.
    pub fn start(plan: &Plan) -> anyhow::Result<Self> {
        let (left, right) = (Arc::new(plan.left.make()?), Arc::new(plan.right.make()?));
        let nat = Arc::new(Mutex::new(Nat::new(plan.seed)));
        let direction = |way, from: &Arc<SyncDevice>, to: &Arc<SyncDevice>, seed| {
            let link = Link::new(seed);
            let (flight, lateness) = (Flight::default(), Lateness::default());
            let state = Mutex::new(State { link, flight, lateness, arrived: 0 });
            let (from, to, nat) = (Arc::clone(from), Arc::clone(to), Arc::clone(&nat));
            Arc::new(Direction { way, from, to, nat, state })
        };
        let up = direction(Way::Up, &left, &right, plan.seed.wrapping_mul(2));
        let down = direction(Way::Down, &right, &left, plan.seed.wrapping_mul(2) + 1);
        let stop = Arc::new(AtomicBool::new(false));
        let mut wan = Self { up, down, nat, stop, threads: Vec::new() };
        for direction in [&wan.up, &wan.down] {
            let (direction, stop) = (Arc::clone(direction), Arc::clone(&wan.stop));
            let name = format!("wan {:?}", direction.way).to_lowercase();
            let thread = std::thread::Builder::new().name(name);
            wan.threads.push(thread.spawn(move || direction.carry(&stop))?);
        }
        Ok(wan)
    }

    /// Changes what becomes of frames that come from now on.
    ///
    /// # Errors
    ///
    /// If no link can be so; then nothing was changed.
    pub fn set(&self, way: Way, change: &Change) -> Result<(), Impossible> {
        for direction in [&self.up, &self.down] {
            if way == direction.way || way == Way::Both {
                let link = &mut direction.state().link;
                let after = link.conditions().changed(change)?;
                link.set(after);
            }
        }
        Ok(())
    }

    /// Makes the translator before the left side forget its mappings.
    ///
    /// # Panics
    ///
    /// If a thread of the link has panicked.
    pub fn rebind(&self) {
        lock(&self.nat).rebind();
    }

    /// Kills the UDP flows of all ports that the left side has used so far; others work.
    ///
    /// # Panics
    ///
    /// If a thread of the link has panicked.
    pub fn sever(&self) {
        lock(&self.nat).sever();
    }

    /// What it did so far.
    #[must_use]
    pub fn stats(&self) -> Figures {
        Figures { up: self.up.figures(), down: self.down.figures() }
    }
}

impl Drop for Wan {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            // What a thread panicked with was printed.
            drop(thread.join());
        }
    }
}

impl Direction {
    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }

    fn figures(&self) -> WayFigures {
        let state = self.state();
        WayFigures {
            conditions: state.link.conditions().clone(),
            counters: state.link.counters.clone(),
            arrived: state.arrived,
            under_way: state.flight.len(),
            lateness: state.lateness.summary(),
        }
    }

    fn carry(&self, stop: &AtomicBool) {
        be_prompt(PRIORITY);
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        while !stop.load(Ordering::Relaxed) {
            let mut state = self.state();
            let came = (0..BATCH).take_while(|_| self.take(&mut state, &mut buffer)).count();
            let due = self.give(&mut state);
            drop(state);
            if came < BATCH {
                self.wait(due);
            }
        }
    }

    /// Takes a frame, if one is there.
    fn take(&self, state: &mut State, buffer: &mut [u8]) -> bool {
        // Gone devices read as errors; `wait` keeps that from being a busy loop.
        let Ok(length) = self.from.recv(buffer) else { return false };
        let (frame, now) = (&mut buffer[..length], now());
        let shape = Shape::of(frame);
        match state.link.handle_frame(&shape, now) {
            Fate::Arrives { at, again } => {
                if let Kind::Udp(Some(udp)) = shape.kind
                    && !self.translate(frame, &udp)
                {
                    state.link.counters.lose(Cause::Forgotten);
                    return true;
                }
                for at in [Some(at), again].into_iter().flatten() {
                    if !state.flight.depart(frame, at) {
                        state.link.counters.lose(Cause::Overflow);
                    }
                }
            }
            Fate::Lost(Cause::TooBig) if state.link.conditions().icmp => {
                self.answer(frame, state.link.conditions().mtu);
            }
            Fate::Lost(_) => {}
        }
        true
    }

    /// Gives on what is due, and says when the next one is.
    fn give(&self, state: &mut State) -> Option<Instant> {
        for _ in 0..BATCH {
            let Some((at, frame)) = state.flight.arrive(now()) else { break };
            match self.to.send(&frame) {
                Ok(_) => {
                    state.arrived += 1;
                    state.lateness.record(now().saturating_duration_since(at));
                }
                Err(_) => state.link.counters.lose(Cause::Refused),
            }
            state.flight.recycle(frame);
        }
        state.flight.next()
    }

    fn translate(&self, frame: &mut [u8], udp: &Udp) -> bool {
        let mut nat = lock(&self.nat);
        match self.way {
            Way::Up | Way::Both => nat.leave(frame, udp),
            Way::Down => nat.enter(frame, udp),
        }
    }

    /// Tells the sender of a frame that it is too big, at once: its nearest router does.
    fn answer(&self, frame: &[u8], mtu: u16) {
        if let Some(answer) = icmp::too_big(frame, mtu) {
            // Nobody waits for an answer that does not fit the device's queue.
            drop(self.from.send(&answer));
        }
    }

    /// Waits for a frame, or until `due`.
    fn wait(&self, due: Option<Instant>) {
        let nap = due.map_or(NAP, |due| due.saturating_duration_since(now()).min(NAP));
        if nap.is_zero() {
            return;
        }
        let seconds = i64::try_from(nap.as_secs()).expect("a nap is short");
        let timeout = Timespec { tv_sec: seconds, tv_nsec: nap.subsec_nanos().into() };
        let mut readable = [PollFd::new(&*self.from, PollFlags::IN)];
        match poll(&mut readable, Some(&timeout)) {
            Ok(0) | Err(_) => {}
            // A device that is down says so at once, again and again.
            Ok(_) if readable[0].revents().contains(PollFlags::ERR) => std::thread::sleep(nap),
            Ok(_) => {}
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the one clock of the emulator")]
fn now() -> Instant {
    Instant::now()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("no thread of a link panics")
}
