//! What the ways to a peer cost, beside one another; and what it costs to measure them.
//!
//! `cargo run --release -p antipode-tunnel --example ways loopback [SECONDS]`: bulk and echoes by
//! UDP, by a stream and through a neighbour, all on this machine. `link WAN [SECONDS]`, as root:
//! UDP and a stream over an emulated link of 200 ms (`cargo build --release -p antipode-tests --bin
//! wan` makes WAN). `probes [PEERS] [SECONDS]`: a core that probes so many peers, and answers them.
//! Each prints one JSON line a case; compare lines of one run only.

#![allow(clippy::print_stdout, reason = "a measurement prints its figures")]

#[allow(dead_code, clippy::unwrap_used, reason = "a certificate of one's own making is good")]
#[path = "../../tests/certified/mod.rs"]
mod certified;
mod ends;
mod link;
mod probes;
mod transfer;
mod worker;

use std::error::Error;
use std::time::Duration;

use transfer::{Carrier, Place};

/// As the programs have it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let seconds =
        |text: Option<&&str>| text.map_or(Ok(10), |text| text.parse()).map(Duration::from_secs);
    match words.as_slice() {
        ["loopback", rest @ ..] => {
            for carrier in [Carrier::Udp, Carrier::Stream, Carrier::Through] {
                transfer::measure(&Place::loopback(), carrier, seconds(rest.first())?)?;
            }
            Ok(())
        }
        ["link", wan, rest @ ..] => link::measure(wan, seconds(rest.first())?),
        ["probes", rest @ ..] => {
            let peers = rest.first().map_or(Ok(1000), |text| text.parse())?;
            probes::measure(peers, seconds(rest.get(1))?)
        }
        _ => Err("ways loopback|link WAN|probes [PEERS] [SECONDS]".into()),
    }
}
