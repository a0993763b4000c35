//! Congestion control for an aggregate: a trunk stands for the flows that it carries.
//!
//! A window that answers every loss collapses on a long and lossy path, and one that answers none
//! pushes everybody else off a full one. So the model (`model`) asks whose the queue is. While the
//! queue is its own, it is kept short by round trip times, and losses that come without a
//! queue are put down to the line. When a queue stays although it has made room, others fill the
//! link, and then it competes as the sessions' own TCP connections would: as so many cubic flows
//! (`crowd`). `docs/decisions/014-congestion.md` has the figures.

mod base;
mod controller;
mod crowd;
mod handles;
mod model;
mod rounds;
mod trains;

pub(crate) use controller::AggregateConfig;
pub use handles::{FLOWS_MAX, Flows, Warmth};
