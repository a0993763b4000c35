//! What quinn sends, on its way out: wrapped in IPv6 and UDP, padded, encrypted, laid end to end.

use std::io;
use std::net::SocketAddrV6;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;

use crate::class::Class;
use crate::device::Device;
use crate::link::{INITIATION_BYTES, KIND_DATA, MESSAGE_BYTES_MAX, Peer};
use crate::metrics::{DropReason, Metrics};
use crate::outer::{Message, runs};
use crate::packet::{HEADERS_BYTES, INNER_MTU_MAX_BYTES, write_udp};
use crate::peer::{Reply, Sealed};
use crate::shared::Shared;
use crate::shield::Sent;
use crate::way::Way;

/// Datagrams in one transmit; quinn makes at most 10 of them, Linux sends at most 64.
pub(crate) const TRANSMIT_SEGMENTS_MAX: usize = 64;

/// WireGuard pads packets to this, so that lengths tell less,
/// [§5.4.6](https://www.wireguard.com/papers/wireguard.pdf). boringtun does not; IPv6's own length
/// field lets every receiver cut the padding off.
const PADDING_BYTES: usize = 16;

/// Buffers kept for reuse; as many as send at the same time.
const BUFFERS_MAX: usize = 8;

/// One transmit's worth of room.
#[derive(Debug)]
pub(crate) struct SendBuffer {
    packet: Box<[u8]>,
    sealed: Box<[u8]>,
    messages: Vec<Message>,
}

/// Send buffers between uses: connections send at the same time from several threads.
#[derive(Debug, Default)]
pub(crate) struct SendBuffers(Mutex<Vec<SendBuffer>>);

impl SendBuffers {
    fn take(&self) -> SendBuffer {
        self.0.lock().pop().unwrap_or_else(SendBuffer::new)
    }

    fn give(&self, buffer: SendBuffer) {
        let mut free = self.0.lock();
        if free.len() < BUFFERS_MAX {
            free.push(buffer);
        }
    }
}

/// UDP payloads, all `segment` long but the last, from one socket inside the tunnel to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) source: SocketAddrV6,
    pub(crate) destination: SocketAddrV6,
    pub(crate) contents: &'a [u8],
    pub(crate) segment: usize,
    pub(crate) mtu_bytes: u16,
    pub(crate) class: Class,
}

/// Encrypts and sends. What can't be sent is counted and forgotten, as UDP does.
///
/// A handshake message that the real socket has no room for is left to the driver: boringtun makes
/// it once and then waits five seconds for the answer.
///
/// # Errors
/// `WouldBlock`: nothing is lost if the caller sends it all again later.
pub(crate) fn send(shared: &Shared, outgoing: Outgoing<'_>, now: Instant) -> io::Result<()> {
    let Shared { device, buffers, metrics, .. } = shared;
    let mut buffer = buffers.take();
    let outcome = match buffer.seal(device, metrics, outgoing, now) {
        Ok((peer, way)) => buffer.transmit(shared, &peer, way, outgoing.class, now),
        Err(reason) => {
            let segments = outgoing.contents.len().div_ceil(outgoing.segment.max(1));
            (0..segments).for_each(|_| metrics.dropped(reason));
            Ok(())
        }
    };
    buffers.give(buffer);
    outcome
}

impl SendBuffer {
    fn new() -> Self {
        // One more initiation than data: it may come in place of a message, and only once.
        let sealed = TRANSMIT_SEGMENTS_MAX * MESSAGE_BYTES_MAX + INITIATION_BYTES;
        Self {
            packet: vec![0; usize::from(INNER_MTU_MAX_BYTES)].into(),
            sealed: vec![0; sealed].into(),
            messages: Vec::with_capacity(TRANSMIT_SEGMENTS_MAX),
        }
    }

