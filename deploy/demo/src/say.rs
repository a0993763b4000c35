//! What the demo prints for people.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for people prints")]

/// A line of what was asked for, on stdout.
pub fn line(text: &str) {
    println!("{text}");
}

/// A line of how it goes, on stderr, so that a table on stdout stays a table.
pub fn progress(text: &str) {
    eprintln!("{text}");
}
