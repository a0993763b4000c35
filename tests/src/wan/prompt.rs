//! Threads that run when their time has come, however busy the machine is.

use std::num::NonZeroU64;
use std::process::{Command, Stdio};

/// Before all that have none.
const NICENESS: i32 = -20;

/// Asks the kernel to run this thread as soon as it can: before all ordinary ones, and before
/// real-time ones of a lesser `priority` (1 to 99). Where that is not allowed it does what it can.
pub fn be_prompt(priority: u8) {
    // What is refused shows in the figures of lateness.
    let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
    let _ = rustix::process::setpriority_process(None, NICENESS);
    let thread = rustix::thread::gettid().as_raw_nonzero().to_string();
    let mut command = Command::new("chrt");
    command.args(["--fifo", "--pid", &priority.to_string(), &thread]);
    let _ = command.stdout(Stdio::null()).stderr(Stdio::null()).status();
}
