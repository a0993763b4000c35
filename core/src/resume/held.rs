//! One session, as its relay, its attachments and its place in the registry share it.

use std::sync::Arc;
use std::time::Instant;

use antipode_proto::session::{Session, Side};
use antipode_proto::trunk::v1::frame::Kind;
use antipode_proto::trunk::v1::{Attach, Cause};
use antipode_runtime::clock;
use antipode_trunk::Budget;
use antipode_trunk::solo::{Solo, solo_within};
use antipode_trunk::{SessionConfig, SessionPort};
use parking_lot::Mutex;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;
use tokio::time::sleep_until;

use super::Refusal;
use super::seat::{AttachmentId, Left, Seat};
use super::token::{SessionId, Token};
use crate::config::ResumeTable;
use crate::metrics::ResumeMetrics;

/// A session and its seat.
#[derive(Debug)]
pub(super) struct Held {
    id: SessionId,
    token: Token,
    /// The end that the relay to the backend has.
    port: SessionPort,
    /// The end that attachments take frames from: only under the seat's lock, so that none goes to
    /// an attachment that was replaced in the meantime.
    solo: Solo,
    seat: Mutex<Seat>,
    /// Shows the seat to those who wait for it to change.
    view: watch::Sender<View>,
    metrics: ResumeMetrics,
}

/// Who has the seat.
#[derive(Debug)]
struct View {
    holder: Option<AttachmentId>,
    epoch: u64,
    /// Counts the session as detached, while it is.
    vacant: Option<Vacant>,
}

/// A session without an attachment.
#[derive(Debug)]
struct Vacant {
    since: Instant,
    gauge: Gauge,
}

impl Vacant {
    fn new(gauge: &Gauge) -> Self {
        gauge.inc();
        Self { since: clock::now(), gauge: gauge.clone() }
    }
}

impl Drop for Vacant {
    fn drop(&mut self) {
        self.gauge.dec();
    }
}

/// What the machine of a resumable session may hold, and how long it waits for its client.
pub(crate) fn machine_config(table: &ResumeTable) -> SessionConfig {
    SessionConfig { resume_window: table.window, ..SessionConfig::default() }
}

/// What an attachment finds when it asks for a frame.
#[derive(Debug)]
pub(super) enum Next {
    /// To be sent.
    Frame(Kind),
    /// Nothing for now.
    Nothing,
    /// Nothing ever again.
    Finished,
    /// Nothing for this one: another attachment has the session.
    Moved,
}

impl Held {
    /// A session with its first attachment; `number` is what the log calls it.
    pub(super) fn new(
        (id, token): (SessionId, Token),
        (first, number): (AttachmentId, u64),
        table: &ResumeTable,
        budget: &Budget,
        metrics: ResumeMetrics,
    ) -> Arc<Self> {
        let machine = Session::new(Side::Server, machine_config(table), clock::now());
        let (port, solo) = solo_within(machine, number, budget);
        solo.link_up();
        let seat = Seat::new(first);
        let view = View { holder: Some(first), epoch: seat.epoch(), vacant: None };
        Self::with(id, token, (port, solo), (seat, view), metrics)
    }

    /// A session of another process: with its attachment, or waiting for its client to come back.
    pub(super) fn inherit(
        (id, token): (SessionId, Token),
        (machine, number): (Session, u64),
        holder: Option<AttachmentId>,
        budget: &Budget,
        metrics: ResumeMetrics,
    ) -> Arc<Self> {
        let epoch = machine.epoch();
        let seat = holder.map_or_else(|| Seat::vacant(epoch), |by| Seat::taken(epoch, by));
        let vacant = holder.is_none().then(|| Vacant::new(&metrics.detached));
        let view = View { holder, epoch, vacant };
        Self::with(id, token, solo_within(machine, number, budget), (seat, view), metrics)
    }

    fn with(
        id: SessionId,
        token: Token,
        (port, solo): (SessionPort, Solo),
        (seat, view): (Seat, View),
        metrics: ResumeMetrics,
    ) -> Arc<Self> {
        let (view, _) = watch::channel(view);
        let seat = Mutex::new(seat);
        Arc::new(Self { id, token, port, solo, seat, view, metrics })
    }

    pub(super) fn id(&self) -> SessionId {
        self.id
    }

    pub(super) fn token(&self) -> &Token {
        &self.token
    }

    /// The end for whoever has the backend's socket.
    pub(super) fn port(&self) -> &SessionPort {
        &self.port
    }

    /// What has ended the session before its time.
    pub(super) fn ended(&self) -> Option<antipode_trunk::Ended> {
        self.solo.ended()
    }

