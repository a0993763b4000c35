//! The demo's program. This file only wires: arguments in, exit code out.

use std::process::ExitCode;
use std::time::Duration;

use antipode_demo::args::Args;
use antipode_demo::{run, say};
use antipode_runtime::crypto;
use antipode_runtime::telemetry::chain;
use clap::Parser;
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    let args = Args::parse();
    // Quiet unless asked: the screen belongs to the demo's own words. quinn calls it an error
    // that a tunnel stops.
    let filter = EnvFilter::try_from_env("ANTIPODE_LOG")
        .unwrap_or_else(|_| EnvFilter::new("error,quinn=off"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    crypto::install();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            say::progress(&format!("antipode-demo: no runtime: {error}"));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(run::run(&args));
    // Whatever doesn't stop when told to must not keep the terminal.
    runtime.shutdown_timeout(Duration::from_millis(200));
    match outcome {
        Ok(run::Outcome::Good) => ExitCode::SUCCESS,
        Ok(run::Outcome::Failed) => ExitCode::FAILURE,
        Err(error) => {
            say::progress(&format!("antipode-demo: {}", chain(&error)));
            ExitCode::FAILURE
        }
    }
}
