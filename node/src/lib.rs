//! The regional relay: ends clients' TLS and WebSockets and carries their sessions to the core.
