//! What a core forgets, and when.

use std::time::Duration;

use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Batch, Chunk, Frame, Segment};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::*;
use crate::bare::Bare;
use crate::batch::{BATCH_BYTES_MAX, Draft, FIRST_BATCH_BYTES};
use crate::peer::Incoming;
use crate::peer::NodeIdentity;

const ONE_LANE: u32 = 1;

/// A node that gave a session up while the lane was down never asks for it again.
#[tokio::test]
async fn a_session_that_nobody_comes_back_for_is_given_up() {
    let (core, _accepted, limit) = core(1);
    let lane = core.lane_up(0).unwrap();
    core.handle_batch(opening(7), 0).unwrap();
    assert_eq!(core.len(), 1);
    assert!(!limit.take(), "its place is taken");

    drop(lane);
    let _again = core.lane_up(0).unwrap();
    core.handle_timeout(clock::now());
    assert_eq!(core.len(), 1, "the node may still come back for it");
    core.handle_timeout(clock::now() + core.config.resume_window + Duration::from_secs(1));
    assert_eq!(core.len(), 0, "the lane is up, the session is not");
    assert!(limit.take(), "its place is free again");
}

/// A node may open one number on two lanes at once: it gets one session, and one place.
#[tokio::test]
async fn one_number_on_two_lanes_takes_one_place() {
    const PLACES: usize = 8;
    let (core, mut accepted, limit) = core(PLACES);
    let _lane = core.lane_up(0).unwrap();
    for session in 0..200 {
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| core.handle_batch(opening(session), 0).unwrap());
            }
        });
        while let Ok(incoming) = accepted.try_recv() {
            incoming.port.reset(Cause::Policy, "seen");
        }
        core.end_all(Cause::Policy, "seen");
        for id in core.cells.iter().map(|cell| cell.id).collect::<Vec<_>>() {
            core.forget(id);
        }
        assert_eq!((core.len(), core.metrics.sessions.get()), (0, 0), "round {session}");
    }
    for place in 0..PLACES {
        assert!(limit.take(), "place {place} leaked");
    }
}

/// A lane that still brings something when its trunk is taken down: nobody would ever end what it
/// opens, for the trunk is on no register.
#[tokio::test]
async fn a_trunk_that_was_closed_takes_nothing_on() {
    let (core, mut accepted, limit) = core(1);
    let _lane = core.lane_up(0).unwrap();
    core.close(Cause::Policy, "the node was taken off the roster");
    core.handle_batch(opening(7), 0).unwrap();
    assert_eq!(core.len(), 0);
    assert!(accepted.try_recv().is_err() && limit.take(), "it took a place for ever");
    assert!(core.lane_up(0).is_none(), "a lane that greeted just before finds it closed");
}

/// What goes into a cut counts as sent; the core would keep the backend waiting for minutes.
#[test]
fn a_reset_that_was_lost_with_its_lane_is_said_again() {
    let identity = NodeIdentity::for_tests("node");
    let mut node = Bare::node(ONE_LANE, Config::default(), Metrics::default());
    let mut core = Bare::core(ONE_LANE, Config::default(), Metrics::default(), identity, 10);
    core.lane_up(0);
    node.lane_up(0);
    let port = node.open(RequestHead::default()).unwrap();
    core.handle_batch(0, node.collect_batch(0, clock::now()).unwrap()).unwrap();
    let incoming = core.next_incoming().unwrap();
    port.reset(Cause::ClientLost, "the client has gone");
    assert!(node.collect_batch(0, clock::now()).is_some(), "and is lost");

    core.lane_up(0);
    node.lane_up(0);
    if let Some(batch) = node.collect_batch(0, clock::now()) {
        core.handle_batch(0, batch).unwrap();
    }
    let ended = incoming.port.try_ready().expect_err("the backend learns the truth");
    assert_eq!(ended.cause, Cause::ClientLost);
    node.handle_timeout(clock::now() + Config::default().resume_window);
    node.lane_up(0);
    assert!(node.collect_batch(0, clock::now()).is_none(), "for as long as the core may keep it");
}

/// Whoever opens a session has looked the trunk up before.
#[test]
fn a_session_that_is_opened_as_the_trunk_closes_ends() {
    let (config, metrics) = (Config::default(), Metrics::default());
    let node = Sessions::new(ONE_LANE, config, None, Budget::unlimited(), metrics);
    let _lane = node.lane_up(0).unwrap();
    node.close(Cause::SessionLost, "the core was taken off the roster");
    let port = node.open(RequestHead::default()).expect("the lane does not know yet");
    assert_eq!(port.try_ready().map_err(|ended| ended.cause), Err(Cause::SessionLost));
    assert_eq!(node.len(), 0);
}

