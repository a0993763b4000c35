//! Faults from outside: what breaks, who notices, and what a history says about it.
//!
//! | module | what |
//! |---|---|
//! | [`wire`] | the link between nodes and core, which can be cut and rebound |
//! | [`road`] | the way of clients to a node, which can strand them |
//! | [`ledger`] | a backend that numbers what it sends and writes down what it gets |
//! | [`crowd`], [`resumable`] | plain and resumable clients that do the same |
//! | [`history`] | the judge: lost, duplicated, reordered, and when traffic flowed again |
//! | [`stage`] | a world with a wire, roads and a ledger, and clients on it |
//! | [`scenes`] | each fault, told once for the tests and for the table |

pub mod crowd;
pub mod history;
pub mod ledger;
pub mod resumable;
pub mod road;
pub mod scenes;
pub mod stage;
pub mod wire;

use std::time::Duration;

/// Milliseconds since 1970: the one time that programs of several processes share.
#[must_use]
#[allow(clippy::disallowed_methods, reason = "times of several processes are compared")]
pub fn unix_ms() -> u64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// Waits until `done` says so.
///
/// # Errors
///
/// If it does not within `limit`; `what` is named.
pub async fn until(
    what: &str,
    limit: Duration,
    mut done: impl FnMut() -> bool,
) -> anyhow::Result<()> {
    const STEP: Duration = Duration::from_millis(20);
    let mut waited = Duration::ZERO;
    while !done() {
        anyhow::ensure!(waited < limit, "{what}: not within {limit:?}");
        tokio::time::sleep(STEP).await;
        waited += STEP;
    }
    Ok(())
}
