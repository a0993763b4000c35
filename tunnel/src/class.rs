//! Service classes: what waits for whom.

/// What a QUIC connection inside the tunnel carries.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Class {
    /// What somebody waits for: small frames. Shielded against loss.
    Chat,
    /// Large frames and bodies. Never shielded, and never before chat.
    Bulk,
}
