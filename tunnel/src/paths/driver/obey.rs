//! What a machine orders, done.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;
use tracing::{debug, info, warn};

use super::{Bridge, Course, Event};
use crate::link::Outcome;
use crate::outer::{OuterSocket, ReceiveBuffers};
use crate::paths::{Order, StreamTarget};
use crate::probe::prober::Asking;
use crate::shared::{Intake, Shared};
use crate::stream::StreamState;
use crate::tunnel::{Tasks, now};
use crate::way::Way;

/// A socket that was replaced is read for so long: peers answer it until they hear from the new
/// one.
const READ_ON_FOR: Duration = Duration::from_secs(10);
/// Several peers may lose their ways at once: they share a fresh socket.
const REBIND_EVERY: Duration = Duration::from_secs(2);
/// The same while other peers are well served by the one there is. They lose nothing by it, since
/// the old one is read on, but their ends measure the path anew.
const REBIND_SPARING_EVERY: Duration = Duration::from_secs(60);

impl Shared {
    /// Does what the machines order, until none orders anything more.
    pub(super) fn obey_all(self: &Arc<Self>, bridge: &mut Bridge, tasks: &Tasks, now: Instant) {
        let mut rebind = false;
        for course in bridge.courses.values_mut() {
            while let Some(order) = course.paths.poll_output() {
                rebind |= order == Order::Rebind;
                self.obey(course, order, now);
            }
        }
        let is_served = bridge.courses.values().any(|course| course.paths.uses_socket());
        let every = if is_served { REBIND_SPARING_EVERY } else { REBIND_EVERY };
        let is_due = |at| now.saturating_duration_since(at) >= every;
        if rebind && bridge.rebound.is_none_or(is_due) {
            bridge.rebound = Some(now);
            self.rebind(tasks);
        }
    }

    fn obey(self: &Arc<Self>, course: &mut Course, order: Order, now: Instant) {
        let key = course.peer.public_key;
        match order {
            Order::Probe { way, full, in_use } => {
                self.send_probe(&key, way, Asking { full, in_use }, now);
            }
            Order::Initiate { way } => self.initiate_by(course, way, now),
            Order::Use(way) => self.use_way(course, way),
            Order::OpenStream(target) => self.open_for(course, target),
            Order::CloseStream(id) => {
                course.streams.remove(&id);
                self.close_stream(id);
            }
            Order::Resolve => {
                self.metrics.paths.lost.inc();
                self.courses.unresolved.say(key);
            }
            // For all peers at once, see `obey_all`.
            Order::Rebind => {}
        }
    }

    fn use_way(&self, course: &Course, way: Way) {
        let peer = &course.peer;
        let before = {
            let mut link = peer.link.lock();
            let before = link.way();
            link.choose_way(way);
            before
        };
        let to = way.remote().map(tracing::field::display);
        info!(peer = peer.public_key.short(), way = way.kind(), to, "way taken");
        self.metrics.paths.taken(way);
        if before.is_some_and(|before| before.from_any() != way) {
            self.courses.changed.say(peer.public_key.address());
        }
    }

    fn initiate_by(&self, course: &Course, way: Way, now: Instant) {
        let mut replies = Vec::new();
        let mut out = Outcome { replies: &mut replies, metrics: &self.metrics };
        course.peer.link.lock().initiate_by(way, now, &mut out);
        for reply in replies {
            let sent = self.exits.transmit(reply.to, &reply.bytes, reply.bytes.len());
            if sent.is_err() {
                self.send_later(reply);
            }
        }
    }

    /// Opens a stream; one that was still being opened is given up.
    fn open_for(self: &Arc<Self>, course: &mut Course, target: StreamTarget) {
        let Some(tls) = course.peer.link.lock().stream_tls() else { return };
        course.streams.retain(|id, (_, told)| {
            let stays = *told == StreamState::Open;
            if !stays {
                self.close_stream(*id);
            }
            stays
        });
        let id = self.open_stream(target.clone(), tls);
        course.streams.insert(id, (target, StreamState::Opening));
    }

    /// Sends from a fresh real socket from now on. One whose port was asked for stays: others know
    /// it by that port.
    fn rebind(self: &Arc<Self>, tasks: &Tasks) {
        let listen = self.courses.listen;
        if listen.port() != 0 {
            debug!(%listen, "the socket stays: its port is set");
            return;
        }
        let socket = match OuterSocket::bind(listen) {
            Ok(socket) => socket,
            Err(error) => {
                warn!(%error, %listen, "no fresh socket");
                return;
            }
        };
        let (shared, stop) = (Arc::clone(self), tasks.stop.clone());
        tasks.tracker.spawn(async move {
            stop.run_until_cancelled(shared.move_to(socket)).await;
        });
    }

    /// Sends from this socket once it can be sent from, and reads the one before for a while.
    async fn move_to(&self, socket: OuterSocket) {
        // tokio knows that a new socket takes datagrams once it has been asked.
        if socket.writable().await.is_err() {
            return;
        }
        info!(from = %self.exits.udp().local_addr(), to = %socket.local_addr(), "fresh socket");
        self.metrics.paths.rebinds.inc();
        let before = self.exits.replace_udp(socket);
        self.nudge.notify_one();
        self.courses.push(Event::Rebound);
        let _ = timeout(READ_ON_FOR, self.read_on(&before)).await;
    }

    /// Reads a socket that is not sent from any more.
    async fn read_on(&self, socket: &OuterSocket) {
        let (mut buffers, mut intake) = (ReceiveBuffers::default(), Intake::default());
        while socket.readable().await.is_ok() {
            let at = now();
            let each = |way, datagram: &[u8]| self.receive(way, datagram, at, &mut intake);
            let outcome = socket.try_recv(&mut buffers, each);
            if outcome.is_err_and(|error| error.kind() != io::ErrorKind::WouldBlock) {
                return;
            }
            self.finish(&mut intake).await;
        }
    }
}
