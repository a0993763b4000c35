//! The operator's commands: they ask a running gateway over its Unix socket and print the answer.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "commands print for people")]

mod ask;
mod leave;
mod links;
mod routes;
mod show;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use antipode_runtime::config::{self, ConfigError};
use antipode_runtime::telemetry::chain;
use clap::{Args, Subcommand, ValueEnum};

pub use ask::AskError;

use crate::config::Config;
use crate::member::Role;
use crate::operator::SOCKET_FILE;

/// What the program can do beside serving.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve until told to stop; also what happens without a command
    Serve,
    /// Make a token with which nodes and cores join
    #[command(subcommand)]
    Token(TokenCommand),
    /// List nodes and cores, how well they are and why
    #[command(visible_alias = "members")]
    Nodes(Output),
    /// List tunnels: the way each takes, its round trip, queue, jitter, loss and copies against it
    Links(Output),
    /// Show the mesh: who sends whose datagrams on, and whose datagrams go through whom now
    Routes(Output),
    /// Make a node or core leave: it takes no new session, its clients go elsewhere one after
    /// another, and it stops when they have gone, or at the end of the grace
    #[command(
        after_help = "A node whose clients speak antipode.resume.v1 loses none of them. The \
        command shows how far it is until it has stopped; Ctrl-C leaves only the command.\n\
        To take it back into service, start it again."
    )]
    Drain {
        /// Its name (or its id), as `nodes` shows it
        name: String,
        /// How long its sessions have, such as 10m [default: the drain_grace of its own file]
        #[arg(long, value_parser = humantime::parse_duration)]
        grace: Option<Duration>,
        /// Why, for its log
        #[arg(long, default_value = "told by the operator")]
        reason: String,
        /// Say what was begun, and don't wait for its end
        #[arg(long)]
        no_wait: bool,
        /// How the answer is printed
        #[command(flatten)]
        output: Output,
    },
    /// Take a node or core off: its certificate is worth nothing at once, and its peers drop it
    Remove {
        /// Its name (or its id), as `nodes` shows it
        name: String,
        /// How the answer is printed
        #[command(flatten)]
        output: Output,
    },
}

/// What can be done with tokens.
#[derive(Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a join token and print it once; it is kept as a hash only
    #[command(after_help = "Example, on the gateway's host:\n  \
        antipode-gateway token create --role node --ttl 1h > join.token\n\
        Then copy join.token to the node, name it as join_token_file in its configuration, and \
        start the node.")]
    Create {
        /// What joins with it
        #[arg(long, value_enum)]
        role: RoleArg,
        /// How many may join with it
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
        uses: u32,
        /// How long it can be used, such as 30m, 1h or 7d
        #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// How the answer is printed
        #[command(flatten)]
        output: Output,
    },
}

/// How the answer is printed, and whom to ask.
#[derive(Args, Clone, Debug)]
pub struct Output {
    /// Print JSON, for programs
    #[arg(long)]
    json: bool,
    /// The running gateway's socket [default: admin.sock in the configuration's state_dir]
    #[arg(long, value_name = "FILE", env = "ANTIPODE_GATEWAY_SOCKET")]
    socket: Option<PathBuf>,
}

/// A role on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum RoleArg {
    /// A regional relay
    Node,
    /// The far end, beside the backend
    Core,
}

/// Runs one command against the gateway that `config` describes. `None`: [`Command::Serve`].
#[must_use]
pub fn run(command: &Command, config: Option<&Path>) -> Option<ExitCode> {
    let output = match command {
        Command::Serve => return None,
        Command::Nodes(output)
        | Command::Links(output)
        | Command::Routes(output)
        | Command::Remove { output, .. }
        | Command::Drain { output, .. } => output,
        Command::Token(TokenCommand::Create { output, .. }) => output,
    };
    let socket = match socket(output, config) {
        Ok(socket) => socket,
        Err(error) => return Some(fail(&error)),
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return Some(fail(&error)),
    };
    Some(match runtime.block_on(answer(command, &socket)) {
        Ok(text) => {
            println!("{}", text.trim_end());
            ExitCode::SUCCESS
        }
        Err(error) => fail(&error),
    })
}

async fn answer(command: &Command, socket: &Path) -> Result<String, AskError> {
    match command {
        Command::Serve => Ok(String::new()),
        Command::Token(TokenCommand::Create { role, uses, ttl, output }) => {
            let created = ask::create_token(socket, role.role(), *uses, *ttl).await?;
            if output.json {
                return Ok(show::token_json(&created, role.role(), *uses));
            }
            eprintln!(
                "Lets {uses} {}{} join within {}. It is shown once: put it into a file on the \
                 {0}'s host that only its user can read.",
                role.role().label(),
                if *uses == 1 { "" } else { "s" },
                humantime::format_duration(*ttl),
            );
            Ok(created.token)
        }
        Command::Nodes(output) => {
            let members = ask::members(socket).await?;
            let show = if output.json { show::members_json } else { show::members_table };
            Ok(show(&members))
        }
        Command::Links(output) => {
            let members = ask::members(socket).await?;
            let show = if output.json { links::links_json } else { links::links_table };
            Ok(show(&members))
        }
        Command::Routes(output) => {
            let members = ask::members(socket).await?;
            let show = if output.json { routes::routes_json } else { routes::routes_table };
            Ok(show(&members))
        }
        Command::Drain { name, grace, reason, no_wait, output } => {
            let begun = ask::drain(socket, name, reason, *grace).await?;
            if !output.json {
                eprintln!("{}", leave::begun(name, &begun, *grace));
            }
            if !no_wait {
                leave::watch(socket, &begun.member_id, *grace, |line| eprintln!("{line}")).await?;
            }
            if output.json {
                return Ok(leave::json(&begun, *no_wait));
            }
            Ok(leave::next_step(name, *no_wait))
        }
        Command::Remove { name, output } => {
            let member_id = ask::remove(socket, name).await?;
            if output.json {
                return Ok(serde_json::json!({ "member_id": member_id }).to_string());
            }
            Ok(format!("Removed {name} ({member_id}). To join again it needs a new token."))
        }
    }
}

impl RoleArg {
    fn role(self) -> Role {
        match self {
            Self::Node => Role::Node,
            Self::Core => Role::Core,
        }
    }
}

/// The socket named, else the one of the configuration named, else of the default one if it is
/// there, else the default state directory's.
fn socket(output: &Output, named: Option<&Path>) -> Result<PathBuf, ConfigError> {
    if let Some(socket) = &output.socket {
        return Ok(socket.clone());
    }
    let usual = Path::new("/etc/antipode/gateway.toml");
    let state_dir = match named {
        Some(path) => config::load::<Config>(path)?.state_dir,
        None if usual.exists() => config::load::<Config>(usual)?.state_dir,
        None => Config::default().state_dir,
    };
    Ok(state_dir.join(SOCKET_FILE))
}

fn fail(error: &(dyn std::error::Error + 'static)) -> ExitCode {
    eprintln!("error: {}", chain(error));
    ExitCode::FAILURE
}
