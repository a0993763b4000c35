//! The repository as text: where it is, and every file that people wrote in it.

use std::path::{Path, PathBuf};

/// Folders that hold what tools made, not what people wrote.
const MADE: [&str; 7] =
    [".git", ".venv", ".venv-autobahn", "__pycache__", "node_modules", "reports", "target"];

/// Endings of the files that count as written text.
const TEXT: [&str; 18] = [
    "css", "html", "js", "json", "md", "mjs", "proto", "py", "rs", "service", "sh", "toml", "txt",
    "yaml", "yml", "conf", "svg", "env",
];

/// Written files without an ending.
const NAMED: [&str; 4] = ["justfile", "run", "install", "Dockerfile"];

/// A file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the repository's root, with forward slashes.
    pub path: String,
    /// Everything in it.
    pub text: String,
}

/// The repository's root.
///
/// # Panics
///
/// If this crate does not stand in a folder of the repository.
#[must_use]
pub fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("this crate is a folder of the repository").to_owned()
}

/// Every written text file, sorted by path.
///
/// # Panics
///
/// If a file or a folder can't be read.
#[must_use]
pub fn sources() -> Vec<Source> {
    let root = root();
    let mut found = Vec::new();
    walk(&root, &root, &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

fn walk(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let entries = std::fs::read_dir(folder).expect("a folder of the repository can be read");
    for entry in entries.map(|entry| entry.expect("a folder of the repository can be read")) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let kind = entry.file_type().expect("a file of the repository has a type");
        if kind.is_dir() {
            if !MADE.contains(&name.as_str()) {
                walk(root, &path, found);
            }
            continue;
        }
        let ending = path.extension().and_then(|ending| ending.to_str());
        let written = match ending {
            Some(ending) => TEXT.contains(&ending) && name != "package-lock.json",
            None => NAMED.contains(&name.as_str()),
        };
        if kind.is_file() && written {
            let text = std::fs::read_to_string(&path).expect("a written file is UTF-8");
            let path = path.strip_prefix(root).expect("found below the root");
            found.push(Source { path: path.to_string_lossy().replace('\\', "/"), text });
        }
    }
}
