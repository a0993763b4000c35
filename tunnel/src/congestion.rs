//! Congestion control for an aggregate: a trunk stands for the flows that it carries.

mod handles;

pub use handles::{FLOWS_MAX, Flows, Warmth};
