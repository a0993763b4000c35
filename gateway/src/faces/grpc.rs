//! The gRPC face: `antipode.steering.v1.Steering`.

use std::net::IpAddr;
use std::sync::Arc;

use antipode_proto::steering::v1 as wire;
use antipode_proto::steering::v1::steering_server::Steering;
use tonic::{Request, Response, Status};

use super::{Answer, Guide};
use crate::config::Trust;
use crate::locate::{Clues, Country};
use crate::position::Position;
use crate::socket::Caller;

/// The service; clones share everything.
#[derive(Clone, Debug)]
pub struct SteeringService {
    guide: Guide,
    trust: Arc<Trust>,
}

impl SteeringService {
    /// A service over `guide`.
    #[must_use]
    pub fn new(guide: Guide, trust: Arc<Trust>) -> Self {
        Self { guide, trust }
    }

    /// A country is believed from trusted networks and from this host, as the contract says.
    fn clues(&self, caller: Option<IpAddr>, asked: &wire::SteerRequest) -> Result<Clues, Status> {
        let coordinates = match (asked.latitude, asked.longitude) {
            (Some(latitude), Some(longitude)) => {
                Some(Position::new(latitude, longitude).ok_or_else(|| {
                    Status::invalid_argument("latitude or longitude out of range")
                })?)
            }
            (None, None) => None,
            (Some(_), None) | (None, Some(_)) => {
                return Err(Status::invalid_argument("latitude and longitude go together"));
            }
        };
        let address = match asked.client_ip.as_str() {
            "" => caller,
            ip => {
                Some(ip.parse().map_err(|_| Status::invalid_argument("client_ip is no address"))?)
            }
        };
        let trusted = caller.is_some_and(|ip| ip.is_loopback() || self.trust.includes(ip));
        let country = Country::parse(&asked.country).filter(|_| trusted);
        let time_zone = (!asked.time_zone.is_empty()).then(|| asked.time_zone.clone());
        Ok(Clues { coordinates, address, country, time_zone })
    }
}

#[tonic::async_trait]
impl Steering for SteeringService {
    async fn steer(
        &self,
        request: Request<wire::SteerRequest>,
    ) -> Result<Response<wire::SteerResponse>, Status> {
        let caller = request.extensions().get::<Caller>().map(|caller| caller.address.ip());
        let asked = request.into_inner();
        let clues = self.clues(caller, &asked)?;
        let candidates_max = usize::try_from(asked.candidates_max).unwrap_or(usize::MAX);
        Ok(Response::new(response(self.guide.answer(&clues, candidates_max))))
    }
}

fn response(answer: Answer) -> wire::SteerResponse {
    let candidate = |candidate: crate::steer::Candidate| wire::Candidate {
        member_id: candidate.place.member_id.clone(),
        name: candidate.place.name.clone(),
        region: candidate.place.region.clone(),
        urls: candidate.place.urls.clone(),
        distance_km: candidate.distance_km,
    };
    wire::SteerResponse {
        reason: answer.decision.reason.label().to_owned(),
        candidates: answer.decision.candidates.into_iter().map(candidate).collect(),
        located_by: answer.located_by.label().to_owned(),
        retry_after_ms: answer.retry_after_ms,
    }
}
