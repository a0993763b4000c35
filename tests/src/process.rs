//! Programs that a test starts: their lines as they come, and their end with the test's.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, bail};

/// A running program. Dropping it ends it, by its own id.
#[derive(Debug)]
pub struct Process {
    name: String,
    id: u32,
    child: Mutex<Child>,
    readers: Mutex<Vec<JoinHandle<()>>>,
    output: Arc<Output>,
}

/// What a program has printed so far, standard output and error together.
#[derive(Debug, Default)]
struct Output {
    lines: Mutex<Vec<String>>,
    grown: Condvar,
}

impl Process {
    /// Starts `command` with nothing to read and its output kept.
    ///
    /// # Errors
    ///
    /// If the program can't be started.
    pub fn start(name: &str, mut command: Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {name}: {command:?}"))?;
        let output = Arc::new(Output::default());
        let readers = vec![
            keep_lines(child.stdout.take().context("standard output is piped")?, &output),
            keep_lines(child.stderr.take().context("standard error is piped")?, &output),
        ];
        let (id, name) = (child.id(), name.to_owned());
        let (child, readers) = (Mutex::new(child), Mutex::new(readers));
        Ok(Self { name, id, child, readers, output })
    }

    /// The operating system's id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// The first line with `part` in it, printed already or within `limit`.
    ///
    /// # Errors
    ///
    /// If none comes in time, with all that the program has printed.
    pub fn wait_for(&self, part: &str, limit: Duration) -> anyhow::Result<String> {
        let find = |lines: &Vec<String>| lines.iter().find(|line| line.contains(part)).cloned();
        let lines = self.lines();
        let waited = self.output.grown.wait_timeout_while(lines, limit, |l| find(l).is_none());
        let (lines, _) = waited.expect("no reader of a program's output panics");
        find(&lines).with_context(|| {
            format!("{} printed no {part:?} within {limit:?}:\n{}", self.name, lines.join("\n"))
        })
    }

    /// All it has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        self.lines().join("\n")
    }

    /// Most memory it ever held, in bytes (Linux's `VmHWM`).
    ///
    /// # Errors
    ///
    /// If the program has ended, or the system has no `/proc`.
    pub fn memory_peak_bytes(&self) -> anyhow::Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()))?;
        let line = status.lines().find(|line| line.starts_with("VmHWM:"));
        let number = line.and_then(|line| line.split_whitespace().nth(1));
        Ok(number.context("VmHWM in /proc/PID/status")?.parse::<u64>()? * 1024)
    }

    /// Asks it to end (SIGTERM) and waits.
    ///
    /// # Errors
    ///
    /// If it still runs after `limit`.
    pub fn terminate(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        Command::new("kill").args(["-TERM", &self.id().to_string()]).status()?;
        self.wait(limit)
    }

    /// How it ended; none while it runs.
    ///
    /// # Panics
    ///
    /// If another user of the process did.
    #[must_use]
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child().try_wait().ok().flatten()
    }

    /// Waits for its end.
    ///
    /// # Errors
    ///
    /// If it still runs after `limit`.
    pub fn wait(&self, limit: Duration) -> anyhow::Result<ExitStatus> {
        const STEP: Duration = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while waited < limit {
            if let Some(status) = self.ended() {
                self.read_all();
                return Ok(status);
            }
            std::thread::sleep(STEP);
            waited += STEP;
        }
        bail!("{} still runs after {limit:?}:\n{}", self.name, self.printed())
    }

    /// Ends it at once, as a crash would.
    pub fn kill(&self) {
        // An error means that it has ended already.
        let mut child = self.child();
        drop(child.kill());
        drop(child.wait());
    }

    /// Takes the last words of a program that has ended.
    fn read_all(&self) {
        for reader in self.readers.lock().expect("nobody panics with this lock").drain(..) {
            reader.join().expect("no reader of a program's output panics");
        }
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().expect("nobody panics with this lock")
    }

    fn lines(&self) -> MutexGuard<'_, Vec<String>> {
        self.output.lines.lock().expect("no reader of a program's output panics")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn keep_lines(from: impl Read + Send + 'static, output: &Arc<Output>) -> JoinHandle<()> {
    let output = Arc::clone(output);
    std::thread::spawn(move || {
        for line in BufReader::new(from).split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8_lossy(&line).into_owned();
            output.lines.lock().expect("nobody panics with this lock").push(line);
            output.grown.notify_all();
        }
    })
}
