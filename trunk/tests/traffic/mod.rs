//! Sessions that talk both ways all the time, and a count of what arrived: each message once, in
//! order.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, reason = "each test binary uses its share of this module")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use antipode_proto::trunk::v1::ResponseHead;
use antipode_trunk::{Body, SessionPort};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::world::{Core, Node, chunk, next, request};

/// Each session sends a message each way this often.
const EVERY: Duration = Duration::from_millis(20);

/// Both ends of some sessions at work.
pub(crate) struct Traffic {
    flows: Vec<Arc<Flow>>,
    /// Dropping one would end its session before the others have read to the end.
    ports: Vec<Arc<SessionPort>>,
    stop: Arc<AtomicBool>,
    tasks: JoinSet<()>,
}

/// One direction of one session.
#[derive(Debug, Default)]
struct Flow {
    sent: AtomicU64,
    arrived: AtomicU64,
}

impl Traffic {
    /// Opens sessions and lets them talk.
    pub(crate) async fn start(node: &Node, core: &mut Core, sessions: usize) -> Self {
        let (mut flows, mut ports, mut tasks) = (Vec::new(), Vec::new(), JoinSet::new());
        let stop = Arc::new(AtomicBool::new(false));
        for _ in 0..sessions {
            let near = Arc::new(node.trunks.open(request("/chat")).expect("the trunk is up"));
            let far = core.accepted.recv().await.expect("the session arrives").port;
            far.send(ResponseHead { status: 101, ..ResponseHead::default() }.into()).unwrap();
            next(&near).await;
            let far = Arc::new(far);
            for (from, to) in [(&near, &far), (&far, &near)] {
                let flow = Arc::new(Flow::default());
                tasks.spawn(send(Arc::clone(from), Arc::clone(&flow), Arc::clone(&stop)));
                tasks.spawn(receive(Arc::clone(to), Arc::clone(&flow), Arc::clone(&stop)));
                flows.push(flow);
            }
            ports.extend([near, far]);
        }
        let traffic = Self { flows, ports, stop, tasks };
        traffic.flows_within(Duration::from_secs(5)).await;
        traffic
    }

    /// Waits until something new has arrived both ways in every session; how long that took.
    pub(crate) async fn flows_within(&self, patience: Duration) -> Duration {
        let start = Instant::now();
        let before: Vec<_> = self.flows.iter().map(|flow| flow.arrived()).collect();
        let flowing = async {
            while self.flows.iter().zip(&before).any(|(flow, before)| flow.arrived() == *before) {
                sleep(Duration::from_millis(2)).await;
            }
        };
        timeout(patience, flowing).await.unwrap_or_else(|_| panic!("stuck: {:?}", self.flows));
        start.elapsed()
    }

    /// Messages that have arrived.
    pub(crate) fn arrived(&self) -> u64 {
        self.flows.iter().map(|flow| flow.arrived()).sum()
    }

    /// Sends no more, and waits until all has arrived. That each came once and in order, the
    /// receivers have checked.
    pub(crate) async fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Release);
        let ended = async {
            while let Some(ended) = self.tasks.join_next().await {
                ended.expect("every message arrives once and in order");
            }
        };
        timeout(Duration::from_secs(20), ended).await.expect("all arrives");
        self.arrived()
    }
}

impl Flow {
    fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Acquire)
    }
}

async fn send(port: Arc<SessionPort>, flow: Arc<Flow>, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Acquire) {
        port.ready().await.expect("a break is no end");
        let number = flow.sent.fetch_add(1, Ordering::AcqRel);
        port.send(chunk(&number.to_be_bytes())).expect("a break is no end");
        sleep(EVERY).await;
    }
}

async fn receive(port: Arc<SessionPort>, flow: Arc<Flow>, stop: Arc<AtomicBool>) {
    loop {
        let number = flow.arrived();
        if stop.load(Ordering::Acquire) && number == flow.sent.load(Ordering::Acquire) {
            return;
        }
        let Ok(delivery) = timeout(EVERY * 2, port.deliver()).await else { continue };
        let delivery = delivery.expect("a break is no end");
        let Body::Chunk(got) = &delivery.body else { continue };
        assert_eq!(got.payload, number.to_be_bytes().as_slice(), "lost, twice or out of order");
        port.consumed(delivery.seq);
        flow.arrived.store(number + 1, Ordering::Release);
    }
}
