//! What the table of keys knows of one key.

use std::fmt;

/// A key of the configuration.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// Its name, the same in every source; Kafka's where Kafka has the concept.
    pub name: &'static str,
    /// Its type and range.
    pub kind: Kind,
    /// Its value where none is set.
    pub default: Default,
    /// What it does, in one or two sentences.
    pub effect: &'static str,
}

impl Key {
    /// A row of a table.
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: Default,
        effect: &'static str,
    ) -> Self {
        Self { name, kind, default, effect }
    }
}

/// The value of a key that is not set.
#[derive(Clone, Copy, Debug)]
pub enum Default {
    /// This text, read like any other value.
    Is(&'static str),
    /// Worked out from the machine or from other keys, in these words.
    From(&'static str),
}

impl fmt::Display for Default {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Default::Is("") => f.write_str("none"),
            Default::Is(text) | Default::From(text) => f.write_str(text),
        }
    }
}

/// A key's type and range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number.
    Int {
        /// The least value.
        min: i64,
        /// The greatest value.
        max: i64,
    },
    /// A time: a whole number of milliseconds, or a number with ms, s, m, h or d.
    Duration {
        /// The least value in milliseconds.
        min: i64,
        /// The greatest value in milliseconds.
        max: i64,
    },
    /// A size: a whole number of bytes, or a number with KiB, MiB, GiB, TiB, kB, MB, GB or TB.
    Bytes {
        /// The least value in bytes.
        min: i64,
        /// The greatest value in bytes.
        max: i64,
    },
    /// A fraction from 0 to 1.
    Ratio,
    /// Any text; its own reader checks it further.
    Text,
    /// One of these words, whatever their case.
    Choice(&'static [&'static str]),
    /// Items separated by commas; in TOML an array will do.
    List,
    /// Certificates or keys: text in PEM, or the path of a file with it. The text is never shown.
    Pem,
}

impl Kind {
    /// The type's name.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Bool => "boolean",
            Kind::Int { .. } => "integer",
            Kind::Duration { .. } => "duration",
            Kind::Bytes { .. } => "size",
            Kind::Ratio => "ratio",
            Kind::Text => "text",
            Kind::Choice(_) => "choice",
            Kind::List => "list",
            Kind::Pem => "PEM",
        }
    }

    /// The allowed range in words; empty where anything goes.
    pub fn range(self) -> String {
        match self {
            Kind::Bool => "true or false".to_owned(),
            Kind::Choice(choices) => choices.join(", "),
            Kind::Int { min, max } | Kind::Duration { min, max } | Kind::Bytes { min, max } => {
                if max == i64::MAX {
                    format!("from {min}")
                } else {
                    format!("from {min} to {max}")
                }
            }
            Kind::Ratio => "from 0 to 1".to_owned(),
            Kind::Text | Kind::List | Kind::Pem => String::new(),
        }
    }

    /// What a value has to be, for the error about one that is not.
    pub(super) fn expected(self) -> String {
        let range = self.range();
        match self {
            Kind::Bool => format!("must be {range}"),
            Kind::Choice(_) => format!("must be one of {range}"),
            Kind::Int { .. } => format!("must be a whole number {range}"),
            Kind::Duration { .. } => {
                format!("must be milliseconds {range}, or a time with a unit such as 30s or 12h")
            }
            Kind::Bytes { .. } => {
                format!("must be bytes {range}, or a size with a unit such as 64MiB")
            }
            Kind::Ratio => format!("must be a number {range}"),
            Kind::Text => "must be text".to_owned(),
            Kind::List => "must be a list separated by commas".to_owned(),
            Kind::Pem => "must be text in PEM from -----BEGIN to -----END, or the path of a file \
                          with it that begins with / or a dot"
                .to_owned(),
        }
    }
}
