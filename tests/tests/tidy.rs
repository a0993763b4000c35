//! Reads the repository and fails on what its readers would trip over: long files and functions,
//! files that don't say what they are, work left undone, and words that mean nothing outside.

use antipode_tests::repository::{Source, sources};

/// A file longer than this hides two ideas.
const FILE_LINES_MAX: usize = 400;
/// As clippy counts: code, without blank lines and comments.
const FUNCTION_LINES_MAX: usize = 70;
const LINE_CHARS_MAX: usize = 100;
/// `main.rs` only wires.
const MAIN_LINES_MAX: usize = 80;

#[test]
fn rust_files_are_short() {
    check(
        |file| {
            let (lines, max) = (file.text.lines().count(), file_lines_max(&file.path));
            is_rust(file) && lines > max
        },
        "has too many lines: a second idea wants a file of its own",
    );
}

#[test]
fn rust_files_say_what_they_are() {
    check(|file| is_rust(file) && !file.text.starts_with("//!"), "does not begin with `//!`");
}

#[test]
fn functions_are_short() {
    let long = sources().into_iter().filter(is_rust).flat_map(|file| {
        functions(&file.text)
            .filter(|(_, lines)| *lines > FUNCTION_LINES_MAX)
            .map(move |(name, lines)| format!("{}: `{name}` has {lines} lines of code", file.path))
            .collect::<Vec<_>>()
    });
    none(long, "split it, or name its parts");
}

#[test]
fn lines_are_short() {
    check_lines(
        |file, line| is_rust(file) && line.chars().count() > LINE_CHARS_MAX,
        "is longer than 100 characters",
    );
}

#[test]
fn nothing_is_left_undone() {
    let marks = [
        ["to", "do!("].concat(),
        ["unimple", "mented!("].concat(),
        ["FIX", "ME"].concat(),
        ["XX", "X"].concat(),
        ["#[ig", "nore"].concat(),
    ];
    check_lines(
        |file, line| is_code(file) && marks.iter().any(|mark| line.contains(mark.as_str())),
        "is left undone",
    );
}

/// Only what stands in the repository can be told to its readers.
#[test]
fn nothing_points_outside() {
    let words = [
        ["/wo", "rk/"].concat(),
        ["/ro", "ot/"].concat(),
        ["shared/", "DESIGN"].concat(),
        ["shared/", "STYLE"].concat(),
        ["MEASURED", ".md"].concat(),
        ["EXAMPLES", ".md"].concat(),
        ["issues ", "show"].concat(),
    ];
    check_lines(
        |_, line| words.iter().any(|word| line.contains(word.as_str())),
        "names what only stood on its author's machine",
    );
}

/// DESIGN's words for things are precise; these are the ones that are not.
#[test]
fn modules_are_named_for_an_idea() {
    let vague = ["util", "utils", "common", "helper", "helpers", "misc", "manager", "handler"];
    check(
        |file| {
            let mut parts = file.path.trim_end_matches(".rs").split('/');
            is_rust(file) && parts.any(|part| vague.contains(&part))
        },
        "is named for nothing: name the idea, or put it where it is used",
    );
}

#[test]
fn the_scan_sees_a_long_function() {
    let body = "    work();\n".repeat(71);
    let text = format!("impl A {{\nfn short() {{\n    work();\n}}\nfn long() {{\n{body}}}\n}}\n");
    let found: Vec<_> = functions(&text).collect();
    assert_eq!(found, [("short".to_owned(), 1), ("long".to_owned(), 71)]);
}

fn file_lines_max(path: &str) -> usize {
    if path.ends_with("src/main.rs") { MAIN_LINES_MAX } else { FILE_LINES_MAX }
}

fn is_rust(file: &Source) -> bool {
    file.path.ends_with(".rs")
}

fn is_code(file: &Source) -> bool {
    [".rs", ".js", ".mjs", ".py", ".proto"].iter().any(|ending| file.path.ends_with(ending))
}

/// Name and lines of code of each function, by rustfmt's layout: a function ends at the first line
/// that is a brace as far in as its first one.
fn functions(text: &str) -> impl Iterator<Item = (String, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    (0..lines.len()).filter_map(move |at| {
        let line = lines[at];
        let start = line.trim_start();
        let (before, after) = start.split_once("fn ")?;
        let is_head = before.split_whitespace().all(|word| {
            word.starts_with("pub")
                || word.starts_with("in")
                || word.ends_with(')')
                || ["const", "async", "unsafe", "extern"].contains(&word)
        });
        if !is_head {
            return None;
        }
        let end = format!("{}}}", &line[..line.len() - start.len()]);
        let last = (at + 1..lines.len()).find(|&next| lines[next] == end)?;
        let opened = (at..last).find(|&next| lines[next].ends_with('{'))?;
        let name = after.split(['(', '<']).next().unwrap_or(after).to_owned();
        let is_code = |line: &&&str| {
            let line = line.trim();
            !line.is_empty() && !line.starts_with("//")
        };
        Some((name, lines[opened + 1..last].iter().filter(is_code).count()))
    })
}

#[track_caller]
fn check(bad: impl Fn(&Source) -> bool, why: &str) {
    none(sources().into_iter().filter(bad).map(|file| file.path), why);
}

#[track_caller]
fn check_lines(bad: impl Fn(&Source, &str) -> bool, why: &str) {
    let found = sources().into_iter().flat_map(|file| {
        let lines = file.text.lines().enumerate();
        let bad = lines.filter(|(_, line)| bad(&file, line));
        bad.map(|(at, _)| format!("{}:{}", file.path, at + 1)).collect::<Vec<_>>()
    });
    none(found, why);
}

#[track_caller]
fn none(found: impl Iterator<Item = String>, why: &str) {
    let found: Vec<String> = found.collect();
    assert!(found.is_empty(), "{why}:\n  {}", found.join("\n  "));
}
