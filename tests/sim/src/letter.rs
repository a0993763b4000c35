//! What the gateway and the others tell each other. In life these are gRPC streams and HTTP; here
//! a letter that meets a cut path is lost, and the next one says all that counts.

use crate::event::Ms;

/// A message from or to the gateway.
#[derive(Clone, Debug)]
pub enum Letter {
    /// A node's process begins to attend, under a new lease.
    Introduce {
        /// Counts the node's processes.
        lease: u64,
    },
    /// A node's heartbeat.
    Heartbeat {
        /// Of this process.
        lease: u64,
        /// Whether it takes new sessions.
        accepting: bool,
        /// Whether it has a trunk.
        has_trunk: bool,
        /// Sessions there.
        sessions: u32,
    },
    /// A node's kernel closed its stream: the process is gone.
    StreamLost {
        /// Of this process.
        lease: u64,
    },
    /// To a core: this run of a node's process is gone.
    Gone {
        /// The node.
        node: u8,
        /// The run of its process.
        run: u64,
    },
    /// To a node: leave, within this time.
    Drain {
        /// When the rest is cut.
        grace: Ms,
    },
    /// A client asks where to go.
    Ask,
    /// The nodes that a client should try, best first.
    Candidates(Vec<u8>),
}
