//! What this process costs: processor time, memory, files, and how late its loop runs.
//!
//! Read from Linux's `/proc`; elsewhere everything but the loop delay is zero.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use crate::clock;
use crate::shutdown::Shutdown;

/// Between two looks at the loop. Shorter would be work; longer would miss short stalls.
const PROBE_PERIOD: Duration = Duration::from_millis(50);
/// The loop delay that is told is the largest of this long at least, and of twice that at most.
const WINDOW: Duration = Duration::from_secs(2);
/// A clock tick of `/proc/self/stat`: `USER_HZ` is 100 on every Linux that we build for (proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// What the process uses at one moment.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Usage {
    /// Share of one processor core since the last time that was asked, in thousandths.
    pub cpu_permille: u32,
    /// Resident memory.
    pub memory_bytes: u64,
    /// The longest that a task which was due had to wait lately.
    pub loop_delay: Duration,
}

/// Watches this process. Clones share what is known.
#[derive(Clone, Debug)]
pub struct Probe {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    cpu: Duration,
    cpu_at: Instant,
    delays: Delays,
}

/// The largest delay over two windows, so that one is always whole.
#[derive(Debug)]
struct Delays {
    earlier: Duration,
    current: Duration,
    current_since: Instant,
}

impl Probe {
    /// Starts watching.
    pub fn start(shutdown: &Shutdown) -> Self {
        let now = clock::now();
        let delays =
            Delays { earlier: Duration::ZERO, current: Duration::ZERO, current_since: now };
        let state = State { cpu: cpu_time(), cpu_at: now, delays };
        let probe = Self { state: Arc::new(Mutex::new(state)) };
        let watching = probe.clone();
        shutdown.spawn_service(async move { watching.watch_loop().await });
        probe
    }

    /// What the process uses now. The processor share is that since the last call.
    pub fn usage(&self) -> Usage {
        let (now, cpu) = (clock::now(), cpu_time());
        let mut state = self.state.lock();
        let spent = cpu.saturating_sub(state.cpu);
        let cpu_permille = permille(spent, now.saturating_duration_since(state.cpu_at));
        state.cpu = cpu;
        state.cpu_at = now;
        Usage { cpu_permille, memory_bytes: memory_bytes(), loop_delay: state.delays.max() }
    }

    /// The longest that a task which was due had to wait lately.
    pub fn loop_delay(&self) -> Duration {
        self.state.lock().delays.max()
    }

    /// Adds Prometheus's usual `process_*` series, and `antipode_process_loop_delay_seconds`.
    pub fn register(&self, registry: &mut Registry) {
        registry.register_collector(Box::new(ProcessCollector(self.clone())));
    }

    async fn watch_loop(&self) {
        loop {
            let due = clock::now() + PROBE_PERIOD;
            tokio::time::sleep_until(due.into()).await;
            let now = clock::now();
            self.state.lock().delays.record(now.saturating_duration_since(due), now);
        }
    }
}

impl Delays {
    fn record(&mut self, delay: Duration, now: Instant) {
        if now.saturating_duration_since(self.current_since) >= WINDOW {
            self.earlier = std::mem::take(&mut self.current);
            self.current_since = now;
        }
        self.current = self.current.max(delay);
    }

    fn max(&self) -> Duration {
        self.earlier.max(self.current)
    }
}

#[derive(Debug)]
struct ProcessCollector(Probe);

impl Collector for ProcessCollector {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), std::fmt::Error> {
        let mut gauge = |name, help, unit: Option<Unit>, value: f64| {
            let gauge = ConstGauge::new(value);
            let unit = unit.as_ref();
            gauge.encode(encoder.encode_descriptor(name, help, unit, gauge.metric_type())?)
        };
        let delay = self.0.loop_delay().as_secs_f64();
        gauge(
            "antipode_process_loop_delay",
            "Longest recent wait of a due task",
            Some(Unit::Seconds),
            delay,
        )?;
        gauge(
            "process_resident_memory",
            "Resident memory",
            Some(Unit::Bytes),
            float(memory_bytes()),
        )?;
        gauge("process_open_fds", "Open file descriptors", None, float(open_files()))?;

