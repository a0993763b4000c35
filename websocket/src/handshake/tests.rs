//! Tables for the handshake checks.
