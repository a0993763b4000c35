//! The far end: ends tunnels and trunks and opens each session's backend.
//!
//! | module | idea |
//! |---|---|
//! | [`app`] | the core put together, from settings to running tasks |
//! | [`config`] | settings, valid by construction |
//! | `bridge` | one session: a WebSocket's frames, or an HTTP exchange, to a backend and back |
//! | `backend` | the user's servers: sockets to them, their health, which one takes a session |
//! | [`resume`] | sessions that outlive their client's sockets |
//! | [`handover`] | a new process takes over from the one that serves |
//! | [`metrics`] | every series the core exports |
//!
//! **Invariant:** nothing here holds a message or a body; a direction that can't go on stops
//! reading.

pub mod app;
pub(crate) mod backend;
pub(crate) mod bridge;
pub mod config;
pub mod handover;
pub mod metrics;
pub mod resume;
