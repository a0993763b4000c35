//! The emulator of wide-area links, seen from outside: by sockets at either end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use antipode_tests::namespaces::{NEED_ROOT, Namespace, has_root};
use antipode_tests::require::require;
use antipode_tests::wan::Way;
use antipode_tests::wan::pair::{LEFT, Pair, RIGHT, connect, listen, udp};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, ip_mtu, set_ip_mtu_discover, set_socket_recv_buffer_size_force,
};
use serde_json::{Value, json};

const PORT: u16 = 7000;
const SOON: Duration = Duration::from_secs(5);
const MS: Duration = Duration::from_millis(1);

/// A link, or none where there is no root.
fn pair() -> anyhow::Result<Option<Pair>> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(None);
    }
    Pair::make().map(Some)
}

/// A socket at either end, over IPv4 or IPv6, the left one connected to the right one.
fn sockets(pair: &Pair, family: usize) -> anyhow::Result<(UdpSocket, UdpSocket)> {
    let right = udp(&pair.right.name, RIGHT[family], PORT)?;
    let left = udp(&pair.left.name, LEFT[family], 0)?;
    left.connect((RIGHT[family], PORT))?;
    for socket in [&left, &right] {
        socket.set_read_timeout(Some(300 * MS))?;
    }
    Ok((left, right))
}

/// From one socket to the other and back: where the far end saw it come from, and how long it took;
/// none if lost.
fn round(left: &UdpSocket, right: &UdpSocket) -> Option<(u16, Duration)> {
    let (start, mut buffer) = (now(), [0; 64]);
    left.send(b"hello").ok()?;
    let (length, from) = right.recv_from(&mut buffer).ok()?;
    right.send_to(&buffer[..length], from).ok()?;
    left.recv(&mut buffer).ok()?;
    Some((from.port(), start.elapsed()))
}

/// Sends `count` datagrams of 100 bytes; how many arrive, and how long it took to send them.
fn arrive(from: &UdpSocket, to: &UdpSocket, count: usize) -> (usize, Duration) {
    let (start, mut buffer) = (now(), [0; 128]);
    let receiver = to.try_clone().expect("a socket has copies");
    let counting =
        std::thread::spawn(move || std::iter::from_fn(|| receiver.recv(&mut buffer).ok()).count());
    for number in 0..count {
        from.send(&[0; 100]).expect("a way out");
        if number % 50 == 0 {
            std::thread::sleep(MS);
        }
    }
    let took = start.elapsed();
    (counting.join().expect("it counts"), took)
}

#[allow(clippy::disallowed_methods, reason = "it measures time")]
fn now() -> Instant {
    Instant::now()
}

