//! What a link does by itself as time goes: keep-alives, handshakes and the watchdog.

use std::time::{Duration, Instant};

use boringtun::noise::TunnResult;
use boringtun::noise::errors::WireGuardError;
use tracing::debug;

use super::message::is_data;
use super::{Link, MESSAGE_BYTES_MAX, Outcome};
use crate::metrics::HandshakeOutcome;
use crate::peer::Reply;

/// What to do about a handshake that is under way.
#[derive(Clone, Copy, Eq, PartialEq)]
enum Underway {
    LetBe,
    Repeat,
}

impl Link {
    /// Runs boringtun's timers and our own; due every [`crate::device::TICK`].
    pub(crate) fn tick(&mut self, now: Instant, silence_max: Duration, out: &mut Outcome<'_>) {
        let mut message = [0u8; MESSAGE_BYTES_MAX];
        match self.tunn.update_timers(&mut message) {
            TunnResult::WriteToNetwork(bytes) => {
                let bytes = bytes.to_vec();
                self.transmit(bytes, now, out);
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) if !self.expired => {
                self.expired = true;
                self.waiting = false;
                self.held.clear();
                out.metrics.handshake(HandshakeOutcome::Expired);
            }
            TunnResult::Err(_)
            | TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
        let Some(keepalive) = self.config.keepalive else { return };
        if self.way.is_none() {
            return;
        }
        self.watch(now, silence_max, out);
        let has_keys = self.tunn.time_since_last_handshake().is_some();
        let due = self.sent.is_none_or(|sent| now.saturating_duration_since(sent) >= keepalive);
        if has_keys
            && due
            && let TunnResult::WriteToNetwork(bytes) = self.tunn.encapsulate(&[], &mut message)
        {
            let bytes = bytes.to_vec();
            self.transmit(bytes, now, out);
        }
    }

    /// Begins a handshake unless one is under way.
    fn handshake(&mut self, now: Instant, out: &mut Outcome<'_>) {
        self.initiate(Underway::LetBe, now, out);
    }

    /// Begins a handshake, or sends the initiation of the one under way again; nothing if the last
    /// one went just now, see `Pace`.
    pub(crate) fn handshake_now(&mut self, now: Instant, out: &mut Outcome<'_>) {
        let (_, _, _, _, rtt_ms) = self.tunn.stats();
        if self.pace.allows(rtt_ms.map(|ms| Duration::from_millis(ms.into())), now) {
            self.initiate(Underway::Repeat, now, out);
        }
    }

    fn initiate(&mut self, underway: Underway, now: Instant, out: &mut Outcome<'_>) {
        let mut message = [0u8; MESSAGE_BYTES_MAX];
        if self.way.is_none() {
            return;
        }
        if let TunnResult::WriteToNetwork(bytes) =
            self.tunn.format_handshake_initiation(&mut message, underway == Underway::Repeat)
        {
            self.expired = false;
            debug!(peer = self.config.public_key.short(), "handshake begun");
            let bytes = bytes.to_vec();
            self.transmit(bytes, now, out);
        }
    }

    /// Keeps a handshake going while there are no keys, and begins one when the peer is silent: it
    /// may have lost its keys, and would drop our data without a word.
    fn watch(&mut self, now: Instant, silence_max: Duration, out: &mut Outcome<'_>) {
        if self.tunn.time_since_last_handshake().is_none() {
            self.handshake(now, out);
            return;
        }
        let heard = self.heard.unwrap_or(self.created);
        if now.saturating_duration_since(heard) < silence_max {
            return;
        }
        if let Some(configured) = self.config.endpoint.filter(|_| !self.is_chosen) {
            self.way = Some(configured.into());
        }
        self.handshake(now, out);
    }

    fn transmit(&mut self, bytes: Vec<u8>, now: Instant, out: &mut Outcome<'_>) {
        let Some(to) = self.way else { return };
        if !is_data(&bytes) {
            out.metrics.handshake(HandshakeOutcome::Initiated);
            self.pace.initiated(now);
            self.ways.initiate(&bytes, Some(to), now);
        }
        self.sent = Some(now);
        self.sent_count += u64::from(is_data(&bytes));
        out.replies.push(Reply { to, bytes });
    }
}
