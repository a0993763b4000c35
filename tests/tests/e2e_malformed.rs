//! Bad input: each gets the right status or close code, and the node goes on serving others.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use antipode_tests::backend::Backend;
use antipode_tests::client::Client;
use antipode_tests::raw::{UPGRADE, close_after, head, masked};
use antipode_tests::stories::echo;
use antipode_tests::world::{Plan, World};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;

const LIMIT: Duration = Duration::from_secs(10);
const FRAME_BYTES_MAX: usize = 100_000;

async fn start() -> anyhow::Result<(Backend, World)> {
    let backend = Backend::start(IpAddr::V4(Ipv4Addr::LOCALHOST))?;
    let plan = Plan {
        node_more: format!("[session]\nframe_bytes_max = {FRAME_BYTES_MAX}\n"),
        ..Plan::with_backend(backend.address())
    };
    Ok((backend, World::start(plan).await?))
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_upgrades_are_answered() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    let client = world.client(0);
    let long = format!("Cookie: {}", "x".repeat(40_000));
    let cases: [(&str, usize, &[&str], u16); 14] = [
        ("as it should be", 0, &[UPGRADE[0]], 101),
        ("another method", 0, &["POST / HTTP/1.1"], 405),
        ("HTTP/1.0", 0, &["GET / HTTP/1.0"], 400),
        ("no host", 1, &[], 400),
        ("two hosts", 1, &["Host: a.example", "Host: b.example"], 400),
        ("a host that is none", 1, &["Host: a b"], 400),
        ("no version", 4, &[], 426),
        ("an older version", 4, &["Sec-WebSocket-Version: 8"], 426),
        ("no key", 5, &[], 400),
        ("two keys", 5, &[UPGRADE[5], UPGRADE[5]], 400),
        ("a short key", 5, &["Sec-WebSocket-Key: c2hvcnQ="], 400),
        ("a key that is no base64", 5, &["Sec-WebSocket-Key: !!!!!!!!!!!!!!!!!!!!!!!!"], 400),
        ("a header too long", 1, &[UPGRADE[1], &long], 431),
        ("no request at all", 0, &["\u{1}\u{2}\u{3}"], 400),
    ];
    for (what, line, instead, expected) in cases {
        let mut lines = UPGRADE.to_vec();
        lines.splice(line..=line, instead.iter().copied());
        let answer = upgrade(&client, &lines).await?;
        let status = answer.split(' ').nth(1).unwrap_or("nothing");
        assert_eq!(status, expected.to_string(), "{what}: {answer}");
        if expected == 426 {
            let answer = answer.to_lowercase();
            assert!(answer.contains("sec-websocket-version: 13"), "{what}: {answer}");
        }
    }
    still_serves(&client).await
}

#[tokio::test(flavor = "multi_thread")]
async fn malformed_frames_are_closed_with_their_code() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    let client = world.client(0);
    let cases: [(&str, Vec<u8>, u16); 17] = [
        ("not masked", vec![0x81, 1, b'a'], 1002),
        ("RSV1 without an extension", masked(0xC1, b"a"), 1002),
        ("RSV2", masked(0xA1, b"a"), 1002),
        ("RSV3", masked(0x91, b"a"), 1002),
        ("opcode 3", masked(0x83, b"a"), 1002),
        ("opcode 11", masked(0x8B, b"a"), 1002),
        ("a ping in fragments", masked(0x09, b"a"), 1002),
        ("a ping of 126 bytes", masked(0x89, &[7; 126]), 1002),
        ("a continuation of nothing", masked(0x80, b"a"), 1002),
        ("a new text inside a text", [masked(0x01, b"a"), masked(0x81, b"b")].concat(), 1002),
        ("a length in too many bytes", vec![0x82, 0xFE, 0, 1, 0, 0, 0, 0, b'a'], 1002),
        ("a length of 2^63", [vec![0x82, 0xFF, 0x80], vec![0; 11]].concat(), 1002),
        ("text that is not UTF-8", masked(0x81, &[0xC0, 0x80]), 1007),
        ("a frame over the limit", masked(0x82, &vec![0; FRAME_BYTES_MAX + 1]), 1009),
        ("a close of one byte", masked(0x88, &[3]), 1002),
        ("a close code nobody may send", masked(0x88, &1005_u16.to_be_bytes()), 1002),
        ("a close reason that is not UTF-8", masked(0x88, &[0x03, 0xE8, 0xFF]), 1007),
    ];
    for (what, frame, expected) in cases {
        let close = close_after(&client, "/", &frame).await?;
        assert_eq!(close, Some(expected), "{what}");
    }
    still_serves(&client).await
}

/// Frames that arrive in the same packet as the upgrade request are not lost.
#[tokio::test(flavor = "multi_thread")]
async fn frames_right_behind_the_upgrade_count() -> anyhow::Result<()> {
    let (_backend, world) = start().await?;
    let bytes = [head(&UPGRADE).as_bytes(), &masked(0x81, b"early"), &masked(0x88, &[])].concat();
    let answer = world.client(0).raw(&bytes, LIMIT).await?;
    assert!(answer.starts_with(b"HTTP/1.1 101 "), "{}", String::from_utf8_lossy(&answer));
    assert!(answer.ends_with(b"\x81\x05early\x88\x00"), "{}", String::from_utf8_lossy(&answer));
    Ok(())
}

/// Sends the request and returns the answer's head.
async fn upgrade(client: &Client, lines: &[&str]) -> anyhow::Result<String> {
    let mut stream = client.stream().await?;
    stream.write_all(head(lines).as_bytes()).await?;
    let mut answer = Vec::new();
    let read = async {
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(stream.read_u8().await?);
        }
        std::io::Result::Ok(())
    };
    // A stream that ends early, or says nothing: what came is the answer.
    drop(timeout(LIMIT, read).await);
    Ok(String::from_utf8(answer)?)
}

async fn still_serves(client: &Client) -> anyhow::Result<()> {
    echo(&mut client.open("/").await?, Message::text("are you there?")).await
}
