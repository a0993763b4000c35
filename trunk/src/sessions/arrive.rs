//! What a lane brought, on its way to the sessions.

use std::sync::Arc;

use antipode_proto::session::Session;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Batch, Hello, Segment};
use antipode_runtime::clock;
use tokio::sync::watch;

use super::Sessions;
use crate::fan_out::arrive::{BadShare, Shares};
use crate::fan_out::wait::{FanIn, Go, Passage};
use crate::metrics::Direction;

/// Who holds this much may hold it for long.
const BEHIND_BYTES: u64 = 32 * 1024;

impl Sessions {
    /// Takes everything a batch brought.
    pub(crate) fn handle_batch(self: &Arc<Self>, batch: Batch, lane: u32) -> Result<(), BadShare> {
        let Batch { frames, shared, shared_ids, .. } = batch;
        self.metrics.count_frames(Direction::In, frames.len());
        let (shares, moving) = Shares::read(shared, &shared_ids, self.fan_in.as_ref())?;
        for frame in frames {
            let Some(mut kind) = frame.kind else { continue };
            let names = shares.complete(&mut kind, || self.is_behind(frame.session))?;
            match &self.fan_in {
                Some(fan_in) => self.pass(fan_in, frame.session, kind, names, lane),
                None => self.deliver(frame.session, kind, lane),
            }
        }
        if let Some(fan_in) = &self.fan_in {
            moving.into_iter().for_each(|go| self.hand_on(fan_in, go));
        }
        Ok(())
    }

    /// Waits while the lane owes too many answers to be asked for more.
    pub(crate) async fn answers_gone(&self, lane: u32) {
        if let Some(queue) = self.queue(lane) {
            queue.answers_gone().await;
        }
    }

    /// The greeting of the other end: whether a node keeps payloads, and a core takes lanes for
    /// bulk.
    pub(crate) fn handle_hello(&self, hello: &Hello) {
        if self.is_node() {
            let takes = hello.bulk_lanes > 0 && hello.bulk_lanes == self.count.bulk;
            self.takes_bulk.send_if_modified(|known| std::mem::replace(known, takes) != takes);
        } else if hello.keeps_payloads {
            self.announcer.enable();
        }
    }

    /// At the node: whether the core takes lanes for bulk.
    pub(crate) fn takes_bulk(&self) -> watch::Receiver<bool> {
        self.takes_bulk.subscribe()
    }

    /// These sessions have to ask the core where they stand: it then replays what they lack.
    pub(super) fn ask_again(&self, sessions: Vec<(u64, u32)>) {
        for (session, _) in sessions {
            let Some(cell) = self.cell(session) else { continue };
            let Some(lane) = self.lane(cell.queue().index) else { continue };
            let _current = lane.revoked.lock();
            // One that is just moving asks by itself.
            if lane.queue.is_up() && cell.is_on(lane.queue.index) {
                self.metrics.fan_out.asked_again.inc();
                cell.change(|machine| machine.handle_link_down(clock::now()));
                cell.change(Session::handle_link_up);
            }
        }
    }

    /// Whether the session may hold on to what it gets for long.
    fn is_behind(&self, session: u64) -> bool {
        self.cell(session).is_some_and(|cell| cell.held() >= BEHIND_BYTES)
    }

    fn pass(
        self: &Arc<Self>,
        fan_in: &FanIn,
        session: u64,
        kind: Kind,
        names: Option<u64>,
        lane: u32,
    ) {
        // What is late on the lane that a session has left is on its way on the other one too: it
        // must not hold that up.
        if names.is_some() && self.cell(session).is_none_or(|cell| !cell.is_on(lane)) {
            return;
        }
        match fan_in.pass(session, kind, names, lane, clock::now()) {
            Passage::Through(kind) => self.deliver(session, kind, lane),
            Passage::Held => {}
            Passage::Lost => self.ask_again(vec![(session, lane)]),
        }
    }

    /// Hands on what lined up behind a payload that is here now.
    fn hand_on(self: &Arc<Self>, fan_in: &FanIn, go: Go) {
        while let Some(kind) = fan_in.next(go) {
            self.deliver(go.session, kind, go.lane);
        }
    }

    fn deliver(self: &Arc<Self>, session: u64, kind: Kind, lane: u32) {
        let is_reset = matches!(kind, Kind::Reset(_));
        match (self.cell(session), self.queue(lane)) {
            (Some(cell), Some(queue)) if !self.is_node() => cell.handle_frame_of(queue, kind),
            (Some(cell), _) => {
                if let Kind::Segment(Segment { body: Some(body), .. }) = &kind {
                    cell.weigh(body);
                }
                cell.handle_frame(kind);
                cell.heed_weight();
            }
            (None, _) => self.handle_unknown(session, kind, lane),
        }
        if is_reset {
            self.untimely.lock().forget(session);
        }
    }
}
