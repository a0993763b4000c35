//! A new process of a core takes over from the one that serves: an upgrade that clients don't see.
//!
//! | module | idea |
//! |---|---|
//! | `wire` | messages and descriptors over a Unix socket |
//! | `summons` | how sessions hear of it, and bring themselves |
//! | `predecessor` | the process that serves: listens for a successor, and hands over |
//! | `successor` | the process that starts: finds a predecessor, and takes over |
//!
//! **Invariant:** until the predecessor lets go nothing has happened; from then on it says nothing
//! more of any session.

mod predecessor;
mod successor;
mod summons;
mod wire;

pub(crate) use predecessor::{Linger, Predecessor, listen};
pub(crate) use successor::{Inheritance, Inherited, InheritedAttachment, find};
pub use successor::{SessionError, TakeOverError};
pub(crate) use summons::{Made, Summons, Verdict, Wave};
pub use wire::WireError;

/// The version of `takeover.proto` that this program speaks.
const VERSION: u32 = 1;

/// Most sessions that move; each takes a file of both processes while it does.
const SESSIONS_HANDED_MAX: usize = 20_000;
