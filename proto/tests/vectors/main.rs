//! The committed vectors that every implementation of `antipode.resume.v1` is held to: what they
//! mean is in `README.md` beside them. `ANTIPODE_BLESS=1` writes them anew.

mod codec;
mod directed;
mod json;
mod moves;
mod profiles;
mod random;
mod script;
mod session;
mod world;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// Reads a file of vectors, or makes it when it is to be blessed.
fn vectors(
    name: &str,
    make: impl FnOnce() -> Value,
    write: impl FnOnce(&Value) -> String,
) -> Value {
    let path: PathBuf = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors").join(name);
    if std::env::var_os("ANTIPODE_BLESS").is_some() {
        std::fs::write(&path, write(&make())).expect("the vectors can be written");
    }
    let text = std::fs::read_to_string(&path).expect("the vectors are committed");
    serde_json::from_str(&text).expect("the vectors are JSON")
}

/// One row a line, so that a change is one line of a diff.
fn rows(values: &[Value], indent: &str) -> String {
    let rows: Vec<String> = values.iter().map(|value| format!("{indent}{value}")).collect();
    rows.join(",\n")
}
