//! One trunk of a node: its sessions, and the task that keeps it up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use antipode_proto::trunk::v1::Cause;
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use parking_lot::Mutex;
use quinn::Endpoint;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use super::dialler::{Dialler, OnDial, View};
use super::lanes::LaneDialler;
use super::{CoreTarget, TrunksConfig};
use crate::carrier::Carrier;
use crate::peer::TrunkState;
use crate::sessions::Sessions;

/// A trunk to one core and the task that keeps it up.
#[derive(Debug)]
pub(super) struct Trunk {
    target: Option<CoreTarget>,
    pub(super) sessions: Arc<Sessions>,
    view: Arc<Mutex<View>>,
    stop: CancellationToken,
}

/// What all trunks dial with.
pub(super) struct Means<'a> {
    pub(super) config: &'a TrunksConfig,
    pub(super) endpoint: &'a Option<Endpoint>,
    pub(super) on_dial: &'a OnDial,
    pub(super) shutdown: &'a Shutdown,
}

impl Trunk {
    pub(super) fn dial(target: CoreTarget, sessions: Arc<Sessions>, means: &Means<'_>) -> Self {
        let trunk = Self::new(Some(target.clone()), sessions, true);
        let lanes =
            LaneDialler { sessions: Arc::clone(&trunk.sessions), config: means.config.clone() };
        let span = info_span!("trunk", core = %target.name);
        let dialler = Dialler {
            target,
            lanes: Arc::new(lanes),
            endpoint: means.endpoint.clone(),
            on_dial: Arc::clone(means.on_dial),
            view: Arc::clone(&trunk.view),
        };
        let stopped = trunk.stop.clone();
        let keep_up = async move {
            stopped.run_until_cancelled(dialler.keep_up()).await;
        };
        means.shutdown.spawn_service(keep_up.instrument(span));
        trunk
    }

    pub(super) fn in_memory(sessions: Arc<Sessions>) -> Self {
        Self::new(None, sessions, false)
    }

    fn new(target: Option<CoreTarget>, sessions: Arc<Sessions>, is_silent: bool) -> Self {
        let view = View { carrier: None, heard: clock::now(), is_silent };
        Self { target, sessions, view: Arc::new(Mutex::new(view)), stop: CancellationToken::new() }
    }

    /// The same sessions, dialled at another place.
    pub(super) fn moved(self, target: CoreTarget, means: &Means<'_>) -> Self {
        self.stop.cancel();
        Self::dial(target, self.sessions, means)
    }

    pub(super) fn end(self, cause: Cause, detail: &str) {
        self.stop.cancel();
        self.sessions.close(cause, detail);
    }

    pub(super) const fn target(&self) -> Option<&CoreTarget> {
        self.target.as_ref()
    }

    pub(super) fn is_up(&self) -> bool {
        self.sessions.lanes_up() > 0
    }

    /// Whether its lanes lead, as far as is known, to nobody.
    pub(super) fn is_silent(&self) -> bool {
        self.view.lock().is_silent
    }

    pub(super) fn silence(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.view.lock().heard)
    }

    pub(super) fn state(&self, member_id: &str) -> TrunkState {
        let silence = match self.target {
            Some(_) => self.silence(clock::now()),
            None => Duration::ZERO,
        };
        let view = self.view.lock();
        TrunkState {
            member_id: member_id.to_owned(),
            lanes_up: self.sessions.lanes_up(),
            sessions: self.sessions.len(),
            silence,
            rtt: view.carrier.as_ref().and_then(Carrier::rtt),
            loss_ppm: view.carrier.as_ref().map_or(0, Carrier::loss_ppm),
        }
    }
}
