//! Nodes whose process is gone: who says so, what has to be true besides, and what follows.

use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use antipode_proto::handover::v1::HandedTrunk;
use antipode_proto::trunk::v1::Cause;
use tracing::info;

use super::{Register, Trunk};
use crate::heard::Heard;

/// Silence that has to bear out that a process is gone: a stream to the gateway may break alone.
const GONE_SILENCE: Duration = Duration::from_secs(2);

/// A dead process's last datagrams may be on their way for so long.
const LAST_DATAGRAMS: Duration = Duration::from_millis(500);

/// What is known of the process at a trunk's other end.
#[derive(Debug, Default)]
pub(super) struct Life {
    /// One for each of its carriers.
    carriers: Vec<Weak<Heard>>,
    /// By carriers that are no more.
    heard_before: Option<Instant>,
    /// Since when somebody says that it is gone.
    gone: Option<Instant>,
    /// The run that its lanes are told is ours, if not the process's own: one that was given up and
    /// comes back has to hear that we have forgotten its sessions.
    pub(super) told_run: Option<[u8; 16]>,
    /// Runs of the processes before it, the latest last.
    older_runs: Vec<Vec<u8>>,
}

/// Runs that are remembered: whatever is late is not as late as that.
const OLDER_RUNS_MAX: usize = 8;

impl Life {
    /// What the process that takes over from ours has to know.
    pub(super) fn export(&self, into: &mut HandedTrunk) {
        into.told_run = self.told_run.map(|run| run.to_vec().into()).unwrap_or_default();
        into.older_runs = self.older_runs.iter().map(|run| run.clone().into()).collect();
        into.said_gone = self.gone.is_some();
    }

    /// Goes on from what another process knew.
    pub(super) fn import(from: &HandedTrunk, now: Instant) -> Self {
        let older = from.older_runs.iter().rev().take(OLDER_RUNS_MAX).rev();
        Self {
            gone: from.said_gone.then_some(now),
            told_run: from.told_run.as_ref().try_into().ok(),
            older_runs: older.map(|run| run.to_vec()).collect(),
            ..Self::default()
        }
    }

    /// A lane was opened over a carrier.
    pub(super) fn carried_by(&mut self, heard: &Arc<Heard>) {
        self.heard();
        if !self.carriers.iter().any(|carrier| std::ptr::eq(carrier.as_ptr(), Arc::as_ptr(heard))) {
            self.carriers.push(Arc::downgrade(heard));
        }
    }

    /// The process takes the place of the one with this run.
    pub(super) fn replace(&mut self, run: &[u8], older: &mut Self) {
        self.older_runs = std::mem::take(&mut older.older_runs);
        if self.older_runs.len() == OLDER_RUNS_MAX {
            self.older_runs.remove(0);
        }
        self.older_runs.push(run.to_vec());
    }

    /// Whether the process has taken the place of one with this run.
    pub(super) fn replaced(&self, run: &[u8]) -> bool {
        self.older_runs.iter().any(|older| older == run)
    }

    /// When something last came from it.
    pub(super) fn heard(&mut self) -> Option<Instant> {
        let last = self.carriers.iter().filter_map(Weak::upgrade).map(|heard| heard.at()).max();
        self.heard_before = self.heard_before.max(last);
        self.carriers.retain(|carrier| carrier.strong_count() > 0);
        self.heard_before
    }

    /// Whether it is gone: somebody said so, nothing came since, and not for a while now.
    fn is_gone(&mut self, now: Instant) -> bool {
        let Some(said) = self.gone else { return false };
        let heard = self.heard();
        if heard.is_some_and(|heard| heard > said + LAST_DATAGRAMS) {
            self.gone = None;
            return false;
        }
        now.saturating_duration_since(heard.unwrap_or(said)) >= GONE_SILENCE
    }
}

impl Register {
    /// Somebody says that a node's process is gone. Nothing follows if it is heard again.
    pub(crate) fn handle_process_gone(&self, member_id: &str, run: &[u8], now: Instant) {
        if let Some(trunk) = self.trunks.lock().get_mut(member_id)
            && trunk.run == run
        {
            trunk.life.gone.get_or_insert(now);
        }
        self.end_gone(now);
    }

    /// Ends the sessions of those who are gone and silent.
    pub(crate) fn end_gone(&self, now: Instant) {
        let mut ended = Vec::new();
        for trunk in self.trunks.lock().values_mut() {
            if trunk.life.is_gone(now)
                && let Some(node) = trunk.sessions.node().cloned()
            {
                info!(node = %node.name, "the node's process is gone");
                let mut next = self.begin(node, trunk.run.clone(), trunk.lanes);
                next.life.told_run = Some(rand::random());
                next.life.older_runs = std::mem::take(&mut trunk.life.older_runs);
                ended.push(std::mem::replace(trunk, next));
            }
        }
        ended.iter().for_each(|trunk: &Trunk| {
            trunk.end(Cause::ClientLost, "the node's process is gone");
        });
    }
}