#[test]
fn each_direction_has_its_delay() -> anyhow::Result<()> {
    let Some(pair) = pair()? else { return Ok(()) };
    pair.set(Way::Up, r#"{"delay_ms": 30}"#)?;
    pair.set(Way::Down, r#"{"delay_ms": 50}"#)?;
    for family in [0, 1] {
        let (left, right) = sockets(&pair, family)?;
        let rounds = (0..10).filter_map(|_| round(&left, &right));
        let best = rounds.map(|(_, time)| time).min().unwrap();
        assert!((80 * MS..82 * MS).contains(&best), "{best:?}");
    }
    Ok(())
}

#[test]
fn loss_duplicates_and_blocks_are_as_asked() -> anyhow::Result<()> {
    let Some(pair) = pair()? else { return Ok(()) };
    let (left, right) = sockets(&pair, 0)?;
    // A busy machine may read late, and what has no room there the link has not lost.
    set_socket_recv_buffer_size_force(&right, 16 << 20)?;
    #[track_caller]
    fn check((count, _): (usize, Duration), expected: std::ops::RangeInclusive<usize>) {
        assert!(expected.contains(&count), "{count}");
    }
    check(arrive(&left, &right, 5000), 5000..=5000);
    pair.set(Way::Up, r#"{"loss": 0.1}"#)?;
    check(arrive(&left, &right, 5000), 4400..=4600);
    pair.set(Way::Up, r#"{"loss": 0, "burst": {"loss": 0.5, "mean_ms": 1}}"#)?;
    check(arrive(&left, &right, 5000), 1500..=3500);
    pair.set(Way::Up, r#"{"burst": {"loss": 0, "mean_ms": 0}, "duplicate": 0.1}"#)?;
    check(arrive(&left, &right, 5000), 5400..=5600);
    pair.set(Way::Up, r#"{"duplicate": 0, "rate_mbit": 1, "queue_bytes": 12800}"#)?;
    // 128 bytes with their headers: 100 wait, and 0.977 pass in each ms that they come in.
    let (count, took) = arrive(&left, &right, 5000);
    let passed = 100 + usize::try_from(took.as_millis())?;
    assert!((150..=passed + 20).contains(&count), "{count} of {passed} in {took:?}");
    let lost = pair.wan.stats().up.counters.lost.len();
    assert_eq!(lost, 3, "loss, burst and queue");
    Ok(())
}

#[test]
fn udp_is_blocked_and_tcp_is_not() -> anyhow::Result<()> {
    let Some(pair) = pair()? else { return Ok(()) };
    let (left, right) = sockets(&pair, 1)?;
    let listener = listen(&pair.right.name, RIGHT[1], PORT)?;
    assert!(round(&left, &right).is_some());
    pair.set(Way::Both, r#"{"block_udp": true}"#)?;
    assert!(round(&left, &right).is_none());
    assert!(connect(&pair.left.name, listener.local_addr()?, SOON)?.is_ok());
    pair.set(Way::Both, r#"{"block_udp": false, "cut": true}"#)?;
    assert!(round(&left, &right).is_none());
    assert!(connect(&pair.left.name, listener.local_addr()?, 300 * MS)?.is_err());
    pair.set(Way::Both, r#"{"cut": false}"#)?;
    assert!(round(&left, &right).is_some());
    Ok(())
}

#[test]
fn a_sender_is_told_of_the_mtu_or_is_not() -> anyhow::Result<()> {
    let Some(pair) = pair()? else { return Ok(()) };
    let (left, right) = sockets(&pair, 0)?;
    set_ip_mtu_discover(&left, Ipv4PathMtuDiscovery::DO)?;
    let passes = |length: usize| {
        let sent = left.send(&vec![0; length]).is_ok();
        sent && right.recv(&mut [0; 2000]).is_ok_and(|came| came == length)
    };
    pair.set(Way::Up, r#"{"mtu": 1400, "icmp": false}"#)?;
    assert!(passes(1400 - 28));
    assert!(!passes(1400 - 27));
    assert_eq!(ip_mtu(&left)?, 1500, "a black hole tells nothing");
    pair.set(Way::Up, r#"{"mtu": 1320, "icmp": true}"#)?;
    assert!(!passes(1400 - 28));
    std::thread::sleep(50 * MS);
    assert_eq!(ip_mtu(&left)?, 1320);
    assert!(left.take_error()?.is_some(), "the socket's owner is told as well");
    assert!(passes(1320 - 28));

    // Over IPv6 TCP finds the way through, as its sender is told.
    let listener = listen(&pair.right.name, RIGHT[1], PORT)?;
    let mut from = connect(&pair.left.name, listener.local_addr()?, SOON)??;
    let (mut to, _) = listener.accept()?;
    from.write_all(&[7; 100_000])?;
    to.set_read_timeout(Some(SOON))?;
    to.read_exact(&mut [0; 100_000])?;
    Ok(())
}

#[test]
fn the_translator_forgets() -> anyhow::Result<()> {
    let Some(pair) = pair()? else { return Ok(()) };
    for family in [0, 1] {
        let (left, right) = sockets(&pair, family)?;
        let (before, _) = round(&left, &right).unwrap();
        pair.wan.rebind();
        right.send_to(b"lost", (LEFT[family], before))?;
        assert!(left.recv(&mut [0; 8]).is_err(), "the old port leads nowhere");
        let (after, _) = round(&left, &right).unwrap();
        assert_ne!(before, after);
        assert_eq!(round(&left, &right).unwrap().0, after);
    }
    Ok(())
}

#[test]
fn some_overtake_others() -> anyhow::Result<()> {
    let Some(pair) = pair()? else { return Ok(()) };
    pair.set(Way::Up, r#"{"reorder": 0.2, "reorder_ms": 20}"#)?;
    let (left, right) = sockets(&pair, 0)?;
    for number in 0..100_u8 {
        left.send(&[number])?;
        std::thread::sleep(MS);
    }
    let mut buffer = [0];
    let came: Vec<u8> =
        std::iter::from_fn(|| right.recv(&mut buffer).ok().map(|_| buffer[0])).collect();
    assert_eq!(came.len(), 100);
    let overtaken = came.windows(2).filter(|pair| pair[0] > pair[1]).count();
    assert!((5..=40).contains(&overtaken), "{overtaken}: {came:?}");
    Ok(())
}

#[test]
fn the_program_obeys_lines() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(());
    }
    let (left, right) = (Namespace::make()?, Namespace::make()?);
    let mut command = Command::new(env!("CARGO_BIN_EXE_wan"));
    command.args(["--left", &left.name, "--right", &right.name]);
    let mut program = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let mut orders = program.stdin.take().expect("it is piped");
    let mut answers = BufReader::new(program.stdout.take().expect("it is piped")).lines();
    let mut answer = || -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&answers.next().expect("an answer")?)?)
    };
    assert_eq!(answer()?, json!({ "ready": true }));
    let mut ask =
        |order: &str| writeln!(orders, "{order}").map_err(Into::into).and_then(|()| answer());
    assert_eq!(ask(r#"{"set": {"up": {"delay_ms": 20}}}"#)?, json!({ "ok": true }));
    let refused = ask(r#"{"set": {"down": {"delay_ms": -1}}}"#)?;
    assert_eq!(refused, json!({ "error": "delay_ms must be from 0 to 3600000" }));
    assert_eq!(ask(r#"{"rebind": true}"#)?, json!({ "ok": true }));

    let (near, far) = (udp(&left.name, LEFT[1], 0)?, udp(&right.name, RIGHT[1], PORT)?);
    near.connect((RIGHT[1], PORT))?;
    for socket in [&near, &far] {
        socket.set_read_timeout(Some(SOON))?;
    }
    let (_, time) = round(&near, &far).expect("it comes back");
    // Once only: a busy machine may be late. Without the delay it would be less than a millisecond.
    assert!(time >= 20 * MS, "{time:?}");
    let stats = ask(r#"{"stats": true}"#)?;
    assert_eq!(stats["up"]["conditions"]["delay_ms"], 20.0);
    assert!(stats["up"]["arrived"].as_u64() >= Some(1), "{stats}");
    drop(orders);
    assert!(program.wait()?.success(), "it ends with its orders");
    Ok(())
}
