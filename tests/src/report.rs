//! What a measuring program prints for people and for other programs.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "programs print their results")]

/// A result, on standard output.
pub fn result(text: &str) {
    println!("{text}");
}

/// How it goes, on standard error.
pub fn progress(text: &str) {
    eprintln!("{text}");
}
