//! What a lane owes to frames of sessions that nobody knows.

use std::time::Duration;

use antipode_proto::trunk::v1::{Batch, Reset};
use prost::Message;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::batch::{BATCH_BYTES_MAX, BATCH_BYTES_READ_MAX, FIRST_BATCH_BYTES};
use crate::lane::write_batches;
use crate::metrics::{FanOutMetrics, Metrics};

#[tokio::test]
async fn who_is_owed_many_answers_waits_and_gets_them_all() {
    let queue = LaneQueue::new(0, Arc::new(Announcer::new(FanOutMetrics::default())));
    let writer = queue.writer();
    let total = 10 * u64::try_from(ANSWERS_MAX).unwrap();
    for session in 0..total {
        let reset = Reset { detail: "unknown session".into(), ..Reset::default() };
        queue.answer(Frame { session, kind: Some(Kind::Reset(reset)) });
    }
    let mut got = 0;
    let collecting = async {
        loop {
            let mut draft = Draft::default();
            writer.collect(&mut draft, antipode_runtime::clock::now()).unwrap();
            if draft.frames_count() == 0 {
                return;
            }
            got += u64::try_from(draft.frames_count()).unwrap();
            assert!(draft.len_bytes() < BATCH_BYTES_READ_MAX, "no peer would read it");
            tokio::task::yield_now().await;
        }
    };
    let waits = timeout(Duration::from_millis(20), queue.answers_gone()).await;
    assert!(waits.is_err(), "the lane is not read while it owes so many");
    let gone = timeout(Duration::from_secs(5), queue.answers_gone());
    let (gone, ()) = tokio::join!(gone, collecting);
    gone.expect("they go, and reading goes on");
    assert_eq!(got, total, "a node that hears nothing would wait for ever");
}

/// After a cut every lane has a backlog, and what is in front of it is to arrive first. Batches
/// that wait for a call together would go as one.
#[tokio::test(start_paused = true)]
async fn the_first_batch_is_small_and_each_full_one_is_followed_by_one_of_twice_the_size() {
    const FRAMES: usize = 4000;
    let queue = LaneQueue::new(0, Arc::new(Announcer::new(FanOutMetrics::default())));
    let (writer, metrics) = (queue.writer(), Metrics::default());
    for session in 0..u64::try_from(FRAMES).unwrap() {
        let reset = Reset { detail: "unknown session".into(), ..Reset::default() };
        queue.answer(Frame { session, kind: Some(Kind::Reset(reset)) });
    }
    let (out, mut inward) = mpsc::channel(1);
    let read = async {
        let (mut sizes, mut times, mut frames) = (Vec::new(), Vec::new(), 0);
        while frames < FRAMES {
            let batch: Batch = inward.recv().await.expect("there is more");
            frames += batch.frames.len();
            sizes.push(batch.encoded_len());
            times.push(tokio::time::Instant::now());
        }
        (sizes, times)
    };
    let (sizes, times) = tokio::select! {
        read = read => read,
        () = write_batches(&writer, &out, &metrics, |batch| batch) => panic!("it goes on"),
    };
    let is_about = |size: usize, bytes: usize| (bytes * 8 / 10..bytes + 64).contains(&size);
    assert!(is_about(sizes[0], FIRST_BATCH_BYTES), "{sizes:?}");
    for (at, size) in sizes[..sizes.len() - 1].iter().enumerate() {
        let bytes = (FIRST_BATCH_BYTES << at).min(BATCH_BYTES_MAX);
        assert!(is_about(*size, bytes), "{at}: {sizes:?}");
        let waits =
            if bytes < BATCH_BYTES_MAX { Duration::from_millis(20) } else { Duration::ZERO };
        let waited = times[at + 1] - times[at];
        assert!(waits <= waited && waited < waits + Duration::from_millis(5), "{at}: {waited:?}");
    }
}
