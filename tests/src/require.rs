//! Tests that need what a bare machine lacks: skipped aloud, or failed where nothing may be
//! skipped.

use std::io::Write;

/// Set to 1 where a skipped test is a failed one, as in CI.
pub const REQUIRE_ALL: &str = "ANTIPODE_REQUIRE_ALL";

/// Says whether a test may go on: true if `found`; otherwise tells what is missing.
///
/// The line goes straight to standard error, so that it shows without `--nocapture`.
///
/// # Panics
///
/// If something is missing and [`REQUIRE_ALL`] is 1.
#[must_use]
pub fn require(need: &str, found: bool) -> bool {
    if found {
        return true;
    }
    let all = std::env::var(REQUIRE_ALL).is_ok_and(|value| value == "1");
    assert!(!all, "needs {need}, and {REQUIRE_ALL}=1 lets nothing be skipped");
    let thread = std::thread::current();
    let test = thread.name().unwrap_or("a test");
    // Nobody to tell if standard error is closed.
    drop(writeln!(std::io::stderr(), "skipped: {test} needs {need}"));
    false
}
