//! One process of a core after another, moved by hand: who is told what, and nothing twice.

use antipode_proto::body::Body;
use antipode_proto::handover::v1::TrunkPlace;
use antipode_proto::session::{Config, Session};
use antipode_proto::trunk::v1::{Cause, Chunk, RequestHead, ResponseHead};
use antipode_runtime::clock;
use bytes::Bytes;

use crate::bare::Bare;
use crate::metrics::Metrics;
use crate::peer::{Incoming, NodeIdentity};
use crate::port::SessionPort;

const LANE: u32 = 0;

/// A node and the process of the core that it has a lane to.
struct Pair {
    node: Bare,
    core: Bare,
}

impl Pair {
    fn new() -> Self {
        let node = Bare::node(1, Config::default(), Metrics::default());
        let mut pair = Self { node, core: core() };
        pair.lanes_up();
        pair
    }

    fn lanes_up(&mut self) {
        self.core.lane_up(LANE);
        self.node.lane_up(LANE);
    }

    /// Everything that either end has to say arrives.
    fn exchange(&mut self) {
        loop {
            let up = self.node.collect_batch(LANE, clock::now());
            let down = self.core.collect_batch(LANE, clock::now());
            if up.is_none() && down.is_none() {
                return;
            }
            up.into_iter().for_each(|batch| self.core.handle_batch(LANE, batch).unwrap());
            down.into_iter().for_each(|batch| self.node.handle_batch(LANE, batch).unwrap());
        }
    }

    fn open(&self) -> SessionPort {
        self.node.open(RequestHead::default()).expect("the lane is up")
    }

    /// The core's end of what the node has just opened.
    fn accepted(&mut self) -> SessionPort {
        self.exchange();
        let Incoming { port, .. } = self.core.next_incoming().expect("a session");
        port
    }

    fn hold(&self) {
        self.core.sessions().admission.as_ref().expect("a core").pause.hold();
    }

    /// A new process has the lane; it knows what the older one had taken on.
    fn successor(&mut self) -> Bare {
        let pause = &self.core.sessions().admission.as_ref().expect("a core").pause;
        pause.halt();
        self.core.sessions().halt();
        self.node.lane_down(LANE);
        let taken_on = self.core.sessions().taken_on();
        let older = std::mem::replace(&mut self.core, core());
        self.core.sessions().settle(taken_on);
        older
    }
}

fn core() -> Bare {
    let node = NodeIdentity::for_tests("node");
    Bare::core(1, Config::default(), Metrics::default(), node, 100)
}

#[test]
fn what_comes_during_the_pause_begins_at_the_successor() {
    let mut pair = Pair::new();
    pair.hold();
    let port = pair.open();
    port.send(chunk(b"early")).unwrap();
    pair.exchange();
    assert!(pair.core.next_incoming().is_none(), "nobody answers");
    assert!(port.try_deliver().is_ok(), "nor refuses");

    pair.successor();
    pair.lanes_up();
    let accepted = pair.accepted();
    pair.exchange();
    let delivery = accepted.try_deliver().unwrap().expect("it was told again");
    assert_eq!(delivery.body, chunk(b"early"));
}

#[test]
fn a_pause_that_is_over_has_cost_nothing() {
    let mut pair = Pair::new();
    pair.hold();
    let _port = pair.open();
    pair.exchange();
    assert!(pair.core.next_incoming().is_none());
    pair.core.sessions().halt();
    pair.core.sessions().admission.as_ref().expect("a core").pause.go_on();
    pair.node.lane_down(LANE);
    pair.lanes_up();
    pair.accepted();
}

/// Its reset was lost, and so was the acknowledgement of its request: the node would tell it all
/// again.
#[test]
fn a_request_that_was_taken_on_is_never_begun_a_second_time() {
    let mut pair = Pair::new();
    let (cut, ended) = (pair.open(), pair.open());
    let up = pair.node.collect_batch(LANE, clock::now()).expect("two requests");
    pair.core.handle_batch(LANE, up).unwrap();
    let mut at_core = || pair.core.next_incoming().expect("a session").port;
    let (_unmoved, reset) = (at_core(), at_core());
    pair.hold();
    reset.reset(Cause::CoreDraining, "restarts");
    assert!(pair.core.collect_batch(LANE, clock::now()).is_some(), "and never arrives");
    assert_eq!(pair.core.sessions_count(), 1, "one is forgotten");

    pair.successor();
    pair.lanes_up();
    pair.exchange();
    assert!(pair.core.next_incoming().is_none(), "neither begins anew");
    for port in [cut, ended] {
        let ended = port.try_deliver().expect_err("it is over");
        assert_eq!(ended.cause, Cause::CoreDraining);
    }
}

#[test]
fn a_session_goes_on_at_the_successor_and_replays_both_ways() {
    let mut pair = Pair::new();
    let port = pair.open();
    let at_core = pair.accepted();
    at_core.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
    pair.exchange();
    at_core.send(chunk(b"lost on its way down")).unwrap();
    port.send(chunk(b"lost on its way up")).unwrap();
    let lost =
        (pair.node.collect_batch(LANE, clock::now()), pair.core.collect_batch(LANE, clock::now()));
    assert!(lost.0.is_some() && lost.1.is_some());

    let older = pair.successor();
    let place = at_core.place().expect("a place on the trunk");
    assert_eq!(place, TrunkPlace { member_id: "node".to_owned(), session: port.id(), lane: LANE });
    let state = at_core.export().expect("it lives");
    at_core.release();
    drop((at_core, older));
    let import = || Session::import(state.clone(), Config::default(), clock::now()).unwrap();
    let sessions = pair.core.sessions();
    assert!(sessions.adopt(place.session, 9, import()).is_none(), "no such lane");
    let adopted = sessions.adopt(place.session, place.lane, import()).expect("a place");
    assert!(sessions.adopt(place.session, place.lane, import()).is_none(), "it is here");

    pair.lanes_up();
    pair.exchange();
    let up = adopted.try_deliver().unwrap().expect("replayed");
    assert_eq!(up.body, chunk(b"lost on its way up"));
    let head = port.try_deliver().unwrap().expect("it came before the break");
    assert!(matches!(head.body, Body::Response(_)));
    let down = port.try_deliver().unwrap().expect("replayed");
    assert_eq!(down.body, chunk(b"lost on its way down"));
    assert_eq!(port.try_deliver(), Ok(None));
    assert_eq!(adopted.try_deliver(), Ok(None));
}

fn chunk(payload: &'static [u8]) -> Body {
    Chunk { payload: Bytes::from_static(payload), ..Chunk::default() }.into()
}
