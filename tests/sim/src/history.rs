//! Everything that happened, small enough to keep and to compare.

use std::collections::hash_map::DefaultHasher;
use std::fmt::Write;
use std::hash::{Hash, Hasher};

use crate::event::Ms;
use crate::site::Site;

/// Entries that are kept for a report; the hash is of all.
const KEPT_MAX: usize = 200_000;

/// One thing that happened.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Entry {
    /// When.
    pub at: Ms,
    /// Where.
    pub site: Site,
    /// What, from a fixed set of words.
    pub what: &'static str,
    /// Of which talk; `u16::MAX`: of none.
    pub talk: u16,
    /// Numbers that belong to it.
    pub numbers: [u64; 2],
}

/// The history of a world.
#[derive(Debug, Default)]
pub struct History {
    entries: Vec<Entry>,
    hasher: DefaultHasher,
    count: u64,
}

impl History {
    /// Adds an entry.
    pub fn add(&mut self, entry: Entry) {
        entry.hash(&mut self.hasher);
        self.count += 1;
        if self.entries.len() < KEPT_MAX {
            self.entries.push(entry);
        }
    }

    /// One number for all of it.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hasher.finish()
    }

    /// How much happened.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The last entries, of one talk and of what concerns all if a talk is named.
    #[must_use]
    pub fn tail(&self, talk: Option<u16>, lines: usize) -> String {
        let concerns =
            |entry: &&Entry| talk.is_none_or(|talk| entry.talk == talk) || entry.talk == u16::MAX;
        let found: Vec<&Entry> = self.entries.iter().filter(concerns).collect();
        let mut text = String::new();
        for entry in &found[found.len().saturating_sub(lines)..] {
            let Entry { at, site, what, talk, numbers: [a, b] } = entry;
            let talk = if *talk == u16::MAX { "-".to_owned() } else { talk.to_string() };
            let seconds = format!("{}.{:03}", at / 1000, at % 1000);
            let _ = writeln!(text, "{seconds:>9} {site:<8} talk {talk:<2} {what} {a} {b}");
        }
        text
    }
}