        let counter = ConstCounter::new(cpu_time().as_secs_f64());
        let unit = Some(&Unit::Seconds);
        counter.encode(encoder.encode_descriptor(
            "process_cpu",
            "Processor time spent",
            unit,
            counter.metric_type(),
        )?)
    }
}

fn float(count: u64) -> f64 {
    // Exact up to 2^53; beyond that a gauge may be off by one part in 10^15.
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
    let float = count as f64;
    float
}

fn permille(spent: Duration, elapsed: Duration) -> u32 {
    let thousandths = spent.as_micros().saturating_mul(1_000).checked_div(elapsed.as_micros());
    u32::try_from(thousandths.unwrap_or(0)).unwrap_or(u32::MAX)
}

fn cpu_time() -> Duration {
    std::fs::read_to_string("/proc/self/stat")
        .ok()
        .and_then(|stat| parse_cpu(&stat))
        .unwrap_or_default()
}

fn memory_bytes() -> u64 {
    std::fs::read_to_string("/proc/self/status").ok().and_then(|text| parse_rss(&text)).unwrap_or(0)
}

fn open_files() -> u64 {
    let entries = std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count);
    u64::try_from(entries).unwrap_or(u64::MAX)
}

/// `utime` and `stime`, the 14th and 15th field; the 2nd, the program's name, may hold anything.
fn parse_cpu(stat: &str) -> Option<Duration> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u32 = fields.next()?.parse().ok()?;
    let system: u32 = fields.next()?.parse().ok()?;
    TICK.checked_mul(user.saturating_add(system))
}

fn parse_rss(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kib.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proc_files_are_read_by_field() {
        let stat = "7 (a) b) (c) S 1 7 7 0 -1 4194560 2 0 0 0 150 50 9 9 20 0 3 0 99";
        assert_eq!(parse_cpu(stat), Some(Duration::from_secs(2)));
        assert_eq!(parse_cpu("7 (short) S 1"), None);
        assert_eq!(parse_rss("VmSize: 9 kB\nVmRSS:\t  2048 kB\n"), Some(2 * 1024 * 1024));
        assert_eq!(parse_rss("VmSize: 9 kB\n"), None);
    }

    #[test]
    fn shares_are_of_one_core() {
        let second = Duration::from_secs(1);
        assert_eq!(permille(second / 4, second), 250);
        assert_eq!(permille(second * 3, second), 3_000);
        assert_eq!(permille(second, Duration::ZERO), 0);
    }

    #[test]
    fn a_delay_is_remembered_for_a_window_and_then_forgotten() {
        let start = clock::now();
        let at = |ms| start + Duration::from_millis(ms);
        let (short, long) = (Duration::from_millis(1), Duration::from_millis(40));
        let mut delays = Delays { earlier: Duration::ZERO, current: long, current_since: start };
        for (ms, expected) in [(1_999, long), (2_000, long), (3_999, long), (4_000, short)] {
            delays.record(short, at(ms));
            assert_eq!(delays.max(), expected, "after {ms} ms");
        }
    }

    #[tokio::test]
    async fn a_blocked_loop_shows_and_this_process_is_real() {
        let shutdown = Shutdown::default();
        let probe = Probe::start(&shutdown);
        tokio::task::yield_now().await;
        std::thread::sleep(PROBE_PERIOD * 2);
        while probe.loop_delay().is_zero() {
            tokio::task::yield_now().await;
        }
        assert!(probe.loop_delay() >= PROBE_PERIOD / 2, "{:?}", probe.loop_delay());
        assert!(probe.usage().memory_bytes > 1024 * 1024);

        let mut registry = Registry::default();
        probe.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for name in [
            "antipode_process_loop_delay_seconds ",
            "process_resident_memory_bytes ",
            "process_open_fds ",
            "process_cpu_seconds_total ",
        ] {
            assert!(text.lines().any(|line| line.starts_with(name)), "no {name} in\n{text}");
        }
        shutdown.stop_now();
    }
}
