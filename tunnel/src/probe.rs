//! Path probes: authenticated datagrams beside WireGuard's that measure one way to a peer.
//!
//! WireGuard's own messages can't: each one moves the endpoint of whoever gets it. A probe goes out
//! on a way, the peer echoes it the way it came, and the echo tells the round trip and how many of
//! our datagrams had arrived there. Peers that are another's WireGuard drop it, as they drop
//! whatever is no message of theirs.

pub mod codec;
