//! Antipode's wire contract: the generated types of `proto/antipode`, and the pure machines that
//! give its frames meaning.
//!
//! Nothing here knows a socket, a clock or a source of randomness. The gRPC stubs stand behind the
//! feature `grpc`.

/// Types and stubs made from the `.proto` files.
macro_rules! generated {
    ($name:ident, $package:literal, $doc:literal) => {
        #[doc = $doc]
        pub mod $name {
            /// Version 1.
            pub mod v1 {
                #![allow(
                    clippy::all,
                    clippy::allow_attributes_without_reason,
                    clippy::use_self,
                    clippy::unwrap_used,
                    clippy::too_many_lines,
                    clippy::wildcard_enum_match_arm,
                    missing_docs,
                    missing_debug_implementations,
                    rust_2018_idioms,
                    unreachable_pub,
                    unused_qualifications,
                    reason = "generated code"
                )]
                include!(concat!(env!("OUT_DIR"), "/", $package, ".rs"));
            }
        }
    };
}

pub mod body;
pub mod resume;
pub mod seq;
pub mod session;
pub mod turns;

generated!(trunk, "antipode.trunk.v1", "What a node and a core say to each other.");
generated!(registry, "antipode.registry.v1", "How members join a gateway and report to it.");
generated!(handover, "antipode.handover.v1", "What a core's process gives to the next one.");
generated!(steering, "antipode.steering.v1", "Which node a client should connect to.");

/// The descriptors of all services, for gRPC reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
