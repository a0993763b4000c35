//! What a session with its lane to itself owes its two users.

use std::time::Duration;

use antipode_proto::body::Body;
use antipode_proto::session::{Config, Side};
use antipode_proto::trunk::v1::{Chunk, End, GoAway, RequestHead, ResponseHead, Segment};
use bytes::Bytes;
use tokio::time::timeout;

use super::*;
use crate::invitation::INVITATION_BYTES_MAX;

#[tokio::test]
async fn frames_cross_between_two_of_them() {
    let (node, core) = (pair(Side::Node), pair(Side::Core));
    node.1.link_up();
    core.1.link_up();
    node.0.send(RequestHead { target: "/chat".into(), ..RequestHead::default() }.into()).unwrap();
    carry(&node.1, &core.1).await;
    assert!(matches!(next(&core.0), Body::Request(head) if head.target == "/chat"));

    core.0.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
    core.0.send(chunk(b"down")).unwrap();
    carry(&core.1, &node.1).await;
    assert!(matches!(next(&node.0), Body::Response(head) if head.status == 101));
    assert_eq!(next(&node.0), chunk(b"down"));
}

#[tokio::test(start_paused = true)]
async fn an_acknowledgement_comes_by_itself() {
    let (port, solo) = pair(Side::Core);
    solo.link_up();
    solo.handle_frame(opening());
    next(&port);
    assert_eq!(solo.next_frame(), None, "it waits for a segment to ride on");
    solo.ready().await;
    assert!(matches!(solo.next_frame(), Some(Kind::Ack(ack)) if ack.ack == 1));
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_hears_of_the_end() {
    let (port, solo) = pair(Side::Core);
    solo.link_up();
    solo.handle_frame(opening());
    let waits = timeout(Duration::from_secs(5), async {
        loop {
            solo.ready().await;
            while let Some(frame) = solo.next_frame() {
                if let Kind::Reset(reset) = frame {
                    return reset.cause;
                }
            }
        }
    });
    let (cause, ()) = tokio::join!(waits, async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        port.reset(Cause::Policy, "enough");
    });
    assert_eq!(cause, Ok(Cause::Policy.into()));
    assert!(solo.is_finished());
    timeout(Duration::from_secs(1), solo.ready()).await.expect("nothing to wait for any more");
    assert_eq!(solo.next_frame(), None);
}

#[tokio::test(start_paused = true)]
async fn a_session_that_nobody_comes_back_for_ends() {
    let (port, solo) = pair(Side::Core);
    solo.link_up();
    solo.handle_frame(opening());
    solo.link_down(clock::now());
    let due = solo.poll_timeout().expect("it does not wait for ever");
    assert!(solo.ended().is_none());
    solo.handle_timeout(due);
    assert_eq!(solo.ended().map(|ended| ended.cause), Some(Cause::TrunkLost));
    assert_eq!(port.deliver().await.expect_err("over").cause, Cause::TrunkLost);
    timeout(Duration::from_secs(1), solo.ready()).await.expect("over");
}

#[tokio::test]
async fn a_dropped_driver_ends_the_session() {
    let (port, solo) = pair(Side::Core);
    drop(solo);
    assert_eq!(port.ready().await.expect_err("nobody is there").cause, Cause::Internal);
}

#[tokio::test]
async fn the_latest_invitation_counts() {
    let (node, core) = (pair(Side::Node), pair(Side::Core));
    node.1.link_up();
    core.1.link_up();
    node.0.send(RequestHead::default().into()).unwrap();
    node.0.invite(go_away("wss://one.example", 0));
    node.0.invite(go_away("wss://two.example", 0));
    carry(&node.1, &core.1).await;
    let invited = timeout(Duration::from_secs(1), core.0.invited()).await.expect("there is one");
    assert_eq!(invited.url, "wss://two.example");
    assert_eq!(core.0.try_invited(), None, "one is enough");

    core.1.handle_frame(Kind::GoAway(go_away("wss://three.example", INVITATION_BYTES_MAX)));
    assert_eq!(core.0.try_invited(), None, "nobody keeps what is too large to be an address");
}

#[tokio::test]
async fn a_session_that_is_over_invites_nobody() {
    let (port, solo) = pair(Side::Node);
    solo.link_up();
    port.send(RequestHead::default().into()).unwrap();
    assert!(matches!(solo.next_frame(), Some(Kind::Segment(_))));
    port.reset(Cause::ClientLost, "gone");
    port.invite(go_away("wss://late.example", 0));
    assert!(matches!(solo.next_frame(), Some(Kind::Reset(_))));
    assert_eq!(solo.next_frame(), None);
}

#[tokio::test]
async fn an_orderly_end_finishes_both() {
    let (node, core) = (pair(Side::Node), pair(Side::Core));
    node.1.link_up();
    core.1.link_up();
    node.0.send(RequestHead::default().into()).unwrap();
    node.0.send(end()).unwrap();
    carry(&node.1, &core.1).await;
    next(&core.0);
    next(&core.0);
    core.0.send(end()).unwrap();
    carry(&core.1, &node.1).await;
    next(&node.0);
    carry(&node.1, &core.1).await;
    carry(&core.1, &node.1).await;
    assert!(node.1.is_finished() && core.1.is_finished());
    assert_eq!((node.1.ended(), core.1.ended()), (None, None));
}

fn pair(side: Side) -> (SessionPort, Solo) {
    solo(Session::new(side, Config::default(), clock::now()), 1)
}

/// Everything that `from` has for `to` now; at least one frame.
async fn carry(from: &Solo, to: &Solo) {
    timeout(Duration::from_secs(1), from.ready()).await.expect("something to carry");
    while let Some(frame) = from.next_frame() {
        to.handle_frame(frame);
    }
}

#[track_caller]
fn next(port: &SessionPort) -> Body {
    let delivery = port.try_deliver().expect("the session lives").expect("something came");
    port.consumed(delivery.seq);
    delivery.body
}

fn opening() -> Kind {
    let body = Some(Body::from(RequestHead::default()));
    Kind::Segment(Segment { seq: 1, ack: 0, credit: 0, body })
}

fn chunk(payload: &'static [u8]) -> Body {
    Chunk { payload: Bytes::from_static(payload), ..Chunk::default() }.into()
}

fn end() -> Body {
    End { cause: Cause::Complete.into(), ..End::default() }.into()
}

fn go_away(url: &str, padding: usize) -> GoAway {
    let url = format!("{url}{}", "x".repeat(padding));
    GoAway { url, after_ms: 100, grace_ms: 1_000, ..GoAway::default() }
}
