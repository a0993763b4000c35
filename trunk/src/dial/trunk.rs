//! One trunk of a node: its sessions, and the task that keeps it up.

use std::sync::Arc;
use std::time::{Duration, Instant};

use antipode_proto::registry::v1::Carrier as CarrierKind;
use antipode_proto::trunk::v1::Cause;
use antipode_runtime::clock;
use antipode_runtime::shutdown::Shutdown;
use antipode_tunnel::Class;
use antipode_tunnel::key::BULK_PORT_OFFSET;
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, info_span};

use super::dialler::{Dialler, OnDial, View};
use super::lanes::LaneDialler;
use super::wires::Wires;
use super::{CoreTarget, TrunksConfig};
use crate::carrier::Carrier;
use crate::demand::Demand;
use crate::peer::TrunkState;
use crate::quic_counts::OnQuic;
use crate::sessions::{Lanes, Sessions};

/// A trunk to one core and the task that keeps it up.
#[derive(Debug)]
pub(super) struct Trunk {
    target: Option<CoreTarget>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) demand: Demand,
    view: Arc<Mutex<View>>,
    /// Told when the tunnel's way to the core changes.
    way: Arc<watch::Sender<()>>,
    stop: CancellationToken,
}

/// What all trunks dial with.
pub(super) struct Means<'a> {
    pub(super) config: &'a TrunksConfig,
    pub(super) wires: &'a Option<Wires>,
    pub(super) on_dial: &'a OnDial,
    pub(super) on_quic: &'a OnQuic,
    pub(super) shutdown: &'a Shutdown,
}

impl Means<'_> {
    /// The lanes of a trunk on this carrier.
    pub(super) fn lanes(&self, carrier: CarrierKind) -> Lanes {
        let has_bulk = self.wires.as_ref().is_some_and(Wires::has_bulk);
        let bulk = match carrier {
            CarrierKind::Quic | CarrierKind::Unspecified if has_bulk => self.config.bulk_lanes,
            // Each of TCP's lanes has a connection of its own anyway.
            CarrierKind::Quic | CarrierKind::Unspecified | CarrierKind::Tcp => 0,
        };
        Lanes { chat: self.config.lanes, bulk }
    }
}

impl Trunk {
    pub(super) fn dial(target: CoreTarget, sessions: Arc<Sessions>, means: &Means<'_>) -> Self {
        let trunk = Self::new(Some(target.clone()), sessions, true);
        trunk.spawn_dialler(Class::Chat, target.clone(), Arc::clone(&trunk.view), means);
        if let Some(port) = target.port.checked_add(BULK_PORT_OFFSET)
            && trunk.sessions.count().bulk > 0
            && target.carrier != CarrierKind::Tcp
        {
            // How bulk does is nobody's business: a trunk is up when chat is.
            let view = View { carrier: None, heard: clock::now(), is_silent: true };
            let target = CoreTarget { port, ..target };
            trunk.spawn_dialler(Class::Bulk, target, Arc::new(Mutex::new(view)), means);
        }
        trunk
    }

    fn spawn_dialler(
        &self,
        class: Class,
        target: CoreTarget,
        view: Arc<Mutex<View>>,
        means: &Means<'_>,
    ) {
        let span = match class {
            Class::Chat => info_span!("trunk", core = %target.name),
            Class::Bulk => info_span!("bulk", core = %target.name),
        };
        let (sessions, config) = (Arc::clone(&self.sessions), means.config.clone());
        let dialler = Dialler {
            target,
            lanes: Arc::new(LaneDialler { sessions, config, class }),
            wire: means.wires.as_ref().and_then(|wires| wires.of(class, &self.demand)),
            on_dial: Arc::clone(means.on_dial),
            on_quic: means.on_quic.clone(),
            chat: (class == Class::Bulk).then(|| Arc::clone(&self.view)),
            view,
            way: self.way.subscribe(),
        };
        let stopped = self.stop.clone();
        let keep_up = async move {
            stopped.run_until_cancelled(dialler.keep_up()).await;
        };
        means.shutdown.spawn_service(keep_up.instrument(span));
    }

    pub(super) fn in_memory(sessions: Arc<Sessions>) -> Self {
        Self::new(None, sessions, false)
    }

    fn new(target: Option<CoreTarget>, sessions: Arc<Sessions>, is_silent: bool) -> Self {
        let view = View { carrier: None, heard: clock::now(), is_silent };
        let (view, way) = (Arc::new(Mutex::new(view)), Arc::new(watch::Sender::new(())));
        let (demand, stop) = (Demand::default(), CancellationToken::new());
        Self { target, sessions, demand, view, way, stop }
    }

    /// The same sessions, dialled at another place.
    pub(super) fn moved(self, target: CoreTarget, means: &Means<'_>) -> Self {
        self.stop.cancel();
        Self::dial(target, self.sessions, means)
    }

    pub(super) fn handle_way_changed(&self) {
        self.demand.forget();
        self.way.send_replace(());
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
