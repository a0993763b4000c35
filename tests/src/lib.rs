//! What needs more than one crate: end to end, conformance, namespaces, benchmarks, tidiness.
//!
//! | module | what |
//! |---|---|
//! | [`repository`] | the repository as text, for the tests that read it |
//! | [`require`] | a test that lacks something says so |
//! | [`process`] | programs that a test starts, and ends by their own ids |
//! | [`certificate`] | an authority for the test's TLS |
//! | [`backend`], [`sockets`], [`body`] | an ordinary backend, and bodies too large to hold |
//! | [`client`] | WebSocket, HTTP or raw bytes to a node |
//! | [`stories`] | what clients do, told once for direct and relayed |

pub mod backend;
pub mod body;
pub mod certificate;
pub mod client;
pub mod process;
pub mod repository;
pub mod require;
pub mod sockets;
pub mod stories;
