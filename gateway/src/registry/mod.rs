//! Where members call: they enrol with a token, renew their certificates, and attend.

mod attend;
mod desk;
mod enrol;
pub mod rate;

use std::sync::Arc;

use antipode_proto::registry::v1 as wire;
use antipode_proto::registry::v1::registry_server::Registry;
use antipode_runtime::clock;
use antipode_runtime::member::refusal::Refusal;
use antipode_runtime::member::tls::member_id_of;
use antipode_runtime::shutdown::Shutdown;
use parking_lot::Mutex;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{error, info};

pub use desk::{Desk, Leaving, Seat, Word};

use crate::authority::{Authority, RequestError};
use crate::health::Thresholds;
use crate::metrics::Metrics;
use crate::socket::Caller;
use crate::steer::Policy;
use crate::store::Store;

/// The gRPC service of members; clones share everything.
#[derive(Clone, Debug)]
pub struct RegistryService {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    desk: Desk,
    store: Arc<Store>,
    authority: Arc<Authority>,
    metrics: Metrics,
    shutdown: Shutdown,
    policy: Policy,
    thresholds: Thresholds,
    members_max: usize,
    sources: Mutex<rate::Sources>,
}

/// What the service needs.
#[derive(Debug)]
pub struct Parts {
    /// The register's desk.
    pub desk: Desk,
    /// Tokens and members.
    pub store: Arc<Store>,
    /// Who signs certificates.
    pub authority: Arc<Authority>,
    /// Counters.
    pub metrics: Metrics,
    /// The program's end.
    pub shutdown: Shutdown,
    /// How nodes' neighbours are weighed.
    pub policy: Policy,
    /// What members are told about heartbeats.
    pub thresholds: Thresholds,
    /// Most members.
    pub members_max: usize,
    /// Attempts to join that one source has in a minute.
    pub enrolments_per_minute_max: u32,
}

impl RegistryService {
    /// A service of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        let sources = Mutex::new(rate::Sources::new(parts.enrolments_per_minute_max));
        let Parts { desk, store, authority, metrics, shutdown, policy, thresholds, .. } = parts;
        let members_max = parts.members_max;
        let inner = Inner {
            desk,
            store,
            authority,
            metrics,
            shutdown,
            policy,
            thresholds,
            members_max,
            sources,
        };
        Self { inner: Arc::new(inner) }
    }

    /// Who calls: TLS has checked that the certificate is ours; whether it is still worth anything
    /// is asked at every call.
    fn member<T>(&self, request: &Request<T>) -> Result<String, Status> {
        let certificate =
            request.extensions().get::<Caller>().and_then(|caller| caller.certificate.as_ref());
        let Some(member_id) = certificate.and_then(|der| member_id_of(der)) else {
            return Err(Refusal::NotAMember.into());
        };
        if !self.inner.desk.is_member(&member_id) {
            return Err(Refusal::Removed.into());
        }
        Ok(member_id)
    }
}

#[tonic::async_trait]
impl Registry for RegistryService {
    type AttendStream = ReceiverStream<Result<wire::Directive, Status>>;

    async fn enrol(
        &self,
        request: Request<wire::EnrolRequest>,
    ) -> Result<Response<wire::EnrolResponse>, Status> {
        let source = request.extensions().get::<Caller>().map(|caller| caller.address.ip());
        let outcome = enrol::enrol(&self.inner, source, request.into_inner()).await;
        let label = outcome.as_ref().map_or_else(|refused| refused.label(), |_| "ok");
        self.inner.metrics.enrolled(label);
        match outcome {
            Ok(response) => Ok(Response::new(response)),
            Err(refused) => {
                info!(outcome = label, refused = %refused, "enrolment refused");
                Err(refused.into())
            }
        }
    }

    async fn renew(
        &self,
        request: Request<wire::RenewRequest>,
    ) -> Result<Response<wire::RenewResponse>, Status> {
        let member_id = self.member(&request)?;
        let request = request.into_inner().certificate_request;
        let issued = self.inner.authority.sign_member(&member_id, &request).map_err(unsigned)?;
        let store = Arc::clone(&self.inner.store);
        let certificate = issued.certificate.to_vec().into();
        let kept = tokio::task::spawn_blocking(move || {
            store.update(&member_id, |member| {
                member.certificate_serial = issued.serial;
                member.certificate_ends_unix_seconds = issued.ends_unix_seconds;
            })
        });
        match kept.await {
            Ok(Ok(Some(member))) if member.is_member() => {
                info!(member = member.name, "certificate renewed");
                Ok(Response::new(wire::RenewResponse { certificate }))
            }
            Ok(Ok(_)) => Err(Refusal::Removed.into()),
            Ok(Err(error)) => {
                error!(error = &error as &dyn std::error::Error, "renewal was not kept");
                Err(Status::unavailable("the gateway's store failed: see its log"))
            }
            Err(_) => Err(Status::internal("the gateway failed: see its log")),
        }
    }

    async fn attend(
        &self,
        request: Request<Streaming<wire::Report>>,
    ) -> Result<Response<Self::AttendStream>, Status> {
        let member_id = self.member(&request)?;
        let caller = request.extensions().get::<Caller>().cloned();
        let departure = caller.map(|caller| caller.departure).unwrap_or_default();
        let caller = attend::Caller { member_id, departure };
        Ok(Response::new(attend::start(Arc::clone(&self.inner), caller, request.into_inner())))
    }
}

fn unsigned(error: RequestError) -> Status {
    match error {
        RequestError::TooLong { .. } | RequestError::Malformed(_) => Refusal::Malformed.into(),
        RequestError::Sign(_) => {
            Status::internal("certificate can't be made: see the gateway's log")
        }
    }
}

/// Seconds since 1970, for records.
fn now_unix_seconds() -> u64 {
    clock::unix_now().as_secs()
}
