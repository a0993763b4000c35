//! The UDP socket inside the tunnel that quinn runs on.

use std::fmt;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::net::{SocketAddr, SocketAddrV6};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, UdpPoller};

use crate::class::Class;
use crate::inbox::Inbox;
use crate::metrics::DropReason;
use crate::send::{Outgoing, TRANSMIT_SEGMENTS_MAX, send};
use crate::shared::Shared;
use crate::tunnel::now;

/// Equal payloads handed to quinn in one buffer. quinn's receive buffer grows with it: 16 is 750 KB
/// an endpoint, and a call brings up to 32 buffers.
const RECEIVE_SEGMENTS_MAX: usize = 16;

/// UDP on our tunnel address. Sending encrypts at once; what arrives waits in the inbox.
pub(crate) struct TunnelSocket {
    shared: Arc<Shared>,
    inbox: Arc<Inbox>,
    local: SocketAddrV6,
    class: Class,
}

impl TunnelSocket {
    pub(crate) fn new(
        shared: Arc<Shared>,
        inbox: Arc<Inbox>,
        local: SocketAddrV6,
        class: Class,
    ) -> Self {
        Self { shared, inbox, local, class }
    }
}

impl Drop for TunnelSocket {
    fn drop(&mut self) {
        self.shared.close_port(self.local.port());
    }
}

impl AsyncUdpSocket for TunnelSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(Writable { shared: Arc::clone(&self.shared), waiting: None })
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let Shared { metrics, mtu_bytes, .. } = &*self.shared;
        let SocketAddr::V6(destination) = transmit.destination else {
            metrics.dropped(DropReason::NoPeer);
            return Ok(());
        };
        let outgoing = Outgoing {
            source: self.local,
            destination,
            contents: transmit.contents,
            segment: transmit.segment_size.unwrap_or(transmit.contents.len()),
            mtu_bytes: *mtu_bytes,
            class: self.class,
        };
        send(&self.shared, outgoing, now())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.inbox.poll_take(cx, *self.local.ip(), bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.local.into())
    }

    fn max_transmit_segments(&self) -> usize {
        self.shared.exits.udp().segments_max().min(TRANSMIT_SEGMENTS_MAX)
    }

    fn max_receive_segments(&self) -> usize {
        RECEIVE_SEGMENTS_MAX
    }

    /// The packets inside are never cut, and those outside carry don't-fragment: so quinn may probe
    /// for the path's MTU.
    fn may_fragment(&self) -> bool {
        self.shared.exits.udp().may_fragment()
    }
}

impl fmt::Debug for TunnelSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TunnelSocket").field("local", &self.local).finish_non_exhaustive()
    }
}

type Waiting = Pin<Box<dyn Future<Output = io::Result<()>> + Send + Sync>>;

/// Waits until the real socket takes datagrams again.
struct Writable {
    shared: Arc<Shared>,
    waiting: Option<Waiting>,
}

impl UdpPoller for Writable {
    fn poll_writable(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let waiting = this.waiting.get_or_insert_with(|| {
            let shared = Arc::clone(&this.shared);
            Box::pin(async move { shared.exits.udp().writable().await })
        });
        let outcome = ready!(waiting.as_mut().poll(cx));
        this.waiting = None;
        Poll::Ready(outcome)
    }
}

impl fmt::Debug for Writable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writable").field("waiting", &self.waiting.is_some()).finish()
    }
}
