//! The number of a segment within one direction of a session.

use std::fmt;

/// Counts segments from 1; [`Seq::ZERO`] stands for "none yet".
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Seq(u64);

impl Seq {
    /// Before the first segment.
    pub const ZERO: Self = Self(0);

    /// The number as it stands on the wire.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The number after this one. A session of one segment a nanosecond would wrap after 584 years.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.wrapping_add(1))
    }
}

impl From<u64> for Seq {
    fn from(number: u64) -> Self {
        Self(number)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
