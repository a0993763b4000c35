//! What a tunnel's tasks share, and the driver.
//!
//! The driver reads the real socket in batches, decrypts, and sorts what is inside into the inboxes
//! of the sockets in the tunnel; it also keeps WireGuard's time. Senders encrypt where they stand
//! and write to the real socket themselves, so the driver is never between a sender and the
//! network. A reader of a socket could decrypt for itself too, but then a handshake would wait
//! until somebody reads, and two sockets would have to read for one another.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::device::{Device, Scratch, TICK};
use crate::exits::Exits;
use crate::forward::Mesh;
use crate::inbox::Inbox;
use crate::link::KIND_RESPONSE;
use crate::metrics::{DropReason, Metrics};
use crate::outer::ReceiveBuffers;
use crate::packet::read_udp;
use crate::paths::driver::Courses;
use crate::peer::Reply;
use crate::send::SendBuffers;
use crate::shield::Shield;
use crate::stream::Streams;
use crate::tunnel::{SocketError, now};
use crate::way::Way;

/// Ports for sockets that ask for none, [RFC 6335
/// §6](https://www.rfc-editor.org/rfc/rfc6335#section-6).
const EPHEMERAL_PORTS: std::ops::RangeInclusive<u16> = 49_152..=65_535;

/// What the driver, the senders and the handles share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: Device,
    pub(crate) exits: Exits,
    pub(crate) streams: Streams,
    pub(crate) mesh: Mesh,
    pub(crate) courses: Courses,
    pub(crate) buffers: SendBuffers,
    pub(crate) shield: Shield,
    pub(crate) metrics: Metrics,
    pub(crate) mtu_bytes: u16,
    pub(crate) address: Ipv6Addr,
    pub(crate) ports: RwLock<BTreeMap<u16, Arc<Inbox>>>,
    /// Messages the driver has to send, because their makers could not wait for the socket.
    pub(crate) late: Mutex<Vec<Reply>>,
    /// Wakes the driver for these, or for peers that were added.
    pub(crate) nudge: Notify,
    pub(crate) stop: CancellationToken,
}

impl Shared {
    pub(crate) async fn drive(&self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let (mut buffers, mut intake) = (ReceiveBuffers::default(), Intake::default());
        loop {
            let udp = self.exits.udp();
            tokio::select! {
                biased;
                _ = tick.tick() => {
                    self.device.tick(now(), &mut intake.replies);
                    self.send_probes_due(now());
                }
                () = self.nudge.notified() => {
                    intake.replies.append(&mut self.late.lock());
                    self.device.tick(now(), &mut intake.replies);
                }
                readable = udp.readable() => {
                    let mut read = || {
                        let now = now();
                        let each = |way, datagram: &[u8]| {
                            self.receive(way, datagram, now, &mut intake);
                        };
                        udp.try_recv(&mut buffers, each)
                    };
                    if let Err(error) = readable.and_then(|()| read())
                        && error.kind() != io::ErrorKind::WouldBlock
                    {
                        // Nothing the network does may end the tunnel; waiting keeps it from
                        // spinning.
                        debug!(%error, "receive");
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                }
            }
            self.finish(&mut intake).await;
        }
    }

    /// Takes one datagram, whichever way it came. After a batch of them [`Shared::finish`] is due.
    pub(crate) fn receive(&self, way: Way, datagram: &[u8], now: Instant, intake: &mut Intake) {
        let Some((way, datagram)) = self.mesh.take(way, datagram, now) else { return };
        if self.receive_probe(way, datagram, now) {
            return;
        }
        let Intake { scratch, replies, touched } = intake;
        if let Some(packet) = self.device.open(way, datagram, now, scratch, replies) {
            self.deliver(packet, touched);
        }
        if datagram.first() == Some(&KIND_RESPONSE) {
            self.heed_response(datagram);
        }
    }

    /// Wakes whoever got something, once for a batch, and sends what has to be answered.
    pub(crate) async fn finish(&self, intake: &mut Intake) {
        for inbox in intake.touched.drain(..) {
            inbox.wake();
        }
        for reply in intake.replies.drain(..) {
            self.reply(&reply).await;
        }
    }

    fn deliver(&self, packet: &[u8], touched: &mut Vec<Arc<Inbox>>) {
        let outcome = read_udp(packet).and_then(|datagram| {
            if *datagram.destination.ip() != self.address {
                return Err(DropReason::WrongDestination);
            }
            let ports = self.ports.read();
            let inbox = ports.get(&datagram.destination.port()).ok_or(DropReason::NoSocket)?;
            inbox.push(datagram.source, datagram.payload).map_err(|_| DropReason::QueueFull)?;
            if !touched.iter().any(|other| Arc::ptr_eq(other, inbox)) {
                touched.push(Arc::clone(inbox));
            }
            Ok(())
        });
        if let Err(reason) = outcome {
            self.metrics.dropped(reason);
        }
    }

    /// Sends one message, waiting for room: a lost handshake message costs five seconds.
    async fn reply(&self, reply: &Reply) {
        loop {
            match self.exits.transmit(reply.to, &reply.bytes, reply.bytes.len()) {
                Err(full) if full.kind() == io::ErrorKind::WouldBlock => {
                    if self.exits.udp().writable().await.is_err() {
                        self.metrics.dropped(DropReason::NotSent);
                        return;
                    }
                }
                Err(_) => return self.metrics.dropped(DropReason::NotSent),
                Ok(()) => return,
            }
        }
    }

    /// Leaves one message to the driver.
    pub(crate) fn send_later(&self, reply: Reply) {
        self.late.lock().push(reply);
        self.nudge.notify_one();
    }

    pub(crate) fn open_port(&self, port: u16, inbox: &Arc<Inbox>) -> Result<u16, SocketError> {
        let mut ports = self.ports.write();
        let port = match port {
            0 => {
                let start = rand::random_range(EPHEMERAL_PORTS);
                let after = (start..=*EPHEMERAL_PORTS.end()).chain(EPHEMERAL_PORTS);
                let free = after.into_iter().find(|port| !ports.contains_key(port));
                free.ok_or(SocketError::NoPort)?
            }
            port if ports.contains_key(&port) => return Err(SocketError::PortInUse(port)),
            port => port,
        };
        ports.insert(port, Arc::clone(inbox));
        Ok(port)
    }

    pub(crate) fn close_port(&self, port: u16) {
        self.ports.write().remove(&port);
    }

    pub(crate) fn close(&self) {
        for inbox in self.ports.read().values() {
            inbox.close();
        }
    }
}

/// What datagrams are taken in with; each task that reads has its own.
#[derive(Debug, Default)]
pub(crate) struct Intake {
    scratch: Scratch,
    replies: Vec<Reply>,
    touched: Vec<Arc<Inbox>>,
}
