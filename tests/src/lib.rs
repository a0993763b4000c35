//! What needs more than one crate: end to end, conformance, namespaces, benchmarks, tidiness.
//!
//! | module | what |
//! |---|---|
//! | [`repository`] | the repository as text, for the tests that read it |

pub mod repository;
