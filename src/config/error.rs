//! What is wrong with a configuration: every problem at once, each with its place and its fix.

use std::fmt;
use std::path::PathBuf;

/// Where a setting was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// On the command line.
    Flag,
    /// In an environment variable of this name.
    Env(String),
    /// In a file.
    File {
        /// The file as the user named it.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
    },
    /// Nowhere: the default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag => f.write_str("command line"),
            Origin::Env(name) => write!(f, "environment {name}"),
            Origin::File { path, line } => write!(f, "{}:{line}", path.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// No such key. The value is not shown: it may be a password under a misspelt name.
    #[error("unknown key \"{key}\" ({origin}); {hint}")]
    UnknownKey {
        /// The key as written.
        key: String,
        /// Where.
        origin: Origin,
        /// What was meant, or what to do.
        hint: String,
    },
    /// The value is of the wrong type, or out of its range.
    #[error("{key} = \"{value}\" ({origin}): {expected}")]
    Value {
        /// The key as written.
        key: String,
        /// The value as written.
        value: String,
        /// Where.
        origin: Origin,
        /// What it has to be.
        expected: String,
    },
    /// Two settings that cannot both hold.
    #[error("{what}; {fix}")]
    Conflict {
        /// Both settings, with their values.
        what: String,
        /// The way out.
        fix: String,
    },
    /// The file cannot be read.
    #[error(
        "configuration file \"{}\": {reason}; check the path given with --config",
        .path.display()
    )]
    Unreadable {
        /// The file as the user named it.
        path: PathBuf,
        /// The operating system's reason.
        reason: String,
    },
    /// The file is neither TOML nor properties.
    #[error("{origin}: {reason}")]
    Syntax {
        /// The place.
        origin: Origin,
        /// What is wrong there.
        reason: String,
    },
}

/// Everything that is wrong with a configuration; never empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errors(pub Vec<Problem>);

impl std::error::Error for Errors {}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.0.len();
        write!(f, "{count} configuration error{}", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|problem| write!(f, "\n  {problem}"))
    }
}
