//! What has arrived for one socket inside the tunnel: a queue with an end.

use std::collections::VecDeque;
use std::io::{self, IoSliceMut};
use std::net::{Ipv6Addr, SocketAddrV6};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use quinn::udp::RecvMeta;

/// Most bytes that wait in one inbox. A reader 20 ms late at 1 Gbit/s leaves 2.5 MB.
pub(crate) const INBOX_BYTES_MAX: usize = 4 << 20;

/// Payloads of one size and source are kept side by side up to this: one buffer, one copy out.
const RUN_BYTES_MAX: usize = 64 << 10;

/// What a run costs beside its payload; so many small packets can't cost more memory than large
/// ones.
const RUN_OVERHEAD_BYTES: usize = 256;

/// Emptied buffers kept for the next runs.
const SPARE_MAX: usize = 16;

/// Bounded queue between the driver, which decrypts, and quinn, which reads.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    runs: VecDeque<Run>,
    bytes: usize,
    spare: Vec<Vec<u8>>,
    waker: Option<Waker>,
    closed: bool,
}

/// Payloads from one source, all `stride` long but the last, which may be shorter.
#[derive(Debug)]
struct Run {
    source: SocketAddrV6,
    stride: usize,
    bytes: Vec<u8>,
    /// How much of `bytes` has been read.
    taken: usize,
}

/// The inbox has no room.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct Full;

impl Inbox {
    /// Adds one payload; the reader learns of it at [`Inbox::wake`].
    pub(crate) fn push(&self, source: SocketAddrV6, payload: &[u8]) -> Result<(), Full> {
        let mut queue = self.queue.lock();
        if queue.closed || queue.bytes + payload.len() + RUN_OVERHEAD_BYTES > INBOX_BYTES_MAX {
            return Err(Full);
        }
        queue.bytes += payload.len();
        if let Some(run) = queue.runs.back_mut().filter(|run| run.takes(source, payload.len())) {
            run.bytes.extend_from_slice(payload);
            return Ok(());
        }
        queue.bytes += RUN_OVERHEAD_BYTES;
        let mut bytes = queue.spare.pop().unwrap_or_default();
        bytes.extend_from_slice(payload);
        queue.runs.push_back(Run { source, stride: payload.len(), bytes, taken: 0 });
        Ok(())
    }

    /// Wakes the reader if it waits.
    pub(crate) fn wake(&self) {
        let waker = self.queue.lock().waker.take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Ends the inbox: the reader gets an error, now and later.
    pub(crate) fn close(&self) {
        self.queue.lock().closed = true;
        self.wake();
    }

    /// Fills quinn's buffers, a run each, or keeps the waker for [`Inbox::wake`].
    pub(crate) fn poll_take(
        &self,
        cx: &mut Context<'_>,
        local: Ipv6Addr,
        bufs: &mut [IoSliceMut<'_>],
        metas: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let mut queue = self.queue.lock();
        if queue.closed {
            let stopped = io::Error::new(io::ErrorKind::NotConnected, "the tunnel has stopped");
            return Poll::Ready(Err(stopped));
        }
        let mut filled = 0;
        for (buf, meta) in bufs.iter_mut().zip(metas.iter_mut()) {
            let Some(run) = queue.runs.front_mut() else { break };
            let before = run.taken;
            *meta = run.take(buf, local);
            filled += 1;
            let read = run.taken - before;
            queue.bytes -= read;
            queue.drop_front_if_read();
        }
        if filled == 0 {
            queue.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(Ok(filled))
    }
}

impl Queue {
    fn drop_front_if_read(&mut self) {
        if self.runs.front().is_none_or(|run| run.taken < run.bytes.len()) {
            return;
        }
        let Some(Run { mut bytes, .. }) = self.runs.pop_front() else { return };
        self.bytes -= RUN_OVERHEAD_BYTES;
        if self.spare.len() < SPARE_MAX {
            bytes.clear();
            self.spare.push(bytes);
        }
    }
}

impl Run {
    fn takes(&self, source: SocketAddrV6, len: usize) -> bool {
        let whole = self.bytes.len().is_multiple_of(self.stride);
        let fits = self.bytes.len() + len <= RUN_BYTES_MAX;
        source == self.source && whole && len <= self.stride && fits
    }

    /// Moves as many whole payloads as fit into `buf`; one that can't fit at all is cut, as the
    /// kernel would.
    fn take(&mut self, buf: &mut [u8], local: Ipv6Addr) -> RecvMeta {
        let left = &self.bytes[self.taken..];
        let room = (buf.len() / self.stride).max(1) * self.stride;
        let moved = left.len().min(room);
        let len = moved.min(buf.len());
        buf[..len].copy_from_slice(&left[..len]);
        self.taken += moved;
        RecvMeta {
            addr: self.source.into(),
            len,
            stride: self.stride,
            ecn: None,
            dst_ip: Some(local.into()),
        }
    }
}

#[cfg(test)]
mod tests;
