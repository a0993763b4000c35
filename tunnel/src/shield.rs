//! The loss shield: small datagrams are sent again, a little later, where datagrams get lost.
//!
//! A copy is the same WireGuard message, encrypted once: whichever comes first counts, and the
//! receiver's replay window throws the other away. Any standard WireGuard peer understands it, and
//! each end shields what it sends.
//!
//! | module | idea it hides |
//! |---|---|
//! | `policy` | how many copies, and how far apart, from loss, bursts and queues |
//! | `memory` | what one has to wait for to know a path's loss and its bursts |
//! | `brake` | no copies on a full link |
//! | `trial` | no copies where they cause the loss |
//! | `budget` | what copies may cost, small datagrams first |
//! | `dose` | all of it together, for one peer |
//! | `guard` | one peer's shield, as its senders meet it |
//! | `inferred` | loss and queues from QUIC, where a peer answers no probes |
//! | `delayed` | copies that wait for their time |
//! | `driver` | the task that decides, and that sends what is due |
//! | `metrics` | the shield's series |

mod brake;
mod budget;
mod delayed;
mod dose;
mod driver;
mod guard;
mod inferred;
mod memory;
mod metrics;
mod policy;
mod trial;

#[cfg(test)]
mod tests;

pub use delayed::SHIELD_QUEUE_BYTES_MAX;
pub use dose::Refusal;
pub use driver::ShieldConfig;
pub(crate) use driver::{Sent, Shield};
pub(crate) use guard::Guard;
pub use guard::{QuicCounts, ShieldReport};
pub use metrics::ShieldMetrics;
pub use policy::{Plan, ShieldState};