    /// The attachment that counts, by the client's number.
    pub(super) fn epoch(&self) -> u64 {
        self.seat.lock().epoch()
    }

    /// Whether the attachment has the session.
    pub(super) fn is_held_by(&self, attachment: AttachmentId) -> bool {
        self.seat.lock().is_held_by(attachment)
    }

    /// What came over an attachment; what comes late over an older one is left out.
    pub(super) fn handle_frame(&self, by: AttachmentId, kind: Kind) {
        let seat = self.seat.lock();
        if seat.is_held_by(by) {
            self.solo.handle_frame(kind);
        }
    }

    /// The next frame for an attachment.
    pub(super) fn next_frame(&self, by: AttachmentId) -> Next {
        let seat = self.seat.lock();
        if !seat.is_held_by(by) {
            return Next::Moved;
        }
        match self.solo.next_frame() {
            Some(kind) => Next::Frame(kind),
            None if self.solo.is_finished() => Next::Finished,
            None => Next::Nothing,
        }
    }

    /// Waits until [`Held::next_frame`] may have something for the newest attachment. Cancel-safe.
    pub(super) async fn ready(&self) {
        // To attach gives the session something to say, which wakes an older attachment that waits
        // here and so makes room for the newer one.
        self.solo.ready().await;
    }

    /// Gives the seat to a new attachment, whoever has it now.
    pub(super) fn attach(&self, attach: Attach, by: AttachmentId) -> Result<(), Refusal> {
        let mut seat = self.seat.lock();
        if let Some(ended) = self.solo.ended() {
            return Err(Refusal::Over(ended));
        }
        let epoch = attach.epoch;
        let older = seat.handle_attach(by, epoch)?;
        self.solo.handle_frame(Kind::Attach(attach));
        let view = View { holder: Some(by), epoch, vacant: None };
        let before = self.view.send_replace(view);
        drop(seat);
        if let Some(vacant) = &before.vacant {
            let seconds = clock::now().duration_since(vacant.since).as_secs_f64();
            self.metrics.detached_seconds.0.observe(seconds);
        }
        if older.is_some() {
            self.metrics.moved.inc();
        }
        match self.solo.ended() {
            // It can't stand where it says it stands.
            Some(ended) => {
                self.leave(by);
                Err(Refusal::Over(ended))
            }
            None => Ok(()),
        }
    }

    /// An attachment has ended: without a newer one, the session waits for its client.
    pub(super) fn leave(&self, by: AttachmentId) {
        let mut seat = self.seat.lock();
        match seat.handle_lost(by) {
            Left::ToNewer => {}
            Left::Vacant => {
                self.solo.link_down(clock::now());
                let vacant = Some(Vacant::new(&self.metrics.detached));
                self.view.send_replace(View { holder: None, epoch: seat.epoch(), vacant });
            }
        }
    }

    /// Resolves with the newest attachment's epoch once `by` is not the newest any more.
    pub(super) async fn moved(&self, by: AttachmentId) -> u64 {
        let mut view = self.view.subscribe();
        let newest = view.wait_for(|view| view.holder != Some(by)).await;
        newest.expect("the sender lives as long as `self`").epoch
    }

    /// Sees to the session's time while nobody carries it; never resolves.
    pub(super) async fn expire(&self) {
        let mut view = self.view.subscribe();
        loop {
            let waiting = view.wait_for(|view| view.holder.is_none()).await.map(drop);
            waiting.expect("the sender lives as long as `self`");
            match self.solo.poll_timeout() {
                Some(due) => {
                    tokio::select! {
                        () = sleep_until(due.into()) => self.handle_timeout(),
                        changed = view.changed() => changed.expect("as above"),
                    }
                }
                None => view.changed().await.expect("as above"),
            }
        }
    }

    fn handle_timeout(&self) {
        let lived = self.ended().is_none();
        self.solo.handle_timeout(clock::now());
        if lived && self.ended().is_some() {
            self.metrics.expired.inc();
        }
    }

    /// Resolves once nothing has to be said any more, or there is nobody to say it to.
    pub(super) async fn over(&self) {
        let mut view = self.view.subscribe();
        let deserted = async {
            // A reset for which there is no attachment: who asks later is told that it is over.
            let deserted = view.wait_for(|view| view.holder.is_none() && self.ended().is_some());
            deserted.await.map(drop).expect("the sender lives as long as `self`");
        };
        tokio::select! {
            () = self.port.finished() => {}
            () = deserted => {}
        }
    }

    /// Ends the session, and tells whoever is there.
    pub(super) fn reset(&self, cause: Cause, detail: &str) {
        self.port.reset(cause, detail);
    }
}
