//! The command line.

use std::net::{IpAddr, Ipv4Addr};

use clap::Parser;

use crate::backend::BackendUrl;

/// The page's port unless told otherwise.
pub const PORT: u16 = 4747;

const AFTER_HELP: &str = "\
It starts a gateway, a core \"in Europe\", three nodes (Singapore, Sydney, São Paulo), a chat
server and a page. Everything is real (enrolment, certificates, WireGuard tunnels, trunks) but the
distances: each region's bytes are held for as long as light needs through the fibre to Europe.
Nothing leaves this machine, no privileges are needed, and nothing is left behind.

Examples:
  antipode-demo                                  then open http://127.0.0.1:4747/ in two windows
  antipode-demo --check                          one message through every region, as a table
  antipode-demo --backend http://127.0.0.1:3000  your own server behind the relays
  ANTIPODE_LOG=info antipode-demo                what gateway, core and nodes have to say";

/// Runs all of Antipode on this machine, with real distances simulated.
#[derive(Clone, Debug, Parser)]
#[command(name = "antipode-demo", version, after_help = AFTER_HELP)]
pub struct Args {
    /// Your own server, behind the relays instead of the chat: http, https, ws or wss.
    #[arg(long, value_name = "URL")]
    pub backend: Option<BackendUrl>,
    /// Send one message through every region, print a table, and exit: 0 if all arrived, else 1.
    #[arg(long)]
    pub check: bool,
    /// The page's port; 0 takes any free one. All other ports are free ones anyway.
    #[arg(long, value_name = "N", default_value_t = PORT)]
    pub port: u16,
    /// The address that page and relays listen on; anything but loopback lets others in.
    #[arg(long, value_name = "IP", default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    pub listen: IpAddr,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_are_what_the_help_says() {
        let args = Args::try_parse_from(["antipode-demo"]).unwrap();
        assert_eq!((args.port, args.listen, args.check), (4747, Ipv4Addr::LOCALHOST.into(), false));
        assert!(AFTER_HELP.contains("127.0.0.1:4747"));
    }

    #[test]
    fn mistakes_are_named() {
        for (given, word) in [
            (&["--prot", "1"][..], "--port"),
            (&["--port", "70000"], "70000"),
            (&["--backend", "localhost:3000"], "http://"),
            (&["--listen", "here"], "here"),
        ] {
            let all = std::iter::once(&"antipode-demo").chain(given);
            let error = Args::try_parse_from(all).unwrap_err().to_string();
            assert!(error.contains(word), "{given:?}: {error}");
        }
    }
}
