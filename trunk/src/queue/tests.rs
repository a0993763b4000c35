//! What a lane owes to frames of sessions that nobody knows.

use std::time::Duration;

use antipode_proto::trunk::v1::Reset;
use tokio::time::timeout;

use super::*;
use crate::batch::BATCH_BYTES_READ_MAX;
use crate::metrics::FanOutMetrics;

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
