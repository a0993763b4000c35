//! The real UDP socket: many datagrams a system call, both ways.

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::ops::Range;

use quinn_udp::{BATCH_SIZE, RecvMeta, Transmit, UdpSocketState};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::way::Way;

/// Asked of the kernel for each direction; it gives what `net.core.rmem_max` allows.
const SOCKET_BUFFER_BYTES: usize = 4 << 20;

/// One receive buffer: what the kernel joins by receive offload stays under a whole IP packet.
const RECEIVE_BUFFER_BYTES: usize = 64 << 10;

/// The most one send may carry: 65,535 less IPv6 and UDP headers.
pub(crate) const RUN_BYTES_MAX: usize = 65_535 - 40 - 8;

/// The socket under a tunnel.
#[derive(Debug)]
pub(crate) struct OuterSocket {
    io: UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
}

impl OuterSocket {
    /// Binds `listen`; `[::]` takes IPv4 too.
    pub(crate) fn bind(listen: SocketAddr) -> io::Result<Self> {
        let socket = Socket::new(Domain::for_address(listen), Type::DGRAM, Some(Protocol::UDP))?;
        if listen.is_ipv6() {
            socket.set_only_v6(!listen.ip().is_unspecified())?;
        }
        socket.set_nonblocking(true)?;
        socket.bind(&SockAddr::from(listen))?;
        let io = UdpSocket::from_std(socket.into())?;
        let state = UdpSocketState::new((&io).into())?;
        // The kernel's own limit may be lower; then it stays there.
        let _ = state.set_recv_buffer_size((&io).into(), SOCKET_BUFFER_BYTES);
        let _ = state.set_send_buffer_size((&io).into(), SOCKET_BUFFER_BYTES);
        let local = io.local_addr()?;
        Ok(Self { io, state, local })
    }

    pub(crate) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many datagrams one send may carry; falls to 1 when the system refuses.
    pub(crate) fn segments_max(&self) -> usize {
        self.state.max_gso_segments()
    }

    pub(crate) fn may_fragment(&self) -> bool {
        self.state.may_fragment()
    }

    pub(crate) async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    pub(crate) async fn readable(&self) -> io::Result<()> {
        self.io.readable().await
    }

    /// Sends a run of datagrams, each `segment` long but the last. The only error is `WouldBlock`;
    /// what else can go wrong quinn-udp logs, once a minute.
    pub(crate) fn try_send(
        &self,
        remote: SocketAddr,
        local: Option<IpAddr>,
        run: &[u8],
        segment: usize,
    ) -> io::Result<()> {
        let Some(destination) = self.reachable(remote) else { return Ok(()) };
        let transmit = Transmit {
            destination,
            ecn: None,
            contents: run,
            segment_size: (segment < run.len()).then_some(segment),
            src_ip: local.filter(|_| self.local.ip().is_unspecified()),
        };
        self.io.try_io(Interest::WRITABLE, || self.state.send((&self.io).into(), &transmit))
    }

    /// Reads what is there, up to [`BATCH_SIZE`] buffers, and tells each datagram.
    pub(crate) fn try_recv(
        &self,
        buffers: &mut ReceiveBuffers,
        mut each: impl FnMut(Way, &[u8]),
    ) -> io::Result<()> {
        let mut metas = [RecvMeta::default(); BATCH_SIZE];
        let filled = {
            let mut chunks = buffers.0.chunks_mut(RECEIVE_BUFFER_BYTES);
            let mut slices: [IoSliceMut<'_>; BATCH_SIZE] = std::array::from_fn(|_| {
                IoSliceMut::new(chunks.next().expect("one buffer for each of the batch"))
            });
            self.io.try_io(Interest::READABLE, || {
                self.state.recv((&self.io).into(), &mut slices, &mut metas)
            })?
        };
        for (meta, buffer) in metas.iter().zip(buffers.0.chunks(RECEIVE_BUFFER_BYTES)).take(filled)
        {
            let remote = SocketAddr::new(meta.addr.ip().to_canonical(), meta.addr.port());
            let from = Way::Udp { remote, local: meta.dst_ip };
            if meta.len == 0 {
                each(from, &[]);
            }
            for datagram in buffer[..meta.len].chunks(meta.stride.max(1)) {
                each(from, datagram);
            }
        }
        Ok(())
    }

    /// The address as this socket's family writes it; `None` if it can't reach it.
    fn reachable(&self, remote: SocketAddr) -> Option<SocketAddr> {
        match (self.local.ip(), remote.ip()) {
            (IpAddr::V4(_), IpAddr::V6(_)) => None,
            (IpAddr::V6(_), IpAddr::V4(ip)) => {
                let mapped: Ipv6Addr = ip.to_ipv6_mapped();
                Some(SocketAddr::new(mapped.into(), remote.port()))
            }
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => Some(remote),
        }
    }
}

