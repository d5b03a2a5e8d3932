//! The reference of every key, rendered from the table: for the terminal, and for the docs.

use std::fmt::Write as _;

use super::key::{Default, Key};
use super::keys::KEYS;

/// The width of an effect on the terminal.
const WIDTH: usize = 92;

/// How sources and values work, for both renderings.
const RULES: &[&str] = &[
    "Every key has the same name in every source. The first of these that sets a key decides: \
     the command line (--set key=value), the environment (TIDEGATE_LOG_RETENTION_MS sets \
     log.retention.ms), the file given with --config, the default.",
    "The file is TOML, whose tables are flattened ([log.retention] with ms = \"12h\" sets \
     log.retention.ms), or a Kafka server.properties. Kafka 4.3 server settings that are not \
     listed here are accepted without effect and named in a warning at start; any other unknown \
     key is an error.",
    "A duration is a number of milliseconds, or a number with ms, s, m, h or d: 250ms, 1.5h. A \
     size is a number of bytes, or a number with KiB, MiB, GiB, TiB (powers of 1024), kB, MB, GB \
     or TB (powers of 1000): 64MiB. A list is separated by commas; in TOML an array will do.",
];

/// The reference as text.
pub fn text() -> String {
    let mut out = String::new();
    for rule in RULES {
        wrap(&mut out, "", rule);
        out.push('\n');
    }
    for key in KEYS {
        out.push_str(key.name);
        out.push('\n');
        let Key { kind, default, effect, .. } = key;
        let range = kind.range();
        let range = if range.is_empty() { range } else { format!(" ({range})") };
        wrap(&mut out, "    ", &format!("{}{range}, default: {default}", kind.name()));
        wrap(&mut out, "    ", effect);
        out.push('\n');
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// The reference as `docs/configuration.md`.
pub fn markdown() -> String {
    let mut out = String::from(
        "# Configuration\n\n<!-- written by `tidegate config reference --markdown`; a test \
         compares the two -->\n\n",
    );
    for rule in RULES {
        wrap(&mut out, "", rule);
        out.push('\n');
    }
    out.push_str("| key | type | default | effect |\n|---|---|---|---|\n");
    for key in KEYS {
        let Key { name, kind, default, effect } = key;
        let default = match default {
            Default::Is("") => "none".to_owned(),
            Default::Is(text) => format!("`{text}`"),
            Default::From(words) => (*words).to_owned(),
        };
        let (kind, range) = (kind.name(), kind.range());
        let range = if range.is_empty() { range } else { format!(": {range}") };
        writeln!(out, "| `{name}` | {kind}{range} | {default} | {effect} |")
            .expect("text can always be written to a String");
    }
    out
}

/// Appends `text` in lines of at most [`WIDTH`] characters that begin with `indent`.
fn wrap(out: &mut String, indent: &str, text: &str) {
    let mut column = 0;
    for word in text.split_ascii_whitespace() {
        if column == 0 {
            out.push_str(indent);
            column = indent.len();
        } else if column + 1 + word.len() > WIDTH {
            out.push('\n');
            out.push_str(indent);
            column = indent.len();
        } else {
            out.push(' ');
            column += 1;
        }
        out.push_str(word);
        column += word.len();
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_references_have_every_key() {
        let (text, markdown) = (text(), markdown());
        for key in KEYS {
            assert!(text.lines().any(|line| line == key.name), "{}", key.name);
            let row = format!("| `{}` | ", key.name);
            assert!(markdown.lines().any(|line| line.starts_with(&row)), "{}", key.name);
        }
        assert!(!markdown.contains("  "), "an effect with two spaces breaks the table's text");
    }

    #[test]
    fn the_documentation_is_the_reference() {
        let written = include_str!("../../docs/configuration.md");
        assert!(
            written == markdown(),
            "docs/configuration.md is out of date: run \
             `cargo run -- config reference --markdown > docs/configuration.md`"
        );
    }
}
