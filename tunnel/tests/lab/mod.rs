//! A bottleneck in simulated time, and real QUIC connections across it.
//!
//! Each flow is a client and a server of quinn-proto's, which have no clock and no socket of their
//! own: pacing, loss detection and acknowledgements are quinn's. Only chance is left: quinn draws
//! connection ids and skipped packet numbers at random, so figures differ a little between runs.

#![allow(dead_code, reason = "each binary uses its share of this module")]

mod end;
mod link;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use antipode_tunnel::congestion::{Flows, Warmth};
use antipode_tunnel::{Class, TrunkTuning, transport_config};
use quinn::congestion::{BbrConfig, CubicConfig};
use quinn::{TransportConfig, VarInt};

pub(crate) use end::Certificate;
use end::End;
pub(crate) use link::{Line, LineState};

/// What decides how much a flow sends.
#[derive(Clone, Debug)]
pub(crate) enum Control {
    /// Ours, for so many flows.
    Aggregate { flows: Flows, warmth: Warmth },
    /// quinn's.
    Bbr,
    /// quinn's, and packets that count as lost when three overtake them: much as TCP.
    Cubic,
}

impl Control {
    pub(crate) fn aggregate(count: usize) -> Self {
        let flows = Flows::default();
        flows.set(count);
        Self::Aggregate { flows, warmth: Warmth::default() }
    }

    fn transport(&self) -> TransportConfig {
        let tuning = TrunkTuning::default();
        match self {
            Self::Aggregate { flows, warmth } => {
                transport_config(tuning, Class::Bulk, flows, warmth)
            }
            Self::Bbr => {
                let (flows, warmth) = (Flows::default(), Warmth::default());
                let mut transport = transport_config(tuning, Class::Bulk, &flows, &warmth);
                let mut bbr = BbrConfig::default();
                bbr.initial_window(tuning.initial_window_bytes);
                transport.congestion_controller_factory(Arc::new(bbr));
                transport
            }
            Self::Cubic => {
                let mut transport = TransportConfig::default();
                transport
                    .congestion_controller_factory(Arc::new(CubicConfig::default()))
                    .send_window(32 << 20)
                    .stream_receive_window(VarInt::from_u32(32 << 20))
                    .receive_window(VarInt::from_u32(32 << 20));
                transport
            }
        }
    }
}

/// A flow that has more to send all the time, or a message now and then.
#[derive(Clone, Debug)]
pub(crate) struct Flow {
    pub(crate) control: Control,
    pub(crate) from: Duration,
    pub(crate) until: Duration,
}

impl Flow {
    pub(crate) fn new(control: Control) -> Self {
        Self { control, from: Duration::ZERO, until: Duration::MAX }
    }

    pub(crate) fn between(self, from: u64, until: u64) -> Self {
        Self { from: Duration::from_secs(from), until: Duration::from_secs(until), ..self }
    }
}

/// One second of a run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Second {
    /// Bytes that arrived, for each flow.
    pub(crate) arrived: Vec<u64>,
    /// What a packet that came would have waited, every millisecond.
    pub(crate) waits: Vec<Duration>,
}

/// What came of a run.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    pub(crate) seconds: Vec<Second>,
    /// Packets that found the queue full.
    pub(crate) overflowed: u64,
    /// Why connections have ended, by flow.
    pub(crate) lost: Vec<Option<String>>,
}

impl Outcome {
    /// Megabits a second of one flow, from one second to another.
    pub(crate) fn mbit(&self, flow: usize, from: usize, until: usize) -> f64 {
        let seconds = &self.seconds[from..until];
        let bytes: u64 = seconds.iter().map(|second| second.arrived[flow]).sum();
        bytes as f64 * 8.0 / 1e6 / seconds.len() as f64
    }

    /// What so many percent wait at most, in milliseconds.
    pub(crate) fn wait_ms(&self, percent: usize, from: usize, until: usize) -> f64 {
        let mut waits: Vec<Duration> =
            self.seconds[from..until].iter().flat_map(|second| second.waits.clone()).collect();
        waits.sort_unstable();
        waits[(waits.len() - 1) * percent / 100].as_secs_f64() * 1e3
    }
}