/// A core that crashed is asked by the sessions of before while its greeting is under way. What is
/// opened in the meantime, the new process has already.
#[test]
fn what_was_opened_before_the_greeting_is_ended_at_the_new_process_too() {
    let identity = || NodeIdentity::for_tests("node");
    let mut node = Bare::node(ONE_LANE, Config::default(), Metrics::default());
    let mut core = Bare::core(ONE_LANE, Config::default(), Metrics::default(), identity(), 10);
    node.lane_up(0);
    node.handle_peer_run(&[1; 16]);
    core.lane_up(0);
    node.lane_up(0);
    let port = node.open(RequestHead::default()).unwrap();
    core.handle_batch(0, node.collect_batch(0, clock::now()).unwrap()).unwrap();
    let incoming = core.next_incoming().unwrap();

    node.handle_peer_run(&[2; 16]);
    assert!(port.try_ready().is_err(), "the node has given it up");
    if let Some(batch) = node.collect_batch(0, clock::now()) {
        core.handle_batch(0, batch).unwrap();
    }
    assert!(incoming.port.try_ready().is_err(), "nobody would ever end it");
}

/// On a busy trunk every second batch would be one acknowledgement.
#[tokio::test(start_paused = true)]
async fn an_acknowledgement_goes_along_with_what_goes_anyway() {
    const MS: Duration = Duration::from_millis(1);
    let (core, mut accepted, _limit) = core(2);
    let lane = core.lane_up(0).unwrap();
    let frames = || {
        let mut draft = Draft::default();
        lane.writer.collect(&mut draft, clock::now()).unwrap();
        draft.frames_count()
    };
    core.handle_batch(opening(7), 0).unwrap();
    assert!(timeout(MS * 90, lane.writer.ready()).await.is_err(), "nobody waits for it");
    core.handle_batch(opening(8), 0).unwrap();
    let second = [accepted.try_recv().unwrap(), accepted.try_recv().unwrap()].into_iter().last();
    second.unwrap().port.reset(Cause::Policy, "something to say");
    lane.writer.ready().await;
    assert_eq!(frames(), 2, "the first one's acknowledgement went along");

    let begun = clock::now();
    core.handle_batch(opening(9), 0).unwrap();
    timeout(MS * 150, lane.writer.ready()).await.expect("it goes by itself in the end");
    assert!(clock::now() - begun >= MS * 99);
    assert_eq!(frames(), 1);
}

/// After a cut each session has a backlog. The last one's first word would wait for all of it.
#[tokio::test]
async fn the_first_batches_carry_a_word_of_each_session() {
    let (core, mut accepted, _limit) = core(6);
    let lane = core.lane_up(0).unwrap();
    (0..6).for_each(|session| core.handle_batch(opening(session), 0).unwrap());
    while let Ok(incoming) = accepted.try_recv() {
        for _ in 0..20 {
            let chunk = Chunk { payload: vec![b'x'; 128].into(), ..Chunk::default() };
            incoming.port.send(Body::Chunk(chunk)).unwrap();
        }
    }
    let sessions = |bytes_max| {
        let mut draft = Draft::up_to(bytes_max);
        lane.writer.collect(&mut draft, clock::now()).unwrap();
        draft.finish().frames.iter().map(|frame| frame.session).collect::<Vec<_>>()
    };
    assert_eq!(sessions(FIRST_BATCH_BYTES)[..6], [0, 1, 2, 3, 4, 5]);
    let full = sessions(BATCH_BYTES_MAX);
    assert!(full.windows(2).filter(|pair| pair[0] != pair[1]).count() < 6, "{full:?}");
}

fn core(sessions_max: usize) -> (Arc<Sessions>, mpsc::Receiver<Incoming>, Arc<SessionLimit>) {
    let (incoming, accepted) = mpsc::channel(16);
    let limit = SessionLimit::new(sessions_max);
    let node = NodeIdentity::for_tests("node");
    let (limit_shared, pause) = (Arc::clone(&limit), Arc::default());
    let admission = Admission { incoming, node, limit: limit_shared, pause };
    let core = Sessions::new(
        ONE_LANE,
        Config::default(),
        Some(admission),
        Budget::unlimited(),
        Metrics::default(),
    );
    (core, accepted, limit)
}

fn opening(session: u64) -> Batch {
    let body = Some(Body::from(RequestHead::default()));
    let segment = Segment { seq: 1, ack: 0, credit: 0, body };
    let frame = Frame { session, kind: Some(Kind::Segment(segment)) };
    Batch { frames: vec![frame], ..Batch::default() }
}
