//! A core's sessions from one process to the next: how one end of a session leaves a process.

use antipode_proto::handover::v1::{SessionState, TrunkPlace};
use antipode_proto::session::Config;
use antipode_proto::trunk::v1::Cause;

use crate::accept::CORE_PATIENCE;
pub use crate::accept::{AdoptError, BadTrunk};
use crate::port::SessionPort;

/// How patient a core's machines are, for those that come from another process.
#[must_use]
pub fn machine_config(mut session: Config) -> Config {
    session.resume_window += CORE_PATIENCE;
    session
}

impl SessionPort {
    /// The machine as it stands. `None` once it has ended.
    ///
    /// What was delivered and not consumed is the caller's, who goes on to consume it in the next
    /// process.
    #[must_use]
    pub fn export(&self) -> Option<SessionState> {
        self.cell().look(|machine| machine.ended().is_none().then(|| machine.export()))
    }

    /// Where the session is, if it is on a trunk and has no lane to itself.
    #[must_use]
    pub fn place(&self) -> Option<TrunkPlace> {
        let cell = self.cell();
        let member_id = cell.node()?.member_id;
        Some(TrunkPlace { member_id, session: cell.id, lane: cell.queue().index })
    }

    /// Another process has the session: it is over here, and nobody is told.
    pub fn release(&self) {
        let detail = "another process took over";
        self.cell().change(|machine| machine.abandon(Cause::CoreDraining, detail));
    }
}
