//! One member's stream: reports in, directives out, for as long as both live.

use std::sync::Arc;
use std::time::Duration;

use antipode_proto::registry::v1 as wire;
use antipode_runtime::clock;
use antipode_runtime::member::refusal::Refusal;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, interval, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use tracing::{Instrument, info, info_span};
use wire::directive::Kind as Directive;
use wire::report::Kind as Report;

use super::rate::Bucket;
use super::{Inner, Seat, Word};
use crate::health::Lease;
use crate::member::{Profile, Role};
use crate::register::StreamEnd;
use crate::socket::Departure;

/// A stream on which nothing comes for so long is ended, and its lease with it.
const LEASE_TTL: Duration = Duration::from_secs(10);
/// A directive that can't be handed over for so long ends the stream.
const DIRECTIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Heartbeats beyond ten a second are passed over; a stalled path may let go twenty at once.
const HEARTBEAT_BURST: u32 = 20;
const HEARTBEAT_REFILL: Duration = Duration::from_millis(100);

/// How often a node's neighbours are looked at: one that drains must not be named for long.
const NEIGHBOURS_INTERVAL: Duration = Duration::from_secs(1);

/// Looks after which a node hears that it has none: until then it may know better than a gateway
/// that has just started, and whose other members have yet to report.
const SETTLED_LOOKS: u32 = 30;

type Directives = mpsc::Sender<Result<wire::Directive, Status>>;

/// Why a stream ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum End {
    /// The member closed it, or its path broke.
    Lost,
    /// The member's kernel closed its socket, and the member said nothing.
    Abrupt,
    /// Nothing came for [`LEASE_TTL`], or nothing was taken.
    Idle,
    /// Its introduction was missing or refused.
    Malformed,
    Superseded,
    Removed,
    /// The gateway stops.
    Draining,
}

impl End {
    /// `reason` of `antipode_gateway_attend_ends_total`.
    fn label(self) -> &'static str {
        match self {
            Self::Lost => "lost",
            Self::Abrupt => "abrupt",
            Self::Idle => "idle",
            Self::Malformed => "malformed",
            Self::Superseded => "superseded",
            Self::Removed => "removed",
            Self::Draining => "draining",
        }
    }

    /// What the member reads at the end of its stream.
    fn status(self) -> Option<Status> {
        match self {
            // Malformed has said what was wrong already.
            Self::Lost | Self::Abrupt | Self::Malformed => None,
            Self::Idle => Some(Status::deadline_exceeded("no report came in time")),
            Self::Superseded => Some(Refusal::Superseded.into()),
            Self::Removed => Some(Refusal::Removed.into()),
            Self::Draining => Some(Status::unavailable("gateway stops: come back later")),
        }
    }
}

/// Who attends, and over which socket.
pub(super) struct Caller {
    pub(super) member_id: String,
    pub(super) departure: Departure,
}

/// Starts the stream's task. The answer is given at once: a member may wait for it before it
/// introduces itself.
pub(super) fn start(
    inner: Arc<Inner>,
    caller: Caller,
    reports: Streaming<wire::Report>,
) -> ReceiverStream<Result<wire::Directive, Status>> {
    let (directives, receiver) = mpsc::channel(4);
    let span = info_span!("attend", member_id = caller.member_id);
    let shutdown = inner.shutdown.clone();
    shutdown.spawn(
        async move {
            inner.metrics.attending.inc();
            let end = attend(&inner, &caller, reports, &directives).await;
            inner.metrics.attending.dec();
            inner.metrics.attend_ended(end.label());
            info!(reason = end.label(), "stream ended");
            if let Some(status) = end.status() {
                let _ = timeout(DIRECTIVE_TIMEOUT, directives.send(Err(status))).await;
            }
        }
        .instrument(span),
    );
    ReceiverStream::new(receiver)
}

async fn attend(
    inner: &Inner,
    caller: &Caller,
    mut reports: Streaming<wire::Report>,
    directives: &Directives,
) -> End {
    let member_id = &caller.member_id;
    let introduction = match timeout(LEASE_TTL, reports.message()).await {
        Ok(Ok(Some(wire::Report { kind: Some(Report::Introduction(said)) }))) => said,
        Ok(Ok(Some(_))) => {
            return refuse(directives, "the first report must be an introduction").await;
        }
        Ok(Ok(None) | Err(_)) => return End::Lost,
        Err(_) => return End::Idle,
    };
    let Some(role) = inner.desk.record(member_id).map(|record| record.role) else {
        return End::Removed;
    };
    let profile = match Profile::check(role, &introduction) {
        Ok(profile) => profile,
        Err(error) => return refuse(directives, &error.to_string()).await,
    };
    let Some(seat) = inner.desk.introduce(member_id, profile).await else {
        return End::Removed;
    };
    let lease = seat.lease;
    let end = occupy(inner, member_id, reports, directives, seat).await;
    if end == End::Lost && caller.departure.is_abrupt() {
        inner.desk.lost(member_id, lease, StreamEnd::Abrupt);
        return End::Abrupt;
    }
    inner.desk.lost(member_id, lease, StreamEnd::Unclear);
    end
}