    fn seal(
        &mut self,
        device: &Device,
        metrics: &Metrics,
        outgoing: Outgoing<'_>,
        now: Instant,
    ) -> Result<(Arc<Peer>, Way), DropReason> {
        self.messages.clear();
        let peer =
            device.peer_for((*outgoing.destination.ip()).into()).ok_or(DropReason::NoPeer)?;
        let mut link = peer.link.lock();
        let way = link.way().ok_or(DropReason::NoEndpoint)?;
        let mut at = 0;
        for payload in outgoing.contents.chunks(outgoing.segment.max(1)) {
            let mtu = usize::from(outgoing.mtu_bytes).min(self.packet.len());
            let Some(len) = self.write_packet(payload, outgoing, mtu) else {
                metrics.dropped(DropReason::TooBig);
                continue;
            };
            let packet = &self.packet[..padded(len, mtu)];
            let Some(sealed) = link.seal(packet, &mut self.sealed[at..], now) else {
                metrics.dropped(DropReason::TooBig);
                continue;
            };
            device.count_sealed(sealed, len);
            match sealed {
                Sealed::Data(len) => {
                    self.messages.push(Message::Data(len));
                    at += len;
                }
                Sealed::Handshake(len) => {
                    self.messages.push(Message::Handshake(len));
                    at += len;
                }
                Sealed::Waits => {}
            }
        }
        drop(link);
        Ok((peer, way))
    }

    fn write_packet(
        &mut self,
        payload: &[u8],
        outgoing: Outgoing<'_>,
        mtu: usize,
    ) -> Option<usize> {
        let room = &mut self.packet[..mtu];
        let len = write_udp(room, outgoing.source, outgoing.destination, payload)?;
        room[len..padded(len, mtu)].fill(0);
        Some(len)
    }

    fn transmit(
        &self,
        shared: &Shared,
        peer: &Arc<Peer>,
        to: Way,
        class: Class,
        now: Instant,
    ) -> io::Result<()> {
        let Shared { exits, metrics, .. } = shared;
        let mut data_sent = false;
        for run in runs(&self.messages, exits.udp().segments_max()) {
            let bytes = &self.sealed[run.bytes];
            let is_data = bytes.first() == Some(&KIND_DATA);
            match exits.transmit(to, bytes, run.segment) {
                Ok(()) if is_data => {
                    data_sent = true;
                    let sent = Sent { way: to, run: bytes, segment: run.segment, class };
                    shared.shield_run(peer, &sent, now);
                }
                Ok(()) => {}
                Err(_) if !is_data => shared.send_later(Reply { to, bytes: bytes.to_vec() }),
                // No data has gone yet: the caller may wait and send all of it again.
                Err(full) if !data_sent && full.kind() == io::ErrorKind::WouldBlock => {
                    let data = self.messages.iter().filter(|m| matches!(m, Message::Data(_)));
                    peer.link.lock().count_unsent(u64::try_from(data.count()).unwrap_or(0));
                    return Err(full);
                }
                Err(_) => metrics.dropped(DropReason::NotSent),
            }
        }
        Ok(())
    }
}

/// The length of a packet with its padding: a multiple of 16, but never more than the MTU.
fn padded(len: usize, mtu: usize) -> usize {
    len.next_multiple_of(PADDING_BYTES).min(mtu)
}

const _: () = assert!(HEADERS_BYTES < INNER_MTU_MAX_BYTES);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn padding_stays_inside_the_mtu() {
        assert_eq!(padded(49, 1280), 64);
        assert_eq!(padded(64, 1280), 64);
        assert_eq!(padded(1280, 1280), 1280);
        assert_eq!(padded(1408, 1420), 1408);
        assert_eq!(padded(1409, 1420), 1420);
    }

    #[test]
    fn padding_is_zeros_whatever_was_there() {
        let mut buffer = SendBuffer::new();
        let at = |port| SocketAddrV6::new(std::net::Ipv6Addr::LOCALHOST, port, 0, 0);
        let (source, destination) = (at(1), at(2));
        let outgoing = Outgoing {
            source,
            destination,
            contents: &[],
            segment: 1,
            mtu_bytes: 1280,
            class: Class::Chat,
        };
        assert_eq!(buffer.write_packet(&[0xff; 1000], outgoing, 1280), Some(1048));
        assert_eq!(buffer.write_packet(&[0xff; 3], outgoing, 1280), Some(51));
        assert_eq!(buffer.packet[51..64], [0; 13]);
        assert_eq!(buffer.write_packet(&[0xff; 1233], outgoing, 1280), None);
    }
}
