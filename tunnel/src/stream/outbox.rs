//! What waits to go out on a stream: a bounded queue that drops, as UDP does, when TCP is stuck.

use std::io;

use antipode_websocket::Side;
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::frame::Encoder;
use crate::exits::Exit;
use crate::metrics::{DropReason, Metrics};
use crate::outer::OuterSocket;

/// Most bytes that wait. With what the kernel holds unsent (`NOT_SENT_BYTES`) it is what a stream
/// adds to a round trip when more is sent than TCP carries: 200 ms at 10 Mbit/s, one window of a
/// path of that length.
pub(super) const STREAM_QUEUE_BYTES_MAX: usize = 256 << 10;

/// Most bytes taken at once: one TLS record.
const TAKE_BYTES: usize = 16 << 10;

/// The queue of one stream, framed.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    filled: Notify,
    metrics: Metrics,
}

#[derive(Debug)]
struct Queue {
    encoder: Encoder,
    bytes: BytesMut,
}

impl Outbox {
    pub(super) fn new(side: Side, metrics: Metrics) -> Self {
        let encoder = Encoder::new(side, rand::random());
        let queue = Mutex::new(Queue { encoder, bytes: BytesMut::new() });
        Self { queue, filled: Notify::new(), metrics }
    }

    /// The next bytes to write; waits for them. Cancel-safe.
    pub(super) async fn take(&self) -> Bytes {
        loop {
            if let Some(bytes) = self.try_take() {
                return bytes;
            }
            self.filled.notified().await;
        }
    }

    /// The next bytes to write, if there are any.
    pub(super) fn try_take(&self) -> Option<Bytes> {
        let mut queue = self.queue.lock();
        let len = queue.bytes.len().min(TAKE_BYTES);
        (len > 0).then(|| queue.bytes.split_to(len).freeze())
    }

    /// Answers a ping; with a full queue it goes unanswered.
    pub(super) fn pong(&self, payload: &[u8]) {
        self.push(|Queue { encoder, bytes }| encoder.pong(bytes, payload));
    }

    /// Ends the stream, after what is queued.
    pub(super) fn close(&self, code: u16) {
        let Queue { encoder, bytes } = &mut *self.queue.lock();
        encoder.close(bytes, code);
    }

    fn push(&self, write: impl FnOnce(&mut Queue)) {
        let mut queue = self.queue.lock();
        if queue.bytes.len() < STREAM_QUEUE_BYTES_MAX {
            write(&mut queue);
        }
        drop(queue);
        self.filled.notify_one();
    }
}

impl Exit for Outbox {
    fn send(&self, _udp: &OuterSocket, run: &[u8], segment: usize) -> io::Result<()> {
        self.push_run(run, segment);
        Ok(())
    }
}

impl Outbox {
    /// Queues a run of datagrams, each `segment` long but the last.
    pub(super) fn push_run(&self, run: &[u8], segment: usize) {
        let mut queue = self.queue.lock();
        for datagram in run.chunks(segment.max(1)) {
            let Queue { encoder, bytes } = &mut *queue;
            if bytes.len() + datagram.len() > STREAM_QUEUE_BYTES_MAX {
                self.metrics.dropped(DropReason::StreamFull);
            } else if !encoder.datagram(bytes, datagram) {
                self.metrics.dropped(DropReason::TooBig);
            }
        }
        drop(queue);
        self.filled.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::frame::{Decoder, Received};

    fn drained(outbox: &Outbox) -> Vec<Received> {
        let (mut decoder, mut input) = (Decoder::new(Side::Client), BytesMut::new());
        let mut received = Vec::new();
        while let Some(bytes) = outbox.try_take() {
            assert!(bytes.len() <= TAKE_BYTES);
            input.extend_from_slice(&bytes);
            while let Some(event) = decoder.read(&mut input).unwrap() {
                received.push(event);
            }
        }
        received
    }

    #[test]
    fn a_full_queue_drops_the_newest_and_counts_it() {
        let metrics = Metrics::default();
        let outbox = Outbox::new(Side::Server, metrics.clone());
        let run: Vec<u8> = (0..=255).cycle().take(1000 * 1000).collect();
        outbox.push_run(&run, 1000);
        let queued = outbox.queue.lock().bytes.len();
        assert!(queued <= STREAM_QUEUE_BYTES_MAX + 4, "{queued}");

        let dropped = metrics.dropped_count(DropReason::StreamFull);
        let received = drained(&outbox);
        assert_eq!(u64::try_from(received.len()).unwrap() + dropped, 1000);
        assert!(received.len() > 250, "{}", received.len());
        for (at, datagram) in received.iter().enumerate() {
            let sent = Bytes::copy_from_slice(&run[at * 1000..][..1000]);
            assert_eq!(*datagram, Received::Datagram(sent), "{at}");
        }
        outbox.push_run(&[1, 2, 3], 3);
        assert_eq!(drained(&outbox).len(), 1, "there is room again");
    }

    #[test]
    fn the_last_of_a_run_may_be_shorter() {
        let outbox = Outbox::new(Side::Server, Metrics::default());
        outbox.push_run(&[7; 25], 10);
        outbox.pong(b"!");
        outbox.close(1001);
        let lens: Vec<usize> = drained(&outbox)
            .into_iter()
            .map(|received| match received {
                Received::Datagram(datagram) => datagram.len(),
                Received::Ping(_) => 1000,
                Received::Close => 2000,
            })
            .collect();
        assert_eq!(lens, [10, 10, 5, 2000]);
    }

    #[test]
    fn too_big_a_datagram_is_counted() {
        let metrics = Metrics::default();
        let outbox = Outbox::new(Side::Server, metrics.clone());
        outbox.push_run(&[7; 3000], 3000);
        assert_eq!(metrics.dropped_count(DropReason::TooBig), 1);
        assert_eq!(outbox.try_take(), None);
    }

    /// Pings from afar must not fill memory while nothing is read there.
    #[test]
    fn answers_to_pings_are_bounded_too() {
        let outbox = Outbox::new(Side::Server, Metrics::default());
        (0..10_000).for_each(|_| outbox.pong(&[0; 125]));
        assert!(outbox.queue.lock().bytes.len() < STREAM_QUEUE_BYTES_MAX + 200);
    }
}
