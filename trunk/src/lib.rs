//! Trunks: lanes of gRPC over QUIC in a tunnel, or over TCP through an interface, and the sessions they carry.
