//! What the demo says once it runs: what listens where, and what to do next.

use std::fmt::Write;
use std::net::SocketAddr;

use crate::args::Args;
use crate::table::{Align, Table};
use crate::world::{Backend, World};

/// How most people start it.
const AGAIN: &str = "cargo run --release -p antipode-demo --";

/// All of it.
#[must_use]
pub fn text(world: &World, page: SocketAddr, args: &Args) -> String {
    let mut text =
        String::from("\nEverything runs. The distances are simulated, the rest is real.\n\n");
    let mut write = |line: &str| writeln!(text, "{line}").expect("a string takes every write");
    write(&regions(world, page).to_string());
    write("");
    match &world.backend {
        Backend::Chat { .. } => {
            write(&format!("  Open http://{page}/ in two windows, choose two places, and chat."));
            write("  Your time zone decides which relay you begin with.");
        }
        Backend::Yours { url, .. } => {
            write(&format!("  Open http://{page}/ for the map and the addresses."));
            write(&format!("  Behind every relay is your own server, {url}."));
        }
    }
    write("");
    write("  Then try:");
    for line in suggestions(world, page, args) {
        write(&format!("    {line}"));
    }
    if !args.listen.is_loopback() {
        write("");
        write("  Page and relays listen beyond this machine: whoever reaches it can use them.");
    }
    write("");
    text.push_str("  Ctrl-C stops everything and leaves nothing behind.");
    text
}

fn suggestions(world: &World, page: SocketAddr, args: &Args) -> Vec<String> {
    let at = |port| SocketAddr::new(page.ip(), port);
    let steer = at(world.steer_port);
    let mut lines =
        vec![format!("curl 'http://{steer}/v1/steer?tz=Asia/Tokyo'    which node is nearest?")];
    if let Some(port) = world.regions.first().and_then(|place| place.relay.tls_port) {
        let time = "-o /dev/null -w '%{time_appconnect} s\\n'";
        lines.push(format!("curl -sk {time} https://{}/    TLS with a relay next door", at(port)));
    }
    if args.backend.is_none() {
        lines.push(format!("{AGAIN} --backend http://127.0.0.1:3000    your own server instead"));
    }
    lines.push(format!("{AGAIN} --check    one message through every region, as a table"));
    lines
}

fn regions(world: &World, page: SocketAddr) -> Table<4> {
    use Align::{Left, Right};
    let head =
        [("region", Left), ("to Europe", Right), ("through its relay", Left), ("directly", Left)];
    let mut table = Table::new(&head);
    for place in &world.regions {
        let ways = |ways: &crate::world::Ways| {
            let url = |scheme: &str, port: Option<u16>| {
                port.map(|port| format!("{scheme}://{}", SocketAddr::from((page.ip(), port))))
            };
            let both = [url("ws", ways.port), url("wss", ways.tls_port)];
            both.into_iter().flatten().collect::<Vec<_>>().join("  ")
        };
        let far = format!("{:.0} ms", place.round_trip_ms);
        table.row([place.city().into(), far, ways(&place.relay), ways(&place.direct)]);
    }
    table
}
