//! The control plane: registers members, watches their health, steers new sessions.
//!
//! | module | idea |
//! |---|---|
//! | [`health`] | how well one member is: a pure machine |
//! | [`register`] | all members: a pure machine over `health` |
//! | [`steer`] | which node a client should go to: a pure function |
//! | [`mesh`] | which nodes send whose datagrams on: a pure function |
//! | [`locate`], [`position`] | where a client is, and how far that is |
//! | [`authority`], [`tls`] | who is who: the gateway's own certificates |
//! | [`store`], [`member`] | what is kept on disk, and what a member may say of itself |
//! | [`registry`] | where members call: enrol, renew, attend |
//! | [`faces`] | where clients and programs ask: HTTP JSON and gRPC |
//! | [`operator`], [`cli`] | where the operator asks: a Unix socket, and the commands on it |
//! | [`socket`], [`rpc`] | what all listeners share |
//! | [`app`], [`config`], [`metrics`] | wiring, settings, counters |
//!
//! **Invariant:** `health`, `register`, `steer`, `mesh` and `locate` know no clock, no task and no
//! socket.

pub mod app;
pub mod authority;
pub mod cli;
pub mod config;
pub mod faces;
pub mod health;
pub mod locate;
pub mod member;
pub mod mesh;
pub mod metrics;
pub mod operator;
pub mod position;
pub mod register;
pub mod registry;
pub mod rpc;
pub mod socket;
pub mod steer;
pub mod store;
pub mod tls;

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;

    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        write!(text, "{byte:02x}").expect("a string takes every write");
    }
    text
}
