//! A path that comes to carry larger packets: bulk goes in larger ones then, without a new trunk.

use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::Client;
use antipode_tests::far::Family::V4;
use antipode_tests::far::Ground;
use antipode_tests::namespaces::{NEED_ROOT, has_root};
use antipode_tests::report::progress;
use antipode_tests::require::require;
use antipode_tests::stories;
use anyhow::ensure;
use tokio::time::Instant;

/// Lets QUIC's least packets through, 1,308 bytes over IPv4, and full probes of 1,340, which say
/// nothing of what is dropped.
const SMALL: &str = r#"{"delay_ms": 25, "mtu": 1360, "icmp": false}"#;
/// Packets of the largest size are 1,480 bytes long; some are shorter.
const LARGE_BYTES: u64 = 1400;
const BODY_BYTES: u64 = 2_000_000;
/// Larger packets are tried again each minute.
const PATIENCE: Duration = Duration::from_secs(150);

#[tokio::test(flavor = "multi_thread")]
async fn the_mtu_rises_without_a_word() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(());
    }
    let ground = Ground::make(&[(V4, SMALL)])?;
    let backend = Backend::start(ground.lab.here)?;
    let world = ground.world(backend.address()).await?;
    let client = world.client(0);
    let before = packet_bytes(&ground, &client).await?;
    ensure!(before <= 1360, "packets of {before} bytes went where none fits");
    ensure!(before > 1200, "packets of {before} bytes: the body went another way");

    ground.change(0, r#"{"mtu": 1500}"#)?;
    let start = Instant::now();
    loop {
        let after = packet_bytes(&ground, &client).await?;
        let took = start.elapsed();
        if after >= LARGE_BYTES {
            progress(&format!("packets of {before} bytes became {after} after {took:?}"));
            return Ok(());
        }
        ensure!(took < PATIENCE, "packets of {before} bytes are {after} after {took:?}");
        tokio::time::sleep(Duration::from_secs(2)).await;
    }
}

/// The mean length of packets from the core to the node, while a body goes there.
async fn packet_bytes(ground: &Ground, client: &Client) -> anyhow::Result<u64> {
    let passed = || {
        let counters = ground.links[0].stats().down.counters;
        (counters.packets, counters.bytes)
    };
    let before = passed();
    stories::download(client, BODY_BYTES).await?;
    let after = passed();
    Ok((after.1 - before.1) / (after.0 - before.0).max(1))
}
