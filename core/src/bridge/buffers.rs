//! Read buffers that go round: a session holds one only while bytes are in it.

use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::Poll;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::io::AsyncRead;
use tokio_util::io::poll_read_buf;

/// A chunk's payload and a frame's header, so that a chunk takes one read.
const BUFFER_BYTES: usize = antipode_trunk::CHUNK_BYTES_MAX + 64;
/// More than are read at one time: 4 MiB.
const BUFFERS_MAX: usize = 256;

/// Buffers that nobody uses now.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    free: Mutex<Vec<BytesMut>>,
}

impl Buffers {
    /// Reads what is there into `input`, which takes a buffer only if something is. Cancel-safe;
    /// 0: the end.
    pub(crate) async fn read<R: AsyncRead + Unpin>(
        &self,
        socket: &mut R,
        input: &mut BytesMut,
    ) -> io::Result<usize> {
        poll_fn(|task| {
            if input.capacity() - input.len() < BUFFER_BYTES / 2 {
                let mut larger = self.take();
                larger.extend_from_slice(input);
                self.give_back(std::mem::replace(input, larger));
            }
            let polled = poll_read_buf(Pin::new(&mut *socket), task, input);
            if polled.is_pending() && input.is_empty() {
                self.give_back(std::mem::take(input));
            }
            match polled {
                Poll::Ready(outcome) => Poll::Ready(outcome),
                Poll::Pending => Poll::Pending,
            }
        })
        .await
    }

    /// An empty buffer.
    pub(crate) fn take(&self) -> BytesMut {
        let free = self.free.lock().pop();
        free.unwrap_or_else(|| BytesMut::with_capacity(BUFFER_BYTES))
    }

    /// Keeps a buffer for the next one, unless a payload still shares it.
    pub(crate) fn give_back(&self, mut buffer: BytesMut) {
        buffer.clear();
        if buffer.capacity() == 0 && !buffer.try_reclaim(BUFFER_BYTES) {
            return;
        }
        if !buffer.try_reclaim(BUFFER_BYTES) || buffer.capacity() > 4 * BUFFER_BYTES {
            return;
        }
        let mut free = self.free.lock();
        if free.len() < BUFFERS_MAX {
            free.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncWriteExt;

    use super::*;

    #[tokio::test]
    async fn a_reader_that_waits_holds_no_buffer() {
        let buffers = Buffers::default();
        let (mut far, mut near) = tokio::io::duplex(64);
        let mut input = BytesMut::new();
        {
            let read = buffers.read(&mut near, &mut input);
            tokio::pin!(read);
            assert!(futures_poll(read.as_mut()).await.is_none());
            assert_eq!(buffers.free.lock().len(), 1);
            far.write_all(b"hello").await.unwrap();
            assert_eq!(read.await.unwrap(), 5);
        }
        assert_eq!(&input[..], b"hello");
        assert_eq!(buffers.free.lock().len(), 0);

        buffers.give_back(input);
        assert_eq!(buffers.free.lock().len(), 1);
    }

    #[test]
    fn a_buffer_that_a_payload_shares_is_let_go() {
        let buffers = Buffers::default();
        let mut buffer = buffers.take();
        buffer.extend_from_slice(&[7; 4096]);
        let payload = buffer.split_to(4000).freeze();
        buffers.give_back(buffer);
        assert_eq!(buffers.free.lock().len(), 0);
        assert_eq!(payload.len(), 4000);
    }

    /// One poll.
    async fn futures_poll<F: Future>(mut future: Pin<&mut F>) -> Option<F::Output> {
        poll_fn(|task| match future.as_mut().poll(task) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }
}
