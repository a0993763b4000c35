//! Who there is in a world.

use std::fmt;

/// A machine with a network of its own. Its process may be another one after a restart.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Site {
    /// The one gateway.
    Gateway,
    /// A regional relay.
    Node(u8),
    /// A far end.
    Core(u8),
    /// The user's servers.
    Backend,
    /// A person's machine.
    Client(u8),
}

impl Site {
    /// The index of a node, a core or a client; 0 for the others.
    #[must_use]
    pub fn index(self) -> usize {
        match self {
            Self::Node(index) | Self::Core(index) | Self::Client(index) => usize::from(index),
            Self::Gateway | Self::Backend => 0,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gateway => f.write_str("gateway"),
            Self::Node(index) => write!(f, "node{index}"),
            Self::Core(index) => write!(f, "core{index}"),
            Self::Backend => f.write_str("backend"),
            Self::Client(index) => write!(f, "client{index}"),
        }
    }
}
