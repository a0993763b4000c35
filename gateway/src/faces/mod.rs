//! Where clients and programs ask which node to take: HTTP JSON and gRPC, over one answer.

pub mod grpc;
pub mod http;
pub mod trust;

use std::sync::Arc;
use std::time::Duration;

use antipode_runtime::clock;

use crate::locate::{Clues, Geography, LocatedBy};
use crate::metrics::Metrics;
use crate::registry::Desk;
use crate::steer::{Decision, Policy, Question, steer};

/// Candidates in an answer, unless asked otherwise.
pub const CANDIDATES_DEFAULT: usize = 3;
/// Most candidates in an answer.
pub const CANDIDATES_MAX: usize = 16;

/// What both faces answer from; clones share it.
#[derive(Clone, Debug)]
pub struct Guide {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    desk: Desk,
    geography: Arc<Geography>,
    policy: Policy,
    retry_after: Duration,
    metrics: Metrics,
}

/// A decision, and what told where the client is.
#[derive(Debug)]
pub struct Answer {
    /// The candidates and the reason.
    pub decision: Decision,
    /// What located the client.
    pub located_by: LocatedBy,
    /// When to ask again, if there is no candidate.
    pub retry_after_ms: u32,
}

impl Guide {
    /// A guide over the desk's snapshot.
    #[must_use]
    pub fn new(
        desk: Desk,
        geography: Arc<Geography>,
        policy: Policy,
        retry_after: Duration,
        metrics: Metrics,
    ) -> Self {
        Self { inner: Arc::new(Inner { desk, geography, policy, retry_after, metrics }) }
    }

    /// Locates the client and chooses its nodes. `candidates_max` 0 is
    /// [`CANDIDATES_DEFAULT`]; more than [`CANDIDATES_MAX`] is that.
    #[must_use]
    pub fn answer(&self, clues: &Clues, candidates_max: usize) -> Answer {
        let started = clock::now();
        let (position, located_by) = self.inner.geography.locate(clues);
        let candidates_max = match candidates_max {
            0 => CANDIDATES_DEFAULT,
            wanted => wanted.min(CANDIDATES_MAX),
        };
        let question = Question { position, candidates_max };
        let decision = steer(self.inner.policy, &self.inner.desk.snapshot(), question);
        let took = clock::now().saturating_duration_since(started);
        self.inner.metrics.steered(decision.reason, located_by.label(), took);
        let retry_after_ms = if decision.candidates.is_empty() { self.retry_after_ms() } else { 0 };
        Answer { decision, located_by, retry_after_ms }
    }

    fn retry_after_ms(&self) -> u32 {
        u32::try_from(self.inner.retry_after.as_millis()).unwrap_or(u32::MAX)
    }

    fn desk(&self) -> &Desk {
        &self.inner.desk
    }
}
