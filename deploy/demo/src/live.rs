//! What changes while the demo runs: each region's tunnel, as the gateway sees it.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use serde::Serialize;

/// The latest state. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Live {
    state: Arc<Mutex<State>>,
}

/// The state as the page gets it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct State {
    /// By the region's name.
    pub regions: BTreeMap<String, Link>,
}

/// One region's node and its tunnel.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// For the colour of its line.
    pub state: LinkState,
    /// The gateway's word for the node's health, and why.
    pub reason: String,
    /// Client sessions at the node.
    pub sessions: u32,
    /// Between node and core, as the node measures it.
    pub tunnel_round_trip_ms: Option<f64>,
}

/// How a tunnel is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkState {
    /// The node is alive and its trunk is open.
    Up,
    /// The node is suspect, or drains, or its trunk is not open.
    Weak,
    /// The node is dead.
    Down,
    /// It has not joined yet.
    Waiting,
}

impl Live {
    /// The latest state.
    #[must_use]
    pub fn now(&self) -> State {
        self.state.lock().clone()
    }

    /// Replaces it.
    pub fn set(&self, state: State) {
        *self.state.lock() = state;
    }
}
