//! Trunks: lanes of gRPC between a node and a core, and the sessions they carry.
//!
//! | module | idea |
//! |---|---|
//! | [`port`] | one end of a session, for the task that owns the socket |
//! | [`dial`] | the node's end: a trunk to each core, kept up for ever |
//! | [`accept`] | the core's end: lanes in, sessions out |
//! | [`carrier`] | what a lane runs on: a QUIC stream in the tunnel, or TCP through an interface |
//! | [`peer`] | who is at the other end, and how the trunk does |
//! | [`mod@solo`] | a lane of its own for one session, driven by whoever holds its other side |
//! | [`handover`] | how sessions leave a core's process for the next |
//! | [`bare`] | one end without tasks, timers or a network, moved by hand |
//! | [`budget`] | most bytes that all sessions of a process may hold |
//! | [`metrics`] | every series this crate exports |
//! | [`testing`] | both ends in memory, for tests of what stands on top |
//!
//! Inside, from the session outwards: `cell` (a machine and who waits for it) → `queue` (whose turn
//! it is on a lane) → `sessions` (all of one trunk) → `lane` (one gRPC call).
//!
//! A segment stays in its session's machine until the lane has room for it: there is no queue
//! between them, so what waits is bounded by the sessions' own limits.

pub mod accept;
pub mod bare;
mod batch;
pub mod budget;
pub mod carrier;
mod cell;
mod demand;
pub mod dial;
mod fan_out;
pub mod handover;
mod heard;
mod invitation;
mod lane;
pub mod metrics;
pub mod peer;
pub mod port;
mod queue;
mod quic_counts;
mod report;
mod service;
mod sessions;
pub mod solo;
pub mod testing;
mod way_to;
mod weight;

pub use accept::{AcceptConfig, TrunkServer};
pub use bare::Bare;
pub use budget::Budget;
pub use dial::{CoreTarget, OpenError, Sockets, Trunks, TrunksConfig};
pub use fan_out::arrive::BadShare;
pub use invitation::INVITATION_BYTES_MAX;
pub use metrics::Metrics;
pub use peer::{Incoming, NodeIdentity, TrunkState};
pub use port::{Delivery, SessionPort};
pub use report::tunnel_report;
pub use sessions::Lanes;
pub use solo::{Solo, solo, solo_within};

pub use antipode_proto::body::{Body, CHUNK_BYTES_MAX};
pub use antipode_proto::seq::Seq;
pub use antipode_proto::session::{Config as SessionConfig, Ended};
