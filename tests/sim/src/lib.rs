//! The whole system as machines in one thread with virtual time: one seed, one world.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | what a seed decides: the shape, the talks, the faults |
//! | [`world`] | the hosts, and what happens next |
//! | [`ctx`], [`event`] | time, chance, and the queue of what is to happen |
//! | [`net`] | streams that are delayed, cut and hung up |
//! | [`gateway`], [`node`], [`core`], [`trunk_end`] | our programs, around their real machines |
//! | [`client`], [`backend`], [`socket`] | the others |
//! | [`message`], [`model`] | what is said, and what must be true of it |
//! | [`history`] | what happened |
//! | [`shrink`] | the fewest faults that still fail |
//!
//! docs/simulation.md says which code is real here and which is modelled.

pub mod backend;
pub mod client;
pub mod core;
pub mod ctx;
pub mod event;
pub mod gateway;
pub mod history;
pub mod letter;
pub mod message;
pub mod model;
pub mod net;
pub mod node;
pub mod plan;
pub mod shrink;
pub mod site;
pub mod socket;
pub mod trunk_end;
pub mod world;