/// Where a batch is read into.
#[derive(Debug)]
pub(crate) struct ReceiveBuffers(Box<[u8]>);

impl Default for ReceiveBuffers {
    fn default() -> Self {
        Self(vec![0; RECEIVE_BUFFER_BYTES * BATCH_SIZE].into())
    }
}

/// A message in a send buffer: how long, and whether it may share a run.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Message {
    /// A data message.
    Data(usize),
    /// A handshake message: always alone, its length would break the stride.
    Handshake(usize),
}

/// A stretch of a send buffer that one system call may send, and the length of its segments.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Run {
    pub(crate) bytes: Range<usize>,
    pub(crate) segment: usize,
}

/// Cuts messages, laid end to end, into runs of equal ones (the last of a run may be shorter).
pub(crate) fn runs(messages: &[Message], segments_max: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut open = false;
    let mut at = 0;
    for message in messages {
        let (len, data) = match *message {
            Message::Data(len) => (len, true),
            Message::Handshake(len) => (len, false),
        };
        match runs.last_mut() {
            Some(run) if open && data && run.takes(len, segments_max) => {
                run.bytes.end += len;
                open = len == run.segment;
            }
            _ => {
                runs.push(Run { bytes: at..at + len, segment: len });
                open = data;
            }
        }
        at += len;
    }
    runs
}

impl Run {
    fn takes(&self, len: usize, segments_max: usize) -> bool {
        let segments = self.bytes.len() / self.segment;
        len <= self.segment && segments < segments_max && self.bytes.len() + len <= RUN_BYTES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::Message::{Data, Handshake};
    use super::*;

    #[test]
    fn runs_share_a_stride() {
        check("nothing", &[], &[]);
        check("one", &[Data(100)], &[(0..100, 100)]);
        check("equal", &[Data(100), Data(100), Data(100)], &[(0..300, 100)]);
        check("a short last", &[Data(100), Data(60)], &[(0..160, 100)]);
        check(
            "nothing after a short one",
            &[Data(100), Data(60), Data(60)],
            &[(0..160, 100), (160..220, 60)],
        );
        check("a longer one starts anew", &[Data(60), Data(100)], &[(0..60, 60), (60..160, 100)]);
        check("at most four", &[Data(10); 9], &[(0..40, 10), (40..80, 10), (80..90, 10)]);
    }

    /// boringtun may answer a packet with an initiation; among equal segments the receiver would
    /// see it cut in two, and everything behind it shifted.
    #[test]
    fn a_handshake_is_never_inside_a_run() {
        check("first", &[Handshake(148), Data(148)], &[(0..148, 148), (148..296, 148)]);
        check("last", &[Data(200), Handshake(148)], &[(0..200, 200), (200..348, 148)]);
        check(
            "between",
            &[Data(148), Handshake(148), Data(148)],
            &[(0..148, 148), (148..296, 148), (296..444, 148)],
        );
    }

    #[test]
    fn a_run_fits_one_ip_packet() {
        let messages = [Data(1452); 64];
        let runs = runs(&messages, 64);
        assert_eq!(runs.len(), 2);
        assert!(runs.iter().all(|run| run.bytes.len() <= RUN_BYTES_MAX));
        assert_eq!(runs[1].bytes.end, 64 * 1452);
    }

    #[track_caller]
    fn check(what: &str, messages: &[Message], expected: &[(Range<usize>, usize)]) {
        let found: Vec<_> =
            runs(messages, 4).into_iter().map(|run| (run.bytes, run.segment)).collect();
        assert_eq!(found, expected, "{what}");
    }
}
