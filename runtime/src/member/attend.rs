//! Attending the gateway: reports up, directives down, for as long as the program runs.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1::registry_client::RegistryClient;
use antipode_proto::registry::v1::{
    Directive, Drain, Forwarded, Forwarders, Gone, Heartbeat, Introduction, Limits, Neighbours,
    Report, Roster, Welcome, directive, report,
};
use tokio::sync::{broadcast, mpsc, watch};
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{Instrument, debug, info, info_span, warn};

use super::dial::{ALPN, DialError, dial};
use super::enrol::within;
use super::error::MembershipError;
use super::identity::Identity;
use super::refusal::Refusal;
use super::roster::{self, ROSTER_BYTES_MAX};
use super::{Standing, Timings, tls};
use crate::backoff::Backoff;
use crate::shutdown::{Failure, Shutdown};
use crate::telemetry::chain;

/// Reports that wait for the network; a heartbeat that finds no room is left out.
const REPORTS_QUEUED_MAX: usize = 4;
/// Processes that have gone and that nobody has taken note of yet; the oldest give way.
const GONE_QUEUED_MAX: usize = 256;
/// What a gateway may ask for as the time between heartbeats.
const HEARTBEAT_MIN: Duration = Duration::from_millis(50);
const HEARTBEAT_MAX: Duration = Duration::from_secs(60);

/// Where a program's view of the register lies: what the gateway said last.
#[derive(Debug)]
pub(super) struct Desk {
    identity: Identity,
    pub(super) timings: Timings,
    pub(super) roster: watch::Sender<Roster>,
    pub(super) limits: watch::Sender<Limits>,
    pub(super) neighbours: watch::Sender<Neighbours>,
    pub(super) forwarders: watch::Sender<Forwarders>,
    pub(super) forwarded: watch::Sender<Forwarded>,
    pub(super) gone: broadcast::Sender<Gone>,
    pub(super) standing: watch::Sender<Standing>,
}

/// Where heartbeats come from.
pub(super) type HeartbeatSource = Box<dyn Fn() -> Heartbeat + Send + Sync>;

