//! What an older attachment can still do once a newer one has the session: nothing.

use std::sync::Arc;

use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Ack, Attach, Chunk, Reset};
use antipode_trunk::Budget;
use bytes::Bytes;

use super::*;
use crate::config::ResumeTable;
use crate::metrics::ResumeMetrics;
use crate::resume::held::{Held, Next};
use crate::resume::seat::AttachmentId;
use crate::resume::token::{KEY_BYTES, SessionId, TokenKey};

const OLDER: AttachmentId = AttachmentId::new(1);
const NEWER: AttachmentId = AttachmentId::new(2);

/// A session that has a chunk for its client, and two attachments.
fn attached_twice() -> Arc<Held> {
    let id = SessionId::new([1; 16]);
    let token = TokenKey::new(&[7; KEY_BYTES]).sign(id);
    let (table, metrics) = (ResumeTable::default(), ResumeMetrics::default());
    let held = Held::new((id, token), (OLDER, 1), &table, &Budget::unlimited(), metrics);
    held.handle_frame(OLDER, Kind::Ack(Ack { ack: 0, credit: 262_144 }));
    let chunk =
        Chunk { frame: Some(0x82), payload: Bytes::from_static(b"down"), ..Chunk::default() };
    held.port().send(chunk.into()).unwrap();
    let attach = Attach { epoch: 2, received: 0, credit: 262_144, token: Bytes::new() };
    held.attach(attach, NEWER).unwrap();
    held
}

/// What it took would be lost: its socket leads nowhere any more.
#[tokio::test]
async fn it_takes_no_frames() {
    let held = attached_twice();
    for _ in 0..2 {
        assert!(matches!(held.next_frame(OLDER), Next::Moved));
    }
    assert!(matches!(held.next_frame(NEWER), Next::Frame(Kind::Attached(_))));
    assert!(matches!(held.next_frame(NEWER), Next::Frame(Kind::Segment(_))));
    assert!(matches!(held.next_frame(NEWER), Next::Nothing));
}

#[tokio::test]
async fn it_is_not_heard() {
    let held = attached_twice();
    let reset = |cause: Cause| Kind::Reset(Reset { cause: cause.into(), detail: String::new() });
    held.handle_frame(OLDER, reset(Cause::ClientClosed));
    assert_eq!(held.ended(), None);
    held.handle_frame(NEWER, reset(Cause::ClientClosed));
    assert_eq!(held.ended().map(|ended| ended.cause), Some(Cause::ClientClosed));
}

/// Who waits for frames when a newer attachment comes is woken, and leaves the next wake-up to it.
#[tokio::test]
async fn it_does_not_keep_waiting() {
    let held = attached_twice();
    while !matches!(held.next_frame(NEWER), Next::Nothing) {}
    let third = AttachmentId::new(3);
    let waiting = held.ready();
    let attaching = async {
        tokio::task::yield_now().await;
        let attach = Attach { epoch: 3, received: 1, credit: 262_144, token: Bytes::new() };
        held.attach(attach, third).unwrap();
    };
    let both = async { tokio::join!(waiting, attaching) };
    timeout(PATIENCE, both).await.expect("it is woken");
    assert!(matches!(held.next_frame(NEWER), Next::Moved));
    timeout(PATIENCE, held.ready()).await.expect("the newest has something");
    assert!(matches!(held.next_frame(third), Next::Frame(Kind::Attached(_))));
}
