//! One WireGuard peer at work: boringtun's calling rules, roaming, keep-alives and the watchdog.
//!
//! The rules kept here, so that nobody else has to know them: buffers are always long enough
//! (boringtun panics on short ones); an empty datagram means "what else have you queued?" and never
//! comes from the network; after an answer the queue is flushed; the endpoint moves only on an
//! authenticated message; a runt inner packet is refused; keep-alives are sent by us, since
//! boringtun fixes their interval for a peer's life and starts the first handshake an interval
//! late; and what waits for keys is ours, but for its first packet, since boringtun keeps the
//! oldest for ever.

mod held;
mod message;
mod order;
mod pace;
mod timers;
mod ways;

use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::rate_limiter::RateLimiter;
use boringtun::noise::{Tunn, TunnResult};
use parking_lot::Mutex;
use tracing::warn;

use crate::key::{PrivateKey, PublicKey};
use crate::metrics::{DropReason, HandshakeOutcome, Metrics};
use crate::packet::INNER_MTU_MAX_BYTES;
use crate::path_key::PathKey;
use crate::peer::{PeerConfig, PeerState, Reply, Sealed};
use crate::probe::{
    self,
    prober::{Counts, Prober},
};
use crate::shield::Guard;
use crate::way::Way;
use held::Held;
pub(crate) use message::{KIND_COOKIE, KIND_DATA, KIND_RESPONSE};
use message::{data_reason, flushed, is_copy, is_data};
use order::Order;
use pace::Pace;
use ways::Ways;

/// What WireGuard adds to an inner packet: header 16, tag 16.
pub(crate) const WIREGUARD_BYTES: usize = 32;
/// An initiation, the longest message that carries no packet.
pub(crate) const INITIATION_BYTES: usize = 148;
/// Room for any message of ours: the largest inner packet, padded, is longer than an initiation.
pub(crate) const MESSAGE_BYTES_MAX: usize = INNER_MTU_MAX_BYTES as usize + WIREGUARD_BYTES;

const _: () = assert!(MESSAGE_BYTES_MAX >= INITIATION_BYTES);

/// Packets boringtun keeps while there is no session, `MAX_QUEUE_DEPTH` in its source.
const QUEUED_PACKETS_MAX: usize = 256;
/// IPv4 header without options, [RFC 791 §3.1](https://www.rfc-editor.org/rfc/rfc791#section-3.1).
const IPV4_HEADER_BYTES: usize = 20;
/// A peer whose clock went back tries every 5 s; one line a minute is enough.
const STALE_WARNING_EVERY: Duration = Duration::from_secs(60);

/// One peer. The lock is held for one message, or for one run of messages on the way out.
pub(crate) struct Peer {
    pub(crate) public_key: PublicKey,
    /// The upper 24 bits of its receiver indices.
    pub(crate) index: u32,
    pub(crate) link: Mutex<Link>,
    /// `None`: its key is one that makes no secret.
    pub(crate) path_key: Option<PathKey>,
    pub(crate) prober: Mutex<Prober>,
    pub(crate) shield: Guard,
}

/// The part of a peer that changes.
pub(crate) struct Link {
    pub(crate) tunn: Tunn,
    config: PeerConfig,
    way: Option<Way>,
    /// The way was chosen for us and stays, wherever the peer is heard from.
    is_chosen: bool,
    ways: Ways,
    order: Order,
    sent_count: u64,
    created: Instant,
    heard: Option<Instant>,
    sent: Option<Instant>,
    /// Packets wait for keys: the first one in boringtun, the others in `held`.
    waiting: bool,
    held: Held,
    pace: Pace,
    expired: bool,
    stale_handshakes: u64,
    stale_warned: Option<Instant>,
}

impl Peer {
    pub(crate) fn new(key: &PrivateKey, config: PeerConfig, index: u32, now: Instant) -> Self {
        let public_key = config.public_key;
        // Admission has limited handshakes already; boringtun's own limiter would count them again.
        let unlimited = RateLimiter::new(&key.public_key().dalek(), u64::MAX).into();
        let secret = key.secret().clone();
        let tunn = Tunn::new(secret, public_key.dalek(), None, None, index, Some(unlimited));
        let link = Link {
            tunn,
            way: config.endpoint.map(Way::from),
            is_chosen: false,
            ways: Ways::default(),
            order: Order::default(),
            sent_count: 0,
            config,
            created: now,
            heard: None,
            sent: None,
            waiting: false,
            held: Held::default(),
            pace: Pace::default(),
            expired: false,
            stale_handshakes: 0,
            stale_warned: None,
        };
        let prober = Mutex::new(Prober::new(probe::first_seq(), now));
        let path_key = PathKey::new(key, &public_key);
        Self {
            public_key,
            index,
            link: Mutex::new(link),
            path_key,
            prober,
            shield: Guard::default(),
        }
    }

