//! From the backend to the client: frames in, chunks out, and pings put by for the way up.

use std::collections::VecDeque;
use std::time::Instant;

use antipode_proto::trunk::v1::Chunk;
use antipode_runtime::clock;
use antipode_trunk::{Ended, SessionPort};
use antipode_websocket::{Event, ReadError, Reader};
use bytes::{Bytes, BytesMut};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::backend::stream::SharedStream;
use crate::bridge::buffers::Buffers;
use crate::metrics::{DOWN, Metrics};

/// Pongs that may wait. A backend that pings faster than it reads gets pongs to its latest pings:
/// RFC 6455 section 5.5.3 allows that.
pub(super) const PONGS_MAX: usize = 32;

/// Reads the backend. Cancel-safe: what is read stays here.
pub(super) struct Down<'a> {
    pub(super) port: &'a SessionPort,
    pub(super) buffers: &'a Buffers,
    pub(super) metrics: &'a Metrics,
    pub(super) signs: &'a Signs,
    pub(super) socket: SharedStream,
    pub(super) reader: Reader,
    pub(super) input: BytesMut,
}

/// What the way down tells the way up.
#[derive(Debug)]
pub(super) struct Signs {
    pongs: Mutex<VecDeque<Bytes>>,
    pong_due: Notify,
    heard: Mutex<Instant>,
}

/// How the backend's direction ended.
#[derive(Debug)]
pub(super) enum DownEnd {
    /// With a close frame.
    Closed(Option<(u16, String)>),
    /// Without one.
    Lost,
    /// With something that RFC 6455, or our limit, forbids.
    Broke(ReadError),
    /// Not at all: the session was reset.
    Reset(Ended),
}

impl Down<'_> {
    /// Carries frames until the direction ends.
    pub(super) async fn run(&mut self) -> DownEnd {
        loop {
            if let Err(ended) = self.port.ready().await {
                return DownEnd::Reset(ended);
            }
            match self.reader.read(&mut self.input) {
                Err(error) => return DownEnd::Broke(error),
                Ok(Some(Event::Close(close))) => return DownEnd::Closed(close),
                Ok(Some(Event::Ping(payload))) => self.signs.pinged(payload, self.metrics),
                Ok(Some(Event::Pong(_))) => {}
                Ok(Some(Event::Chunk { start, payload, last_of_frame })) => {
                    self.metrics.carried(DOWN, payload.len());
                    let chunk = Chunk {
                        frame: start.map(|start| start.first_byte.into()),
                        frame_len: start.filter(|_| !last_of_frame).map(|start| start.frame_len),
                        payload,
                        shared: 0,
                    };
                    if let Err(ended) = self.port.send(chunk.into()) {
                        return DownEnd::Reset(ended);
                    }
                }
                Ok(None) => match self.buffers.read(&mut self.socket, &mut self.input).await {
                    Ok(0) | Err(_) => return DownEnd::Lost,
                    Ok(_) => self.signs.heard(),
                },
            }
        }
    }

    /// Reads and throws away until the backend has ended its socket.
    pub(super) async fn drain(&mut self) {
        loop {
            self.input.clear();
            if let Ok(0) | Err(_) = self.buffers.read(&mut self.socket, &mut self.input).await {
                return;
            }
        }
    }
}

impl Signs {
    /// `pongs` are due already.
    pub(super) fn new(pongs: VecDeque<Bytes>) -> Self {
        let pongs = Mutex::new(pongs);
        Self { pongs, pong_due: Notify::new(), heard: Mutex::new(clock::now()) }
    }

    /// When the backend last sent anything.
    pub(super) fn last_heard(&self) -> Instant {
        *self.heard.lock()
    }

    /// Waits until pongs are due. Cancel-safe.
    pub(super) async fn pong_due(&self) {
        while self.pongs.lock().is_empty() {
            self.pong_due.notified().await;
        }
    }

    /// As [`Signs::take_pongs`], and leaves them here.
    pub(super) fn pongs(&self) -> Vec<Bytes> {
        self.pongs.lock().iter().cloned().collect()
    }

    /// The pongs that are due, oldest first.
    pub(super) fn take_pongs(&self) -> VecDeque<Bytes> {
        std::mem::take(&mut *self.pongs.lock())
    }

    fn heard(&self) {
        *self.heard.lock() = clock::now();
    }

    fn pinged(&self, payload: Bytes, metrics: &Metrics) {
        let mut pongs = self.pongs.lock();
        if pongs.len() == PONGS_MAX {
            pongs.pop_front();
            metrics.pongs_skipped.inc();
        }
        pongs.push_back(payload);
        drop(pongs);
        self.pong_due.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_of_pings_is_answered_up_to_a_bound_latest_last() {
        let (signs, metrics) = (Signs::new(VecDeque::new()), Metrics::default());
        for i in 0..100_u8 {
            signs.pinged(Bytes::copy_from_slice(&[i]), &metrics);
        }
        let pongs: Vec<u8> = signs.take_pongs().into_iter().map(|payload| payload[0]).collect();
        assert_eq!(pongs, (68..100).collect::<Vec<u8>>());
        assert_eq!(metrics.pongs_skipped.get(), 68);
        assert!(signs.take_pongs().is_empty());
    }
}
