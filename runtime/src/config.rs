//! One TOML file a program; an error names the file, the place, the key and the way out.
//!
//! toml's own error text quotes the offending line. This one doesn't: a secret may stand there by
//! mistake.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;

/// The settings can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is missing, not text, or this user may not read it.
    #[error(
        "can't read the configuration file {}: name another with --config, or start from a \
         complete one in deploy/examples", path.display()
    )]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// The file says something that this program doesn't understand.
    #[error("{}{place}: {message}; correct it, and try it out with --check", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// Where in the file.
        place: Place,
        /// What is wrong there, without the value.
        message: String,
    },
}

/// A place in a configuration file; each part is there if it is known.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// Line and column, both from 1.
    pub position: Option<(usize, usize)>,
    /// The key with its tables, as in `session.sessions_max`.
    pub key: Option<String>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some((line, column)) = self.position {
            write!(f, ":{line}:{column}")?;
        }
        match &self.key {
            Some(key) => write!(f, ": `{key}`"),
            None => Ok(()),
        }
    }
}

/// Reads and parses the file at `path`.
///
/// # Errors
///
/// When the file can't be read, isn't TOML, or doesn't describe a `T`.
pub fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text).map_err(|(place, message)| ConfigError::Invalid {
        path: path.to_owned(),
        place,
        message,
    })
}

fn parse<T: DeserializeOwned>(text: &str) -> Result<T, (Place, String)> {
    toml::from_str(text).map_err(|error| {
        let place = error.span().map(|span| place_of(text, &span)).unwrap_or_default();
        let message = message_of(&place, error.message());
        (place, message)
    })
}

/// What toml says, on one line, unless it may quote a secret.
fn message_of(place: &Place, message: &str) -> String {
    let key = place.key.as_deref().unwrap_or_default().rsplit('.').next().unwrap_or_default();
    let is_secret = ["token", "secret", "key", "password"].iter().any(|word| key.contains(word));
    if is_secret && message.contains('"') {
        return "the value has the wrong type or form (it isn't shown here)".to_owned();
    }
    message.lines().map(str::trim).collect::<Vec<_>>().join(", ")
}

fn place_of(text: &str, span: &Range<usize>) -> Place {
    // A whole file's error, such as a missing key or a contradiction, stands nowhere in particular.
    let at = text.get(span.clone()).unwrap_or_default();
    if span.start == 0 && (at.is_empty() || at.contains('\n') || at.trim() == text.trim()) {
        return Place::default();
    }
    let before = text.get(..span.start).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.matches('\n').count() + 1;
    let column = before[line_start..].chars().count() + 1;
    let whole_line = text[line_start..].lines().next().unwrap_or_default();
    Place { position: Some((line, column)), key: key_of(&text[..line_start], whole_line) }
}

/// The key that `line` sets, with the table it stands in.
fn key_of(above: &str, line: &str) -> Option<String> {
    let (key, _) = line.split_once('=')?;
    let key = key.trim();
    let is_bare = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    if key.is_empty() || !key.bytes().all(is_bare) {
        return None;
    }
    let table = above.lines().rev().find_map(|line| {
        let header = line.trim().strip_prefix('[')?.split(']').next()?;
        Some(header.trim_start_matches('[').trim())
    });
    Some(table.map_or_else(|| key.to_owned(), |table| format!("{table}.{key}")))
}

#[cfg(test)]
mod tests;
