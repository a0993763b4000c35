//! The emulator's precision at 100,000 packets a second: what it says of itself, and what a
//! receiver sees that knows when each packet was sent. Alone in its file: nothing may run beside.

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use antipode_tests::namespaces::{NEED_ROOT, has_root};
use antipode_tests::report::progress;
use antipode_tests::require::require;
use antipode_tests::wan::Way;
use antipode_tests::wan::pair::{LEFT, Pair, RIGHT, udp};
use antipode_tests::wan::prompt::be_prompt;
use hdrhistogram::Histogram;
use rustix::net::sockopt::set_socket_recv_buffer_size_force;

const PACKETS_A_MS: u32 = 100;
const RUN_MS: u32 = 2000;
const DELAY: Duration = Duration::from_millis(50);
const MS_IN_US: u64 = 1000;
/// A machine where others work too may be late several times.
const TRIES: usize = 10;

/// How it went.
#[derive(Debug)]
struct Outcome {
    arrived: u32,
    per_second: f64,
    /// By the emulator's own figures: p50, p99 and p99.9 of microseconds.
    own_us: [u64; 3],
    /// By the receiver: how much later than asked.
    seen_us: [u64; 3],
    early: u32,
}

#[test]
fn a_millisecond_at_100_000_packets_a_second() -> anyhow::Result<()> {
    if !require(NEED_ROOT, has_root()) {
        return Ok(());
    }
    let mut last = None;
    for _ in 0..TRIES {
        let outcome = play()?;
        progress(&format!("{outcome:?}"));
        assert_eq!(outcome.early, 0, "none comes before its time");
        let is_precise = outcome.per_second > 99_000.0
            && outcome.arrived > PACKETS_A_MS * RUN_MS / 1000 * 999
            && outcome.own_us[1] < MS_IN_US
            && outcome.seen_us[1] < MS_IN_US;
        if is_precise {
            return Ok(());
        }
        last = Some(outcome);
    }
    anyhow::bail!("not precise: {last:?}")
}

fn play() -> anyhow::Result<Outcome> {
    let pair = Pair::make()?;
    pair.set(Way::Both, r#"{"delay_ms": 50}"#)?;
    let to = udp(&pair.right.name, RIGHT[0], 7000)?;
    set_socket_recv_buffer_size_force(&to, 64 << 20)?;
    to.set_read_timeout(Some(Duration::from_millis(500)))?;
    let from = udp(&pair.left.name, LEFT[0], 0)?;
    from.connect((RIGHT[0], 7000))?;

    let epoch = now();
    let receiver = std::thread::spawn(move || receive(&to, epoch));
    let per_second = send(&from, epoch)?;
    let (seen, early) = receiver.join().expect("the receiver does not panic")?;
    let own = pair.wan.stats().up.lateness;
    Ok(Outcome {
        arrived: u32::try_from(seen.len())?,
        per_second,
        own_us: [own.p50_us, own.p99_us, own.p999_us],
        seen_us: [0.5, 0.99, 0.999].map(|quantile| seen.value_at_quantile(quantile)),
        early,
    })
}

/// Sends 100 packets each millisecond, each with its time; returns how many a second.
fn send(socket: &UdpSocket, epoch: Instant) -> anyhow::Result<f64> {
    be_prompt(40);
    let start = now();
    for millisecond in 0..RUN_MS {
        let at = start + Duration::from_millis(1) * millisecond;
        std::thread::sleep(at.saturating_duration_since(now()));
        for _ in 0..PACKETS_A_MS {
            socket.send(&u64::try_from(epoch.elapsed().as_nanos())?.to_le_bytes())?;
        }
    }
    Ok(f64::from(PACKETS_A_MS * RUN_MS) / start.elapsed().as_secs_f64())
}

/// How much later than asked each packet came, in microseconds, and how many came too early.
fn receive(socket: &UdpSocket, epoch: Instant) -> anyhow::Result<(Histogram<u64>, u32)> {
    // Its own lateness would count as the link's.
    be_prompt(50);
    let (mut late, mut early) = (Histogram::new_with_bounds(1, 10_000_000, 2)?, 0);
    let mut bytes = [0; 8];
    while socket.recv(&mut bytes).is_ok() {
        let sent = Duration::from_nanos(u64::from_le_bytes(bytes));
        match epoch.elapsed().checked_sub(sent + DELAY) {
            Some(by) => late.saturating_record(u64::try_from(by.as_micros())?),
            None => early += 1,
        }
    }
    Ok((late, early))
}

#[allow(clippy::disallowed_methods, reason = "it measures time")]
fn now() -> Instant {
    Instant::now()
}
