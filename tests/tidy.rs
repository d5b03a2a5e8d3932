//! The layout of DESIGN section 2, checked by reading the sources as text: who may use whom, which
//! crate lives where, how long files and functions may be.
//!
//! Moving a room or a crate is a design change: change the tables here and argue it in the commit.

#![allow(clippy::unwrap_used, reason = "in a test a surprise is a failure")]
#![allow(clippy::disallowed_methods, reason = "the sources are files")]

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms and their ranks: a file uses rooms of lower rank, or its own.
const RANKS: &[(&str, u8)] = &[
    ("clock", 0),
    ("shutdown", 0),
    ("budget", 0),
    ("task", 0),
    ("log_limit", 0),
    ("failpoint", 0),
    ("metrics", 0),
    ("config", 1),
    ("protocol", 1),
    ("object", 2),
    ("security", 2),
    ("quota", 2),
    ("wal", 3),
    ("tier", 3),
    ("server", 3),
    ("client", 3),
    ("cluster", 4),
    ("partition", 5),
    ("group", 6),
    ("txn", 6),
    ("broker", 7),
    ("api", 8),
    ("proxy", 8),
    ("admin", 9),
    ("cli", 9),
    ("run", 10),
    ("main", 11),
];

/// Crates and the rooms that may name them.
const CRATE_HOMES: &[(&str, &[&str])] = &[
    ("kafka_protocol", &["protocol", "server", "client", "api", "proxy", "cli"]),
    ("object_store", &["object"]),
    ("moka", &["tier"]),
    ("rustls", &["security", "object"]),
    ("axum", &["admin"]),
    ("clap", &["main", "config", "cli"]),
    ("clap_complete", &["cli"]),
    ("ratatui", &["cli"]),
    ("indicatif", &["cli"]),
    ("hdrhistogram", &["cli"]),
    ("base64", &["cli"]),
];

const FILE_LINES_MAX: usize = 800;
const FUNCTION_LINES_MAX: usize = 70;
const LINE_COLUMNS_MAX: usize = 100;

/// A source file: its room, its path below `src`, its text.
struct Source {
    room: String,
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    collect(&root, &root, &mut found);
    assert!(found.len() > 10, "the sources are under src");
    found
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) {
    let mut entries: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let below = path.strip_prefix(root).unwrap().to_string_lossy().into_owned();
            let room = below.split(['/', '.']).next().unwrap().to_owned();
            found.push(Source { room, path: below, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

fn rank(room: &str) -> Option<u8> {
    RANKS.iter().find(|(name, _)| *name == room).map(|(_, rank)| *rank)
}

/// The code of a line: without comments, and empty for a line that is one.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or("")
}

/// The names that follow `prefix` in `line`, for example the rooms after `crate::`. A brace group
/// such as `crate::{a, b::c}` gives each of its heads.
fn names_after(line: &str, prefix: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in line.match_indices(prefix) {
        let before = line[..at].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let rest = &line[at + prefix.len()..];
        if let Some(group) = rest.strip_prefix('{') {
            let mut depth = 0;
            let mut head = String::new();
            for c in group.chars() {
                match c {
                    '{' => depth += 1,
                    '}' if depth == 0 => break,
                    '}' => depth -= 1,
                    ',' if depth == 0 => names.push(std::mem::take(&mut head)),
                    c if depth == 0 => head.push(c),
                    _ => {}
                }
            }
            names.push(head);
        } else {
            names.push(rest.to_owned());
        }
    }
    names
        .iter()
        .map(|name| name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect())
        .filter(|name: &String| !name.is_empty())
        .collect()
}

/// The text with `use` statements joined to one line each, so that brace groups can be read.
fn joined_uses(text: &str) -> Vec<(usize, String)> {
    let mut lines = Vec::new();
    let mut open: Option<(usize, String)> = None;
    for (number, line) in text.lines().enumerate() {
        let line = code(line);
        if let Some((start, mut statement)) = open.take() {
            statement.push_str(line.trim());
            if line.contains(';') {
                lines.push((start, statement));
            } else {
                open = Some((start, statement));
            }
            continue;
        }
        let trimmed = line.trim_start();
        let is_use = trimmed.starts_with("use ") || trimmed.starts_with("pub use ");
        if is_use && !line.contains(';') {
            open = Some((number + 1, line.to_owned()));
        } else {
            lines.push((number + 1, line.to_owned()));
        }
    }
    lines
}

#[test]
fn rooms_use_only_rooms_below_them() {
    let mut faults = String::new();
    for source in sources().iter().filter(|source| source.room != "lib") {
        let Some(own) = rank(&source.room) else {
            let _ = writeln!(faults, "src/{}: room `{}` has no rank", source.path, source.room);
            continue;
        };
        let prefix = if source.room == "main" { "tidegate::" } else { "crate::" };
        for (number, line) in joined_uses(&source.text) {
            for used in names_after(&line, prefix) {
                let Some(theirs) = rank(&used) else { continue };
                let allowed = used == source.room || theirs < own || (own == 0 && theirs == 0);
                if !allowed {
                    let _ = writeln!(
                        faults,
                        "src/{}:{number}: `{}` (rank {own}) uses `{used}` (rank {theirs})",
                        source.path, source.room,
                    );
                }
            }
        }
    }
    assert!(
        faults.is_empty(),
        "a room uses only rooms of lower rank (DESIGN section 2):\n{faults}"
    );
}

#[test]
fn crates_stay_in_their_homes() {
    let mut faults = String::new();
    for source in &sources() {
        for (number, line) in source.text.lines().enumerate() {
            let line = code(line);
            for (name, homes) in CRATE_HOMES {
                let used = line.contains(&format!("{name}::"));
                if used && !homes.contains(&source.room.as_str()) {
                    let _ = writeln!(
                        faults,
                        "src/{}:{}: `{name}` belongs to {}",
                        source.path,
                        number + 1,
                        homes.join(", "),
                    );
                }
            }
            let is_metrics = source.path.ends_with("metrics.rs");
            if line.contains("prometheus::") && !is_metrics {
                let _ = writeln!(
                    faults,
                    "src/{}:{}: `prometheus` belongs to files named metrics.rs",
                    source.path,
                    number + 1,
                );
            }
        }
    }
    assert!(faults.is_empty(), "a crate has a home (DESIGN section 2):\n{faults}");
}

#[test]
fn files_lines_and_functions_stay_short() {
    let mut faults = String::new();
    for source in &sources() {
        let lines = source.text.lines().count();
        if lines > FILE_LINES_MAX {
            let _ = writeln!(faults, "src/{}: {lines} lines; split it by idea", source.path);
        }
        for (number, line) in source.text.lines().enumerate() {
            let columns = line.chars().count();
            // A row of a table cannot be broken.
            let is_row = line.trim_start().starts_with("//! |");
            if columns > LINE_COLUMNS_MAX && !is_row {
                let _ = writeln!(faults, "src/{}:{}: {columns} columns", source.path, number + 1);
            }
        }
        for (start, length) in long_functions(&source.text) {
            let _ = writeln!(faults, "src/{}:{start}: function of {length} lines", source.path);
        }
    }
    assert!(
        faults.is_empty(),
        "files have at most {FILE_LINES_MAX} lines, functions {FUNCTION_LINES_MAX}, lines \
         {LINE_COLUMNS_MAX} columns:\n{faults}"
    );
}

/// First line and length of each function over the limit. rustfmt has aligned every closing brace
/// with the line that opened the function, so indentation finds the end.
fn long_functions(text: &str) -> Vec<(usize, usize)> {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = Vec::new();
    for (start, line) in lines.iter().enumerate() {
        let trimmed = line.trim_start();
        let words = trimmed.split("fn ").next().unwrap_or("");
        let is_function = trimmed.contains("fn ")
            && words.split_whitespace().all(|word| {
                word.starts_with("pub") || ["async", "const", "in", "super)"].contains(&word)
            });
        let is_one_line = trimmed.ends_with('}');
        if !is_function || is_one_line {
            continue;
        }
        let indent = line.len() - trimmed.len();
        let closing = format!("{}}}", " ".repeat(indent));
        let end = lines[start..].iter().position(|later| *later == closing);
        let declared = lines[start..].iter().position(|later| later.trim_end().ends_with(';'));
        match (end, declared) {
            (Some(end), _) if end + 1 > FUNCTION_LINES_MAX => {
                // A trait's declaration without a body ends with its semicolon, before any brace.
                let body = lines[start..=start + end].iter().any(|line| line.ends_with('{'));
                let first_brace = lines[start..].iter().position(|line| line.ends_with('{'));
                if body
                    && first_brace.is_some_and(|brace| declared.is_none_or(|semi| brace <= semi))
                {
                    found.push((start + 1, end + 1));
                }
            }
            _ => {}
        }
    }
    found
}

/// A row of `tests/gotchas.md`.
struct Gotcha<'a> {
    number: u32,
    /// Path and name of each test.
    tests: Vec<(&'a str, &'a str)>,
    /// What does not apply yet.
    not_yet: &'a str,
}

fn gotcha(row: &str) -> Option<Gotcha<'_>> {
    let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
    let [number, _, shown, not_yet] = cells.as_slice() else { return None };
    let tests = shown.split('`').filter_map(|word| word.split_once("::")).collect();
    Some(Gotcha { number: number.parse().ok()?, tests, not_yet })
}

