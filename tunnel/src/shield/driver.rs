//! The shield's task: it decides several times a second, and sends copies when they are due.

use std::cmp::Reverse;
use std::fmt;
use std::future::pending;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::time::{MissedTickBehavior, interval, sleep_until};

use super::delayed::{Copy, Delayed, SHIELD_QUEUE_BYTES_MAX};
use super::dose::Refusal;
use super::guard::is_lossy;
use super::policy::DECIDE_EVERY;
use crate::class::Class;
use crate::link::Peer;
use crate::outer::{Message, runs};
use crate::shared::Shared;
use crate::tunnel::now;
use crate::way::Way;

/// Copies taken from the queue at once: then senders get at it again.
const BATCH: usize = 256;

/// What an operator may say about the shield.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ShieldConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// What all copies of this tunnel may cost together, in bits of WireGuard's messages: 50
    /// Mbit/s. Peers whose paths lose share it.
    pub kbit_per_second_max: u32,
}

impl Default for ShieldConfig {
    fn default() -> Self {
        Self { enabled: true, kbit_per_second_max: 50_000 }
    }
}

/// The tunnel's part of the shield.
#[derive(Debug)]
pub(crate) struct Shield {
    config: ShieldConfig,
    delayed: Mutex<Delayed<To>>,
    /// A copy waits that is due before all others.
    earlier: Notify,
}

/// Where a copy goes, and where the one after it.
struct To {
    peer: Arc<Peer>,
    way: Way,
    then: Way,
}

impl Shield {
    pub(crate) fn new(config: ShieldConfig) -> Self {
        let delayed = Mutex::new(Delayed::new(SHIELD_QUEUE_BYTES_MAX));
        Self { config, delayed, earlier: Notify::new() }
    }
}

/// What the task works with.
#[derive(Debug, Default)]
struct Bench {
    batch: Vec<Copy<To>>,
    bytes: Vec<u8>,
    messages: Vec<Message>,
}

impl Shared {
    /// Takes note of a run of data messages that went to a peer, and lets copies of it wait if its
    /// path loses.
    pub(crate) fn shield_run(&self, peer: &Arc<Peer>, sent: &Sent<'_>, now: Instant) {
        let Sent { way, run, segment, class } = *sent;
        let is_shielded = match (class, way) {
            (Class::Bulk, _) | (_, Way::Stream(_)) => false,
            (Class::Chat, Way::Udp { .. } | Way::Through(_)) => true,
        };
        let datagrams = datagrams(run.len(), segment);
        if !is_shielded || !peer.shield.count(datagrams) {
            return;
        }
        let given = match peer.shield.take(run.len(), segment, now) {
            Ok(Some(given)) => given,
            Ok(None) => return,
            Err(reason) => return self.metrics.shield.refused(reason, datagrams),
        };
        let mut delayed = self.shield.delayed.lock();
        if !delayed.has_room(run.len()) {
            drop(delayed);
            return self.metrics.shield.refused(Refusal::QueueFull, datagrams);
        }
        let mut bytes = delayed.buffer();
        bytes.extend_from_slice(run);
        let to = To { peer: Arc::clone(peer), way: given.second.unwrap_or(way), then: way };
        let copy = Copy { to, due: now + given.after, bytes, segment, again: given.again };
        let is_first = delayed.push(copy);
        drop(delayed);
        if is_first {
            self.shield.earlier.notify_one();
        }
    }

    /// Runs until the tunnel stops.
    pub(crate) async fn run_shield(self: Arc<Self>) {
        self.stop.run_until_cancelled(self.drive_shield()).await;
    }

