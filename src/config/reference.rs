//! The reference of every key, rendered from the table: for the terminal, and for the docs.

use std::fmt::Write as _;

use super::key::{Default, Key};
use super::keys::KEYS;
use super::proxy_keys::{CLUSTER_KEYS, PROXY_KEYS};

/// The width of an effect on the terminal.
const WIDTH: usize = 92;

/// What a process is, and so which keys it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A broker: `docs/configuration.md`.
    Broker,
    /// A proxy: `docs/proxy-configuration.md`.
    Proxy,
}

const SOURCES: &str = "Every key has the same name in every source. The first of these that sets a \
     key decides: the command line (--set key=value), the environment (TIDEGATE_LOG_RETENTION_MS \
     sets log.retention.ms), the file given with --config, the default.";
const FILE: &str = "The file is TOML, whose tables are flattened ([log.retention] with ms = \
     \"12h\" sets log.retention.ms), or a Kafka server.properties. Kafka 4.3 server settings that \
     are not listed here are accepted without effect and named in a warning at start; any other \
     unknown key is an error.";
const PROXY_SOURCES: &str = "Every key has the same name in every source. The first of these that \
     sets a key decides: the command line (--set key=value), the environment \
     (TIDEGATE_METADATA_REFRESH_MS sets metadata.refresh.ms), the file given with --config, the \
     default.";
const PROXY_FILE: &str = "The file is TOML, whose tables are flattened ([metadata.refresh] with ms \
     = \"1m\" sets metadata.refresh.ms), or a properties file. An unknown key is an error.";
const UNITS: &str = "A duration is a number of milliseconds, or a number with ms, s, m, h or d: \
     250ms, 1.5h. A size is a number of bytes, or a number with KiB, MiB, GiB, TiB (powers of \
     1024), kB, MB, GB or TB (powers of 1000): 64MiB. A list is separated by commas; in TOML an \
     array will do.";
const PEM: &str = "PEM is the text itself, or the path of a file with it that begins with / or a \
     dot. The text is never shown.";
const CLUSTERS: &str = "One proxy can stand before several Kafka clusters: virtual.clusters names \
     them, and each of these keys may be given for one of them as virtual.cluster.NAME.KEY. Given \
     plainly a key is what every cluster without its own falls back on; a cluster's own wins \
     wherever the two stand. With one cluster plain keys are all it takes.";

/// Some keys under a heading of their own.
struct Section {
    heading: Option<&'static str>,
    rules: &'static [&'static str],
    keys: &'static [Key],
}

impl Role {
    fn title(self) -> &'static str {
        match self {
            Self::Broker => "Configuration",
            Self::Proxy => "Configuration of the proxy",
        }
    }

    /// The arguments that print it.
    fn arguments(self) -> &'static str {
        match self {
            Self::Broker => "config reference --markdown",
            Self::Proxy => "config reference --proxy --markdown",
        }
    }

    /// How sources and values work.
    fn rules(self) -> &'static [&'static str] {
        match self {
            Self::Broker => &[SOURCES, FILE, UNITS],
            Self::Proxy => &[PROXY_SOURCES, PROXY_FILE, UNITS, PEM],
        }
    }

    fn sections(self) -> &'static [Section] {
        match self {
            Self::Broker => &[Section { heading: None, rules: &[], keys: KEYS }],
            Self::Proxy => &[
                Section {
                    heading: Some("Virtual clusters"),
                    rules: &[CLUSTERS],
                    keys: CLUSTER_KEYS,
                },
                Section { heading: Some("The process"), rules: &[], keys: PROXY_KEYS },
            ],
        }
    }

    /// The reference as text.
    pub fn reference_text(self) -> String {
        let mut out = String::new();
        for rule in self.rules() {
            paragraph(&mut out, rule);
        }
        for section in self.sections() {
            for text in section.heading.iter().chain(section.rules) {
                paragraph(&mut out, text);
            }
            for Key { name, kind, default, effect } in section.keys {
                out.push_str(name);
                out.push('\n');
                let range = kind.range();
                let range = if range.is_empty() { range } else { format!(" ({range})") };
                wrap(&mut out, "    ", &format!("{}{range}, default: {default}", kind.name()));
                wrap(&mut out, "    ", effect);
                out.push('\n');
            }
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }

    /// The reference as its page of the documentation.
    pub fn reference_markdown(self) -> String {
        let mut out = format!(
            "# {}\n\n<!-- written by `tidegate {}`; a test compares the two -->\n\n",
            self.title(),
            self.arguments()
        );
        for rule in self.rules() {
            paragraph(&mut out, rule);
        }
        for section in self.sections() {
            if let Some(heading) = section.heading {
                writeln!(out, "## {heading}\n").expect(INFALLIBLE);
            }
            for rule in section.rules {
                paragraph(&mut out, rule);
            }
            out.push_str("| key | type | default | effect |\n|---|---|---|---|\n");
            for key in section.keys {
                row(&mut out, key);
            }
            out.push('\n');
        }
        out.truncate(out.trim_end().len());
        out.push('\n');
        out
    }
}

/// Why writing cannot fail.
const INFALLIBLE: &str = "text can always be written to a String";

fn row(out: &mut String, key: &Key) {
    let Key { name, kind, default, effect } = key;
    let default = match default {
        Default::Is("") => "none".to_owned(),
        Default::Is(text) => format!("`{text}`"),
        Default::From(words) => (*words).to_owned(),
    };
    let (kind, range) = (kind.name(), kind.range());
    let range = if range.is_empty() { range } else { format!(": {range}") };
    writeln!(out, "| `{name}` | {kind}{range} | {default} | {effect} |").expect(INFALLIBLE);
}

fn paragraph(out: &mut String, text: &str) {
    wrap(out, "", text);
    out.push('\n');
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
        for role in [Role::Broker, Role::Proxy] {
            let (text, markdown) = (role.reference_text(), role.reference_markdown());
            for key in role.sections().iter().flat_map(|section| section.keys) {
                assert!(text.lines().any(|line| line == key.name), "{}", key.name);
                let row = format!("| `{}` | ", key.name);
                assert!(markdown.lines().any(|line| line.starts_with(&row)), "{}", key.name);
            }
            assert!(!markdown.contains("  "), "an effect with two spaces breaks the table's text");
        }
    }

    #[test]
    fn the_documentation_is_the_reference() {
        let pages = [
            (Role::Broker, "configuration", include_str!("../../docs/configuration.md")),
            (Role::Proxy, "proxy-configuration", include_str!("../../docs/proxy-configuration.md")),
        ];
        for (role, page, written) in pages {
            assert!(
                written == role.reference_markdown(),
                "docs/{page}.md is out of date: run `cargo run -- {} > docs/{page}.md`",
                role.arguments()
            );
        }
    }
}