#[test]
fn every_trap_of_the_protocol_has_its_tests_or_a_reason() {
    const GOTCHAS: u32 = 37;
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let table = fs::read_to_string(root.join("tests/gotchas.md")).unwrap();
    let rows: Vec<_> = table.lines().filter_map(gotcha).collect();
    let numbers: Vec<u32> = rows.iter().map(|row| row.number).collect();
    assert_eq!(numbers, (1..=GOTCHAS).collect::<Vec<u32>>());
    let mut faults = String::new();
    for Gotcha { number, tests, not_yet } in rows {
        if tests.is_empty() && not_yet.is_empty() {
            let _ = writeln!(faults, "{number}: neither a test nor a reason");
        }
        for (path, name) in tests {
            let source = fs::read_to_string(root.join(path)).unwrap_or_default();
            if !source.contains(&format!("fn {name}(")) {
                let _ = writeln!(faults, "{number}: no `{name}` in {path}");
            }
        }
    }
    assert!(faults.is_empty(), "tests/gotchas.md names what is not there:\n{faults}");
}

#[test]
fn nothing_is_left_unfinished() {
    let marks = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("XX", "X:")];
    let mut faults = String::new();
    for source in &sources() {
        for (number, line) in source.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark)) {
                let _ = writeln!(faults, "src/{}:{}: {line}", source.path, number + 1);
            }
        }
    }
    assert!(faults.is_empty(), "unfinished work belongs in an issue:\n{faults}");
}

#[test]
fn the_reader_of_uses_sees_groups_and_plain_paths() {
    let line = "use crate::{wal::{Lsn, Kind}, clock};";
    assert_eq!(names_after(line, "crate::"), ["wal", "clock"]);
    assert_eq!(names_after("    let x = crate::group::join(y);", "crate::"), ["group"]);
    let long: String = format!("fn long() {{\n{}}}\n", "    x();\n".repeat(70));
    assert_eq!(long_functions(&long), [(1, 72)]);
    assert!(long_functions("fn short() {\n    x();\n}\n").is_empty());
}
