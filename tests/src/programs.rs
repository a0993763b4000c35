//! Where our programs are, built if need be.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::repository::root;

/// The programs, as packages and as files.
const PROGRAMS: [&str; 4] = ["antipode-gateway", "antipode-core", "antipode-node", "antipode-demo"];

/// Names a folder whose programs are taken as they are, such as those of a release.
pub const PROGRAMS_IN: &str = "ANTIPODE_PROGRAMS";

/// The file of one of the programs, built from the sources as they are, in the caller's profile.
///
/// # Panics
///
/// If it is none of ours, or does not build.
#[must_use]
pub fn program(name: &str) -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    assert!(PROGRAMS.contains(&name), "{name} is none of {PROGRAMS:?}");
    BUILT.get_or_init(build).join(name)
}

/// Builds them all, and returns the folder that they are in.
fn build() -> PathBuf {
    if let Some(folder) = std::env::var_os(PROGRAMS_IN) {
        return folder.into();
    }
    let own = std::env::current_exe().expect("a program knows its file");
    let folder = own.parent().expect("a file is in a folder");
    let in_deps = folder.file_name().is_some_and(|name| name == "deps");
    let folder = if in_deps { folder.parent().expect("deps is in a folder") } else { folder };
    let profile = folder.file_name().and_then(|name| name.to_str()).unwrap_or("debug");
    let profile = if profile == "debug" { "dev" } else { profile };

    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let mut command = Command::new(cargo);
    command.args(["build", "--quiet", "--locked", "--bins", "--profile", profile]);
    command.args(PROGRAMS.iter().flat_map(|name| ["-p", name]));
    let output = command.current_dir(root()).output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Path::to_owned(folder)
}
