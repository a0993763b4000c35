//! The core's gRPC service: takes a lane's greeting, finds the trunk it belongs to, and runs it.

use std::collections::BTreeMap;
use std::net::Ipv6Addr;
use std::sync::Arc;

use antipode_proto::trunk::v1::trunk_server::Trunk;
use antipode_proto::trunk::v1::{Batch, Hello};
use antipode_runtime::shutdown::Shutdown;
use antipode_tunnel::tuning::LANES_MAX;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use tracing::{Instrument, debug, info_span};

use crate::accept::Register;
use crate::batch::greeting;
use crate::carrier::LanePeer;
use crate::lane::{self, BATCHES_AHEAD, VERSION};
use crate::peer::NodeIdentity;
use crate::sessions::{Lanes, Sessions};

#[derive(Clone, Debug)]
pub(crate) struct LaneService {
    pub(crate) register: Arc<Register>,
    pub(crate) on_roster: watch::Receiver<BTreeMap<Ipv6Addr, NodeIdentity>>,
    pub(crate) shutdown: Shutdown,
    pub(crate) run: [u8; 16],
    pub(crate) software: String,
}

type Outward = mpsc::Sender<Result<Batch, Status>>;

#[tonic::async_trait]
impl Trunk for LaneService {
    type LaneStream = ReceiverStream<Result<Batch, Status>>;

    async fn lane(
        &self,
        request: Request<Streaming<Batch>>,
    ) -> Result<Response<Self::LaneStream>, Status> {
        let peer = request.extensions().get::<LanePeer>().cloned();
        let peer = peer.ok_or_else(|| Status::unauthenticated("nobody knows this peer"))?;
        let node = peer.node.clone();
        let mut inward = request.into_inner();
        let (out, stream) = mpsc::channel(BATCHES_AHEAD);

        // The greeting is read in the lane's own task: the call is answered at once.
        let (register, answer) = (Arc::clone(&self.register), self.hello());
        let span = info_span!("lane", node = %node.name, lane.id = tracing::field::Empty);
        let on_roster = self.on_roster.clone();
        let lane = async move {
            match greet(&register, &peer, &mut inward, &out, answer).await {
                // After the trunk is on the register: whoever empties that comes later, then.
                Ok(_) if on_roster.borrow().get(&node.address) != Some(&node) => {
                    let _ = out.send(Err(Status::permission_denied("not on the roster"))).await;
                }
                Ok((sessions, hello)) => carry(&sessions, hello.lane, &mut inward, &out).await,
                Err(status) => {
                    debug!(%status, "lane refused");
                    let _ = out.send(Err(status)).await;
                }
            }
        };
        self.shutdown.spawn_service(lane.instrument(span));
        Ok(Response::new(ReceiverStream::new(stream)))
    }
}

impl LaneService {
    fn hello(&self) -> Hello {
        Hello {
            version: VERSION,
            run: self.run.to_vec().into(),
            software: self.software.clone(),
            ..Hello::default()
        }
    }
}

async fn greet(
    register: &Register,
    peer: &LanePeer,
    inward: &mut Streaming<Batch>,
    out: &Outward,
    answer: Hello,
) -> Result<(Arc<Sessions>, Hello), Status> {
    let hello = lane::read_hello(inward).await?;
    tracing::Span::current().record("lane.id", hello.lane);
    let lanes = hello.lanes.saturating_add(hello.bulk_lanes);
    if hello.lanes == 0 || hello.lane >= lanes || lanes > LANES_MAX {
        let (lane, chat, bulk) = (hello.lane, hello.lanes, hello.bulk_lanes);
        return Err(Status::invalid_argument(format!(
            "lane {lane} of {chat} and {bulk}: a trunk has 1 to {LANES_MAX} lanes"
        )));
    }
    let (sessions, run) = register.trunk(peer, &hello)?;
    sessions.handle_hello(&hello);
    let run = run.map_or(answer.run, |run| run.to_vec().into());
    let Lanes { chat, bulk } = sessions.count();
    if hello.lane >= chat.saturating_add(bulk) {
        return Err(Status::failed_precondition("this trunk has no lanes for bulk"));
    }
    let answer = Hello { lane: hello.lane, lanes: chat, bulk_lanes: bulk, run, ..answer };
    let _ = out.send(Ok(greeting(answer))).await;
    Ok((sessions, hello))
}

async fn carry(sessions: &Arc<Sessions>, index: u32, inward: &mut Streaming<Batch>, out: &Outward) {
    let Some(held) = sessions.lane_up(index) else { return };
    tokio::select! {
        outcome = lane::read_batches(sessions, index, inward) => {
            if let Err(status) = outcome {
                debug!(%status, "lane broke");
                let _ = out.try_send(Err(status));
            }
        }
        () = lane::write_batches(&held.writer, out, &sessions.metrics, Ok) => {}
        () = held.revoked() => {
            let _ = out.try_send(Err(Status::aborted("a newer lane took over, or the node left")));
        }
    }
    sessions.metrics.lanes_lost.inc();
}
