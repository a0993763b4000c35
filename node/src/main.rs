//! The regional node. This file only wires: settings in, exit code out.

use std::process::ExitCode;

use antipode_node::app::App;
use antipode_node::config::Config;
use antipode_runtime::program::{self, Program};
use clap::Parser;

/// glibc keeps what sessions have freed; mimalloc gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Ends clients' TLS and WebSockets in one region and carries their sessions to the core.
#[derive(Debug, Parser)]
#[command(name = "antipode-node", version)]
struct Args {
    #[command(flatten)]
    program: program::Args,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let node = Program { name: "node", version: env!("CARGO_PKG_VERSION") };
    node.run(&args.program, async |config: Config, shutdown| App::start(config, shutdown).await)
}
