//! Logs to stderr, the signals that end a program, and an error with its causes on one line.

use std::error::Error;
use std::io::IsTerminal;

use tokio::signal::unix::{SignalKind, signal};
use tracing::error;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people: one line an event.
    #[default]
    Text,
    /// For collectors: one JSON object a line.
    Json,
}

/// Sends events to stderr, filtered by `ANTIPODE_LOG`, else `RUST_LOG`, else at level info.
///
/// Panics are logged as events too. Calling it again does nothing.
pub fn init(format: LogFormat) {
    let filter = env_filter();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let registry = tracing_subscriber::registry().with(filter.accepted);
    let installed = match format {
        LogFormat::Text => {
            let ansi = std::io::stderr().is_terminal();
            registry.with(lines.with_ansi(ansi)).try_init()
        }
        LogFormat::Json => registry.with(lines.json().flatten_event(true)).try_init(),
    };
    if installed.is_err() {
        return;
    }
    if let Some(refused) = filter.refused {
        tracing::warn!(variable = refused, "log filter can't be read; using the default");
    }
    std::panic::set_hook(Box::new(log_panic));
}

/// Waits for SIGTERM or SIGINT and says which came.
///
/// # Panics
///
/// Outside a tokio runtime, or if the kernel refuses a signal handler.
pub async fn terminate() -> &'static str {
    let mut terminate = signal(SignalKind::terminate()).expect("a handler for SIGTERM");
    let mut interrupt = signal(SignalKind::interrupt()).expect("a handler for SIGINT");
    tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    }
}

/// An error and its causes on one line: `outer: cause: cause of the cause`.
///
/// A cause that its outer error repeats word for word is left out.
pub fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |line, cause| {
        let cause = cause.to_string();
        if line.ends_with(&cause) { line } else { format!("{line}: {cause}") }
    })
}

/// boringtun calls a handshake that nobody answered an error, each time; the tunnel counts those
/// itself and says once what became of the trunk.
const DEFAULT_FILTER: &str = "info,boringtun=off";

struct Filter {
    accepted: EnvFilter,
    /// The variable whose text was no filter.
    refused: Option<&'static str>,
}

fn env_filter() -> Filter {
    for variable in ["ANTIPODE_LOG", "RUST_LOG"] {
        let Ok(text) = std::env::var(variable) else { continue };
        return match EnvFilter::try_new(&text) {
            Ok(accepted) => Filter { accepted, refused: None },
            Err(_) => Filter { accepted: EnvFilter::new(DEFAULT_FILTER), refused: Some(variable) },
        };
    }
    Filter { accepted: EnvFilter::new(DEFAULT_FILTER), refused: None }
}

fn log_panic(panic: &std::panic::PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("no text");
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let thread = std::thread::current().name().unwrap_or_default().to_owned();
    let backtrace = std::backtrace::Backtrace::capture();
    error!(panic = text, place, thread, %backtrace, "panicked");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{text}")]
    struct Layer {
        text: &'static str,
        source: Option<Box<Self>>,
    }

    #[test]
    fn a_chain_reads_from_the_outside_in() {
        let inner = Layer { text: "permission denied", source: None };
        let outer = Layer { text: "can't read key", source: Some(Box::new(inner)) };
        assert_eq!(chain(&outer), "can't read key: permission denied");
    }

    #[test]
    fn a_chain_does_not_stutter() {
        let inner = Layer { text: "refused", source: None };
        let outer = Layer { text: "dial: refused", source: Some(Box::new(inner)) };
        assert_eq!(chain(&outer), "dial: refused");
    }

    #[test]
    fn initialising_twice_is_harmless() {
        init(LogFormat::Text);
        init(LogFormat::Json);
    }
}
