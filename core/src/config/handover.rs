//! `[handover]`: how a new process takes over from the one that serves.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Under `member.state_dir`.
const SOCKET: &str = "handover.sock";

/// `[handover]`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HandoverTable {
    /// Whether a process offers its sessions to a successor, and takes those of a predecessor.
    pub enabled: bool,
    /// Where the two meet.
    socket: Option<PathBuf>,
    /// How long HTTP exchanges and upgrades under way may take to end before the sessions move.
    #[serde(with = "humantime_serde")]
    pub exchange_grace: Duration,
    /// What the command line says of it.
    #[serde(skip)]
    pub take_over: TakeOver,
}

/// Whether a process that starts takes over from one that serves.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum TakeOver {
    /// If there is one.
    #[default]
    Auto,
    /// There has to be one.
    Always,
    /// Even if there is one, which then still has the ports.
    Never,
}

impl Default for HandoverTable {
    fn default() -> Self {
        Self {
            enabled: true,
            socket: None,
            exchange_grace: Duration::from_secs(2),
            take_over: TakeOver::Auto,
        }
    }
}

impl HandoverTable {
    /// Where predecessor and successor meet.
    #[must_use]
    pub fn socket(&self, state_dir: &Path) -> PathBuf {
        self.socket.clone().unwrap_or_else(|| state_dir.join(SOCKET))
    }
}
