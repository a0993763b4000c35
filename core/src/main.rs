//! The core. This file only wires: settings in, exit code out.

use std::process::ExitCode;

use antipode_core::app::App;
use antipode_core::config::{Config, TakeOver};
use antipode_runtime::program::{self, Program};
use clap::Parser;

/// glibc keeps what sessions have freed; mimalloc gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ends the trunks of all nodes and hands each session to a backend.
#[derive(Debug, Parser)]
#[command(name = "antipode-core", version)]
struct Args {
    #[command(flatten)]
    program: program::Args,
    /// Whether to take over the sessions of a core that serves with the same state directory.
    #[arg(long, value_enum, default_value = "auto")]
    take_over: TakeOver,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let core = Program { name: "core", version: env!("CARGO_PKG_VERSION") };
    core.run(&args.program, async |mut config: Config, shutdown| {
        config.handover.take_over = args.take_over;
        App::start(config, shutdown).await
    })
}
