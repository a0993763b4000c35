//! The gateway. This file only wires: arguments in, exit code out.

use std::process::ExitCode;

use antipode_gateway::app::App;
use antipode_gateway::cli::{self, Command};
use antipode_runtime::program::{self, Program};
use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The control plane of Antipode: registers nodes and cores, watches their health, and tells
/// clients which node is nearest.
#[derive(Debug, Parser)]
#[command(
    name = "antipode-gateway",
    version,
    after_help = "First steps:\n  \
        1. antipode-gateway --config gateway.toml             serves; a complete example file is \
        deploy/examples/gateway.toml\n  \
        2. antipode-gateway token create --role core > core.token\n  \
        3. antipode-gateway token create --role node > node.token\n  \
        4. start a core and a node with these tokens\n  \
        5. antipode-gateway nodes                             shows them, and how well they are\n\n\
        The commands ask the running gateway over the socket in its state_dir: give them the same \
        --config."
)]
struct Cli {
    #[command(flatten)]
    program: program::Args,
    #[command(subcommand)]
    command: Option<Command>,
}

fn main() -> ExitCode {
    let args = Cli::parse();
    let answered =
        args.command.as_ref().and_then(|command| cli::run(command, args.program.config.as_deref()));
    answered.unwrap_or_else(|| {
        Program { name: "gateway", version: env!("CARGO_PKG_VERSION") }
            .run(&args.program, App::start)
    })
}
