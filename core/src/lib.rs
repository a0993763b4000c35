//! The far end: ends tunnels and trunks and opens each session's backend.