/// Why an attendance ended.
#[derive(Debug, thiserror::Error)]
enum AttendError {
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Refused(Refusal),
    #[error("the gateway's link broke")]
    Broken(#[source] Box<Status>),
    #[error("the gateway closed the link")]
    Closed,
    #[error(transparent)]
    Removed(#[from] MembershipError),
}

impl Desk {
    pub(super) fn new(identity: Identity, last_roster: Roster, timings: Timings) -> Self {
        Self {
            identity,
            timings,
            roster: watch::Sender::new(last_roster),
            limits: watch::Sender::default(),
            neighbours: watch::Sender::default(),
            forwarders: watch::Sender::default(),
            forwarded: watch::Sender::default(),
            gone: broadcast::Sender::new(GONE_QUEUED_MAX),
            standing: watch::Sender::new(Standing::Joining),
        }
    }
}

/// Attends until the program ends.
pub(super) fn start(
    desk: &Arc<Desk>,
    introduction: Introduction,
    heartbeat: HeartbeatSource,
    shutdown: &Shutdown,
) {
    let mut introduction = introduction;
    if introduction.run.is_empty() {
        introduction.run = rand::random::<[u8; 16]>().to_vec().into();
    }
    if introduction.software.is_empty() {
        introduction.software = concat!("antipode ", env!("CARGO_PKG_VERSION")).to_owned();
    }
    let attendance =
        Attendance { desk: Arc::clone(desk), introduction, heartbeat, shutdown: shutdown.clone() };
    let span = info_span!("attend", member_id = desk.identity.member_id());
    shutdown.spawn_service(attendance.run().instrument(span));
}

struct Attendance {
    desk: Arc<Desk>,
    introduction: Introduction,
    heartbeat: HeartbeatSource,
    shutdown: Shutdown,
}

/// One call's two directions, and when to report.
struct Call {
    reports: mpsc::Sender<Report>,
    directives: Streaming<Directive>,
    /// Ticks when a heartbeat is due; `None` until the gateway has said how often.
    due: Option<Interval>,
    drain_told: bool,
}

impl Attendance {
    async fn run(self) {
        let mut backoff = Backoff::new(self.desk.timings.retry);
        loop {
            let Err(error) = self.attend(&mut backoff).await;
            if let Some(error) = self.for_good(&error) {
                let source = error.into();
                self.shutdown.fail(Failure::Task { task: "membership", source });
                return;
            }
            let delay = backoff.next_delay(&mut rand::rng());
            let reason = chain(&error);
            warn!(error = reason, retry_in_ms = delay.as_millis(), "not attending the gateway");
            self.desk.standing.send_replace(Standing::Away { reason });
            tokio::time::sleep(delay).await;
        }
    }

    /// Whether an end is for good: then nothing but an operator can help.
    fn for_good(&self, error: &AttendError) -> Option<MembershipError> {
        match error {
            AttendError::Removed(error) => Some(error.clone()),
            AttendError::Refused(Refusal::Removed) => Some(self.removed("removed earlier".into())),
            AttendError::Refused(_)
            | AttendError::Dial(_)
            | AttendError::Broken(_)
            | AttendError::Closed => None,
        }
    }

    fn removed(&self, reason: String) -> MembershipError {
        let state_dir = self.desk.identity.state_dir().to_owned();
        MembershipError::Removed { reason, state_dir }
    }

    async fn attend(&self, backoff: &mut Backoff) -> Result<Infallible, AttendError> {
        let mut call = self.call().await?;
        let lateness = tokio::time::sleep(self.desk.timings.answer);
        tokio::pin!(lateness);
        loop {
            tokio::select! {
                directive = call.directives.message() => {
                    let directive = directive.map_err(ended)?.ok_or(AttendError::Closed)?;
                    self.take(directive, &mut call, backoff).await?;
                }
                () = &mut lateness, if call.due.is_none() => {
                    return Err(ended(Status::deadline_exceeded("no welcome in time")));
                }
                () = tick(&mut call.due) => self.report(&call),
                () = self.shutdown.draining(), if !call.drain_told && call.due.is_some() => {
                    call.drain_told = true;
                    self.report(&call);
                }
            }
        }
    }

    async fn call(&self) -> Result<Call, AttendError> {
        let Desk { identity, timings, .. } = &*self.desk;
        let tls = tls::client_config_for(identity, ALPN);
        let channel = dial(identity.gateway(), tls, timings.dial).await?;
        let mut client = RegistryClient::new(channel).max_decoding_message_size(ROSTER_BYTES_MAX);
        let (reports, queue) = mpsc::channel(REPORTS_QUEUED_MAX);
        let introduction = report::Kind::Introduction(self.introduction.clone());
        let introduced = reports.try_send(Report { kind: Some(introduction) });
        introduced.expect("the queue is empty");
        let attending = client.attend(ReceiverStream::new(queue));
        let directives = within(timings.answer, attending).await.map_err(ended)?.into_inner();
        Ok(Call { reports, directives, due: None, drain_told: false })
    }

    /// Sends a heartbeat, unless earlier ones still wait for the network.
    fn report(&self, call: &Call) {
        let mut heartbeat = (self.heartbeat)();
        heartbeat.accepting &= !self.shutdown.is_draining();
        let kind = Some(report::Kind::Heartbeat(heartbeat));
        if call.reports.try_send(Report { kind }).is_err() {
            debug!("heartbeat left out: the link is behind");
        }
    }

    async fn take(
        &self,
        directive: Directive,
        call: &mut Call,
        backoff: &mut Backoff,
    ) -> Result<(), AttendError> {
        match directive.kind {
            Some(directive::Kind::Welcome(welcome)) => {
                backoff.reset();
                call.due = Some(heartbeats(&welcome));
                let Welcome { lease_epoch, .. } = welcome;
                info!(lease_epoch, "attending the gateway");
                self.desk.standing.send_replace(Standing::Attending { lease_epoch });
            }
            Some(directive::Kind::Roster(roster)) => self.take_roster(roster).await,
            Some(directive::Kind::Limits(limits)) => {
                info!(sessions_max = limits.sessions_max, "limits from the gateway");
                self.desk.limits.send_replace(limits);
            }
            Some(directive::Kind::Neighbours(neighbours)) => {
                debug!(nodes = neighbours.nodes.len(), "neighbours changed");
                self.desk.neighbours.send_replace(neighbours);
            }
            Some(directive::Kind::Forwarders(forwarders)) => {
                debug!(nodes = forwarders.nodes.len(), "forwarders changed");
                self.desk.forwarders.send_replace(forwarders);
            }
            Some(directive::Kind::Forwarded(forwarded)) => {
                debug!(nodes = forwarded.nodes.len(), "forwarded nodes changed");
                self.desk.forwarded.send_replace(forwarded);
            }
            Some(directive::Kind::Gone(gone)) => {
                info!(member_id = gone.member_id, "the gateway says that a process has gone");
                // Nobody may want to know.
                let _ = self.desk.gone.send(gone);
            }
            Some(directive::Kind::Drain(Drain { reason, grace_ms })) => {
                info!(reason, grace_ms, "the gateway orders a drain");
                match grace_ms {
                    0 => self.shutdown.begin_drain(),
                    ms => self.shutdown.begin_drain_within(Duration::from_millis(ms.into())),
                }
            }
            Some(directive::Kind::Removed(removed)) => {
                return Err(self.removed(removed.reason).into());
            }
            None => debug!("a directive that this version doesn't know"),
        }
        Ok(())
    }

    /// On the disk first, so that what the program acted on is what it starts from.
    async fn take_roster(&self, roster: Roster) {
        if *self.desk.roster.borrow() == roster {
            return;
        }
        roster::store(self.desk.identity.state_dir(), &roster).await;
        info!(peers = roster.peers.len(), "roster changed");
        self.desk.roster.send_replace(roster);
    }
}

fn ended(status: Status) -> AttendError {
    Refusal::of(&status).map_or_else(|| AttendError::Broken(Box::new(status)), AttendError::Refused)
}

/// Ticks at once, then as often as the gateway asks.
fn heartbeats(welcome: &Welcome) -> Interval {
    let asked = Duration::from_millis(welcome.heartbeat_interval_ms.into());
    let mut due = interval(asked.clamp(HEARTBEAT_MIN, HEARTBEAT_MAX));
    due.set_missed_tick_behavior(MissedTickBehavior::Delay);
    due
}

async fn tick(due: &mut Option<Interval>) {
    match due {
        Some(due) => {
            let _: Instant = due.tick().await;
        }
        None => std::future::pending().await,
    }
}