    pub(crate) fn state(&self, now: Instant) -> PeerState {
        let quality = self.quality(now);
        let link = self.link.lock();
        let (handshake_age, bytes_out, bytes_in, loss, rtt_ms) = link.tunn.stats();
        PeerState {
            quality,
            shield: self.shield.report(),
            public_key: self.public_key,
            endpoint: link.way.and_then(Way::remote),
            way: link.way,
            sent: link.sent_count,
            arrived: link.order.arrived(),
            handshake_age,
            silence: link.heard.map(|heard| now.saturating_duration_since(heard)),
            bytes_in: u64::try_from(bytes_in).unwrap_or(u64::MAX),
            bytes_out: u64::try_from(bytes_out).unwrap_or(u64::MAX),
            loss: handshake_age.map(|_| loss.clamp(0.0, 1.0)),
            rtt: rtt_ms.map(|ms| Duration::from_millis(ms.into())),
            stale_handshakes: link.stale_handshakes,
        }
    }
}

impl Link {
    pub(crate) const fn way(&self) -> Option<Way> {
        self.way
    }

    /// What has been counted so far.
    pub(crate) fn counts(&mut self, now: Instant) -> Counts {
        let burst_in = self.order.burst(now);
        Counts { sent: self.sent_count, arrived: self.order.arrived(), burst_in }
    }

    /// How late a message may be that was only overtaken.
    pub(crate) const fn set_reordering(&mut self, late_max: Duration) {
        self.order.set_reordering(late_max);
    }

    /// Takes data messages back that were never sent: they would look lost.
    pub(crate) const fn count_unsent(&mut self, messages: u64) {
        self.sent_count = self.sent_count.saturating_sub(messages);
    }

    /// Counts copies of data messages that went.
    pub(crate) const fn count_copies(&mut self, copies: u64) {
        self.sent_count += copies;
    }

    /// Takes over changed settings. Keys stay; a roamed endpoint stays too, unless the setting
    /// moved.
    pub(crate) fn reconfigure(&mut self, config: PeerConfig) {
        let is_moved = config.endpoint != self.config.endpoint && config.endpoint.is_some();
        if is_moved && !self.is_chosen {
            self.way = config.endpoint.map(Way::from);
        }
        self.config = config;
    }

    /// Encrypts `packet` into `out`; a data message is `packet` and 32 bytes.
    ///
    /// `None`, with nothing done, if `out` has not the room boringtun needs.
    pub(crate) fn seal(&mut self, packet: &[u8], out: &mut [u8], now: Instant) -> Option<Sealed> {
        if out.len() < INITIATION_BYTES.max(packet.len() + WIREGUARD_BYTES) {
            return None;
        }
        let outcome = if self.waiting && self.tunn.time_since_last_handshake().is_none() {
            self.held.push(packet, now);
            self.tunn.format_handshake_initiation(out, false)
        } else {
            self.tunn.encapsulate(packet, out)
        };
        let sealed = match outcome {
            TunnResult::WriteToNetwork(message) if is_data(message) => Sealed::Data(message.len()),
            TunnResult::WriteToNetwork(message) => Sealed::Handshake(message.len()),
            TunnResult::Done
            | TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => Sealed::Waits,
        };
        match sealed {
            Sealed::Data(_) => {
                self.sent = Some(now);
                self.sent_count += 1;
            }
            Sealed::Handshake(len) => {
                self.waiting = true;
                self.expired = false;
                self.pace.initiated(now);
                self.ways.initiate(&out[..len], self.way, now);
            }
            Sealed::Waits => self.waiting = true,
        }
        Some(sealed)
    }

