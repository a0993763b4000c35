//! The far end: ends tunnels and trunks and opens each session's backend.

pub(crate) mod backend;
pub(crate) mod bridge;
pub mod config;
pub mod metrics;
