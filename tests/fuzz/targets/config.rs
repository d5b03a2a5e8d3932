//! Any text as a configuration: a TOML file, a `server.properties`, one whose kind must be guessed,
//! the environment, flags.
//!
//! Held here: nothing panics; the same sources give the same answer; a refusal says something
//! about each problem; memory is a small multiple of the text.
//!
//! Input: which sources there are, then for each a text up to a zero byte.

use std::path::PathBuf;

use tidegate::config::{Machine, Sources};

use super::chance::Chance;
use super::within;

/// A problem repeats what was written, and more than once.
const FACTOR: usize = 64;
/// Every key with its default and its place, and a filter for the log.
const STATE: usize = 2 << 20;

/// Pairs of the lines of `text`, split at the first `=`.
fn pairs(text: &str, prefix: &str) -> Vec<(String, String)> {
    text.lines()
        .map(|line| {
            let (key, value) = line.split_once('=').unwrap_or((line, ""));
            (format!("{prefix}{key}"), value.to_owned())
        })
        .collect()
}

pub(super) fn run(data: &[u8]) {
    let mut chance = Chance::new(data);
    let which = chance.u8();
    let mut texts = chance.rest().split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let mut text = || texts.next().unwrap_or_default().into_owned();
    let mut sources = Sources { machine: Machine::default(), ..Sources::default() };
    let name = ["tidegate.toml", "server.properties", "settings"].get(usize::from(which & 3));
    if let Some(name) = name {
        sources.file = Some((PathBuf::from(name), text()));
    }
    if which & 4 != 0 {
        sources.env = pairs(&text(), "TIDEGATE_");
    }
    if which & 8 != 0 || name.is_none() {
        sources.flags = pairs(&text(), "");
    }
    let loaded = within(STATE + FACTOR * data.len(), || sources.load());
    let again = sources.load();
    match (loaded, again) {
        (Ok(config), Ok(again)) => assert_eq!(format!("{config:?}"), format!("{again:?}")),
        (Err(errors), Err(again)) => {
            assert!(!errors.0.is_empty(), "refused without a reason");
            assert!(errors.0.iter().all(|problem| !problem.to_string().is_empty()));
            assert_eq!(errors.to_string(), again.to_string());
        }
        _ => panic!("the same sources were taken once and refused once"),
    }
}
