//! What a lane brought, on its way to the sessions.

use std::sync::Arc;

use antipode_proto::session::Session;
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Batch, Hello};
use antipode_runtime::clock;

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

    /// The greeting of the other end: whether it keeps payloads.
    pub(crate) fn handle_hello(&self, hello: &Hello) {
        if hello.keeps_payloads && self.admission.is_some() {
            self.announcer.enable();
        }
    }

    /// These sessions have to ask the core where they stand: it then replays what they lack.
    pub(super) fn ask_again(&self, sessions: Vec<(u64, u32)>) {
        for (session, index) in sessions {
            let (Some(lane), Some(cell)) = (self.lane(index), self.cell(session)) else { continue };
            let _current = lane.revoked.lock();
            if lane.queue.is_up() {
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
        if names.is_some() && !self.cells.contains_key(&session) {
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
        match self.cell(session) {
            Some(cell) => cell.handle_frame(kind),
            None => self.handle_unknown(session, kind, lane),
        }
        if is_reset {
            self.untimely.lock().forget(session);
        }
    }
}
