//! The regional relay: ends clients' TLS and WebSockets and carries their sessions to the core.
//!
//! | module | idea |
//! |---|---|
//! | [`app`] | the node put together: join, tunnel, trunks, listeners |
//! | [`front`] | where clients come in: sockets, TLS, HTTP, what a request is |
//! | [`session`] | one client's conversation: a WebSocket's frames, or an HTTP exchange |
//! | [`headers`] | what is forwarded, taken off and added |
//! | [`tls`] | certificates by name, taken up anew when their files change |
//! | [`drain`] | when each session is told to go |
//! | [`config`] | settings, valid by construction |
//! | [`metrics`] | every series of the node |
//!
//! **Invariant:** no message, no compressor and, while a session idles, no buffer is held here.

pub mod app;
pub mod config;
pub mod drain;
pub mod front;
pub mod headers;
pub mod metrics;
pub mod session;
pub mod tls;