async fn occupy(
    inner: &Inner,
    member_id: &str,
    mut reports: Streaming<wire::Report>,
    directives: &Directives,
    mut seat: Seat,
) -> End {
    let lease = seat.lease;
    let roster = seat.roster.borrow_and_update().clone();
    let opening = [welcome(inner, lease), Directive::Roster((*roster).clone())];
    for kind in opening {
        if let Err(end) = send(directives, kind).await {
            return end;
        }
    }
    let mut brake = Bucket::new(clock::now());
    let mut around = Around::new(seat.role);
    let mut silence = Instant::now() + LEASE_TTL;
    loop {
        let news = tokio::select! {
            biased;
            Ok(()) = seat.word.changed() => match seat.newest_word() {
                Word::Stay => continue,
                Word::Drain(drain) => Directive::Drain(drain),
                Word::Superseded => return End::Superseded,
                Word::Removed => return removed(directives).await,
            },
            Ok(()) = seat.roster.changed() => {
                Directive::Roster((**seat.roster.borrow_and_update()).clone())
            }
            Ok(gone) = seat.gone.recv(), if seat.role == Role::Core => Directive::Gone(gone),
            () = inner.shutdown.draining() => return End::Draining,
            report = timeout_at(silence, reports.message()) => match report {
                Err(_) => return End::Idle,
                Ok(Err(_) | Ok(None)) => return End::Lost,
                Ok(Ok(Some(report))) => {
                    silence = Instant::now() + LEASE_TTL;
                    // A later member may say more than this gateway knows.
                    if let Some(Report::Heartbeat(heartbeat)) = report.kind
                        && brake.take(HEARTBEAT_BURST, HEARTBEAT_REFILL, clock::now())
                    {
                        inner.desk.heard(member_id, lease, heartbeat);
                    }
                    continue;
                }
            },
            changed = around.changed(inner, member_id) => changed,
        };
        if let Err(end) = send(directives, news).await {
            return end;
        }
    }
}

/// What a node was told of other nodes.
struct Around {
    look: Interval,
    looks: u32,
    neighbours: Option<wire::Neighbours>,
    forwarders: Option<wire::Forwarders>,
    forwarded: Option<wire::Forwarded>,
    role: Role,
}

impl Around {
    fn new(role: Role) -> Self {
        let look = interval(NEIGHBOURS_INTERVAL);
        Self { look, looks: 0, neighbours: None, forwarders: None, forwarded: None, role }
    }

    /// Waits until something is other than what a node was told. Cancel-safe.
    async fn changed(&mut self, inner: &Inner, member_id: &str) -> Directive {
        if self.role != Role::Node {
            return std::future::pending().await;
        }
        loop {
            // What is found is told at once, and the rest at the next look.
            let _: Instant = self.look.tick().await;
            self.looks = self.looks.saturating_add(1);
            let is_settled = self.looks >= SETTLED_LOOKS;
            let neighbours = inner.desk.neighbours(inner.policy, member_id);
            if self.neighbours.as_ref() != Some(&neighbours) {
                self.neighbours = Some(neighbours.clone());
                return Directive::Neighbours(neighbours);
            }
            let mesh = inner.desk.mesh();
            // Whoever is to send on is told first.
            if let Some(forwarded) = mesh.forwarded(member_id)
                && is_news(self.forwarded.as_ref(), forwarded, is_settled)
            {
                self.forwarded = Some(forwarded.clone());
                return Directive::Forwarded(forwarded.clone());
            }
            if let Some(forwarders) = mesh.forwarders(member_id)
                && is_news(self.forwarders.as_ref(), forwarders, is_settled)
            {
                self.forwarders = Some(forwarders.clone());
                return Directive::Forwarders(forwarders.clone());
            }
        }
    }
}

/// Whether a node is to be told. What it was told on a stream before this one is not known.
fn is_news<T: Default + PartialEq>(told: Option<&T>, now: &T, is_settled: bool) -> bool {
    match told {
        Some(told) => told != now,
        None => is_settled || *now != T::default(),
    }
}

fn welcome(inner: &Inner, lease: Lease) -> Directive {
    let ms = |duration: Duration| u32::try_from(duration.as_millis()).unwrap_or(u32::MAX);
    Directive::Welcome(wire::Welcome {
        lease_epoch: lease.0,
        heartbeat_interval_ms: ms(inner.thresholds.heartbeat_interval),
        lease_ttl_ms: ms(LEASE_TTL),
    })
}

async fn removed(directives: &Directives) -> End {
    let reason = "removed by the operator".to_owned();
    // Whether it is heard or not, the stream ends.
    let _ = send(directives, Directive::Removed(wire::Removed { reason })).await;
    End::Removed
}

async fn refuse(directives: &Directives, why: &str) -> End {
    let metadata = Status::from(Refusal::Malformed).metadata().clone();
    let status = Status::with_metadata(Refusal::Malformed.code(), why, metadata);
    let _ = timeout(DIRECTIVE_TIMEOUT, directives.send(Err(status))).await;
    End::Malformed
}

async fn send(directives: &Directives, kind: Directive) -> Result<(), End> {
    let directive = wire::Directive { kind: Some(kind) };
    match timeout(DIRECTIVE_TIMEOUT, directives.send(Ok(directive))).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) => Err(End::Lost),
        Err(_) => Err(End::Idle),
    }
}

#[cfg(test)]
mod tests {
    use super::is_news;

    #[test]
    fn that_there_is_nothing_any_more_is_told_on_the_next_stream_too() {
        for (what, told, now, is_settled, expected) in [
            ("nothing yet", None, 0, false, false),
            ("nothing, lastingly", None, 0, true, true),
            ("something", None, 1, false, true),
            ("the same", Some(0), 0, true, false),
            ("no more", Some(1), 0, false, true),
        ] {
            assert_eq!(is_news(told.as_ref(), &now, is_settled), expected, "{what}");
        }
    }
}
