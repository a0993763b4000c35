//! The wide area, simulated on loopback: relays that hold every byte as long as
//! the distance takes.
//!
//! They delay and do nothing else: no loss, no limit of bandwidth, no jitter but the machine's own.

mod tcp;
mod udp;

pub use tcp::TcpRelay;
pub use udp::UdpRelay;

#[cfg(test)]
mod tests;