#[cfg(test)]
mod tests {
    use antipode_proto::session::Config;
    use antipode_proto::trunk::v1::Hello;
    use antipode_runtime::clock;
    use tokio::sync::mpsc;

    use super::*;
    use crate::budget::Budget;
    use crate::carrier::LanePeer;
    use crate::metrics::Metrics;
    use crate::peer::NodeIdentity;

    const RUN: [u8; 16] = [7; 16];

    fn at_register(now: Instant) -> (Arc<Register>, LanePeer) {
        let (incoming, _) = mpsc::channel(1);
        let register =
            Register::new(Config::default(), 10, incoming, Budget::unlimited(), Metrics::default());
        let heard = Arc::new(Heard::new(now));
        (register, LanePeer { node: NodeIdentity::for_tests("node"), heard })
    }

    fn hello(run: [u8; 16]) -> Hello {
        Hello { run: run.to_vec().into(), lanes: 2, ..Hello::default() }
    }

    #[test]
    fn the_process_that_takes_over_knows_what_was_known() {
        let now = clock::now();
        let mut life = Life::default();
        for run in 0..12_u8 {
            let mut older = std::mem::take(&mut life);
            life.replace(&[run; 16], &mut older);
        }
        life.told_run = Some([7; 16]);
        life.gone = Some(now);
        let mut handed = HandedTrunk::default();
        life.export(&mut handed);
        let next = Life::import(&handed, now);
        assert_eq!((next.told_run, next.gone), (Some([7; 16]), Some(now)));
        assert!(next.replaced(&[11; 16]) && next.replaced(&[4; 16]) && !next.replaced(&[3; 16]));
        let mut again = HandedTrunk::default();
        next.export(&mut again);
        assert_eq!(again, handed);
    }

    #[tokio::test]
    async fn a_late_lane_of_a_process_that_was_replaced_changes_nothing() {
        let (register, peer) = at_register(clock::now());
        let lane = |run: u8| register.trunk(&peer, &hello([run; 16]));
        lane(1).unwrap();
        let (newer, _) = lane(2).unwrap();
        assert!(lane(1).is_err(), "the kernel of a dead process sends what it still has");
        assert!(Arc::ptr_eq(&lane(2).unwrap().0, &newer));
        for run in 3..20 {
            lane(run).unwrap();
            assert!(lane(run - 1).is_err() && lane(run - 2).is_err());
        }
    }

    #[tokio::test]
    async fn a_process_is_gone_when_it_is_said_to_be_and_silent() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (register, peer) = at_register(start);
        let lane = |run| register.trunk(&peer, &hello(run)).unwrap();
        let (first, told) = lane(RUN);
        assert_eq!(told, None);

        register.handle_process_gone("node", &[8; 16], at(9000));
        assert!(Arc::ptr_eq(&lane(RUN).0, &first), "another run");

        peer.heard.note(at(9000));
        register.handle_process_gone("node", &RUN, at(10_000));
        register.end_gone(at(10_999));
        assert!(Arc::ptr_eq(&lane(RUN).0, &first), "not silent for long enough");
        peer.heard.note(at(10_999));
        register.end_gone(at(20_000));
        assert!(Arc::ptr_eq(&lane(RUN).0, &first), "it was heard again");

        register.handle_process_gone("node", &RUN, at(20_001));
        let (second, told) = lane(RUN);
        assert!(!Arc::ptr_eq(&second, &first), "gone");
        assert!(told.is_some(), "and if it comes back it must not think that we know its sessions");
        assert_eq!(lane(RUN).1, told, "all its lanes hear the same");
        assert_eq!(lane([9; 16]).1, None, "its next process hears our own run");
    }

    #[tokio::test]
    async fn one_that_was_given_up_is_remembered_without_lanes() {
        let start = clock::now();
        let (register, peer) = at_register(start);
        drop(register.trunk(&peer, &hello(RUN)).unwrap());
        register.handle_process_gone("node", &RUN, start + Duration::from_secs(3));
        register.handle_timeout(start + Duration::from_secs(4));
        assert!(register.trunk(&peer, &hello(RUN)).unwrap().1.is_some());
    }

    #[tokio::test]
    async fn a_trunk_that_a_lane_has_greeted_stays() {
        let (register, peer) = at_register(clock::now());
        let (greeted, _) = register.trunk(&peer, &hello(RUN)).unwrap();
        register.handle_timeout(clock::now());
        assert!(Arc::ptr_eq(&register.trunk(&peer, &hello(RUN)).unwrap().0, &greeted));
        let lane = greeted.lane_up(0).unwrap();
        drop(greeted);
        register.handle_timeout(clock::now());
        assert_eq!(register.states().len(), 1, "a lane is up");
        drop(lane);
        register.handle_timeout(clock::now());
        assert_eq!(register.states().len(), 0, "nobody needs it");
    }
}