    async fn drive_shield(&self) {
        let mut tick = interval(DECIDE_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut bench = Bench::default();
        loop {
            let due = self.shield.delayed.lock().next_due();
            let wake = async {
                match due {
                    Some(due) => sleep_until(due.into()).await,
                    None => pending().await,
                }
            };
            tokio::select! {
                biased;
                // First, or copies that are always due would keep it from calling them off.
                _ = tick.tick() => self.decide_shield(now()),
                () = wake => self.send_copies(&mut bench, now()),
                () = self.shield.earlier.notified() => {}
            }
        }
    }

    fn decide_shield(&self, now: Instant) {
        let mut lossy = Vec::new();
        for peer in self.device.all_peers() {
            let (way, sent) = {
                let mut link = peer.link.lock();
                (link.way(), link.counts(now).sent)
            };
            let is_shielded = match way {
                None | Some(Way::Stream(_)) => false,
                Some(Way::Udp { .. } | Way::Through(_)) => self.shield.config.enabled,
            };
            let plan = if is_shielded {
                peer.shield.set_second(self.second_way(&peer, now));
                peer.shield.decide(&peer.quality(now), sent, now)
            } else {
                peer.shield.rest()
            };
            let key = &peer.public_key;
            self.device.show(&peer, |metrics| metrics.shield.set_plan(key, plan));
            if is_lossy(plan.state) {
                lossy.push(peer);
            }
        }
        let all = f64::from(self.shield.config.kbit_per_second_max) * 1_000.0 / 8.0;
        let count = u32::try_from(lossy.len()).unwrap_or(u32::MAX);
        lossy.iter().for_each(|peer| peer.shield.set_share(all / f64::from(count)));
    }

    /// Sends what is due, copies to one place together; what the socket does not take is not sent.
    fn send_copies(&self, bench: &mut Bench, now: Instant) {
        {
            let mut delayed = self.shield.delayed.lock();
            let due = std::iter::from_fn(|| delayed.pop(now)).take(BATCH);
            bench.batch.extend(due);
        }
        // Equal lengths beside one another make long runs; the order of copies means nothing.
        bench.batch.sort_by_key(|copy| (copy.to.peer.index, copy.to.way, Reverse(copy.segment)));
        for together in bench.batch.chunk_by(|a, b| a.to.is_same(&b.to)) {
            bench.bytes.clear();
            bench.messages.clear();
            for copy in together {
                bench.bytes.extend_from_slice(&copy.bytes);
                let segments = copy.bytes.chunks(copy.segment.max(1));
                bench.messages.extend(segments.map(|segment| Message::Data(segment.len())));
            }
            self.send_together(&together[0].to, &bench.bytes, &bench.messages);
        }
        let mut delayed = self.shield.delayed.lock();
        for mut copy in bench.batch.drain(..) {
            match copy.again.take() {
                Some(after) if delayed.has_room(copy.bytes.len()) => {
                    copy.due += after;
                    copy.to.way = copy.to.then;
                    delayed.push(copy);
                }
                Some(_) | None => delayed.recycle(copy.bytes),
            }
        }
    }

    fn send_together(&self, to: &To, bytes: &[u8], messages: &[Message]) {
        let (mut copies, mut copied_bytes) = (0, 0);
        for run in runs(messages, self.exits.udp().segments_max()) {
            let (len, segment) = (run.bytes.len(), run.segment);
            if self.exits.transmit(to.way, &bytes[run.bytes], segment).is_ok() {
                copies += datagrams(len, segment);
                copied_bytes += u64::try_from(len).unwrap_or(0);
            } else {
                self.metrics.shield.refused(Refusal::NotSent, datagrams(len, segment));
            }
        }
        to.peer.link.lock().count_copies(copies);
        to.peer.shield.count_copies(copies);
        self.metrics.shield.sent(copies, copied_bytes);
    }
}

impl fmt::Debug for To {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("To").field("way", &self.way).finish_non_exhaustive()
    }
}

impl To {
    fn is_same(&self, other: &Self) -> bool {
        self.way == other.way && Arc::ptr_eq(&self.peer, &other.peer)
    }
}

/// A run that went: `segment` is the length of its messages but the last.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent<'a> {
    pub(crate) way: Way,
    pub(crate) run: &'a [u8],
    pub(crate) segment: usize,
    pub(crate) class: Class,
}

fn datagrams(run: usize, segment: usize) -> u64 {
    u64::try_from(run.div_ceil(segment.max(1))).unwrap_or(u64::MAX)
}
