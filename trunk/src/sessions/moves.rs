//! Sessions on their way between the lanes for chat and those for bulk. It is the node that moves
//! them; the core follows the question that each move asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use antipode_runtime::clock;
use antipode_tunnel::Class;

use super::Sessions;
use crate::cell::Cell;
use crate::metrics::MoveLabels;

/// Sweeps without a lane for bulk, of one second each, after which bulk goes back among chat: those
/// lanes may be all that is left.
const MISSING_MAX: u32 = 3;

impl Sessions {
    /// Moves a session to a lane of this class, if one is up and the session can move.
    pub(crate) fn shift(&self, cell: &Arc<Cell>, class: Class) {
        let Some(to) = self.pick(class, cell.id) else { return };
        // Lanes come up and go down under this lock: the session finds its new one as it is.
        let _current = to.revoked.lock();
        if !to.queue.is_up() {
            return;
        }
        let moved = cell.change(|machine| {
            let moves = machine.can_move() && !cell.is_on(to.queue.index);
            if moves {
                cell.put_on(&to.queue);
                machine.handle_link_moved(clock::now());
            }
            moves
        });
        if moved {
            self.metrics.moves.get_or_create(&MoveLabels { to: class }).inc();
        }
    }

    /// At the node: sends those that are chat again back, and all if bulk has no lanes any more.
    pub(super) fn settle_classes(&self, now: Instant) {
        if self.count.bulk == 0 || !self.is_node() {
            return;
        }
        let is_missing = self.of_class(Class::Bulk).iter().all(|lane| !lane.queue.is_up());
        let missing = if is_missing { self.bulk_missing.load(Ordering::Relaxed) + 1 } else { 0 };
        self.bulk_missing.store(missing.min(MISSING_MAX), Ordering::Relaxed);
        let belongs_to_chat = |cell: &Cell| {
            let is_light = !cell.is_heavy_still(now);
            cell.class() == Class::Bulk && (is_light || missing >= MISSING_MAX)
        };
        self.for_each_cell(belongs_to_chat, |cell| self.shift(cell, Class::Chat));
    }

    /// How many sessions of this class have something on its way.
    pub(crate) fn busy(&self, class: Class) -> usize {
        let is_busy = |cell: &Cell| cell.class() == class && cell.held() > 0;
        self.cells.iter().filter(|entry| is_busy(entry.value())).count()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use antipode_proto::session::Config;
    use antipode_proto::trunk::v1::{
        Batch, Cause, End, Header, RequestHead, ResponseHead, SessionKind,
    };

    use super::*;
    use crate::bare::Bare;
    use crate::metrics::Metrics;
    use crate::peer::NodeIdentity;
    use crate::port::SessionPort;
    use crate::sessions::Lanes;

    const CHAT: u32 = 0;
    const BULK: u32 = 1;

    /// A node and a core, and a request that is bulk by its length. Its head is on its way on the
    /// lane for bulk, which then dies for the node.
    fn ends() -> (Bare, Bare, SessionPort, Batch) {
        let lanes = Lanes { chat: 1, bulk: 1 };
        let identity = NodeIdentity::for_tests("node");
        let mut node = Bare::node(lanes, Config::default(), Metrics::default());
        let mut core = Bare::core(lanes, Config::default(), Metrics::default(), identity, 100);
        for lane in [CHAT, BULK] {
            core.lane_up(lane);
            node.lane_up(lane);
        }
        let length = Header { name: "content-length".into(), value: "1000000".into() };
        let kind = SessionKind::Http.into();
        let head = RequestHead { kind, headers: vec![length], ..RequestHead::default() };
        let port = node.open(head).expect("the lanes are up");
        let late = node.collect_batch(BULK, clock::now()).expect("it is bulk from the start");
        node.lane_down(BULK);
        let now = clock::now();
        (0..4).for_each(|sweep| node.handle_timeout(now + Duration::from_secs(sweep)));
        (node, core, port, late)
    }

    /// One batch each way at a time, on the lane for chat.
    fn carry(node: &mut Bare, core: &mut Bare) -> bool {
        let up = node.collect_batch(CHAT, clock::now());
        let any = up.is_some();
        up.into_iter().for_each(|batch| core.handle_batch(CHAT, batch).unwrap());
        let down = core.collect_batch(CHAT, clock::now() + Duration::from_secs(1));
        let any = any || down.is_some();
        down.into_iter().for_each(|batch| node.handle_batch(CHAT, batch).unwrap());
        any
    }

    /// The lanes for bulk may never come back.
    #[test]
    fn a_head_that_was_lost_with_its_lane_goes_on_over_another() {
        let (mut node, mut core, _port, _lost) = ends();
        while carry(&mut node, &mut core) {}
        assert!(core.next_incoming().is_some(), "stuck on a dead lane");
    }

    #[test]
    fn a_late_copy_of_a_head_begins_nothing_a_second_time() {
        let (mut node, mut core, port, late) = ends();
        while carry(&mut node, &mut core) {}
        let incoming = core.next_incoming().expect("it goes on over the lane for chat");
        let end = || End { cause: Cause::Complete.into(), ..End::default() };
        incoming.port.send(end().into()).unwrap();
        port.send(end().into()).unwrap();
        for _ in 0..4 {
            while carry(&mut node, &mut core) {}
            for port in [&port, &incoming.port] {
                if let Ok(Some(delivery)) = port.try_deliver() {
                    port.consumed(delivery.seq);
                }
            }
        }
        assert_eq!((node.sessions_count(), core.sessions_count()), (0, 0), "it is over");
        core.handle_batch(BULK, late).unwrap();
        assert!(core.next_incoming().is_none(), "carried out twice");
        assert_eq!(core.sessions_count(), 0);
    }

    /// It comes between the answer that the session may begin and its beginning.
    #[test]
    fn a_late_copy_of_a_head_does_not_put_its_session_on_the_dead_lane() {
        let (mut node, mut core, port, late) = ends();
        assert!(carry(&mut node, &mut core), "the question and its answer");
        core.handle_batch(BULK, late).unwrap();
        while carry(&mut node, &mut core) {}
        let incoming = core.next_incoming().expect("it has begun");
        incoming.port.send(ResponseHead::default().into()).unwrap();
        while carry(&mut node, &mut core) {}
        assert!(port.try_deliver().unwrap().is_some(), "the answer went to a dead lane");
    }
}
