//! What can be wrong with a message.

/// A message that no peer of this version sends. The attachment that brought it is to be closed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum DecodeError {
    /// The message stops in the middle of a field.
    #[error("the message is cut short")]
    Short,
    /// Bytes after the last field.
    #[error("bytes after the last field")]
    Trailing,
    /// A first byte that this version does not know.
    #[error("unknown kind {0}")]
    Kind(u8),
    /// Another version of the protocol.
    #[error("version {0}, but this end speaks 1")]
    Version(u64),
    /// An integer with bytes that say nothing, or above 2^53 - 1.
    #[error("an integer out of form")]
    Integer,
    /// A field beyond its limit, or a value that it can't have.
    #[error("{0} out of bounds")]
    Bounds(&'static str),
    /// Text that is not UTF-8.
    #[error("text that is not UTF-8")]
    Text,
    /// Flags of a chunk that this version does not know, or that contradict each other.
    #[error("unknown flags {0:#04x}")]
    Flags(u8),
}

impl DecodeError {
    /// A short name, from a closed set.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Trailing => "trailing",
            Self::Kind(_) => "kind",
            Self::Version(_) => "version",
            Self::Integer => "integer",
            Self::Bounds(_) => "bounds",
            Self::Text => "text",
            Self::Flags(_) => "flags",
        }
    }
}
