//! WireGuard in user space: a device over boringtun, a batched UDP driver, and a UDP socket inside the tunnel for QUIC.
