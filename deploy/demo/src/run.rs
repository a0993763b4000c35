//! The demo's life: start, then serve or check, then stop.

use std::time::Duration;

use antipode_runtime::shutdown::Failure;
use antipode_runtime::telemetry::{chain, terminate};

use tokio::signal::unix::{SignalKind, signal};

use crate::args::Args;
use crate::check;
use crate::greeting;
use crate::say;
use crate::system::{StartError, System};

/// Between two looks at the gateway's register.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How it went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Outcome {
    /// Every message arrived, or it was told to stop.
    Good,
    /// Something failed, and it was said what.
    Failed,
}

/// Runs the demo until it is told to stop, or until its check is done.
///
/// # Errors
/// If it can't start.
pub async fn run(args: &Args) -> Result<Outcome, StartError> {
    let mut stop = std::pin::pin!(told_to_stop());
    let system = tokio::select! {
        started = System::start(args) => started?,
        signal = &mut stop => {
            say::progress(&format!("{signal} while starting: nothing was left behind."));
            return Ok(Outcome::Good);
        }
    };
    let outcome = tokio::select! {
        outcome = serve_or_check(args, &system) => outcome,
        failure = system.failed() => broken(&failure),
        signal = &mut stop => {
            say::progress(&format!("\n{signal}: stopping…"));
            Outcome::Good
        }
    };
    system.stop().await;
    Ok(outcome)
}

/// Waits for a signal. A closed terminal counts too, unless nohup(1) says otherwise: the demo's
/// files are not to be left behind.
async fn told_to_stop() -> &'static str {
    if ignores_hangup() {
        return terminate().await;
    }
    let Ok(mut hangup) = signal(SignalKind::hangup()) else { return terminate().await };
    tokio::select! {
        signal = terminate() => signal,
        _ = hangup.recv() => "SIGHUP",
    }
}

/// Whether SIGHUP was set to be ignored before this program began: bit 0 of proc(5)'s `SigIgn`.
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask & 1 == 1)
}

async fn serve_or_check(args: &Args, system: &System) -> Outcome {
    if args.check {
        say::progress("One message through every region, and the same without a relay…\n");
        let findings = check::run(&system.courses()).await;
        say::line(&check::table(&findings));
        let passed = check::passed(&findings);
        say::line(if passed { "\n  ok" } else { "\n  failed: ANTIPODE_LOG=info says more" });
        return if passed { Outcome::Good } else { Outcome::Failed };
    }
    say::line(&greeting::text(system.world(), system.page(), args));
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        system.look();
    }
}

fn broken(failure: &Failure) -> Outcome {
    say::progress(&format!("antipode-demo: a program of the demo stopped: {}", chain(failure)));
    Outcome::Failed
}
