//! A program's life: arguments, settings, start, signal or failure, drain, exit code.

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tracing::{error, info, warn};

use crate::shutdown::{Finish, Shutdown};
use crate::telemetry::{self, LogFormat, chain};
use crate::{config, crypto};

/// `EX_SOFTWARE` of sysexits(3): it failed.
pub const EXIT_SOFTWARE: u8 = 70;
/// `EX_CONFIG` of sysexits(3): the configuration file is bad; starting again won't help.
pub const EXIT_CONFIG: u8 = 78;

/// The arguments that every program takes; flatten them into its own.
#[derive(Clone, Debug, clap::Args)]
// A group is named for its struct, and a program may call its own arguments Args too.
#[group(skip)]
pub struct Args {
    /// The configuration file [default: /etc/antipode/PROGRAM.toml].
    #[arg(long, env = "ANTIPODE_CONFIG", value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Check the configuration file and exit.
    #[arg(long)]
    pub check: bool,
    /// How log lines are written to stderr; ANTIPODE_LOG or RUST_LOG choose which.
    #[arg(long, env = "ANTIPODE_LOG_FORMAT", value_enum, default_value = "text", global = true)]
    pub log_format: LogFormat,
}

/// Which program this is.
#[derive(Clone, Copy, Debug)]
pub struct Program {
    /// `node`, `core` or `gateway`: names the default configuration file.
    pub name: &'static str,
    /// `env!("CARGO_PKG_VERSION")`.
    pub version: &'static str,
}

/// What every program's settings know.
pub trait Settings: DeserializeOwned {
    /// How long a drain may last before the rest is cut.
    fn drain_grace(&self) -> Duration;
}

impl Program {
    /// Runs the program: loads its settings, calls `start`, then waits for a signal, a drain that
    /// something else began, or a failure; drains and says how it ended.
    ///
    /// What `start` returns is kept until the drain has ended. Exit code: 0 after a drain, 78 for
    /// a bad file, 70 for a failure.
    pub fn run<C, A, E>(
        self,
        args: &Args,
        start: impl AsyncFnOnce(C, Shutdown) -> Result<A, E>,
    ) -> ExitCode
    where
        C: Settings,
        E: Into<Box<dyn Error + Send + Sync>>,
    {
        telemetry::init(args.log_format);
        crypto::install();
        let path = args.config.clone().unwrap_or_else(|| self.config_default());
        let settings: C = match config::load(&path) {
            Ok(settings) => settings,
            Err(error) => {
                error!(error = chain(&error), "bad configuration");
                return ExitCode::from(EXIT_CONFIG);
            }
        };
        if args.check {
            info!(config = %path.display(), "configuration is good");
            return ExitCode::SUCCESS;
        }
        info!(program = self.name, version = self.version, config = %path.display(), "starting");
        let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => {
                error!(error = chain(&error), "no runtime");
                return ExitCode::from(EXIT_SOFTWARE);
            }
        };
        match runtime.block_on(live(settings, start)) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                error!(error = chain(&*error), "{} failed", self.name);
                ExitCode::from(EXIT_SOFTWARE)
            }
        }
    }

    fn config_default(self) -> PathBuf {
        PathBuf::from(format!("/etc/antipode/{}.toml", self.name))
    }
}

async fn live<C, A, E>(
    settings: C,
    start: impl AsyncFnOnce(C, Shutdown) -> Result<A, E>,
) -> Result<(), Box<dyn Error + Send + Sync>>
where
    C: Settings,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let grace = settings.drain_grace();
    let shutdown = Shutdown::default();
    let started = tokio::select! {
        started = start(settings, shutdown.clone()) => started.map_err(Into::into),
        signal = telemetry::terminate() => {
            info!(signal, "stopped while starting");
            shutdown.stop_now();
            return Ok(());
        }
    };
    let app = match started {
        Ok(app) => app,
        Err(error) => {
            shutdown.stop_now();
            return Err(error);
        }
    };
    let mut is_signalled = tokio::select! {
        signal = telemetry::terminate() => {
            info!(signal, ?grace, "draining");
            true
        }
        () = shutdown.draining() => {
            info!(grace = ?shutdown.ordered_grace().unwrap_or(grace), "draining");
            false
        }
    };
    let finishing = shutdown.finish(grace);
    tokio::pin!(finishing);
    let finish = loop {
        tokio::select! {
            finish = &mut finishing => break finish,
            signal = telemetry::terminate() => {
                if std::mem::replace(&mut is_signalled, true) {
                    warn!(signal, "told twice: cutting the drain short");
                    shutdown.stop_now();
                } else {
                    info!(signal, "draining already: once more cuts it short");
                }
            }
        }
    };
    drop(app);
    match finish {
        Finish::Drained => info!("drained"),
        Finish::Cut { tasks } => warn!(tasks, ?grace, "cut what did not drain"),
    }
    shutdown.take_failure().map_or(Ok(()), |failure| Err(failure.into()))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    const PROGRAM: Program = Program { name: "test", version: "0" };

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Empty {}

    impl Settings for Empty {
        fn drain_grace(&self) -> Duration {
            Duration::from_secs(5)
        }
    }

    #[derive(Debug, thiserror::Error)]
    #[error("on purpose")]
    struct OnPurpose;

    #[test]
    fn exit_codes_tell_how_it_ended() {
        check(
            "a drain",
            "",
            async |shutdown| {
                shutdown.begin_drain();
                Ok(())
            },
            0,
        );
        check("a bad file", "what = 1", async |_| Ok(()), EXIT_CONFIG);
        check("a failed start", "", async |_| Err(OnPurpose), EXIT_SOFTWARE);
        check(
            "a failed task",
            "",
            async |shutdown| {
                shutdown.spawn_essential("task", async { Err(OnPurpose) });
                Ok(())
            },
            EXIT_SOFTWARE,
        );
        check(
            "a panic",
            "",
            async |shutdown| {
                shutdown.spawn(async { panic!("on purpose") });
                Ok(())
            },
            EXIT_SOFTWARE,
        );
    }

    #[test]
    fn check_starts_nothing() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let args = args(&file, true);
        let code = PROGRAM.run(&args, async |_: Empty, _| -> Result<(), OnPurpose> {
            unreachable!("--check must not start the program")
        });
        assert_eq!(code, ExitCode::SUCCESS);
    }

    #[test]
    fn each_program_has_its_file() {
        assert_eq!(PROGRAM.config_default(), PathBuf::from("/etc/antipode/test.toml"));
    }

    #[track_caller]
    fn check(
        what: &str,
        toml: &str,
        start: impl AsyncFnOnce(Shutdown) -> Result<(), OnPurpose>,
        expected: u8,
    ) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let code =
            PROGRAM.run(&args(&file, false), async |_: Empty, shutdown| start(shutdown).await);
        assert_eq!(code, ExitCode::from(expected), "{what}");
    }

    fn args(file: &tempfile::NamedTempFile, check: bool) -> Args {
        Args { config: Some(file.path().to_owned()), check, log_format: LogFormat::Text }
    }
}
