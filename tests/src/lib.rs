//! What needs more than one crate: end to end, conformance, namespaces, benchmarks, tidiness.