#[derive(Debug, Eq, PartialEq, PartialOrd, Ord)]
struct Arrival {
    at: Instant,
    order: u64,
    flow: usize,
    to_client: bool,
    bytes: Vec<u8>,
}

struct Running {
    flow: Flow,
    client: End,
    server: End,
}

/// Runs flows over a line for some seconds.
pub(crate) fn run(line: Line, flows: Vec<Flow>, seconds: usize) -> Outcome {
    World::new(line, flows).run(seconds, |_, _| {})
}

/// The same, with a line that may change every millisecond.
pub(crate) fn run_with(
    line: Line,
    flows: Vec<Flow>,
    seconds: usize,
    change: impl FnMut(Duration, &mut Line),
) -> Outcome {
    World::new(line, flows).run(seconds, change)
}

struct World {
    begun: Instant,
    line: LineState,
    running: Vec<Running>,
    arrivals: BinaryHeap<Reverse<Arrival>>,
    order: u64,
}

impl World {
    fn new(line: Line, flows: Vec<Flow>) -> Self {
        let certificate = Certificate::new();
        let begun = tokio::time::Instant::now().into_std();
        let start = |flow: Flow| {
            let transport = Arc::new(flow.control.transport());
            let client = End::client(&certificate, Arc::clone(&transport), begun + flow.from);
            Running { flow, client, server: End::server(&certificate, transport) }
        };
        let running = flows.into_iter().map(start).collect();
        let line = LineState::new(line, begun);
        Self { begun, line, running, arrivals: BinaryHeap::new(), order: 0 }
    }

    fn run(mut self, seconds: usize, mut change: impl FnMut(Duration, &mut Line)) -> Outcome {
        let mut outcome = Outcome::default();
        let mut totals = vec![0; self.running.len()];
        for second in 0..seconds {
            let mut waits = Vec::with_capacity(1000);
            for millisecond in 0..1000 {
                let at = Duration::from_secs(second as u64) + Duration::from_millis(millisecond);
                change(at, &mut self.line.line);
                self.run_until(self.begun + at);
                waits.push(self.line.wait(self.begun + at));
            }
            let before = totals;
            totals = self.running.iter().map(|one| one.server.arrived).collect();
            let arrived = totals.iter().zip(&before).map(|(now, then)| now - then).collect();
            outcome.seconds.push(Second { arrived, waits });
        }
        outcome.overflowed = self.line.overflowed;
        outcome.lost = self.running.into_iter().map(|one| one.server.lost).collect();
        outcome
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            let next_arrival = self.arrivals.peek().map(|Reverse(arrival)| arrival.at);
            let ends = self.running.iter().flat_map(|one| [one.client.timeout, one.server.timeout]);
            let Some(next) = ends.flatten().chain(next_arrival).min() else { return };
            if next > end {
                return;
            }
            match next_arrival {
                Some(at) if at == next => {
                    let Some(Reverse(arrival)) = self.arrivals.pop() else { return };
                    self.drive(next, arrival.flow, arrival.to_client, Some(&arrival.bytes));
                }
                _ => {
                    for flow in 0..self.running.len() {
                        self.drive(next, flow, true, None);
                        self.drive(next, flow, false, None);
                    }
                }
            }
        }
    }

    fn drive(&mut self, now: Instant, flow: usize, is_client: bool, datagram: Option<&[u8]>) {
        let one = &mut self.running[flow];
        let end = if is_client { &mut one.client } else { &mut one.server };
        if datagram.is_none() && end.timeout.is_none_or(|timeout| timeout > now) {
            return;
        }
        let sends = now - self.begun < one.flow.until;
        for bytes in end.drive(now, datagram, sends) {
            if let Some(at) = self.line.send(now, bytes.len(), !is_client) {
                self.order += 1;
                let (order, to_client) = (self.order, !is_client);
                self.arrivals.push(Reverse(Arrival { at, order, flow, to_client, bytes }));
            }
        }
    }
}
