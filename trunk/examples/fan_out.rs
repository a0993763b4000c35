//! What a fan-out puts on the wire: the same kilobyte to a thousand sessions, and as many bytes
//! that are all different.
//!
//! `cargo run --release -p antipode-trunk --example fan_out [sessions] [bytes]`
#![allow(clippy::print_stdout, reason = "a table for people")]

use std::net::Ipv6Addr;

use antipode_proto::trunk::v1::{Chunk, RequestHead, ResponseHead};
use antipode_runtime::clock;
use antipode_trunk::{Bare, Body, Metrics, NodeIdentity, SessionConfig, SessionPort};
use bytes::Bytes;
use prost::Message;

const LANES: u32 = 64;
const ROUNDS: u32 = 20;

/// HTTP/2's and gRPC's headers of a message.
const MESSAGE_OVERHEAD_BYTES: usize = 9 + 5;

fn main() {
    let mut given = std::env::args().skip(1).map(|arg| arg.parse().expect("a number"));
    let (sessions, bytes) = (given.next().unwrap_or(1_000), given.next().unwrap_or(1_024));
    println!("{sessions} sessions, {bytes} bytes to each, {LANES} lanes, mean of {ROUNDS} rounds");
    println!("| payloads | bytes on the wire | of what was told | µs a session |");
    println!("|---|---|---|---|");
    for (name, same) in [("all different", false), ("all the same", true)] {
        let (wire, micros) = measure(sessions, bytes, same);
        let told = sessions * bytes;
        let share = f64::from(u32::try_from(wire * 1000 / told).unwrap_or(u32::MAX)) / 10.0;
        println!("| {name} | {wire} | {share} % | {micros:.2} |");
    }
}

/// Bytes from core to node in one round, and how long both ends take over it.
fn measure(sessions: usize, bytes: usize, same: bool) -> (usize, f64) {
    let mut ends = Ends::new(sessions);
    let (mut wire, mut spent) = (0, std::time::Duration::ZERO);
    for round in 0..ROUNDS {
        let payloads: Vec<_> = (0..sessions)
            .map(|session| {
                let salt = if same { 0 } else { session };
                let mut payload = vec![b'.'; bytes.max(16)];
                payload[..8].copy_from_slice(&round.to_le_bytes().repeat(2));
                payload[8..16].copy_from_slice(&salt.to_le_bytes());
                Bytes::from(payload)
            })
            .collect();
        let start = clock::now();
        for (port, payload) in ends.backends.iter().zip(payloads) {
            let chunk = Chunk { frame: Some(0x81), payload, ..Chunk::default() };
            port.send(chunk.into()).expect("alive");
        }
        wire += ends.carry();
        spent += clock::now() - start;
        ends.read();
    }
    let rounds = usize::try_from(ROUNDS).expect("small");
    let told = u32::try_from(sessions).expect("a number of sessions") * ROUNDS;
    (wire / rounds, spent.as_secs_f64() * 1e6 / f64::from(told))
}

struct Ends {
    node: Bare,
    core: Bare,
    clients: Vec<SessionPort>,
    backends: Vec<SessionPort>,
}

impl Ends {
    fn new(sessions: usize) -> Self {
        let (config, name) = (SessionConfig::default(), "node".to_owned());
        let (member_id, region) = (name.clone(), name.clone());
        let identity = NodeIdentity { member_id, name, region, address: Ipv6Addr::LOCALHOST };
        let node = Bare::node(LANES, config, Metrics::default());
        let core = Bare::core(LANES, config, Metrics::default(), identity, sessions);
        let mut ends = Self { node, core, clients: Vec::new(), backends: Vec::new() };
        for lane in 0..LANES {
            ends.core.lane_up(lane);
            ends.node.lane_up(lane);
        }
        for _ in 0..sessions {
            ends.clients.push(ends.node.open(RequestHead::default()).expect("lanes are up"));
            ends.carry();
            let port = ends.core.next_incoming().expect("it was opened").port;
            port.send(ResponseHead { status: 101, ..ResponseHead::default() }.into())
                .expect("alive");
            ends.backends.push(port);
        }
        ends.carry();
        ends.read();
        ends
    }

    /// Everything both ends have for each other; says what went down.
    fn carry(&mut self) -> usize {
        let later = clock::now() + std::time::Duration::from_secs(1);
        let mut wire = 0;
        for lane in 0..LANES {
            while let Some(batch) = self.node.collect_batch(lane, later) {
                self.core.handle_batch(lane, batch).expect("the protocol is kept");
            }
            while let Some(batch) = self.core.collect_batch(lane, later) {
                // As it would cross: encoded, and decoded at the other end.
                let bytes = Bytes::from(batch.encode_to_vec());
                wire += bytes.len() + MESSAGE_OVERHEAD_BYTES;
                let batch = Message::decode(bytes).expect("just encoded");
                self.node.handle_batch(lane, batch).expect("the protocol is kept");
            }
        }
        wire
    }

    fn read(&self) {
        for client in &self.clients {
            while let Ok(Some(delivery)) = client.try_deliver() {
                client.consumed(delivery.seq);
                if let Body::Chunk(chunk) = delivery.body {
                    assert!(!chunk.payload.is_empty(), "it arrived whole");
                }
            }
        }
    }
}