    /// Takes one message from the network, known to be for this peer by its index or its key.
    ///
    /// Returns the inner packet if it held one. `scratch` must be as long as `datagram` and
    /// [`MESSAGE_BYTES_MAX`].
    pub(crate) fn open<'a>(
        &mut self,
        from: Way,
        datagram: &[u8],
        now: Instant,
        scratch: &'a mut [u8],
        out: &mut Outcome<'_>,
    ) -> Option<&'a [u8]> {
        assert!(scratch.len() >= datagram.len().max(MESSAGE_BYTES_MAX), "caller gives room");
        let kind = datagram.first().copied().unwrap_or(0);
        // Empty would mean "flush" to boringtun; the device has dropped those, this makes it sure.
        if datagram.is_empty() {
            return None;
        }
        match self.tunn.decapsulate(from.remote().map(|remote| remote.ip()), datagram, scratch) {
            TunnResult::WriteToNetwork(reply) => {
                out.replies.push(Reply { to: from, bytes: reply.to_vec() });
                self.sent_count += u64::from(is_data(reply));
                self.heard_from(from, now);
                self.sent = Some(now);
                if kind == KIND_RESPONSE {
                    self.pace.completed(now);
                    self.ways.answer(from);
                    out.metrics.handshake(HandshakeOutcome::Completed);
                    self.flush(from, now, out);
                } else {
                    self.ways.take(datagram);
                    out.metrics.handshake(HandshakeOutcome::Answered);
                }
                None
            }
            TunnResult::Done if kind == KIND_COOKIE => {
                out.metrics.handshake(HandshakeOutcome::CookieReceived);
                None
            }
            TunnResult::Done => {
                self.heard_data(from, datagram, now, out);
                None
            }
            TunnResult::WriteToTunnelV4(packet, _) if packet.len() < IPV4_HEADER_BYTES => {
                out.metrics.dropped(DropReason::Runt);
                None
            }
            TunnResult::WriteToTunnelV4(packet, _) | TunnResult::WriteToTunnelV6(packet, _) => {
                self.heard_data(from, datagram, now, out);
                Some(packet)
            }
            TunnResult::Err(WireGuardError::WrongTai64nTimestamp)
                if self.ways.is_repeated(datagram) =>
            {
                out.metrics.dropped(DropReason::Duplicate);
                None
            }
            TunnResult::Err(error) => {
                if is_copy(&error) {
                    self.order.count();
                }
                self.refuse(kind, &error, now, out.metrics);
                None
            }
        }
    }

    /// Roaming. Towards a peer that came to us we answer from the address it asked; towards one we
    /// were told of, the system chooses, since our own addresses may come and go.
    fn heard_from(&mut self, from: Way, now: Instant) {
        self.heard = Some(now);
        self.ways.hear(from, now);
        if self.is_chosen {
            return;
        }
        let has_called = self.config.endpoint.is_none();
        self.way = Some(if has_called { from } else { from.from_any() });
    }

    /// A data message came: as the answering side, this is when keys may be used.
    fn heard_data(&mut self, from: Way, message: &[u8], now: Instant, out: &mut Outcome<'_>) {
        self.order.count();
        if self.order.is_newer(message, now) && self.ways.followed.moves(from, now) {
            self.heard_from(from, now);
        } else {
            self.heard = Some(now);
            self.ways.hear(from, now);
        }
        if self.waiting {
            self.flush(from, now, out);
        }
    }

    /// Sends what waited for keys: boringtun's packet first, it is the oldest.
    fn flush(&mut self, to: Way, now: Instant, out: &mut Outcome<'_>) {
        let mut message = [0u8; MESSAGE_BYTES_MAX];
        for _ in 0..=QUEUED_PACKETS_MAX {
            match self.tunn.decapsulate(None, &[], &mut message) {
                TunnResult::WriteToNetwork(bytes) => {
                    self.sent_count += u64::from(is_data(bytes));
                    flushed(bytes, to, out);
                }
                TunnResult::Done
                | TunnResult::Err(_)
                | TunnResult::WriteToTunnelV4(..)
                | TunnResult::WriteToTunnelV6(..) => break,
            }
        }
        self.waiting = false;
        while let Some(packet) = self.held.pop(now) {
            if let TunnResult::WriteToNetwork(bytes) = self.tunn.encapsulate(&packet, &mut message)
            {
                self.sent_count += u64::from(is_data(bytes));
                flushed(bytes, to, out);
            }
        }
    }

    fn refuse(&mut self, kind: u8, error: &WireGuardError, now: Instant, metrics: &Metrics) {
        if matches!(error, WireGuardError::WrongTai64nTimestamp) {
            metrics.handshake(HandshakeOutcome::StaleTimestamp);
            self.stale_handshakes += 1;
            let quiet = |at| now.saturating_duration_since(at) >= STALE_WARNING_EVERY;
            if self.stale_warned.is_none_or(quiet) {
                self.stale_warned = Some(now);
                warn!(
                    peer = self.config.public_key.short(),
                    "handshake refused: its time is not after this peer's last; \
                     set the peer's clock (or restart this end), unless it is a replay"
                );
            }
            return;
        }
        if kind != KIND_DATA {
            metrics.handshake(HandshakeOutcome::Invalid);
            return;
        }
        metrics.dropped(data_reason(error));
    }
}

/// Where one call puts what has to be sent and counted.
pub(crate) struct Outcome<'a> {
    pub(crate) replies: &'a mut Vec<Reply>,
    pub(crate) metrics: &'a Metrics,
}
