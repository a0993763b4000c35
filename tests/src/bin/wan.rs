//! Joins two network namespaces by a wide-area link, whose conditions are changed by JSON lines on
//! standard input (see `antipode_tests::wan::command`). It ends with its input. Needs root.

use antipode_tests::wan::{End, Plan, Wan, command};
use clap::Parser;

/// A wide-area link between two network namespaces.
#[derive(Clone, Debug, Parser)]
struct Args {
    /// Namespace of the left side, as `ip netns` names it [default: the one this runs in].
    #[arg(long)]
    left: Option<String>,
    /// Namespace of the right side, as `ip netns` names it [default: the one this runs in].
    #[arg(long)]
    right: Option<String>,
    /// Addresses of the left interface, with their prefix lengths.
    #[arg(long, value_delimiter = ',', default_value = "10.9.0.1/24,fd09::1/64")]
    left_address: Vec<String>,
    /// Addresses of the right interface, with their prefix lengths.
    #[arg(long, value_delimiter = ',', default_value = "10.9.0.2/24,fd09::2/64")]
    right_address: Vec<String>,
    /// Name of the left interface.
    #[arg(long, default_value = "wan0")]
    left_name: String,
    /// Name of the right interface.
    #[arg(long, default_value = "wan0")]
    right_name: String,
    /// All chance comes from it.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn main() -> anyhow::Result<()> {
    let args = Args::parse();
    let end = |namespace, interface, addresses| End { namespace, interface, addresses };
    let plan = Plan {
        left: end(args.left, args.left_name, args.left_address),
        right: end(args.right, args.right_name, args.right_address),
        seed: args.seed,
    };
    command::obey(&Wan::start(&plan)?, std::io::stdin().lock())
}
