//! The model as quinn calls it.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory};
use quinn_proto::RttEstimator;

use crate::congestion::handles::{Flows, Warmth};
use crate::congestion::model::Model;

/// Makes a controller for each new path.
#[derive(Clone, Debug)]
pub(crate) struct AggregateConfig {
    /// The first window where nothing is known of the path.
    pub(crate) cold_window: u64,
    /// The first window is at least this, whatever is remembered.
    pub(crate) least_window: u64,
    pub(crate) flows: Flows,
    pub(crate) warmth: Warmth,
}

impl AggregateConfig {
    /// Half of what the path carried lately; a quiet connection may remember less than it
    /// carries, so the cold window is the least of those that are larger.
    fn window(&self, now: Instant) -> u64 {
        match self.warmth.window(now) {
            Some(carried) if carried < self.cold_window => carried.max(self.least_window),
            Some(carried) => (carried / 2).max(self.cold_window),
            None => self.cold_window,
        }
    }
}

impl ControllerFactory for AggregateConfig {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let initial_window = self.window(now);
        let (flows, warmth) = (self.flows.clone(), self.warmth.clone());
        let model = Model::new(initial_window, self.cold_window, current_mtu, flows, warmth, now);
        Box::new(Aggregate { model, initial_window, acked: 0 })
    }
}

/// Congestion control for as many flows as its [`Flows`] say.
#[derive(Clone, Debug)]
struct Aggregate {
    model: Model,
    initial_window: u64,
    /// Of the acknowledgement that is being read.
    acked: u64,
}

impl Controller for Aggregate {
    fn on_ack(
        &mut self,
        now: Instant,
        sent: Instant,
        bytes: u64,
        app_limited: bool,
        _rtt: &RttEstimator,
    ) {
        self.acked += bytes;
        self.model.on_ack(now, sent, bytes, app_limited);
    }

    fn on_end_acks(
        &mut self,
        now: Instant,
        in_flight: u64,
        _app_limited: bool,
        _largest_packet_num_acked: Option<u64>,
    ) {
        self.model.on_end_acks(now, in_flight, std::mem::take(&mut self.acked));
    }

    fn on_congestion_event(
        &mut self,
        now: Instant,
        sent: Instant,
        is_persistent_congestion: bool,
        lost_bytes: u64,
    ) {
        self.model.on_lost(now, sent, lost_bytes, is_persistent_congestion);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.model.set_segment(new_mtu);
    }

    fn window(&self) -> u64 {
        self.model.window()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.initial_window
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_window_is_half_of_what_was_carried_or_the_cold_one() {
        let now = tokio::time::Instant::now().into_std();
        let first = |cold_window: u64, carried: Option<u64>| {
            let (flows, warmth) = (Flows::default(), Warmth::default());
            if let Some(carried) = carried {
                warmth.remember(carried, now);
            }
            let config = AggregateConfig { cold_window, least_window: 40_000, flows, warmth };
            Arc::new(config).build(now, 1200).initial_window()
        };
        assert_eq!(first(500_000, None), 500_000);
        assert_eq!(first(500_000, Some(4_000_000)), 2_000_000);
        assert_eq!(first(500_000, Some(600_000)), 500_000);
        assert_eq!(first(500_000, Some(200_000)), 200_000, "a slow path");
        assert_eq!(first(500_000, Some(1_000)), 40_000);
    }
}
