//! WireGuard in user space: a device over boringtun, a batched UDP driver, and a UDP socket inside
//! the tunnel for QUIC.
//!
//! | module | idea it hides |
//! |---|---|
//! | [`key`] | X25519 keys on disk and in text, and the tunnel address that a public key gives |
//! | [`cidr`] | allowed IPs, and the table that finds a peer by inner address |
//! | `admission` | who may cost us a handshake: global load, one source's share, cookies |
//! | `peer` | a peer as it should be and as it is |
//! | `link` | boringtun's calling rules for one peer, keep-alives, the watchdog |
//! | [`device`] | many peers behind one socket: dispatch, allowed IPs, roaming, timers |
//! | [`packet`] | IPv6 and UDP headers, built and read |
//! | `inbox` | bounded queues of what arrived for a socket inside the tunnel |
//! | `outer` | the real UDP socket: segmentation offload out, batches in |
//! | [`way`] | how datagrams get to a peer: UDP, a stream, through a neighbour |
//! | `exits` | where datagrams leave, by way |
//! | [`tunnel`] | [`Tunnel`], the handle that programs hold |
//! | `shared` | what its tasks share, and the driver |
//! | [`stream`] | TLS over TCP in place of UDP: framing, opening, taking |
//! | [`Class`] | what waits for whom |
//! | `send` | padding, encryption and runs on the way out |
//! | `quic` | the socket quinn runs on |
//! | [`congestion`] | how much may be on its way, for as many flows as a connection stands for |
//! | [`tuning`] | quinn's transport settings for paths of 250 ms |
//! | [`hosted`] | the other way: an interface of the host, told its peers with `wg` |
//! | [`underlay`] | one type for both ways |
//! | [`paths`] | which of several ways to a peer its datagrams take |
//! | `path_key` | the key of two peers for what travels beside WireGuard |
//! | [`probe`] | datagrams that measure a way: the wire format, the asking and the answering |
//! | [`quality`] | loss, bursts, round trips and queues of the link with a peer |
//! | [`shield`] | copies of datagrams, where datagrams get lost |
//! | [`forward`] | the mesh: ways through neighbours, and sending on for them |
//! | [`metrics`] | every series this crate exports |
//!
//! The device is as pure as boringtun 0.7.1 lets it be: no socket and no task, `now` is an
//! argument; but boringtun reads the clock itself (handshake timestamps, rekey and expiry timers),
//! so a test can't turn WireGuard's own clock. What is ours (admission, the watchdog) follows the
//! `now` it is given.

mod admission;
pub mod cidr;
mod class;
pub mod congestion;
pub mod device;
mod exits;
pub mod forward;
pub mod hosted;
mod inbox;
pub mod key;
mod link;
pub mod metrics;
mod outer;
pub mod packet;
mod path_key;
pub mod paths;
mod peer;
pub mod probe;
pub mod quality;
mod quic;
mod send;
mod shared;
pub mod shield;
pub mod stream;
pub mod tuning;
pub mod tunnel;
pub mod underlay;
pub mod way;

pub use cidr::Cidr;
pub use class::Class;
pub use forward::ForwarderConfig;
pub use hosted::{HostedError, HostedTunnel};
pub use key::{KeyError, PrivateKey, PublicKey, TRUNK_PORT, tunnel_address};
pub use metrics::Metrics;
pub use paths::{Candidate, StreamTarget};
pub use peer::{PeerConfig, PeerState};
pub use quality::Quality;
pub use stream::{StreamListen, StreamServer, StreamTls};
pub use tuning::{TrunkTuning, transport_config};
pub use tunnel::{BindError, SocketError, Tasks, Tunnel, TunnelConfig};
pub use underlay::Underlay;
pub use way::{StreamId, ThroughId, Way};
