//! What every Antipode program needs, so that node, core and gateway behave alike.
//!
//! | module | idea |
//! |---|---|
//! | [`program`] | a program's life: arguments, settings, start, signal, drain, exit code |
//! | [`config`] | one TOML file; errors name the file, the place, the key and the way out |
//! | [`telemetry`] | logs to stderr, signals, an error with its causes on one line |
//! | [`shutdown`] | drain, stop, and a head count of tasks |
//! | [`admin`] | `/healthz`, `/readyz` and `/metrics` for the operator |
//! | [`listen`] | binding a port, or a word on which key to change |
//! | [`clock`] | the only place that asks what time it is |
//! | [`backoff`] | how long to wait before trying again |
//! | [`process`] | what this process costs: processor, memory, loop delay |
//! | [`secret`], [`state_file`] | reading secrets, and keeping private files whole |
//! | [`crypto`] | the one TLS provider |
//! | [`member`] | what node and core share towards the gateway |
//!
//! **Invariant:** nothing here knows sessions, trunks or steering.

pub mod admin;
pub mod backoff;
pub mod clock;
pub mod config;
pub mod crypto;
pub mod listen;
pub mod member;
pub mod process;
pub mod program;
pub mod secret;
pub mod shutdown;
pub mod state_file;
pub mod telemetry;
